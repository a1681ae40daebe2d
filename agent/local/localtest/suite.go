package localtest

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/holdfast-ha/holdfast/agent/guard"
	"github.com/holdfast-ha/holdfast/agent/local"
	"github.com/holdfast-ha/holdfast/pkg/clock"
	"github.com/holdfast-ha/holdfast/pkg/pool"
)

// Kind is how a guest behaves.
type Kind int

// Kinds of guests.
const (
	// Obedient runs until it is asked to power off.
	Obedient Kind = iota
	// Leaving powers itself off as soon as it runs.
	Leaving
	// Panicking lets its kernel panic as soon as it runs.
	Panicking
)

// Guest is a VM whose disk both servers see. Nothing of it runs yet.
type Guest struct {
	VM   pool.VMID
	UUID string
	XML  string
}

// Edge is one or two servers with a hypervisor each, under test.
type Edge struct {
	// Servers are the hypervisors, one for each server; two share their guests' disks.
	Servers []Server
	// Clock is the time that the hypervisors live in. The suite waits only through it and through Changed.
	Clock clock.Clock
	// Guest makes a VM with a name of its own.
	Guest func(k Kind) Guest
	// Do runs f where calls may be made: in a simulation, as a coroutine, returning once it has ended. nil calls f
	// directly. f may end by t.FailNow.
	Do func(f func())
	// Migration completes m with the way from server 0 to server 1. slow: the copy lasts for some seconds. Needed by
	// RunTransfers alone.
	Migration func(m local.Migration, slow bool) local.Migration
}

// Server is one server under test, and what may befall it.
type Server struct {
	Hypervisor local.Hypervisor
	// KillDaemon ends libvirtd by SIGKILL; StartDaemon starts it again and returns once the hypervisor is connected.
	KillDaemon, StartDaemon func()
	// KillQEMU ends a process from outside, as a crash does.
	KillQEMU func(p guard.Process)
	// Pause stops a guest's CPUs as an operator does.
	Pause func(vm pool.VMID)
	// Stranger starts a guest that carries no marker, as an operator does.
	Stranger func(g Guest)
	// Anew returns the hypervisor as an agent that has just started sees it.
	Anew func() local.Hypervisor
}

// limit bounds each wait of the suite, in the hypervisor's time.
const limit = 40 * time.Second

// check is one rule.
type check struct {
	testing.TB
	Edge
	ctx context.Context
	// a and b are the two servers; b is zero where there is one.
	a, b Server
}

// Run checks that what open returns does all that local.Hypervisor promises, migration apart. open is called once for
// each rule; it may return the same servers each time. Two servers are needed.
func Run(t *testing.T, open func(t *testing.T) Edge) { run(t, open, rules) }

// RunTransfers does the same for live migration.
func RunTransfers(t *testing.T, open func(t *testing.T) Edge) { run(t, open, transfers) }

func run(t *testing.T, open func(t *testing.T) Edge, rules []rule) {
	for _, r := range rules {
		t.Run(r.name, func(t *testing.T) {
			e := open(t)
			do := e.Do
			if do == nil {
				do = func(f func()) { f() }
			}
			do(func() { r.check(&check{TB: t, Edge: e, ctx: context.Background(), a: e.Servers[0], b: e.Servers[1]}) })
		})
	}
}

type rule struct {
	name  string
	check func(*check)
}

const poolName = "lab"

// marker is that of a cold start.
func marker(g Guest) local.Marker {
	return local.Marker{Pool: poolName, Incarnation: "i", VM: g.VM, Epoch: 1}
}

// find returns a VM from a server's list.
func (c *check) find(s Server, vm pool.VMID) (local.Domain, bool) {
	c.Helper()
	all, err := s.Hypervisor.Domains(c.ctx)
	if err != nil {
		c.Fatalf("domains: %v", err)
	}
	for _, d := range all {
		if d.VM == vm {
			return d, true
		}
	}
	return local.Domain{}, false
}

// until waits, woken by nothing but Changed, until a VM is in a state.
func (c *check) until(s Server, vm pool.VMID, state local.DomainState) local.Domain {
	c.Helper()
	return c.untilIs(s, vm, fmt.Sprintf("state %d", state), func(d local.Domain) bool { return d.State == state })
}

func (c *check) untilIs(s Server, vm pool.VMID, what string, ok func(local.Domain) bool) local.Domain {
	c.Helper()
	end := c.Clock.Now().Add(limit)
	for {
		d, found := c.find(s, vm)
		if found && ok(d) {
			return d
		}
		left := end.Sub(c.Clock.Now())
		if left <= 0 {
			c.Fatalf("%s does not come to %s; it is %+v", vm, what, d)
		}
		s.Hypervisor.Changed().Wait(c.ctx, left)
	}
}

// within waits until ok holds, and looks again and again: for what no event tells.
func (c *check) within(what string, ok func() bool) {
	c.Helper()
	for end := c.Clock.Now().Add(limit); !ok(); {
		if !c.Clock.Now().Before(end) {
			c.Fatalf("not within %v: %s", limit, what)
		}
		c.wait(20 * time.Millisecond)
	}
}

func (c *check) wait(d time.Duration) {
	c.Helper()
	if err := c.Clock.Sleep(c.ctx, d); err != nil {
		c.Fatalf("sleep: %v", err)
	}
}

func (c *check) must(err error) {
	c.Helper()
	if err != nil {
		c.Fatal(err)
	}
}

func (c *check) fails(err, want error, what string) {
	c.Helper()
	if !errors.Is(err, want) {
		c.Errorf("%s: got %v, want %v", what, err, want)
	}
}

func (c *check) create(s Server, g Guest, m local.Marker) local.Domain {
	c.Helper()
	d, err := s.Hypervisor.Create(c.ctx, g.XML, m)
	if err != nil {
		c.Fatalf("create %s: %v", g.VM, err)
	}
	return d
}

// start starts a new guest and ends it with the rule.
func (c *check) start(s Server, k Kind) (Guest, local.Domain) {
	c.Helper()
	g := c.Guest(k)
	d := c.create(s, g, marker(g))
	c.must(s.Hypervisor.Resume(c.ctx, g.VM, marker(g)))
	if k == Obedient {
		d = c.until(s, g.VM, local.DomainRunning)
	}
	return g, d
}

// kill ends a process and waits until it is listed as gone.
func (c *check) kill(s Server, d local.Domain) local.Domain {
	c.Helper()
	c.must(s.Hypervisor.Kill(c.ctx, d.Process))
	return c.until(s, d.VM, local.DomainGone)
}

// dead reports whether a process is seen dead.
func (c *check) dead(s Server, p guard.Process) bool {
	c.Helper()
	dead, err := s.Hypervisor.Dead(c.ctx, p)
	if err != nil {
		c.Fatalf("dead %v: %v", p, err)
	}
	return dead
}
