package etcdtest

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"

	"github.com/holdfast-ha/holdfast/pkg/kv/etcd"
	"github.com/holdfast-ha/holdfast/pkg/pool"
)

// Timers of the members. Source: docs/safety.md, "Lease budget".
const (
	Heartbeat = 50 * time.Millisecond
	Election  = 500 * time.Millisecond
)

// startLimit bounds the start of a member.
const startLimit = 30 * time.Second

// Cluster is one etcd. Its methods fail the test when they fail; they are safe for concurrent use.
type Cluster struct {
	t       testing.TB
	folder  string
	members []*Member

	mu sync.Mutex
	// cut holds the IDs of members that their peers do not hear.
	cut map[string]bool
}

// Member is one member of etcd.
type Member struct {
	cluster         *Cluster
	name            string
	clients, peers  *proxy
	folder          string
	initial, secret string

	mu      sync.Mutex
	running *embed.Etcd
}

// Start runs an etcd of so many members until the end of the test.
func Start(t testing.TB, members int) *Cluster {
	t.Helper()
	folder, err := os.MkdirTemp("", "etcd") // t.TempDir is too long for a socket's path
	if err != nil {
		t.Fatalf("start etcd: %v", err)
	}
	c := &Cluster{t: t, folder: folder, cut: map[string]bool{}}
	t.Cleanup(c.close)
	var initial []string
	for i := range members {
		m := c.add(fmt.Sprintf("m%d", i))
		initial = append(initial, m.name+"="+m.peers.url())
	}
	for _, m := range c.members {
		m.initial = strings.Join(initial, ",")
	}
	c.each(func(m *Member) error { return m.start() })
	return c
}

func (c *Cluster) add(name string) *Member {
	c.t.Helper()
	m := &Member{cluster: c, name: name, folder: filepath.Join(c.folder, name), secret: filepath.Base(c.folder)}
	if err := os.Mkdir(m.folder, 0o700); err != nil {
		c.t.Fatalf("start etcd: %v", err)
	}
	var err error
	if m.clients, err = newProxy(m.socket("c"), func(string) bool { return false }); err == nil {
		m.peers, err = newProxy(m.socket("p"), func(from string) bool { return c.isCut(from) || c.isCut(m.id()) })
	}
	if err != nil {
		c.t.Fatalf("start etcd: %v", err)
	}
	c.members = append(c.members, m)
	return m
}

// each calls f for all members at once and fails the test for any error.
func (c *Cluster) each(f func(*Member) error) {
	c.t.Helper()
	errs := make([]error, len(c.members))
	var all sync.WaitGroup
	for i, m := range c.members {
		all.Go(func() { errs[i] = f(m) })
	}
	all.Wait()
	for _, err := range errs {
		if err != nil {
			c.t.Fatalf("etcd: %v", err)
		}
	}
}

// Members returns how many members there are.
func (c *Cluster) Members() int { return len(c.members) }

// Member returns member number i, from 0.
func (c *Cluster) Member(i int) *Member { return c.members[i] }

// Endpoints returns the client URL of every member, in order.
func (c *Cluster) Endpoints() []string {
	all := make([]string, len(c.members))
	for i, m := range c.members {
		all[i] = m.Endpoint()
	}
	return all
}

// Open returns the adapter on all members, closed at the end of the test.
func (c *Cluster) Open() *etcd.Etcd {
	c.t.Helper()
	return c.open(c.Endpoints())
}

func (c *Cluster) open(endpoints []string) *etcd.Etcd {
	c.t.Helper()
	e, err := etcd.Open(etcd.Options{Endpoints: endpoints})
	if err != nil {
		c.t.Fatalf("open etcd: %v", err)
	}
	c.t.Cleanup(func() { _ = e.Close() })
	return e
}

// OpenDirect returns the adapter past the proxies: faults between clients and members do not touch it.
func (c *Cluster) OpenDirect() *etcd.Etcd {
	c.t.Helper()
	return c.open(c.sockets())
}

func (c *Cluster) sockets() []string {
	var all []string
	for _, m := range c.members {
		all = append(all, "unix://"+m.socket("c"))
	}
	return all
}

// Leader returns the number of the member that leads by its own account and that of a majority, waiting for one.
func (c *Cluster) Leader() int {
	c.t.Helper()
	limit := time.NewTimer(startLimit)
	defer limit.Stop()
	every := time.NewTicker(Heartbeat)
	defer every.Stop()
	for {
		if i := c.leader(); i >= 0 {
			return i
		}
		select {
		case <-limit.C:
			c.t.Fatalf("etcd has no leader")
		case <-every.C:
		}
	}
}

func (c *Cluster) leader() int {
	votes := map[string]int{}
	for _, m := range c.members {
		m.mu.Lock()
		if m.running != nil {
			votes[m.running.Server.Leader().String()]++
		}
		m.mu.Unlock()
	}
	for i, m := range c.members {
		if id := m.id(); id != "" && votes[id] > len(c.members)/2 {
			return i
		}
	}
	return -1
}

// Compact forgets the history before rev.
func (c *Cluster) Compact(rev pool.Revision) {
	c.t.Helper()
	c.ask(fmt.Sprintf("compact at %d", rev), func(ctx context.Context, client *clientv3.Client) error {
		_, err := client.Compact(ctx, int64(rev))
		return err
	})
}

// DeletePrefix does what etcdctl del --prefix does.
func (c *Cluster) DeletePrefix(prefix string) {
	c.t.Helper()
	c.ask("delete "+prefix, func(ctx context.Context, client *clientv3.Client) error {
		_, err := client.Delete(ctx, prefix, clientv3.WithPrefix())
		return err
	})
}

// ask has a client of its own do something, under the name what.
func (c *Cluster) ask(what string, do func(ctx context.Context, client *clientv3.Client) error) {
	c.t.Helper()
	client, err := clientv3.New(clientv3.Config{Endpoints: c.sockets(), Logger: zap.NewNop()})
	if err != nil {
		c.t.Fatalf("%s: %v", what, err)
	}
	defer func() { _ = client.Close() }()
	ctx, cancel := context.WithTimeout(context.Background(), startLimit)
	defer cancel()
	if err := do(ctx, client); err != nil {
		c.t.Fatalf("%s: %v", what, err)
	}
}

func (c *Cluster) close() {
	for _, m := range c.members {
		m.clients.close()
		m.peers.close()
	}
	c.each(func(m *Member) error { m.halt(); return nil })
	if err := os.RemoveAll(c.folder); err != nil {
		c.t.Errorf("clean up etcd: %v", err)
	}
}

func (c *Cluster) isCut(id string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.cut[id]
}

func (c *Cluster) setCut(id string, on bool) {
	c.mu.Lock()
	c.cut[id] = on
	c.mu.Unlock()
	for _, m := range c.members {
		m.peers.wake()
	}
}

// Endpoint returns the member's client URL.
func (m *Member) Endpoint() string { return m.clients.url() }

// Freeze holds everything to and from the member, clients and peers, until Thaw: as if its machine had been
// suspended.
func (m *Member) Freeze() {
	m.clients.set(func(f *fault) { f.holdIn, f.holdOut = true, true })
	m.CutPeers()
}

// Thaw ends Freeze; what was held arrives now.
func (m *Member) Thaw() {
	m.clients.set(func(f *fault) { f.holdIn, f.holdOut = false, false })
	m.HealPeers()
}

// CutPeers holds everything between the member and its peers; clients still reach it.
func (m *Member) CutPeers() { m.cluster.setCut(m.id(), true) }

// HealPeers ends CutPeers.
func (m *Member) HealPeers() { m.cluster.setCut(m.id(), false) }

// HoldReplies lets requests through and keeps the answers.
func (m *Member) HoldReplies() { m.clients.set(func(f *fault) { f.holdOut = true }) }

// HoldRequests keeps requests; they take effect after PassClients.
func (m *Member) HoldRequests() { m.clients.set(func(f *fault) { f.holdIn = true }) }

// RefuseClients closes client connections, old and new.
func (m *Member) RefuseClients() { m.clients.set(func(f *fault) { f.refuse = true }) }

// CutClients closes client connections once; new ones work.
func (m *Member) CutClients() { m.clients.cut() }

// Redirect makes clients of the member reach another one, as if etcd had been replaced at the same address.
func (m *Member) Redirect(to *Member) { m.clients.redirect(to.socket("c")) }

// PassClients ends HoldReplies, HoldRequests and RefuseClients.
func (m *Member) PassClients() { m.clients.set(func(f *fault) { *f = fault{} }) }

// Stop ends the member; its connections are refused.
func (m *Member) Stop() {
	m.clients.set(func(f *fault) { f.refuse = true })
	m.peers.set(func(f *fault) { f.refuse = true })
	m.halt()
}

// Restart starts a stopped member with the data that it had.
func (m *Member) Restart() {
	m.cluster.t.Helper()
	m.clients.set(func(f *fault) { f.refuse = false })
	m.peers.set(func(f *fault) { f.refuse = false })
	if err := m.start(); err != nil {
		m.cluster.t.Fatalf("restart etcd: %v", err)
	}
}

// id is the member's ID in hex while it runs.
func (m *Member) id() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.running == nil {
		return ""
	}
	return m.running.Server.MemberID().String()
}

func (m *Member) socket(kind string) string { return filepath.Join(m.folder, kind) }

func (m *Member) start() error {
	cfg, err := m.config()
	if err != nil {
		return err
	}
	e, err := embed.StartEtcd(cfg)
	if err != nil {
		return fmt.Errorf("start %s: %w", m.name, err)
	}
	limit := time.NewTimer(startLimit)
	defer limit.Stop()
	select {
	case <-e.Server.ReadyNotify():
		m.mu.Lock()
		defer m.mu.Unlock()
		m.running = e
		return nil
	case err := <-e.Err():
		return fmt.Errorf("start %s: %w", m.name, err)
	case <-limit.C:
		return fmt.Errorf("start %s: not ready after %v", m.name, startLimit)
	}
}

func (m *Member) config() (*embed.Config, error) {
	advertiseClient, err := url.Parse(m.clients.url())
	if err != nil {
		return nil, err
	}
	advertisePeer, err := url.Parse(m.peers.url())
	if err != nil {
		return nil, err
	}
	cfg := embed.NewConfig()
	cfg.Name, cfg.Dir = m.name, filepath.Join(m.folder, "data")
	cfg.ListenClientUrls = []url.URL{{Scheme: "unix", Path: m.socket("c")}}
	cfg.ListenPeerUrls = []url.URL{{Scheme: "unix", Host: m.socket("p")}} // etcd ignores the path of this one
	cfg.AdvertiseClientUrls, cfg.AdvertisePeerUrls = []url.URL{*advertiseClient}, []url.URL{*advertisePeer}
	cfg.InitialCluster, cfg.InitialClusterToken = m.initial, m.secret
	cfg.TickMs, cfg.ElectionMs = uint(Heartbeat.Milliseconds()), uint(Election.Milliseconds())
	cfg.UnsafeNoFsync = true
	cfg.ZapLoggerBuilder = embed.NewZapLoggerBuilder(logger())
	return cfg, nil
}

// halt ends the member inside. Without open connections it does not wait for any.
func (m *Member) halt() {
	m.mu.Lock()
	e := m.running
	m.running = nil
	m.mu.Unlock()
	if e != nil {
		e.Server.HardStop() // without it, Close waits long for a chance to hand over leadership
		e.Close()
	}
}

// logger shows etcd's own log on standard error if ETCDTEST_LOG is set.
func logger() *zap.Logger {
	if os.Getenv("ETCDTEST_LOG") == "" {
		return zap.NewNop()
	}
	return zap.Must(zap.NewDevelopment())
}
