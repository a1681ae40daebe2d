package setup

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/holdfast-ha/holdfast/pkg/clock"
	"github.com/holdfast-ha/holdfast/pkg/config"
	"github.com/holdfast-ha/holdfast/pkg/pki"
	"github.com/holdfast-ha/holdfast/pkg/pool"
)

// Machine is the machine that is set up.
type Machine struct {
	// Settings are what shall be written: config.Default() with the wishes from the command line in it. Init needs
	// Pool; Join takes Pool and Etcd.Mode from the pool. An empty Server means the host's name.
	Settings config.Config
	// ConfigPath is where the settings go; client.yaml and root's certificate go into the same folder.
	ConfigPath string
	// HostUUID identifies the hardware, as libvirt gives it; see HostUUID.
	HostUUID string
	Clock    clock.Clock
	Log      *slog.Logger
	// NoSync is for tests; see etcd.Config.
	NoSync bool
}

// Result says what was done, for people.
type Result struct {
	Pool, Server string
	Address      string
	// Files written, settings first.
	Files []string
	// Pin of the pool's CA.
	Pin string
	// Witness: the machine carries a vote only.
	Witness bool
}

// Origin is the pool's life that a server belongs to; StateDir/pool.json.
type Origin struct {
	Pool        string `json:"pool"`
	Incarnation string `json:"incarnation"`
	// Earlier are the lives that it has left for this one, newest first.
	Earlier []string `json:"earlier,omitempty"`
}

func originFile(stateDir string) string { return filepath.Join(stateDir, "pool.json") }

// LoadOrigin reads in which life of which pool this server was set up. Data of another must be refused.
func LoadOrigin(stateDir string) (Origin, error) {
	data, err := os.ReadFile(originFile(stateDir))
	if err != nil {
		return Origin{}, fmt.Errorf("read which pool this is: %w", err)
	}
	var o Origin
	if err := json.Unmarshal(data, &o); err != nil {
		return Origin{}, fmt.Errorf("%s: %w: %w", originFile(stateDir), err, pool.ErrInvalid)
	}
	return o, nil
}

// HostUUID reads the machine's UUID from its firmware, or makes one from systemd's machine ID where there is none.
// root is "/" but in tests. Prefer libvirt's own answer where it can be asked: it may be set in libvirtd.conf.
func HostUUID(root string) (string, error) {
	for _, f := range []string{"sys/class/dmi/id/product_uuid", "etc/machine-id"} {
		data, err := os.ReadFile(filepath.Join(root, f))
		id := strings.ToLower(strings.TrimSpace(string(data)))
		if err != nil || id == "" || strings.Trim(id, "0-") == "" {
			continue
		}
		if len(id) == 32 {
			id = id[:8] + "-" + id[8:12] + "-" + id[12:16] + "-" + id[16:20] + "-" + id[20:]
		}
		return id, nil
	}
	return "", fmt.Errorf("this machine has no UUID in its firmware and no /etc/machine-id; give one with --host-uuid: %w", pool.ErrNotFound)
}

// WithPort completes an address given without a port.
func WithPort(address string) string {
	if address == "" {
		return ""
	}
	if _, _, err := net.SplitHostPort(address); err == nil {
		return address
	}
	return net.JoinHostPort(strings.Trim(address, "[]"), strconv.Itoa(config.AgentPort))
}

// LocalAddress returns the address from which this machine would reach target (host:port), with the agent's port:
// the one that target's network knows it by. Nothing is sent.
func LocalAddress(target string) (string, error) {
	c, err := net.Dial("udp", target)
	if err != nil {
		return "", fmt.Errorf("find this machine's address; give it with --address: %w", err)
	}
	defer c.Close() //nolint:errcheck // nothing was sent
	host, _, err := net.SplitHostPort(c.LocalAddr().String())
	if err != nil {
		return "", fmt.Errorf("find this machine's address: %w", err)
	}
	return WithPort(host), nil
}

// normal fills in what follows from the machine itself.
func (m Machine) normal() (Machine, error) {
	if m.Settings.Server == "" {
		name, err := os.Hostname()
		if err != nil {
			return m, fmt.Errorf("find the host's name; give one with --name: %w", err)
		}
		m.Settings.Server, _, _ = strings.Cut(name, ".")
	}
	m.Settings.Address = WithPort(m.Settings.Address)
	if m.HostUUID == "" {
		return m, fmt.Errorf("no host UUID: %w", pool.ErrInvalid)
	}
	m.HostUUID = strings.ToLower(m.HostUUID)
	m.Settings = m.Settings.Complete()
	return m, nil
}

// checkFresh refuses a machine that is set up already, or holds what would be overwritten.
func (m Machine) checkFresh() error {
	if old, err := config.Load(m.ConfigPath); err == nil {
		return pool.Refuse("ALREADY_SET_UP", "remove it from that pool first, then delete "+m.ConfigPath+" and "+old.StateDir,
			"this machine is %s of pool %s already (%s)", old.Server, old.Pool, m.ConfigPath)
	} else if !errors.Is(err, os.ErrNotExist) {
		return pool.Refuse("ALREADY_SET_UP", "move it away if it is of no use", "%s exists, though it cannot be used: %v", m.ConfigPath, err)
	}
	for _, path := range []string{m.Settings.PKIDir(), m.Settings.EtcdDir(), m.clientPath()} {
		if _, err := os.Lstat(path); err == nil {
			return pool.Refuse("STATE_LEFT_OVER", "move it away if it is of no use", "%s exists, though there is no %s: it is left from another set-up", path, m.ConfigPath)
		} else if !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("look for earlier state: %w", err)
		}
	}
	return nil
}

func (m Machine) clientPath() string {
	return filepath.Join(filepath.Dir(m.ConfigPath), "client.yaml")
}

// hosts are what the machine's certificate names besides its own name.
func (m Machine) hosts() []string {
	var out []string
	for _, a := range []string{m.Settings.Address, m.Settings.Listen} {
		host, _, err := net.SplitHostPort(a)
		if ip := net.ParseIP(host); err == nil && host != "" && (ip == nil || !ip.IsUnspecified()) {
			out = append(out, host)
		}
	}
	return out
}

// rootOperator names root's identity on a server, so that the audit trail tells the servers' shells apart.
func rootOperator(server string) string {
	name := "root-" + server
	return name[:min(len(name), 63)]
}

// identity names the files of the machine's identity below dir.
func identity(dir string) pki.Files {
	return pki.Files{CA: filepath.Join(dir, "ca.crt"), Cert: filepath.Join(dir, "server.crt"), Key: filepath.Join(dir, "server.key")}
}
