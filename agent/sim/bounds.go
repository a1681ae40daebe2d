package sim

import (
	"maps"
	"slices"
	"time"

	"github.com/holdfast-ha/holdfast/agent/sim/scenario"
	"github.com/holdfast-ha/holdfast/agent/sim/world"
	"github.com/holdfast-ha/holdfast/pkg/plan"
	"github.com/holdfast-ha/holdfast/pkg/pool"
)

// bounds checks invariant 6: a protected VM that could run somewhere must not stay down for long, whatever else is
// wrong in the pool. The bound is generous and counts only while nothing stands in the VM's own way: quiet time
// without a new fault, with etcd and a leader, while a server qualifies.
type bounds struct {
	p      *Pool
	broken func(int, string, ...any)
	// down maps VMs to since when they have been held up by nothing of their own.
	down  map[pool.VMID]time.Duration
	timed bool
	// dark is when the pool was last seen without a single agent, wasDark whether it ever was.
	dark    time.Duration
	wasDark bool
	// left is until when a session may outlive its agent's planned stop: if the server loses power meanwhile, its VMs wait.
	left time.Duration
}

// restartGrace is how long a session outlives its agent's planned stop.
const restartGrace = 60 * time.Second

// recoveryBound is how long a VM that a server could take may be down in quiet time: the lease may live twice its
// life and 2 s after a change of etcd's leader, then come L, planning, and a start.
func (b *bounds) recoveryBound() time.Duration {
	return 2*b.p.File.Pool.LeaseTTL + b.p.File.Pool.StartDelay*5 + 20*time.Second
}

func newBounds(p *Pool, broken func(int, string, ...any)) *bounds {
	return &bounds{p: p, broken: broken, down: map[pool.VMID]time.Duration{}}
}

// event notes a guest that ceased or began to execute.
func (b *bounds) event(e world.Event) {
	if len(b.p.World.Image(e.VM).Executing()) > 0 {
		delete(b.down, e.VM)
		return
	}
	if _, ok := b.down[e.VM]; !ok {
		b.down[e.VM] = b.p.Now()
		b.time()
	}
}

// fault gives every VM a fresh bound: what happens now may be in its way.
func (b *bounds) fault(st scenario.Statement) {
	b.lights()
	// A lease whose etcd elects another leader has its full life again.
	if st.Verb == "agent stop" || st.Verb == "agent restart" || b.p.Now() < b.left {
		b.left = b.p.Now() + restartGrace
	}
	b.renew()
}

// renew lets the bound of every VM begin anew.
func (b *bounds) renew() {
	for id := range b.down {
		b.down[id] = b.p.Now()
	}
}

// lights notes moments at which no server runs an agent: after them leaders give servers time to boot.
func (b *bounds) lights() {
	for _, s := range b.p.World.Servers() {
		if s.Agent() != nil {
			return
		}
	}
	b.dark, b.wasDark = b.p.Now(), true
}

// time looks at the VMs that are down, once a second while there are any.
func (b *bounds) time() {
	if b.timed {
		return
	}
	b.timed = true
	b.p.Sched.After(time.Second, func() {
		b.timed = false
		b.look()
		if len(b.down) > 0 {
			b.time()
		}
	})
}

func (b *bounds) look() {
	b.lights()
	if slices.ContainsFunc(b.p.World.Servers(), func(s *world.Server) bool { return s.Powered() && !s.Booted() }) {
		b.renew() // a server that boots may be what the VMs wait for
	}
	snap := b.p.truth.snapshot()
	var view *plan.View
	for _, id := range slices.Sorted(maps.Keys(b.down)) {
		if b.p.Now()-b.down[id] < b.recoveryBound() {
			continue
		}
		if view == nil {
			view = plan.NewView(snap)
		}
		if b.inItsWay(snap, view, id) {
			b.down[id] = b.p.Now()
			continue
		}
		status, reason := view.VM(id)
		b.broken(6, "%s has been down since %.1fs although a server could run it; reported %s (%s)", id, b.down[id].Seconds(), status, reason)
	}
}

// inItsWay reports whether something explains that a VM is down: nobody wants or protects it, the pool cannot act, no
// server qualifies, its start fails or is refused by a lock, or its old server is not fenced.
func (b *bounds) inItsWay(snap *pool.Snapshot, view *plan.View, id pool.VMID) bool {
	vm, ok := snap.VMs.Get(id)
	im := b.p.World.Image(id)
	switch {
	case !ok, vm.Desired != pool.DesiredRunning, !snap.Protected(vm), b.p.Etcd.Leader() == "", snap.Leader.Server == "":
		return true
	case len(b.p.Net.Faulty()) > 0, im.StartFails != 0, len(im.Copies()) > 0:
		return true // a copy that is paused, or held by a lock elsewhere, has trouble of its own
	}
	if b.p.handicapped(string(snap.Leader.Server)) {
		return true
	}
	c, _ := snap.Claims.Get(id)
	if c.Phase.Owned() && !snap.FencedFor(c.Server, c.Session) && !snap.Alive(c.Server, c.Session) {
		return b.unfenceable(snap, c) || b.wasDark && b.p.Now()-b.dark < plan.ColdStartGrace+b.recoveryBound()
	}
	if c.Phase == pool.PhaseAssigned || c.Phase.Owned() {
		return b.p.handicapped(string(c.Server)) || b.p.Now() < b.left+b.recoveryBound() && b.left > 0
	}
	status, reason := view.VM(id)
	return status == plan.VMFailed || reason != "" && status == plan.VMWaiting
}

// handicapped reports whether something of a server is broken that its agent needs to do its work.
func (p *Pool) handicapped(server string) bool {
	s := p.World.Server(server)
	return s == nil || s.Agent() == nil || s.Agent().Hung() || p.Etcd.Frozen(server) || !s.LibvirtdUp() || !s.Storage() ||
		s.HasGuard() && (s.Guard() == nil || s.Guard().Hung())
}

// unfenceable reports whether the lost owner of a claim has no means by which it could be proven harmless.
func (b *bounds) unfenceable(snap *pool.Snapshot, c pool.Claim) bool {
	s := b.p.World.Server(string(c.Server))
	vm, _ := snap.VMs.Get(c.VM)
	switch s.Fencing {
	case world.FencingNone:
		return true
	case world.FencingPower:
		return !s.Fenceable()
	}
	return !c.Armed || snap.Members.Has(c.Server) || !vm.DiskLocks && !snap.Config.TrustGuardAlone && s.Fencing != world.FencingWatchdog
}
