package api

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"

	"github.com/holdfast-ha/holdfast/pkg/clock"
	"github.com/holdfast-ha/holdfast/pkg/pki"
	"github.com/holdfast-ha/holdfast/pkg/pool"
	"github.com/holdfast-ha/holdfast/pkg/rpc"
)

// memory is a Pool that applies changes to a snapshot, with the compares of the real one.
type memory struct {
	mu   sync.Mutex
	snap *pool.Snapshot
	subs map[clock.Signal]bool
	// before runs ahead of the next Apply, to let somebody else be faster.
	before func()
	lost   bool
	events int
	// last is the change that was applied last.
	last pool.Change
}

func (m *memory) Snapshot() *pool.Snapshot {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.snap
}

func (m *memory) Subscribe(sig clock.Signal) func() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.subs[sig] = true
	return func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		delete(m.subs, sig)
	}
}

func (m *memory) Reachable() bool { return !m.lost }

// change makes the next snapshot.
func (m *memory) change(f func(s *pool.Snapshot)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	next := *m.snap
	next.Revision++
	f(&next)
	m.snap = &next
	for sig := range m.subs {
		sig.Set()
	}
}

func (m *memory) Apply(_ context.Context, c pool.Change) (pool.Revision, error) {
	if f := m.before; f != nil {
		m.before = nil
		f()
	}
	if err := m.check(c); err != nil {
		return 0, err
	}
	m.last = c
	m.change(func(s *pool.Snapshot) {
		rev := s.Revision
		if c.Config != nil {
			s.Config, s.Config.Revision = *c.Config, rev
		}
		for _, v := range c.VMs {
			v.Revision = rev
			s.VMs = s.VMs.With(v.ID, v)
		}
		for _, v := range c.Servers {
			v.Revision = rev
			s.Servers = s.Servers.With(v.ID, v)
		}
		for _, v := range c.Claims {
			v.Revision = rev
			s.Claims = s.Claims.With(v.VM, v)
		}
		for _, v := range c.Homes {
			v.Revision = rev
			s.Homes = s.Homes.With(v.VM, v)
		}
		for _, v := range c.Fences {
			v.Revision = rev
			s.Fences = s.Fences.With(v.Server, v)
		}
		for _, v := range c.Operations {
			v.Revision = rev
			s.Operations = s.Operations.With(v.ID, v)
		}
		for _, e := range c.Events {
			m.events++
			e.ID = pool.EventID(fmt.Sprintf("%08d", m.events))
			s.Events = s.Events.With(e.ID, e)
		}
		for _, v := range c.RemoveVMs {
			s.VMs = s.VMs.Without(v.ID)
		}
		for _, v := range c.RemoveClaims {
			s.Claims = s.Claims.Without(v.VM)
		}
		for _, v := range c.RemoveServers {
			s.Servers = s.Servers.Without(v.ID)
		}
	})
	return m.Snapshot().Revision, nil
}

// check compares as the store does.
func (m *memory) check(c pool.Change) error {
	s := m.Snapshot()
	stale := c.Config != nil && c.Config.Revision != s.Config.Revision
	for _, v := range c.VMs {
		have, _ := s.VMs.Get(v.ID)
		stale = stale || have.Revision != v.Revision
	}
	for _, v := range c.Servers {
		have, _ := s.Servers.Get(v.ID)
		stale = stale || have.Revision != v.Revision
	}
	for _, v := range c.Operations {
		have, _ := s.Operations.Get(v.ID)
		stale = stale || have.Revision != v.Revision
	}
	for _, id := range c.MembersAbsent {
		stale = stale || s.Members.Has(id)
	}
	if stale {
		return pool.ErrStale
	}
	return nil
}

// fakeServers answers for every server.
type fakeServers struct {
	missing map[pool.ServerID][]string
	rejects string
	domains map[pool.ServerID]FoundDomain
	silent  map[pool.ServerID]bool
}

func (f *fakeServers) Inspect(_ context.Context, id pool.ServerID, _ string, _ []pool.Need) (Inspection, error) {
	if f.silent[id] {
		return Inspection{}, fmt.Errorf("no answer: %w", pool.ErrUnavailable)
	}
	return Inspection{Server: id, Missing: f.missing[id], Rejected: f.rejects}, nil
}

func (f *fakeServers) Lookup(_ context.Context, id pool.ServerID, _ string) (FoundDomain, bool, error) {
	if f.silent[id] {
		return FoundDomain{}, false, fmt.Errorf("no answer: %w", pool.ErrUnavailable)
	}
	d, ok := f.domains[id]
	d.Server = id
	return d, ok, nil
}

// fakeDefinitions takes the XML for the name; after a colon comes a password.
type fakeDefinitions struct{}

func (fakeDefinitions) Parse(xml string) (Definition, error) {
	if xml == "bad" {
		return Definition{}, fmt.Errorf("no <name>: %w", pool.ErrInvalid)
	}
	var passwords map[string]string
	xml, password, ok := strings.Cut(xml, ":")
	if ok {
		passwords = map[string]string{"graphics/vnc/0/passwd": password}
	}
	return Definition{Name: xml, UUID: "uuid-of-" + xml, XML: xml, Passwords: passwords, MemoryBytes: 1 << 30, CPUs: 1, DiskLocks: true, Movable: true}, nil
}

// bench is an API on a pool of three servers and two VMs.
type bench struct {
	*Server
	pool               *memory
	servers            *fakeServers
	oneVote, voteStays bool
}

func newBench(t *testing.T) *bench {
	t.Helper()
	s := &pool.Snapshot{Revision: 100, Config: pool.DefaultConfig("test", "life-1")}
	s.Config.Revision = 1
	for i, id := range []pool.ServerID{"srv-1", "srv-2", "srv-3"} {
		s.Servers = s.Servers.With(id, pool.Server{ID: id, Revision: pool.Revision(10 + i)})
		s.Members = s.Members.With(id, pool.Member{Server: id, Session: pool.Session(20 + i), MemoryBytes: 64 << 30, CPUs: 8, Guard: true})
	}
	for i, id := range []pool.VMID{"db", "web"} {
		vm := pool.DefaultVM(id)
		vm.UUID, vm.MemoryBytes, vm.CPUs, vm.Revision = "uuid-"+string(id), 1<<30, 1, pool.Revision(30+i)
		vm.DiskLocks = true
		s.VMs = s.VMs.With(id, vm)
		s.Claims = s.Claims.With(id, pool.Claim{VM: id, Phase: pool.PhaseUnassigned, Cause: pool.CauseStopped, Revision: pool.Revision(40 + i)})
	}
	b := &bench{pool: &memory{snap: s, subs: map[clock.Signal]bool{}}, servers: &fakeServers{}}
	b.Server = New(Config{Server: "srv-1", Version: "devel", Clock: clock.Real(), Pool: b.pool, Servers: b.servers,
		Definitions: fakeDefinitions{}, CanLoseOne: func(context.Context) error {
			if b.oneVote {
				return pool.Refuse("ETCD_TOO_FEW_VOTES", "add a third vote", "etcd has one vote, on srv-1")
			}
			return nil
		}, GoesOn: func(context.Context, *pool.Snapshot, pool.ServerID) (bool, error) {
			if b.voteStays {
				return false, pool.Refuse("ETCD_NEEDS_THIS_VOTE", "add a third vote", "etcd stops without it")
			}
			return true, nil
		}, Log: slog.New(slog.DiscardHandler)})
	return b
}

// hold makes a server hold a VM.
func (b *bench) hold(vm pool.VMID, server pool.ServerID) {
	b.pool.change(func(s *pool.Snapshot) {
		m, _ := s.Members.Get(server)
		s.Claims = s.Claims.With(vm, pool.Claim{VM: vm, Server: server, Session: m.Session, Epoch: 1, Phase: pool.PhaseHeld, Revision: s.Revision})
		v, _ := s.VMs.Get(vm)
		v.Desired = pool.DesiredRunning
		s.VMs = s.VMs.With(vm, v)
	})
}

// as returns a context of a caller.
func as(t *testing.T) context.Context {
	return rpc.WithIdentity(t.Context(), pki.Identity{Name: "kim", Role: pki.RoleOperator})
}

// wantRefusal checks that err is a refusal with this code and has changed nothing.
func (b *bench) wantRefusal(t *testing.T, before *pool.Snapshot, err error, code string) {
	t.Helper()
	var r *pool.Refusal
	if !errors.As(err, &r) || r.Code != code {
		t.Fatalf("error = %v, want a refusal %s", err, code)
	}
	if b.pool.Snapshot() != before {
		t.Error("a refused request changed the pool")
	}
}
