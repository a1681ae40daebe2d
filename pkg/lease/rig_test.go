package lease_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-ha/holdfast/pkg/kv"
	"github.com/holdfast-ha/holdfast/pkg/lease"
	"github.com/holdfast-ha/holdfast/pkg/lease/leasetest"
	"github.com/holdfast-ha/holdfast/pkg/pool"
)

const (
	prefix = "/holdfast/v1/test/"
	ttl    = 5 * time.Second
)

// rig is one server's machine: what outlives its agent (guard, state) and how it reaches etcd.
type rig struct {
	t      *testing.T
	clock  leasetest.Clock
	etcd   *leasetest.Etcd
	client *leasetest.Client
	guard  *guardFake
	state  *stateFake
	timing pool.Timing
	name   pool.ServerID

	incarnation string
	log         *slog.Logger
	// failed is told of each attempt that did not reach etcd.
	failed func()
	// former outlives boots; nil: there is none.
	former lease.StateStore
}

// inBubble runs f in a bubble of its own with an empty etcd and one server.
func inBubble(t *testing.T, f func(t *testing.T, r *rig)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		c := leasetest.NewClock()
		f(t, newRig(t, leasetest.NewEtcd(t.Context(), c), "srv-1"))
	})
}

func newRig(t *testing.T, e *leasetest.Etcd, name pool.ServerID) *rig {
	t.Helper()
	timing, err := pool.NewTiming(ttl)
	if err != nil {
		t.Fatal(err)
	}
	c := leasetest.NewClock()
	return &rig{t: t, clock: c, etcd: e, client: e.Client(), guard: &guardFake{clock: c}, state: &stateFake{}, timing: timing,
		name: name, incarnation: "one", log: slog.New(slog.NewTextHandler(io.Discard, nil))}
}

func (r *rig) memberKey() string { return prefix + "members/" + string(r.name) }

// agent is one life of the agent.
type agent struct {
	*lease.Session
	cancel context.CancelFunc
	done   chan error
}

func (r *rig) start() *agent {
	ctx, cancel := context.WithCancel(context.Background())
	a := &agent{cancel: cancel, done: make(chan error, 1)}
	a.Session = lease.New(lease.Config{
		Server: r.name, MemberKey: r.memberKey(), Incarnation: r.incarnation, Timing: r.timing,
		Value:  func(id kv.LeaseID) []byte { return fmt.Appendf(nil, "%s on %x", r.name, int64(id)) },
		Extend: r.guard.extend, Failed: r.failed, Store: r.client, Leases: r.client, Clock: r.clock, State: r.state, Former: r.former, Log: r.log,
	})
	go func() { a.done <- a.Run(ctx) }()
	r.t.Cleanup(a.kill)
	return a
}

// kill ends an agent without letting it do anything more.
func (a *agent) kill() {
	a.cancel()
	synctest.Wait()
}

func (r *rig) sleep(d time.Duration) {
	r.t.Helper()
	if err := r.clock.Sleep(context.Background(), d); err != nil {
		r.t.Fatal(err)
	}
	synctest.Wait()
}

// session returns the current session and fails without one.
func (r *rig) session(a *agent) lease.Info {
	r.t.Helper()
	info, ok := a.Current()
	if !ok {
		r.t.Fatal("there is no session")
	}
	return info
}

// stateFake is a StateStore in memory.
type stateFake struct {
	mu    sync.Mutex
	state lease.State
	fail  error
}

func (s *stateFake) Load() (lease.State, bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state, s.state.Lease != 0, s.fail
}

func (s *stateFake) Save(st lease.State) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fail == nil {
		s.state = st
	}
	return s.fail
}

// guardFake keeps the deadlines as the guard does: of one session, the newest Sent counts.
type guardFake struct {
	clock leasetest.Clock
	mu    sync.Mutex
	known map[pool.Session]lease.Info
	// fault, if set, stands between the agent and the guard.
	fault func(ctx context.Context, do func()) error
	calls []lease.Info
}

var errGuardDown = errors.New("guard is down")

func (g *guardFake) extend(ctx context.Context, info lease.Info) error {
	g.mu.Lock()
	fault := g.fault
	g.calls = append(g.calls, info)
	g.mu.Unlock()
	take := func() error {
		g.mu.Lock()
		defer g.mu.Unlock()
		if g.known == nil {
			g.known = map[pool.Session]lease.Info{}
		}
		if info.Sent < g.known[info.Session].Sent {
			return errors.New("outdated")
		}
		g.known[info.Session] = info
		return nil
	}
	if fault != nil {
		return fault(ctx, func() { _ = take() })
	}
	return take()
}

func (g *guardFake) setFault(f func(ctx context.Context, do func()) error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.fault = f
}

func (g *guardFake) lease(s pool.Session) lease.Info {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.known[s]
}

// promised returns the sessions under which VMs may run now, as far as the guard knows.
func (g *guardFake) promised() []pool.Session {
	g.mu.Lock()
	defer g.mu.Unlock()
	var all []pool.Session
	for s, l := range g.known {
		if g.clock.Now().Before(l.KillAt) {
			all = append(all, s)
		}
	}
	return all
}
