package setup

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"

	"github.com/holdfast-ha/holdfast/agent/etcd"
	"github.com/holdfast-ha/holdfast/pkg/clock"
	"github.com/holdfast-ha/holdfast/pkg/config"
	"github.com/holdfast-ha/holdfast/pkg/kv"
	kvetcd "github.com/holdfast-ha/holdfast/pkg/kv/etcd"
	"github.com/holdfast-ha/holdfast/pkg/pki"
	"github.com/holdfast-ha/holdfast/pkg/pool"
	"github.com/holdfast-ha/holdfast/pkg/rpc"
	"github.com/holdfast-ha/holdfast/pkg/store"
	holdfastv1 "github.com/holdfast-ha/holdfast/proto/holdfast/v1"
)

// newMachine makes settings for one machine on loopback, with ports and folders of its own.
func newMachine(t *testing.T, name string) Machine {
	t.Helper()
	dir := t.TempDir()
	c := config.Default()
	c.Pool, c.Server = "prod", name
	ports := freePorts(t, 3)
	c.Address = fmt.Sprintf("127.0.0.1:%d", ports[0])
	c.Etcd.ClientPort, c.Etcd.PeerPort = ports[1], ports[2]
	c.Etcd.Heartbeat, c.Etcd.Election = 50*time.Millisecond, 500*time.Millisecond
	c.StateDir, c.RunDir = filepath.Join(dir, "lib"), filepath.Join(dir, "run")
	return Machine{
		Settings: c, ConfigPath: filepath.Join(dir, "etc", "config.yaml"), HostUUID: "0000-uuid-of-" + name,
		Clock: clock.Real(), Log: slog.New(slog.NewTextHandler(t.Output(), nil)), NoSync: true,
	}
}

// freePorts finds ports that nobody listens on now.
func freePorts(t *testing.T, n int) []int {
	t.Helper()
	var ports []int
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		_, port, err := net.SplitHostPort(l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		n, err := strconv.Atoi(port)
		if err != nil {
			t.Fatal(err)
		}
		ports = append(ports, n)
	}
	return ports
}

// node is a machine of a test's pool with its processes.
type node struct {
	t        *testing.T
	m        Machine
	settings config.Config
	edge     *kvetcd.Etcd
	store    *store.Store
	id       *pki.Store
	stop     context.CancelFunc
	ended    chan error
}

// found makes a pool of one server and starts its etcd and its join service.
func found(t *testing.T, name string) *node {
	t.Helper()
	m := newMachine(t, name)
	if _, err := Init(t.Context(), m); err != nil {
		t.Fatal(err)
	}
	n := open(t, m)
	n.start()
	n.serve()
	if !n.writes(t) {
		t.Fatal("etcd does not come up")
	}
	return n
}

// open reads back what a set-up left on a machine.
func open(t *testing.T, m Machine) *node {
	t.Helper()
	c, err := config.Load(m.ConfigPath)
	if err != nil {
		t.Fatal(err)
	}
	id, err := pki.Open(pki.Files{CA: c.TLS.CA, Cert: c.TLS.Cert, Key: c.TLS.Key})
	if err != nil {
		t.Fatal(err)
	}
	access, err := Access(c, id)
	if err != nil {
		t.Fatal(err)
	}
	edge, err := kvetcd.Open(kvetcd.Options{Endpoints: access.Endpoints, TLS: access.TLS})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { edge.Close() })
	return &node{t: t, m: m, settings: c, id: id, edge: edge, store: store.New(edge, store.NewKeys(c.Pool))}
}

// start runs the machine's etcd process.
func (n *node) start() {
	n.t.Helper()
	cfg, err := etcd.FromSettings(n.settings)
	if err != nil {
		n.t.Fatal(err)
	}
	cfg.NoSync, cfg.Poll = true, 100*time.Millisecond
	ctx, cancel := context.WithCancel(context.Background())
	n.stop, n.ended = cancel, make(chan error, 1)
	log := n.m.Log.With("server", cfg.Name)
	go func() { n.ended <- etcd.Run(ctx, cfg, clock.Real(), log) }()
	n.t.Cleanup(n.kill)
}

// kill ends the machine's etcd process and waits for its end.
func (n *node) kill() {
	if n.ended == nil {
		return
	}
	n.stop()
	if err := <-n.ended; err != nil {
		n.t.Errorf("etcd of %s: %v", n.m.Settings.Server, err)
	}
	n.ended = nil
}

// serve answers joins at the machine's address.
func (n *node) serve() {
	n.t.Helper()
	l, err := net.Listen("tcp", n.settings.Address)
	if err != nil {
		n.t.Fatal(err)
	}
	srv := grpc.NewServer(rpc.ServerOptions(n.id.Server(true))...)
	holdfastv1.RegisterJoinServiceServer(srv, NewJoinService(ServiceOptions{
		Settings: n.settings, Store: n.store, Clock: clock.Real(), Log: n.m.Log,
		Endpoints: func() []string {
			eps, err := etcd.LoadEndpoints(n.settings.EtcdDir())
			if err != nil {
				n.t.Error(err)
			}
			return eps
		},
	}))
	go func() { _ = srv.Serve(l) }()
	n.t.Cleanup(srv.Stop)
}

func (n *node) token(ttl time.Duration) Token {
	n.t.Helper()
	tok, err := CreateToken(n.t.Context(), TokenOptions{Settings: n.settings, Store: n.edge, Leases: n.edge, Clock: clock.Real(), TTL: ttl, By: "test"})
	if err != nil {
		n.t.Fatal(err)
	}
	return tok
}

// admit joins a new machine to n's pool and starts its etcd process.
func (n *node) admit(name string, witness bool) *node {
	n.t.Helper()
	m := newMachine(n.t, name)
	if _, err := Join(n.t.Context(), JoinOptions{Machine: m, Token: n.token(0).String(), Witness: witness}); err != nil {
		n.t.Fatal(err)
	}
	other := open(n.t, m)
	other.start()
	return other
}

// lead makes n the leader in etcd's eyes and keeps the pool's votes from there until the test ends or the returned
// function is called.
func (n *node) lead(servers ...*node) (stop func()) {
	n.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	keys := n.store.Keys()
	lease, err := n.edge.Grant(ctx, time.Minute)
	if err != nil {
		n.t.Fatal(err)
	}
	ops := []kv.Op{keys.PutLeader(pool.ServerID(n.settings.Server), lease)}
	for _, s := range servers {
		ops = append(ops, keys.PutMember(pool.Member{Server: pool.ServerID(s.settings.Server), Incarnation: n.incarnation()}, lease))
	}
	rev, err := n.store.Commit(ctx, kv.Txn{Then: ops})
	if err != nil {
		n.t.Fatal(err)
	}
	leading := func() (pool.Leader, bool) {
		return pool.Leader{Server: pool.ServerID(n.settings.Server), Key: keys.Leader(lease), Revision: rev}, true
	}
	cluster := n.cluster()
	registry := etcd.Registry{Store: n.store, Leading: leading, Snapshot: func() *pool.Snapshot {
		s, err := n.store.Load(ctx, "")
		if err != nil {
			return &pool.Snapshot{}
		}
		return s
	}}
	k := etcd.NewKeeper(clock.Real(), cluster, registry, &etcd.EventAnnouncer{Store: n.store, Clock: clock.Real(), Leading: leading}, n.m.Log)
	var wg sync.WaitGroup
	wg.Go(func() { _ = k.Run(ctx) })
	wg.Go(func() {
		for ctx.Err() == nil { // a real agent wakes it when the pool changes
			k.Wake().Set()
			_ = clock.Real().Sleep(ctx, 100*time.Millisecond)
		}
	})
	end := sync.OnceFunc(func() { cancel(); wg.Wait() })
	n.t.Cleanup(end)
	return end
}

func (n *node) incarnation() string {
	o, err := LoadOrigin(n.settings.StateDir)
	if err != nil {
		n.t.Fatal(err)
	}
	return o.Incarnation
}

// cluster returns etcd's membership as n's machine can reach it.
func (n *node) cluster() etcd.Cluster {
	n.t.Helper()
	access, err := Access(n.settings, n.id)
	if err != nil {
		n.t.Fatal(err)
	}
	client, err := etcd.Dial(context.Background(), access)
	if err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(func() { client.Close() })
	return etcd.Cluster{Client: client, Access: access, Timeout: 2 * time.Second}
}

// votes waits until exactly these machines vote, and the standbys have a copy.
func (n *node) votes(c etcd.Cluster, voters int, learners int) {
	n.t.Helper()
	var seen string
	if !eventually(n.t, func() bool {
		members, err := c.Members(n.t.Context())
		if err != nil {
			seen = err.Error()
			return false
		}
		v, l := 0, 0
		for _, m := range members {
			switch {
			case m.Learner && m.Started():
				l++
			case !m.Learner && m.Started():
				v++
			}
		}
		seen = fmt.Sprintf("%+v", members)
		return v == voters && l == learners && len(members) == v+l
	}) {
		n.t.Fatalf("no %d voters and %d learners: %s", voters, learners, seen)
	}
}

// eventually polls until ok or half a minute has passed.
func eventually(t *testing.T, ok func() bool) bool {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for time.Now().Before(deadline) {
		if ok() {
			return true
		}
		if err := clock.Real().Sleep(t.Context(), 20*time.Millisecond); err != nil {
			return false
		}
	}
	return false
}

// writes reports whether the pool accepts a write within a few seconds.
func (n *node) writes(t *testing.T) bool {
	t.Helper()
	return eventually(t, func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		_, err := n.edge.Txn(ctx, kv.Txn{Then: []kv.Op{kv.Put(n.store.Keys().Prefix()+"test", []byte("x"))}})
		if err != nil && !errors.Is(err, pool.ErrUnavailable) && !errors.Is(err, pool.ErrOutcomeUnknown) {
			t.Fatal(err)
		}
		return err == nil
	})
}
