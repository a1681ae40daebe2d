package contexts

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/holdfast-ha/holdfast/pkg/config"
	"github.com/holdfast-ha/holdfast/pkg/pool"
)

// File is an operator's own file: the pools that he works with.
type File struct {
	// Default names the context used when none is asked for. With one context only it may be left out.
	Default  string    `yaml:"default,omitempty"`
	Contexts []Context `yaml:"contexts"`
}

// Context is one pool as one operator reaches it.
type Context struct {
	Name string `yaml:"name"`
	// Agents are host:port of the pool's agents; any of them answers for the whole pool. They are tried in order.
	Agents []string `yaml:"agents"`
	// CA, Cert and Key are PEM files; a relative path starts at the folder of this file. All three, or none for a
	// pool on this machine's loopback that uses no certificates (the demo).
	CA   string `yaml:"ca,omitempty"`
	Cert string `yaml:"cert,omitempty"`
	Key  string `yaml:"key,omitempty"`
	// Label is shown wherever something is to be changed, such as PROD.
	Label string `yaml:"label,omitempty"`
	// ReadOnly has every change refused before it leaves this machine.
	ReadOnly bool `yaml:"read_only,omitempty"`
}

// Path returns where the operator's file is: below XDG_CONFIG_HOME or, without it, ~/.config.
func Path(getenv func(string) string) string {
	if dir := getenv("XDG_CONFIG_HOME"); dir != "" {
		return filepath.Join(dir, "holdfast", "config.yaml")
	}
	return filepath.Join(getenv("HOME"), ".config", "holdfast", "config.yaml")
}

// Load reads and checks an operator's file and makes its paths absolute. Errors name the file and what to change;
// a missing file is fs.ErrNotExist.
func Load(path string) (File, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return File{}, fmt.Errorf("read contexts: %w", err)
	}
	var f File
	if err := config.Strict(data, &f); err != nil {
		return File{}, fmt.Errorf("%s: %w", path, err)
	}
	if err := f.validate(); err != nil {
		return File{}, fmt.Errorf("%s: %w", path, err)
	}
	dir, err := filepath.Abs(filepath.Dir(path))
	if err != nil {
		return File{}, fmt.Errorf("%s: %w", path, err)
	}
	for i := range f.Contexts {
		c := &f.Contexts[i]
		for _, p := range []*string{&c.CA, &c.Cert, &c.Key} {
			if *p != "" && !filepath.IsAbs(*p) {
				*p = filepath.Join(dir, *p)
			}
		}
	}
	return f, nil
}

func (f File) validate() error {
	seen := map[string]bool{}
	for _, c := range f.Contexts {
		if err := pool.CheckName("context", c.Name); err != nil {
			return err
		}
		if seen[c.Name] {
			return fmt.Errorf("context %s is there twice: %w", c.Name, pool.ErrInvalid)
		}
		seen[c.Name] = true
		if len(c.Agents) == 0 {
			return fmt.Errorf("context %s has no agents: name at least one as host:port: %w", c.Name, pool.ErrInvalid)
		}
		files := 0
		for _, p := range []string{c.CA, c.Cert, c.Key} {
			if p != "" {
				files++
			}
		}
		if files != 0 && files != 3 {
			return fmt.Errorf("context %s: set all of ca, cert and key, or none of them: %w", c.Name, pool.ErrInvalid)
		}
	}
	if f.Default != "" && !seen[f.Default] {
		return fmt.Errorf("default %q is not among the contexts; there are %s: %w", f.Default, f.names(), pool.ErrInvalid)
	}
	return nil
}

// named returns the context of that name, or the default one for "". ok is false when the file has none at all.
func (f File) named(name string) (c Context, ok bool, err error) {
	switch {
	case name == "" && f.Default != "":
		name = f.Default
	case name == "" && len(f.Contexts) == 1:
		return f.Contexts[0], true, nil
	case name == "" && len(f.Contexts) > 1:
		return c, false, fmt.Errorf("there are several contexts and no default: name one with --context: %s: %w", f.names(), pool.ErrInvalid)
	case name == "":
		return c, false, nil
	}
	for _, c := range f.Contexts {
		if c.Name == name {
			return c, true, nil
		}
	}
	return c, false, fmt.Errorf("no context %q; there are %s: %w", name, f.names(), pool.ErrInvalid)
}

func (f File) names() string {
	var names []string
	for _, c := range f.Contexts {
		names = append(names, c.Name)
	}
	if len(names) == 0 {
		return "none"
	}
	return strings.Join(names, ", ")
}

// Names lists the contexts of an operator's file, for completion. A missing or broken file has none.
func Names(path string) []string {
	f, err := Load(path)
	if err != nil {
		return nil
	}
	var names []string
	for _, c := range f.Contexts {
		names = append(names, c.Name)
	}
	return names
}

func missing(err error) bool { return errors.Is(err, fs.ErrNotExist) }
