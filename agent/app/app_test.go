package app

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-ha/holdfast/agent/local"
	"github.com/holdfast-ha/holdfast/pkg/clock"
	"github.com/holdfast-ha/holdfast/pkg/kv"
	"github.com/holdfast-ha/holdfast/pkg/kv/kvtest"
	"github.com/holdfast-ha/holdfast/pkg/lease"
	"github.com/holdfast-ha/holdfast/pkg/pool"
	"github.com/holdfast-ha/holdfast/pkg/store"
)

const life = "11111111-0000-4000-8000-000000000000"

// bubbleClock is the time of the test's bubble.
type bubbleClock struct{ clock.Clock }

func (bubbleClock) Now() pool.Instant { return pool.Instant(time.Now().UnixNano()) }

// machine is a server that runs nothing. Calls that its agent has no reason for are not implemented and panic.
type machine struct {
	local.Hypervisor
	changed clock.Signal
}

func (m *machine) Domains(context.Context) ([]local.Domain, error)        { return nil, nil }
func (m *machine) Changed() clock.Signal                                  { return m.changed }
func (m *machine) Missing(context.Context, []pool.Need) ([]string, error) { return nil, nil }
func (m *machine) StorageLost(context.Context) (bool, error)              { return false, nil }
func (m *machine) capacity(context.Context) (local.Capacity, error) {
	return local.Capacity{BootID: "b", MemoryBytes: 1 << 34, CPUs: 8}, nil
}

// kept is a session's record.
type kept struct {
	mu sync.Mutex
	st lease.State
	ok bool
}

func (k *kept) Load() (lease.State, bool, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.st, k.ok, nil
}

func (k *kept) Save(st lease.State) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.st, k.ok = st, true
	return nil
}

// bed is a pool in memory, in the time of a bubble.
type bed struct {
	t     *testing.T
	clock clock.Clock
	etcd  *kvtest.Memory
	keys  store.Keys
}

// newBed makes pool prod with one server, srv-1.
func newBed(t *testing.T) *bed {
	t.Helper()
	c := bubbleClock{clock.Real()}
	b := &bed{t: t, clock: c, etcd: kvtest.NewMemory(c), keys: store.NewKeys("prod")}
	b.write(b.keys.PutConfig(pool.DefaultConfig("prod", life)), b.keys.PutServer(pool.Server{ID: "srv-1", Address: "127.0.0.1:7400"}))
	return b
}

func (b *bed) write(ops ...kv.Op) {
	b.t.Helper()
	if _, err := b.etcd.Txn(b.t.Context(), kv.Txn{Then: ops}); err != nil {
		b.t.Fatal(err)
	}
}

// agent assembles one; change alters who it is and what it is given.
func (b *bed) agent(change func(*Config, *Edges)) *Agent {
	b.t.Helper()
	m := &machine{changed: b.clock.NewSignal()}
	cfg := Config{Pool: "prod", Server: "srv-1", Version: "1.0.0", Incarnation: life}
	e := Edges{Clock: b.clock, Store: b.etcd, Leases: b.etcd, LeaseState: &kept{}, Hypervisor: m, Needs: m, Capacity: m.capacity,
		CanLoseOne: func(context.Context) error { return nil }, Log: slog.New(slog.DiscardHandler)}
	if change != nil {
		change(&cfg, &e)
	}
	a, err := New(cfg, e)
	if err != nil {
		b.t.Fatal(err)
	}
	return a
}

// run runs an agent beside the test; the returned function ends it and tells its error.
func (b *bed) run(a *Agent) (end func() error) {
	ctx, cancel := context.WithCancel(b.t.Context())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	return func() error {
		cancel()
		return <-done
	}
}

// pass lets the bubble's time go by.
func (b *bed) pass(d time.Duration) {
	b.t.Helper()
	if err := b.clock.Sleep(b.t.Context(), d); err != nil {
		b.t.Fatal(err)
	}
}

// member reads srv-1's presence.
func (b *bed) member() (kv.KeyValue, bool) {
	b.t.Helper()
	got, ok, err := b.etcd.Get(b.t.Context(), b.keys.Member("srv-1"))
	if err != nil {
		b.t.Fatal(err)
	}
	return got, ok
}

func TestAnAgentThatDoesNotBelongHereRefusesAndLeavesNoTrace(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*Config, *Edges)
		kind   error
		says   []string
	}{
		"an unregistered server": {func(c *Config, _ *Edges) { c.Server = "srv-9" }, pool.ErrNotFound,
			[]string{"srv-9", "not registered", "prod", "join"}},
		"another pool": {func(c *Config, _ *Edges) { c.Pool, c.Incarnation = "other", "" }, pool.ErrNotFound,
			[]string{"no pool other", "init", "endpoints"}},
		"another life of the pool": {func(c *Config, _ *Edges) { c.Incarnation = "22222222-0000-4000-8000-000000000000" }, store.ErrOtherLife,
			[]string{life, "22222222", "join the pool again"}},
		"a lease that does not go with this server": {func(_ *Config, e *Edges) {
			e.CheckTTL = func(time.Duration) error { return pool.Refuse("TTL", "set another", "the watchdog is too slow") }
		}, pool.ErrRefused, []string{"watchdog is too slow"}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBed(t)
				_, before, err := b.etcd.List(t.Context(), store.Root)
				if err != nil {
					t.Fatal(err)
				}
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				err = b.agent(c.change).Run(ctx)
				if !errors.Is(err, c.kind) || ctx.Err() != nil {
					t.Fatalf("the agent ended with %v, want %v", err, c.kind)
				}
				for _, word := range c.says {
					if !strings.Contains(err.Error(), word) {
						t.Errorf("%q does not say %q", err, word)
					}
				}
				if _, after, err := b.etcd.List(t.Context(), store.Root); err != nil || after != before {
					t.Errorf("it wrote: revision %d, was %d (%v)", after, before, err)
				}
			})
		})
	}
}

func TestARemovedServersAgentGivesItsSessionBackAndEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBed(t)
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
		defer cancel()
		a := b.agent(nil)
		done := make(chan error, 1)
		go func() { done <- a.Run(ctx) }()
		b.pass(3 * time.Second)
		if _, ok := b.member(); !ok || a.Session() == 0 {
			t.Fatalf("no session after 3 s")
		}
		asked := time.Now()
		b.write(kv.Delete(b.keys.Server("srv-1")))
		err := <-done
		var refusal *pool.Refusal
		if !errors.As(err, &refusal) || refusal.Code != "SERVER_REMOVED" || !strings.Contains(err.Error(), "removed from pool prod") {
			t.Errorf("the agent ended with %v, want a refusal that says it was removed", err)
		}
		if d := time.Since(asked); d > 5*time.Second {
			t.Errorf("it took %v", d)
		}
		if found, ok := b.member(); ok {
			t.Errorf("the session is still there: %s", found.Value)
		}
	})
}

func TestAnAgentThatIsEndedLeavesItsSessionToItsSuccessor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBed(t)
		state := &kept{}
		same := func(_ *Config, e *Edges) { e.LeaseState = state }
		first := b.agent(same)
		end := b.run(first)
		b.pass(3 * time.Second)
		session := first.Session()
		if session == 0 {
			t.Fatal("no session after 3 s")
		}
		if err := end(); err != nil {
			t.Errorf("the first agent ended with %v", err)
		}
		second := b.agent(same)
		end = b.run(second)
		b.pass(3 * time.Second)
		if got := second.Session(); got != session {
			t.Errorf("the second agent has session %d, want %d", got, session)
		}
		if err := end(); err != nil {
			t.Errorf("the second agent ended with %v", err)
		}
	})
}
