package config

import (
	"fmt"
	"net"
	"net/url"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/holdfast-ha/holdfast/pkg/pool"
)

// maxSocketPath is what fits into sockaddr_un with its final zero. unix(7)
const maxSocketPath = 107

// Validate reports the first value, or pair of values, that cannot work, with what would. It expects a completed
// Config and looks at nothing outside it: no file, no network.
func (c Config) Validate() error {
	for _, check := range []func() error{
		func() error { return pool.CheckName("pool", c.Pool) },
		func() error { return pool.CheckName("server", c.Server) },
		func() error { return checkAddress("address", c.Address) },
		func() error { return checkListen(c.Listen) },
		c.checkPaths, c.Etcd.validate, c.checkPorts, c.Guard.validate, c.checkStorage, c.Log.validate, c.checkMetrics,
	} {
		if err := check(); err != nil {
			return err
		}
	}
	return nil
}

// CheckTTL reports whether the loss of the etcd leader could bring a healthy server of a pool with this lease_ttl
// to its stop time. Call it at start and whenever lease_ttl changes. Source: docs/safety.md, "Lease budget".
func (c Config) CheckTTL(ttl time.Duration) error {
	t, err := pool.NewTiming(ttl)
	if err != nil {
		return err
	}
	return t.CheckElection(c.Etcd.Election)
}

// CheckWatchdog reports a watchdog time-out that cannot work beside this lease_ttl: the guard pets the device at
// least three times within W, and only while renewals succeed, so W must not be shorter than one renewal interval.
func (c Config) CheckWatchdog(ttl time.Duration) error {
	t, err := pool.NewTiming(ttl)
	if err != nil {
		return err
	}
	if c.Guard.Watchdog != "off" && c.Guard.WatchdogTimeout < t.Renew {
		return invalid("guard.watchdog_timeout %v must not be shorter than a renewal interval of lease_ttl %v, which is %v", c.Guard.WatchdogTimeout, ttl, t.Renew)
	}
	return nil
}

func (e Etcd) validate() error {
	switch {
	case e.Mode != EtcdEmbedded && e.Mode != EtcdExternal:
		return invalid("etcd.mode %q: must be %s or %s", e.Mode, EtcdEmbedded, EtcdExternal)
	case e.Heartbeat < 10*time.Millisecond || e.Heartbeat > time.Second:
		return invalid("etcd.heartbeat %v: must be from 10ms to 1s", e.Heartbeat)
	case e.Election < 5*e.Heartbeat:
		return invalid("etcd.election %v must be at least 5 times etcd.heartbeat %v, that is %v", e.Election, e.Heartbeat, 5*e.Heartbeat)
	case e.Election > 50*time.Second:
		return invalid("etcd.election %v: must not be above 50s", e.Election)
	}
	if e.Mode == EtcdExternal {
		return e.validateExternal()
	}
	return e.validateEmbedded()
}

func (e Etcd) validateEmbedded() error {
	for _, f := range []struct {
		key string
		set bool
	}{
		{"endpoints", len(e.Endpoints) > 0}, {"ca", e.CA != ""}, {"cert", e.Cert != ""}, {"key", e.Key != ""},
		{"username", e.Username != ""}, {"password_file", e.PasswordFile != ""},
	} {
		if f.set {
			return invalid("etcd.%s is set, but etcd.mode is %s, which finds its members by itself: remove it or set etcd.mode to %s", f.key, e.Mode, EtcdExternal)
		}
	}
	switch {
	case e.History < time.Minute || e.History > 7*24*time.Hour:
		return invalid("etcd.history %v: must be from 1m to 168h", e.History)
	case e.QuotaBytes < 64<<20 || e.QuotaBytes > 8<<30:
		return invalid("etcd.quota_bytes %d: must be from %d (64 MiB) to %d (8 GiB, etcd's own limit)", e.QuotaBytes, 64<<20, int64(8<<30))
	}
	return nil
}

func (e Etcd) validateExternal() error {
	if len(e.Endpoints) == 0 {
		return invalid("etcd.mode is %s, but etcd.endpoints is empty: list the URLs of all its members", e.Mode)
	}
	for i, ep := range e.Endpoints {
		u, err := url.Parse(ep)
		if err != nil || (u.Scheme != "https" && u.Scheme != "http") || u.Port() == "" || u.Hostname() == "" {
			return invalid("etcd.endpoints %q: must be a URL such as https://10.0.0.9:2379", ep)
		}
		if u.Scheme == "http" && !isLoopback(u.Hostname()) {
			return invalid("etcd.endpoints %q: without TLS only an etcd on this very machine is used; write https", ep)
		}
		if slices.Contains(e.Endpoints[:i], ep) {
			return invalid("etcd.endpoints names %q twice", ep)
		}
	}
	switch {
	case (e.Cert == "") != (e.Key == ""):
		return invalid("etcd.cert %q and etcd.key %q: set both or neither", e.Cert, e.Key)
	case (e.Username == "") != (e.PasswordFile == ""):
		return invalid("etcd.username %q and etcd.password_file %q: set both or neither", e.Username, e.PasswordFile)
	}
	return checkAbsolute([]named{{"etcd.ca", e.CA}, {"etcd.cert", e.Cert}, {"etcd.key", e.Key}, {"etcd.password_file", e.PasswordFile}}, true)
}

// checkPorts finds two listeners on one port of the same host.
func (c Config) checkPorts() error {
	if c.Etcd.Mode != EtcdEmbedded {
		return nil
	}
	_, port, _ := net.SplitHostPort(c.Listen)
	agent, _ := strconv.Atoi(port)
	ports := []struct {
		key  string
		port int
	}{{"listen", agent}, {"etcd.client_port", c.Etcd.ClientPort}, {"etcd.peer_port", c.Etcd.PeerPort}}
	for i, p := range ports {
		if p.port < 1 || p.port > 65535 {
			return invalid("%s %d: must be from 1 to 65535", p.key, p.port)
		}
		for _, q := range ports[:i] {
			if p.port == q.port {
				return invalid("%s and %s both use port %d", q.key, p.key, p.port)
			}
		}
	}
	return nil
}

// checkMetrics refuses to show figures to a network without TLS, and a port that is in use.
func (c Config) checkMetrics() error {
	m := c.Metrics
	if m.Address == "" {
		if m.TLS {
			return invalid("metrics.tls is set, but metrics.address is empty: set it, such as 127.0.0.1:9640")
		}
		return nil
	}
	if err := checkListen(m.Address); err != nil {
		return fmt.Errorf("metrics.address: %w", err)
	}
	host, port, _ := net.SplitHostPort(m.Address)
	if !m.TLS && !isLoopback(host) {
		return invalid("metrics.address %q: without TLS only this very machine may ask; write 127.0.0.1:%s, or set metrics.tls", m.Address, port)
	}
	n, _ := strconv.Atoi(port)
	_, agent, _ := net.SplitHostPort(c.Listen)
	switch {
	case port == agent:
		return invalid("metrics.address %q uses the port of listen %q", m.Address, c.Listen)
	case c.Etcd.Mode == EtcdEmbedded && (n == c.Etcd.ClientPort || n == c.Etcd.PeerPort):
		return invalid("metrics.address %q uses a port of etcd", m.Address)
	}
	return nil
}

func (c Config) checkPaths() error {
	if err := checkAbsolute([]named{{"state_dir", c.StateDir}, {"run_dir", c.RunDir}, {"guard.socket", c.Guard.Socket},
		{"tls.ca", c.TLS.CA}, {"tls.ca_key", c.TLS.CAKey}, {"tls.cert", c.TLS.Cert}, {"tls.key", c.TLS.Key}}, false); err != nil {
		return err
	}
	if len(c.Guard.Socket) > maxSocketPath {
		return invalid("guard.socket %q is %d bytes long; a UNIX socket's path may have %d: shorten run_dir", c.Guard.Socket, len(c.Guard.Socket), maxSocketPath)
	}
	if rel, err := filepath.Rel(c.StateDir, c.RunDir); err == nil && filepath.IsLocal(rel) {
		return invalid("run_dir %q must not be inside state_dir %q: it has to be empty after a reboot", c.RunDir, c.StateDir)
	}
	return nil
}

func (g Guard) validate() error {
	if g.Watchdog != "auto" && g.Watchdog != "off" && !filepath.IsAbs(g.Watchdog) {
		return invalid("guard.watchdog %q: must be auto, off or a device such as /dev/watchdog", g.Watchdog)
	}
	if g.WatchdogTimeout < 2*time.Second || g.WatchdogTimeout > 5*time.Minute || g.WatchdogTimeout%time.Second != 0 {
		return invalid("guard.watchdog_timeout %v: must be whole seconds from 2s to 5m", g.WatchdogTimeout)
	}
	if g.MonitorDir != "off" && !filepath.IsAbs(g.MonitorDir) {
		return invalid("guard.monitor_dir %q: must be a directory such as %s, or off", g.MonitorDir, Default().Guard.MonitorDir)
	}
	return nil
}

func (c Config) checkStorage() error {
	seen := map[string]bool{}
	for _, s := range c.Storage {
		if !filepath.IsAbs(s.Path) {
			return invalid("storage path %q: must be absolute", s.Path)
		}
		if p := filepath.Clean(s.Path); seen[p] {
			return invalid("storage names %q twice", p)
		}
		seen[filepath.Clean(s.Path)] = true
	}
	return nil
}

func (l Log) validate() error {
	if !slices.Contains([]string{"debug", "info", "warn", "error"}, l.Level) {
		return invalid("log.level %q: must be debug, info, warn or error", l.Level)
	}
	if l.Format != "text" && l.Format != "json" {
		return invalid("log.format %q: must be text or json", l.Format)
	}
	return nil
}

type named struct{ key, path string }

func checkAbsolute(files []named, mayBeEmpty bool) error {
	for _, f := range files {
		if f.path == "" && mayBeEmpty {
			continue
		}
		if !filepath.IsAbs(f.path) {
			return invalid("%s %q: must be an absolute path", f.key, f.path)
		}
	}
	return nil
}

// checkAddress accepts what others can dial.
func checkAddress(key, address string) error {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return invalid("%s %q: write it as host:port, such as 10.0.0.1:%d", key, address, AgentPort)
	}
	if n, err := strconv.Atoi(port); err != nil || n < 1 || n > 65535 {
		return invalid("%s %q: the port must be from 1 to 65535", key, address)
	}
	if ip := net.ParseIP(host); host == "" || (ip != nil && ip.IsUnspecified()) {
		return invalid("%s %q: other servers cannot reach it under that; name this server's own address and put it into `listen` if it shall listen on all", key, address)
	}
	return nil
}

func checkListen(listen string) error {
	host, port, err := net.SplitHostPort(listen)
	if err != nil {
		return invalid("listen %q: write it as host:port, such as 0.0.0.0:%d", listen, AgentPort)
	}
	if n, err := strconv.Atoi(port); err != nil || n < 1 || n > 65535 {
		return invalid("listen %q: the port must be from 1 to 65535", listen)
	}
	_ = host // empty means all addresses
	return nil
}

func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || (ip != nil && ip.IsLoopback())
}

func invalid(format string, args ...any) error {
	return fmt.Errorf(format+": %w", append(args, pool.ErrInvalid)...)
}
