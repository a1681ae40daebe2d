package etcd

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"

	"github.com/holdfast-ha/holdfast/pkg/config"
	"github.com/holdfast-ha/holdfast/pkg/pki"
	"github.com/holdfast-ha/holdfast/pkg/pool"
	"github.com/holdfast-ha/holdfast/pkg/statefile"
)

// Config is one machine's etcd process.
type Config struct {
	// Name is the member's name: the server's or witness's.
	Name string
	// Dir holds the data and what is known of the membership (config.Config.EtcdDir).
	Dir string
	// PeerURL and ClientURL are what others dial; they are the machine's seat.
	PeerURL, ClientURL string
	// ListenPeer and ListenClient are URLs with IP addresses.
	ListenPeer, ListenClient []string
	Identity                 pki.Files
	Heartbeat, Election      time.Duration
	History                  time.Duration
	QuotaBytes               int64
	// LogLevel is from which level on etcd's own messages are passed on.
	LogLevel slog.Level
	// Poll is how often the member list is looked at; 2 s if zero.
	Poll time.Duration
	// NoSync leaves out fsync. For tests: a power cut may lose acknowledged writes.
	NoSync bool
}

// FromSettings derives the process's configuration from a server's settings. It resolves the host to listen on. With
// external etcd there is no member to configure: PeerURL is empty then, and Run returns at once.
func FromSettings(c config.Config) (Config, error) {
	if c.Etcd.Mode == config.EtcdExternal {
		return Config{Name: c.Server, Dir: c.EtcdDir()}, nil
	}
	host, _, err := net.SplitHostPort(c.Address)
	if err != nil {
		return Config{}, fmt.Errorf("address %q: %w: %w", c.Address, err, pool.ErrInvalid)
	}
	listen, _, err := net.SplitHostPort(c.Listen)
	if err != nil {
		return Config{}, fmt.Errorf("listen %q: %w: %w", c.Listen, err, pool.ErrInvalid)
	}
	ip, err := resolve(listen)
	if err != nil {
		return Config{}, err
	}
	hosts := []string{ip.String()}
	if !ip.IsUnspecified() && !ip.IsLoopback() {
		hosts = append(hosts, "127.0.0.1")
	}
	return Config{
		Name: c.Server, Dir: c.EtcdDir(),
		PeerURL: urlOf(host, c.Etcd.PeerPort), ClientURL: urlOf(host, c.Etcd.ClientPort),
		ListenPeer: []string{urlOf(ip.String(), c.Etcd.PeerPort)}, ListenClient: urlsOf(hosts, c.Etcd.ClientPort),
		Identity:  pki.Files{CA: c.TLS.CA, Cert: c.TLS.Cert, Key: c.TLS.Key},
		Heartbeat: c.Etcd.Heartbeat, Election: c.Etcd.Election, History: c.Etcd.History, QuotaBytes: c.Etcd.QuotaBytes,
		LogLevel: slog.LevelWarn,
	}, nil
}

// Seat returns the seat that this configuration offers.
func (c Config) Seat(witness bool) Seat {
	return Seat{Name: c.Name, PeerURL: c.PeerURL, ClientURL: c.ClientURL, Witness: witness, Standing: StandingFit}
}

func resolve(host string) (net.IP, error) {
	if host == "" {
		return net.IPv4zero, nil
	}
	if ip := net.ParseIP(host); ip != nil {
		return ip, nil
	}
	ips, err := net.LookupIP(host)
	if err != nil || len(ips) == 0 {
		return nil, fmt.Errorf("find the address of %q to listen on: %w: %w", host, err, pool.ErrUnavailable)
	}
	return ips[0], nil
}

func urlOf(host string, port int) string {
	return "https://" + net.JoinHostPort(host, strconv.Itoa(port))
}

func urlsOf(hosts []string, port int) []string {
	var out []string
	for _, h := range hosts {
		out = append(out, urlOf(h, port))
	}
	return out
}

func (c Config) dataDir() string { return filepath.Join(c.Dir, "data") }
func (c Config) selfFile() string {
	return filepath.Join(c.Dir, "member.json")
}

// self is who this machine's member is, kept beside the data.
type self struct {
	ClusterID string `json:"cluster_id"`
	MemberID  string `json:"member_id"`
}

// local reads what is on disk.
func (c Config) local() (Local, error) {
	var l Local
	if _, err := os.Stat(filepath.Join(c.dataDir(), "member", "wal")); err == nil {
		l.HasData = true
	} else if !errors.Is(err, os.ErrNotExist) {
		return l, fmt.Errorf("look at etcd's data: %w", err)
	}
	data, err := os.ReadFile(c.selfFile())
	if errors.Is(err, os.ErrNotExist) || !l.HasData {
		return l, nil
	}
	if err != nil {
		return l, fmt.Errorf("read membership: %w", err)
	}
	var s self
	if json.Unmarshal(data, &s) == nil {
		// Unreadable is as good as absent: the member list decides then.
		l.ClusterID, _ = strconv.ParseUint(s.ClusterID, 16, 64)
		l.MemberID, _ = strconv.ParseUint(s.MemberID, 16, 64)
	}
	return l, nil
}

func (c Config) saveSelf(e *embed.Etcd) error {
	data, err := json.Marshal(self{
		ClusterID: strconv.FormatUint(uint64(e.Server.Cluster().ID()), 16), MemberID: strconv.FormatUint(uint64(e.Server.MemberID()), 16),
	})
	if err != nil {
		return fmt.Errorf("encode membership: %w", err)
	}
	return statefile.Replace(c.selfFile(), append(data, '\n'), 0o600)
}

// putAside moves the data of a member that was taken out to data.old, replacing what was there.
func (c Config) putAside() error {
	old := c.dataDir() + ".old"
	if err := os.RemoveAll(old); err != nil {
		return fmt.Errorf("put etcd's data aside: %w", err)
	}
	if err := os.Rename(c.dataDir(), old); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("put etcd's data aside: %w", err)
	}
	if err := os.Remove(c.selfFile()); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("put etcd's data aside: %w", err)
	}
	return statefile.SyncDir(c.Dir)
}

// maxLearners lets several machines catch up before they are promoted one after the other.
const maxLearners = 4

// embedded turns the configuration into etcd's own. cluster is the initial cluster, "" where data exists; token
// makes the cluster's ID its own.
func (c Config) embedded(log *zap.Logger, cluster, token string) (*embed.Config, error) {
	e := embed.NewConfig()
	e.Name, e.Dir = c.Name, c.dataDir()
	var err error
	for _, u := range []struct {
		to   *[]url.URL
		from []string
	}{
		{&e.ListenPeerUrls, c.ListenPeer}, {&e.ListenClientUrls, c.ListenClient},
		{&e.AdvertisePeerUrls, []string{c.PeerURL}}, {&e.AdvertiseClientUrls, []string{c.ClientURL}},
	} {
		if *u.to, err = parseURLs(u.from); err != nil {
			return nil, err
		}
	}
	e.ClusterState, e.InitialCluster, e.InitialClusterToken = embed.ClusterStateFlagExisting, cluster, token
	if cluster == "" {
		e.InitialCluster = c.Name + "=" + c.PeerURL // not used: the data knows
	}
	// Servers and witnesses only: an operator's certificate is of the same CA.
	tls := &e.ClientTLSInfo
	tls.CertFile, tls.KeyFile, tls.TrustedCAFile = c.Identity.Cert, c.Identity.Key, c.Identity.CA
	tls.ClientCertAuth, tls.AllowedHostnames, tls.SkipClientSANVerify = true, []string{pki.ServerHost}, true
	e.PeerTLSInfo = e.ClientTLSInfo
	e.TlsMinVersion = "TLS1.3"
	e.TickMs, e.ElectionMs = uint(c.Heartbeat.Milliseconds()), uint(c.Election.Milliseconds())
	e.AutoCompactionMode, e.AutoCompactionRetention = embed.CompactorModePeriodic, c.History.String()
	e.QuotaBackendBytes, e.MaxLearners, e.UnsafeNoFsync = c.QuotaBytes, maxLearners, c.NoSync
	e.ZapLoggerBuilder = embed.NewZapLoggerBuilder(log)
	return e, nil
}

func parseURLs(raw []string) ([]url.URL, error) {
	var out []url.URL
	for _, r := range raw {
		u, err := url.Parse(r)
		if err != nil {
			return nil, fmt.Errorf("url %q: %w: %w", r, err, pool.ErrInvalid)
		}
		out = append(out, *u)
	}
	return out, nil
}

// initialCluster writes the members as etcd's configuration wants them, this machine under its own name. Members
// that never started have no name yet; etcd compares URLs only.
func (c Config) initialCluster(members []Member) string {
	var parts []string
	for _, m := range members {
		name := m.Name
		switch {
		case m.PeerURL == c.PeerURL:
			name = c.Name
		case name == "":
			name = fmt.Sprintf("unstarted-%x", m.ID)
		}
		parts = append(parts, name+"="+m.PeerURL)
	}
	return strings.Join(parts, ",")
}

// Bootstrap makes the first member of a new etcd in c.Dir, fills it with seed and stops it again. token makes this
// etcd different from every other: use the pool's incarnation. It listens on the configured addresses meanwhile,
// which also shows that they are this machine's and free; seed connects through them as every later client does. On an error the caller discards c.Dir.
func Bootstrap(ctx context.Context, c Config, token string, log *slog.Logger, seed func(ctx context.Context, a Access) error) error {
	if err := os.MkdirAll(c.Dir, 0o700); err != nil {
		return fmt.Errorf("make etcd's folder: %w", err)
	}
	var quiet atomic.Bool
	cfg, err := c.embedded(zapTo(log, c.LogLevel, &quiet), c.Name+"="+c.PeerURL, token)
	if err != nil {
		return err
	}
	cfg.ClusterState = embed.ClusterStateFlagNew
	e, err := embed.StartEtcd(cfg)
	if err != nil {
		return fmt.Errorf("start etcd: %w", err)
	}
	defer func() {
		quiet.Store(true)
		e.Close()
	}()
	select {
	case <-e.Server.ReadyNotify():
	case err := <-e.Err():
		return fmt.Errorf("start etcd: %w", err)
	case <-ctx.Done():
		return fmt.Errorf("start etcd: %w", ctx.Err())
	}
	id, err := pki.Open(c.Identity)
	if err != nil {
		return err
	}
	if err := seed(ctx, Access{Endpoints: []string{c.ClientURL}, TLS: id.Client(pki.ServerHost)}); err != nil {
		return err
	}
	if err := c.saveSelf(e); err != nil {
		return err
	}
	return SaveEndpoints(c.Dir, []string{c.ClientURL})
}
