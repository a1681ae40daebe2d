package config

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/holdfast-ha/holdfast/pkg/pool"
)

// Client tells the command line and the console how to reach a pool and who they are. `holdfast-agent init` and
// `join` write one for root; it can be copied to a laptop together with the three files that it names.
type Client struct {
	Pool string `yaml:"pool"`
	// Servers are host:port of agents; any of them answers for the whole pool. They are tried in order.
	Servers []string `yaml:"servers"`
	// CA, Cert and Key are PEM files. A relative path starts at the folder of this file.
	CA   string `yaml:"ca"`
	Cert string `yaml:"cert"`
	Key  string `yaml:"key"`
}

// LoadClient reads and validates a Client and makes its paths absolute.
func LoadClient(path string) (Client, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return Client{}, fmt.Errorf("read settings: %w", err)
	}
	var c Client
	if err := Strict(data, &c); err != nil {
		return Client{}, fmt.Errorf("%s: %w", path, err)
	}
	if err := c.Validate(); err != nil {
		return Client{}, fmt.Errorf("%s: %w", path, err)
	}
	dir, err := filepath.Abs(filepath.Dir(path))
	if err != nil {
		return Client{}, fmt.Errorf("%s: %w", path, err)
	}
	for _, f := range []*string{&c.CA, &c.Cert, &c.Key} {
		if !filepath.IsAbs(*f) {
			*f = filepath.Join(dir, *f)
		}
	}
	return c, nil
}

// Validate reports the first value that cannot work.
func (c Client) Validate() error {
	if err := pool.CheckName("pool", c.Pool); err != nil {
		return err
	}
	if len(c.Servers) == 0 {
		return invalid("servers is empty: name at least one agent as host:port")
	}
	for _, s := range c.Servers {
		if err := checkAddress("servers", s); err != nil {
			return err
		}
	}
	if c.CA == "" || c.Cert == "" || c.Key == "" {
		return invalid("ca, cert and key must all be set")
	}
	return nil
}
