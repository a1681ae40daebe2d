package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"

	"github.com/holdfast-ha/holdfast/agent/etcd"
	"github.com/holdfast-ha/holdfast/agent/guard"
	"github.com/holdfast-ha/holdfast/agent/local"
	"github.com/holdfast-ha/holdfast/agent/mesh"
	"github.com/holdfast-ha/holdfast/agent/setup"
	"github.com/holdfast-ha/holdfast/pkg/clock"
	"github.com/holdfast-ha/holdfast/pkg/config"
	"github.com/holdfast-ha/holdfast/pkg/kv"
	kvetcd "github.com/holdfast-ha/holdfast/pkg/kv/etcd"
	"github.com/holdfast-ha/holdfast/pkg/pki"
	"github.com/holdfast-ha/holdfast/pkg/pool"
	"github.com/holdfast-ha/holdfast/pkg/rpc"
	"github.com/holdfast-ha/holdfast/pkg/saved"
	"github.com/holdfast-ha/holdfast/pkg/store"
	"github.com/holdfast-ha/holdfast/pkg/version"
	pb "github.com/holdfast-ha/holdfast/proto/holdfast/v1"
)

// oldLife is the life of a site's data before anything is lost.
const oldLife = "11111111-0000-4000-8000-000000000000"

// site is a pool's servers with all that a rebuild meets, on loopback: embedded etcd's processes, or an external etcd;
// identities and settings on disk; agents that follow the pool, keep copies and answer for their life as the real one does. Only
// libvirt and the guards are not there: what runs on a server is what the test says.
type site struct {
	t        *testing.T
	servers  []*machine
	external string
}

// machine is one server of a site.
type machine struct {
	t    *testing.T
	cfg  config.Config
	path string
	id   *pki.Store

	mu      sync.Mutex
	domains []local.Domain

	stopEtcd, stopAgent func()
}

// newSite makes n servers, srv-1 with etcd's only vote, and fills etcd. external is the URL of an external etcd, or empty.
func newSite(t *testing.T, n int, external string, ops func(store.Keys) []kv.Op) *site {
	t.Helper()
	ca, err := pki.NewAuthority("prod", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	s := &site{t: t, external: external}
	for i := range n {
		s.servers = append(s.servers, newMachine(t, ca, fmt.Sprintf("srv-%d", i+1), external))
	}
	keys := store.NewKeys("prod")
	cfg := pool.DefaultConfig("prod", oldLife)
	cfg.LeaseTTL = 3 * time.Second
	all := append([]kv.Op{keys.PutConfig(cfg)}, ops(keys)...)
	for _, m := range s.servers {
		all = append(all, keys.PutServer(pool.Server{ID: pool.ServerID(m.cfg.Server), Address: m.cfg.Address}))
	}
	first := s.servers[0]
	if external == "" {
		own, err := etcd.FromSettings(first.cfg)
		if err != nil {
			t.Fatal(err)
		}
		own.NoSync = true
		err = etcd.Bootstrap(t.Context(), own, oldLife, slog.New(slog.DiscardHandler), func(ctx context.Context, a etcd.Access) error {
			edge, err := kvetcd.Open(kvetcd.Options{Endpoints: a.Endpoints, TLS: a.TLS})
			if err != nil {
				return err
			}
			defer edge.Close()
			_, err = edge.Txn(ctx, kv.Txn{Then: all})
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range s.servers[1:] {
			if err := errors.Join(os.MkdirAll(m.cfg.EtcdDir(), 0o700), etcd.SaveEndpoints(m.cfg.EtcdDir(), []string{own.ClientURL})); err != nil {
				t.Fatal(err)
			}
		}
		for _, m := range s.servers {
			m.startEtcd()
		}
	} else {
		s.commit(all...)
	}
	s.state() // etcd answers
	for _, m := range s.servers {
		m.startAgent()
	}
	s.copied(1)
	return s
}

func newMachine(t *testing.T, ca *pki.Authority, name, external string) *machine {
	t.Helper()
	dir := t.TempDir()
	c := config.Default()
	c.Pool, c.Server = "prod", name
	ip := loopback(t)
	c.Address = ip + ":7400"
	c.StateDir, c.RunDir = filepath.Join(dir, "lib"), filepath.Join(dir, "run")
	if external != "" {
		c.Etcd = config.Etcd{Mode: config.EtcdExternal, Endpoints: []string{external}}
	} else {
		c.Etcd.Heartbeat, c.Etcd.Election = 50*time.Millisecond, 500*time.Millisecond
	}
	yaml, err := c.Encode("a test's server")
	if err != nil {
		t.Fatal(err)
	}
	m := &machine{t: t, path: filepath.Join(dir, "config.yaml")}
	if err := os.WriteFile(m.path, yaml, 0o600); err != nil {
		t.Fatal(err)
	}
	if m.cfg, err = config.Load(m.path); err != nil {
		t.Fatal(err)
	}
	pair, err := ca.Issue(pki.Request{Name: name, Role: pki.RoleServer, Hosts: []string{ip}}, time.Now(), 0)
	if err != nil {
		t.Fatal(err)
	}
	own, err := ca.PEM()
	if err != nil {
		t.Fatal(err)
	}
	origin, err := json.Marshal(setup.Origin{Pool: "prod", Incarnation: oldLife})
	if err != nil {
		t.Fatal(err)
	}
	files := pki.Files{CA: m.cfg.TLS.CA, Cert: m.cfg.TLS.Cert, Key: m.cfg.TLS.Key}
	err = errors.Join(os.MkdirAll(filepath.Dir(files.CA), 0o700), os.WriteFile(filepath.Join(c.StateDir, "pool.json"), origin, 0o600), pki.Save(files, own.Cert, pair))
	if err != nil {
		t.Fatal(err)
	}
	if m.id, err = pki.Open(files); err != nil {
		t.Fatal(err)
	}
	return m
}

// loopback finds an address that nobody uses now. With one of its own each machine listens on the ports of a real one, which no
// connection's own end can take while its process is down.
func loopback(t *testing.T) string {
	t.Helper()
	for range 50 {
		ip := fmt.Sprintf("127.%d.%d.%d", 1+rand.IntN(250), rand.IntN(250), 1+rand.IntN(250))
		if l, err := net.Listen("tcp", ip+":2379"); err == nil {
			_ = l.Close()
			return ip
		}
	}
	t.Fatal("no loopback address is free")
	return ""
}

// background runs f until the returned function is called or the test ends.
func background(t *testing.T, f func(context.Context) error) (stop func()) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	ended := make(chan error, 1)
	go func() { ended <- f(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil && !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
	t.Cleanup(stop)
	return stop
}

func (m *machine) startEtcd() {
	own, err := etcd.FromSettings(m.cfg)
	if err != nil {
		m.t.Fatal(err)
	}
	own.NoSync, own.Poll = true, 100*time.Millisecond
	m.stopEtcd = background(m.t, func(ctx context.Context) error {
		return etcd.Run(ctx, own, clock.Real(), slog.New(slog.DiscardHandler))
	})
}

// startAgent starts an agent, which a service manager starts again whenever it ends, and waits until it answers.
func (m *machine) startAgent() {
	m.stopAgent = background(m.t, func(ctx context.Context) error {
		for ctx.Err() == nil {
			if err := m.agent(ctx); err != nil && ctx.Err() == nil && !errors.Is(err, errNewLife) && !errors.Is(err, store.ErrOtherLife) {
				return fmt.Errorf("agent of %s: %w", m.cfg.Server, err)
			}
		}
		return nil
	})
	until(m.t, "the agent of "+m.cfg.Server+" answers", func(ctx context.Context) error {
		_, err := (&life{id: m.id}).caller(standingLimit).Ask(ctx, pool.ServerID(m.cfg.Server), m.cfg.Address, true)
		return err
	})
}

// following is the pool as an agent of a site sees it.
type following struct {
	*store.Mirror
	store *store.Store
}

func (f following) Store() *store.Store { return f.store }
func (f following) Reachable() bool {
	return clock.Real().Now().Sub(f.LastContact()) < 3*time.Second
}

// agent is one life of an agent: what runAgent runs for the lives of the pool's data.
func (m *machine) agent(ctx context.Context) error {
	log := slog.New(slog.DiscardHandler)
	db, err := openEtcd(ctx, m.cfg, m.id, log)
	if err != nil {
		return err
	}
	defer db.close()
	origin, err := setup.LoadOrigin(m.cfg.StateDir)
	if err != nil {
		return err
	}
	st := store.New(db.kv, store.NewKeys("prod"))
	f := following{store.NewMirror(st, clock.Real(), origin.Incarnation, log), st}
	l := newLife(m.cfg, origin, m, f, m.id, clock.Real(), log)
	l.guard = idle{}
	answers := mesh.NewServer(pool.ServerID(m.cfg.Server), version.Version, func() string { return f.Snapshot().Config.Incarnation }, nil)
	answers.UseLife(l)
	srv := grpc.NewServer(rpc.ServerOptions(m.id.Server(true))...)
	pb.RegisterMeshServiceServer(srv, answers)
	listener, err := net.Listen("tcp", m.cfg.Listen)
	if err != nil {
		return err
	}
	run, cancel := context.WithCancel(ctx)
	defer cancel()
	all := []runner{l.run, db.run, newSaver(m.cfg, f, db, clock.Real(), log).Run,
		func(context.Context) error { return srv.Serve(listener) },
		func(ctx context.Context) error {
			if err := db.check(ctx, origin); err != nil {
				return err
			}
			return f.Run(ctx)
		}}
	done := make(chan error, len(all))
	for _, f := range all {
		go func() { done <- f(run) }()
	}
	select {
	case err = <-done:
	case <-ctx.Done():
		err = <-done
	}
	srv.Stop()
	cancel()
	for range len(all) - 1 {
		err = errors.Join(err, ended(<-done))
	}
	return err
}

// ended leaves out what the end of an agent brings about.
func ended(err error) error {
	if errors.Is(err, context.Canceled) || errors.Is(err, grpc.ErrServerStopped) {
		return nil
	}
	return err
}

// Domains is what runs here.
func (m *machine) Domains(context.Context) ([]local.Domain, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return append([]local.Domain(nil), m.domains...), nil
}

// idle is a guard that holds nothing.
type idle struct{ guard.Client }

func (idle) Status(context.Context) (guard.Status, error) { return guard.Status{}, nil }

// runs puts a VM here that executes.
func (m *machine) runs(vm pool.VMID, epoch pool.Epoch) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.domains = append(m.domains, local.Domain{VM: vm, UUID: uuidOf(vm), State: local.DomainRunning,
		Marker: &local.Marker{Pool: "prod", Incarnation: oldLife, VM: vm, Epoch: epoch, Started: true}})
}

// ends takes a VM away from here.
func (m *machine) ends(vm pool.VMID) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var left []local.Domain
	for _, d := range m.domains {
		if d.VM != vm {
			left = append(left, d)
		}
	}
	m.domains = left
}

func uuidOf(vm pool.VMID) string {
	return fmt.Sprintf("%08x-0acd-4ac5-8cc1-b673924f16a8", []byte((string(vm) + "    ")[:4]))
}

// server returns the server with this number, from 1.
func (s *site) server(n int) *machine { return s.servers[n-1] }

// command runs a command of holdfast-agent on a server, and returns what it says.
func (m *machine) command(make func(path *string) *cobra.Command, args ...string) (string, error) {
	m.t.Helper()
	ctx, cancel := context.WithTimeout(m.t.Context(), 3*time.Minute)
	defer cancel()
	var out bytes.Buffer
	cmd := make(&m.path)
	cmd.SetArgs(args)
	cmd.SetOut(&out)
	cmd.SetErr(&out)
	cmd.SilenceUsage = true
	err := cmd.ExecuteContext(ctx)
	m.t.Logf("%s %s:\n%s", cmd.Name(), strings.Join(args, " "), out.String())
	return out.String(), err
}

// open connects to etcd as a server reaches it now.
func (s *site) open() *kvetcd.Etcd {
	s.t.Helper()
	m := s.server(1)
	access, err := setup.Access(m.cfg, m.id)
	if err != nil {
		s.t.Fatal(err)
	}
	edge, err := kvetcd.Open(kvetcd.Options{Endpoints: access.Endpoints, TLS: access.TLS})
	if err != nil {
		s.t.Fatal(err)
	}
	return edge
}

// commit writes to the pool.
func (s *site) commit(ops ...kv.Op) pool.Revision {
	s.t.Helper()
	edge := s.open()
	defer edge.Close()
	var rev pool.Revision
	s.until("etcd takes a write", func(ctx context.Context) (err error) {
		rev, err = store.New(edge, store.NewKeys("prod")).Commit(ctx, kv.Txn{Then: ops})
		return err
	})
	return rev
}

// state is all that etcd holds, of whatever life.
func (s *site) state() *pool.Snapshot {
	s.t.Helper()
	edge := s.open()
	defer edge.Close()
	var snap *pool.Snapshot
	s.until("etcd can be read", func(ctx context.Context) (err error) {
		snap, err = store.New(edge, store.NewKeys("prod")).Load(ctx, "")
		return err
	})
	return snap
}

// until waits for something, and says what for if it does not come.
func (s *site) until(what string, f func(context.Context) error) {
	s.t.Helper()
	until(s.t, what, f)
}

func until(t *testing.T, what string, f func(context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for {
		err := f(ctx)
		if err == nil {
			return
		}
		if clock.Real().Sleep(ctx, 50*time.Millisecond) != nil {
			t.Fatalf("wait until %s: %v", what, err)
		}
	}
}

// copied waits until the copies of all servers are of this revision or a later one, and name who votes.
func (s *site) copied(rev pool.Revision) {
	s.t.Helper()
	for _, m := range s.servers {
		s.until("the copy of "+m.cfg.Server+" is new", func(context.Context) error {
			st, err := saved.Read(setup.CopyFile(m.cfg.StateDir))
			if err == nil && (st.Revision < rev || s.external == "" && len(st.Voters) == 0) {
				err = fmt.Errorf("it is of revision %d with voters %v", st.Revision, st.Voters)
			}
			return err
		})
	}
}

// destroyed loses all data of embedded etcd on all servers.
func (s *site) destroyed() {
	s.t.Helper()
	for _, m := range s.servers {
		m.stopEtcd()
		if err := os.RemoveAll(filepath.Join(m.cfg.EtcdDir(), "data")); err != nil {
			s.t.Fatal(err)
		}
		m.startEtcd()
	}
}

// follows waits until the agents of servers have read the pool in the life that etcd holds.
func (s *site) follows(servers ...*machine) {
	s.t.Helper()
	life := s.state().Config.Incarnation
	for _, m := range servers {
		s.until(m.cfg.Server+" follows", func(context.Context) error {
			st, err := saved.Read(setup.CopyFile(m.cfg.StateDir))
			if err == nil && st.Incarnation != life {
				err = fmt.Errorf("its copy is of life %s, want %s", st.Incarnation, life)
			}
			return err
		})
	}
}

// origins returns the lives that the servers belong to.
func (s *site) origins() (all []string) {
	s.t.Helper()
	for _, m := range s.servers {
		o, err := setup.LoadOrigin(m.cfg.StateDir)
		if err != nil {
			s.t.Fatal(err)
		}
		all = append(all, o.Incarnation)
	}
	return all
}
