package config

import (
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// DefaultPath is where a server's settings are.
const DefaultPath = "/etc/holdfast/config.yaml"

// Default ports. docs/operations.md lists them for firewalls.
const (
	// AgentPort: API, joins and the mesh between agents.
	AgentPort = 7400
	// EtcdClientPort and EtcdPeerPort are etcd's own registered ports.
	EtcdClientPort = 2379
	EtcdPeerPort   = 2380
)

// Modes of Etcd.Mode.
const (
	// EtcdEmbedded: the pool's etcd runs on its servers, as the unit holdfast-etcd.
	EtcdEmbedded = "embedded"
	// EtcdExternal: somebody else runs etcd.
	EtcdExternal = "external"
)

// Config is what one server needs to know of itself. docs/operations.md explains each key for operators;
// configs/config.yaml is a sample with all of them.
type Config struct {
	// Pool is the pool's name. It is part of every key in etcd, so it cannot be changed later.
	Pool string `yaml:"pool"`
	// Server is this server's name in the pool, unique and kept for its life. Not necessarily the host name.
	Server string `yaml:"server"`
	// Address is host:port where the other servers and operators reach this agent. The certificate names its
	// host. It must be reachable from every server of the pool.
	Address string `yaml:"address"`
	// Listen is host:port to listen on. Empty: the same as Address. Use another host, such as 0.0.0.0, where the
	// address is translated or the API shall be reachable through more networks than one.
	Listen string `yaml:"listen,omitempty"`
	Etcd   Etcd   `yaml:"etcd"`
	TLS    TLS    `yaml:"tls,omitempty"`
	// Libvirt is the URI of this server's hypervisor. Empty: virtqemud's socket if there is one, else libvirtd's.
	Libvirt string `yaml:"libvirt,omitempty"`
	// StateDir holds what must survive a reboot: certificates, etcd's data, the pool's local copy.
	StateDir string `yaml:"state_dir,omitempty"`
	// RunDir holds what must not survive a reboot: sockets, the session's lease, what the guard holds. It must be
	// on a file system that is emptied at boot: a deadline read back after a reboot would mean nothing.
	RunDir  string    `yaml:"run_dir,omitempty"`
	Guard   Guard     `yaml:"guard,omitempty"`
	Storage []Storage `yaml:"storage,omitempty"`
	// Metrics configures what Prometheus may scrape; off by default.
	Metrics Metrics `yaml:"metrics,omitempty"`
	// Migration configures live migration to and from this server.
	Migration Migration `yaml:"migration,omitempty"`
	Log       Log       `yaml:"log,omitempty"`
}

// Etcd says which etcd the pool uses and how it is reached.
type Etcd struct {
	// Mode is "embedded" (default) or "external". It is the same on every server of a pool.
	Mode string `yaml:"mode"`
	// ClientPort and PeerPort are where this server's member listens, on Address's host; the client port also
	// on loopback. Embedded only.
	ClientPort int `yaml:"client_port,omitempty"`
	PeerPort   int `yaml:"peer_port,omitempty"`
	// Endpoints are the URLs of an external etcd, all of its members. With embedded etcd they are found by
	// themselves and must not be set.
	Endpoints []string `yaml:"endpoints,omitempty"`
	// CA, Cert and Key are PEM files for an external etcd. Cert and Key are needed where it asks for a client
	// certificate. Embedded etcd uses the pool's own certificates.
	CA   string `yaml:"ca,omitempty"`
	Cert string `yaml:"cert,omitempty"`
	Key  string `yaml:"key,omitempty"`
	// Username and PasswordFile log in to an external etcd that has authentication switched on.
	Username     string `yaml:"username,omitempty"`
	PasswordFile string `yaml:"password_file,omitempty"`
	// Heartbeat is how often the etcd leader tells the others that it lives. Less finds a dead leader no sooner
	// by itself but allows a shorter Election; more saves packets. At least a round trip between the servers.
	// For an external etcd: what it is set to.
	Heartbeat time.Duration `yaml:"heartbeat,omitempty"`
	// Election is how long a member waits for a heartbeat before it stands for election; raft draws up to twice
	// that. Less makes failover after the loss of the etcd leader faster, and a busy disk or network more likely
	// to cause needless elections. More may need a longer lease_ttl: see CheckTTL. At least 5 x Heartbeat.
	// For an external etcd: what it is set to.
	Election time.Duration `yaml:"election,omitempty"`
	// History is how long old revisions are kept for watchers that were away; they start anew after it. More
	// needs disk and memory. Embedded only.
	History time.Duration `yaml:"history,omitempty"`
	// QuotaBytes is the size at which etcd refuses writes rather than fill the disk. A pool of 10,000 VMs needs
	// some 300 MB with an hour's history. Embedded only.
	QuotaBytes int64 `yaml:"quota_bytes,omitempty"`
}

// TLS names this server's identity files. Empty fields mean StateDir/pki/{ca.crt,ca.key,server.crt,server.key}.
type TLS struct {
	// CA is the pool's authority; a certificate that it did not sign is refused.
	CA string `yaml:"ca,omitempty"`
	// CAKey signs the certificates of servers that join. docs/operations.md, "Making a pool", has the trade-off.
	CAKey string `yaml:"ca_key,omitempty"`
	Cert  string `yaml:"cert,omitempty"`
	Key   string `yaml:"key,omitempty"`
}

// Guard configures the process that stops protected VMs when the session runs out.
type Guard struct {
	// Socket is the UNIX socket between agent and guard. Empty: RunDir/guard.sock.
	Socket string `yaml:"socket,omitempty"`
	// Watchdog is the device, "auto" (use /dev/watchdog where it is a hardware watchdog and nobody else holds
	// it) or "off". With a watchdog even a server frozen as a whole is known to be harmless after its time-out.
	Watchdog string `yaml:"watchdog,omitempty"`
	// WatchdogTimeout is W, how long the device waits before it resets the server. Less makes recovery by this
	// proof faster and a reset of a merely slow server more likely.
	WatchdogTimeout time.Duration `yaml:"watchdog_timeout,omitempty"`
	// MonitorDir is where each QEMU that is started listens for the guard, which pauses it there when the pool's
	// on_isolation says so. It is made for QEMU's user alone. "off": no such sockets; an isolated server then kills.
	MonitorDir string `yaml:"monitor_dir,omitempty"`
}

// Storage is one place where VMs' disks are.
type Storage struct {
	// Path is a directory that every server sees at the same path.
	Path string `yaml:"path"`
	// Mount requires that Path is a mount point: an empty directory below an unmounted one then counts as lost
	// storage rather than as storage without files.
	Mount bool `yaml:"mount,omitempty"`
}

// Migration configures live migration. It needs nothing set up: docs/operations.md, "Live migration".
type Migration struct {
	// Unsafe migrates VMs although libvirt takes their disks for local. Only for storage that all servers share and
	// libvirt does not recognise as shared, such as one directory bind-mounted on several servers of a test; on
	// really local disks it loses data. The disks' caches must be off (cache='none').
	Unsafe bool `yaml:"unsafe,omitempty"`
}

// Metrics configures what Prometheus may scrape from this agent.
type Metrics struct {
	// Address is host:port to serve /metrics on. Empty: nothing is counted and nothing served. Without TLS it must be a
	// loopback address.
	Address string `yaml:"address,omitempty"`
	// TLS serves with this server's certificate, to callers that show a certificate of the pool, of any role.
	TLS bool `yaml:"tls,omitempty"`
}

// Log says what the processes of Holdfast write to standard error, where the journal picks it up.
type Log struct {
	// Level is debug, info, warn or error.
	Level string `yaml:"level,omitempty"`
	// Format is text or json.
	Format string `yaml:"format,omitempty"`
}

// Default returns every default value. Pool, Server and Address have none. Paths that follow from others are
// empty until Complete.
func Default() Config {
	return Config{
		Etcd: Etcd{
			Mode: EtcdEmbedded, ClientPort: EtcdClientPort, PeerPort: EtcdPeerPort,
			Heartbeat: 50 * time.Millisecond, Election: 500 * time.Millisecond,
			History: time.Hour, QuotaBytes: 2 << 30,
		},
		StateDir: "/var/lib/holdfast",
		RunDir:   "/run/holdfast",
		Guard:    Guard{Watchdog: "auto", WatchdogTimeout: 10 * time.Second, MonitorDir: "/run/libvirt/qemu/holdfast"},
		Log:      Log{Level: "info", Format: "text"},
	}
}

// External defaults: what etcd does when nobody configures it. https://etcd.io/docs/latest/tuning/
const (
	externalHeartbeat = 100 * time.Millisecond
	externalElection  = time.Second
)

// Load reads, completes and validates a server's settings.
func Load(path string) (Config, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return Config{}, fmt.Errorf("read settings: %w", err)
	}
	c, err := Parse(data)
	if err != nil {
		return Config{}, fmt.Errorf("%s: %w", path, err)
	}
	return c, nil
}

// Parse is Load for a file's contents.
func Parse(data []byte) (Config, error) {
	c := Default()
	c.Etcd.Heartbeat, c.Etcd.Election = 0, 0
	if err := Strict(data, &c); err != nil {
		return Config{}, err
	}
	c = c.Complete()
	return c, c.Validate()
}

// Complete returns c with the values that follow from others filled in.
func (c Config) Complete() Config {
	def := Default().Etcd
	if c.Etcd.Mode == EtcdExternal {
		def.Heartbeat, def.Election = externalHeartbeat, externalElection
	}
	fill(&c.Etcd.Heartbeat, def.Heartbeat)
	fill(&c.Etcd.Election, def.Election)
	fill(&c.Listen, c.Address)
	fill(&c.TLS.CA, filepath.Join(c.PKIDir(), "ca.crt"))
	fill(&c.TLS.CAKey, filepath.Join(c.PKIDir(), "ca.key"))
	fill(&c.TLS.Cert, filepath.Join(c.PKIDir(), "server.crt"))
	fill(&c.TLS.Key, filepath.Join(c.PKIDir(), "server.key"))
	fill(&c.Guard.Socket, filepath.Join(c.RunDir, "guard.sock"))
	return c
}

// PKIDir is where init and join put certificates.
func (c Config) PKIDir() string { return filepath.Join(c.StateDir, "pki") }

// EtcdDir is where the embedded etcd keeps its data and what it knows of its membership.
func (c Config) EtcdDir() string { return filepath.Join(c.StateDir, "etcd") }

func fill[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}
