package sim

import (
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/holdfast-ha/holdfast/agent/sim/scenario"
	"github.com/holdfast-ha/holdfast/agent/sim/vtime"
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
	// left is until when each server's session may outlive its agent's planned stop: if the server is lost meanwhile,
	// its VMs wait. elections is how many etcd's leaders had had when last looked.
	left      map[string]time.Duration
	elections int
	// told is since when each VM has been assigned under its present claim.
	told map[pool.VMID]told
	// watch is since when each server's agent has worked without a break.
	watch map[string]working
}

type working struct {
	agent *vtime.Proc
	since time.Duration
}

type told struct {
	epoch    pool.Epoch
	at       time.Duration
	assigned bool
	// patience is for how long the server may say nothing about its start; see plan.LookAtStarts.
	patience time.Duration
}

// next is what is known once the claim is as it is now.
func (t told) next(c pool.Claim, now time.Duration) told {
	n := told{epoch: c.Epoch, at: now, assigned: c.Phase == pool.PhaseAssigned, patience: plan.Patience}
	if t.assigned && n.assigned {
		n.patience = min(2*t.patience, plan.MostPatience)
	}
	return n
}

// restartGrace is how long a session outlives its agent's planned stop.
const restartGrace = 60 * time.Second

// recoveryBound is how long a VM that a server could take may be down in quiet time: the lease may live twice its
// life and 2 s after a change of etcd's leader, then come L, planning, and a start.
func (b *bounds) recoveryBound() time.Duration {
	return 2*b.p.File.Pool.LeaseTTL + b.p.File.Pool.StartDelay*5 + 20*time.Second
}

func newBounds(p *Pool, broken func(int, string, ...any)) *bounds {
	b := &bounds{p: p, broken: broken, down: map[pool.VMID]time.Duration{}, left: map[string]time.Duration{}, told: map[pool.VMID]told{}, watch: map[string]working{},
		elections: p.Etcd.Elections()}
	b.lights()
	return b
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
	if st.Verb == "agent stop" || st.Verb == "agent restart" {
		if server, err := b.p.named(st.Server); err == nil {
			b.left[server] = b.p.Now() + restartGrace
		}
	}
	b.renew()
}

// renew lets the bound of every VM begin anew.
func (b *bounds) renew() {
	for id := range b.down {
		b.down[id] = b.p.Now()
	}
}

// elected gives every VM a fresh bound when etcd has elected another leader: every lease has its full life again.
func (b *bounds) elected() {
	n := b.p.Etcd.Elections()
	if n == b.elections {
		return
	}
	b.elections = n
	for s, until := range b.left {
		if b.p.Now() < until {
			b.left[s] = b.p.Now() + restartGrace
		}
	}
	b.renew()
}

// leaving reports whether a server's session may just be outliving its agent's planned stop.
func (b *bounds) leaving(server string) bool { return b.p.Now() < b.left[server] }

// lights notes moments at which no server has an agent that has worked, and reached etcd, for longer than a lease lives:
// leaders that begin then have seen no session live, take the pool for one that was switched on, and give servers time to
// boot. A session that outlived its agent's planned stop is an ordinary one once its agent has worked again for that long.
func (b *bounds) lights() {
	dark := true
	for _, s := range b.p.World.Servers() {
		a := s.Agent()
		if a != nil && (a.Hung() || !b.p.Etcd.Reaches(s.Name)) {
			a = nil
		}
		if w := b.watch[s.Name]; w.agent != a {
			b.watch[s.Name] = working{a, b.p.Now()}
		}
		w := b.watch[s.Name]
		if a != nil && !b.p.unable(s.Name) && b.p.Now()-w.since > 2*b.p.File.Pool.LeaseTTL {
			delete(b.left, s.Name)
		}
		dark = dark && (a == nil || w.since > 0 && b.p.Now()-w.since < 2*b.p.File.Pool.LeaseTTL)
	}
	if dark {
		b.dark, b.wasDark = b.p.Now(), true
	}
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
	b.elected()
	snap := b.p.truth.snapshot()
	var view *plan.View
	for _, id := range slices.Sorted(maps.Keys(b.down)) {
		c, _ := snap.Claims.Get(id)
		if t := b.told[id]; t.epoch != c.Epoch || t.assigned != (c.Phase == pool.PhaseAssigned) {
			b.told[id] = t.next(c, b.p.Now())
		}
		if b.settledDown(snap, id) {
			b.down[id] = b.p.Now()
			continue
		}
		if view == nil {
			view = plan.NewView(snap)
		}
		if b.inItsWay(snap, view, id) {
			b.down[id] = b.p.Now() // the bound begins when the last thing in its way is gone
			continue
		}
		if b.p.Now()-b.down[id] < b.recoveryBound()+max(b.means(c.Server), b.means(c.LastServer)) {
			continue
		}
		status, reason := view.VM(id)
		b.broken(6, "%s has been down since %.1fs although a server could run it; reported %s (%s)", id, b.down[id].Seconds(), status, reason)
	}
}

// means is how much longer a lost server is waited for if only its watchdog proves it harmless, or a power switch that
// takes its time.
func (b *bounds) means(of pool.ServerID) time.Duration {
	s := b.p.World.Server(string(of))
	t, err := pool.NewTiming(b.p.File.Pool.LeaseTTL)
	switch {
	case s == nil || err != nil:
		return 0
	case s.Fencing == world.FencingPower:
		return s.FenceDelay
	case s.Fencing == world.FencingWatchdog:
		return t.WatchdogSettle(s.Watchdog)
	}
	return 0
}

// settledDown: nobody wants it to run, or protects it.
func (b *bounds) settledDown(snap *pool.Snapshot, id pool.VMID) bool {
	vm, ok := snap.VMs.Get(id)
	return !ok || vm.Desired != pool.DesiredRunning || !snap.Protected(vm)
}

// inItsWay reports whether something explains that a VM is down now. docs/scenarios.md, "Bounds", lists the reasons.
func (b *bounds) inItsWay(snap *pool.Snapshot, view *plan.View, id pool.VMID) bool {
	vm, _ := snap.VMs.Get(id)
	im := b.p.World.Image(id)
	c, _ := snap.Claims.Get(id)
	switch {
	case b.p.Etcd.Leader() == "", !b.p.led(snap):
		return true // nobody can act for it
	case im.StartFails != 0, im.StopFails != 0:
		return true // it has trouble of its own
	case b.locked(im, c):
		return true
	case c.Phase == pool.PhaseUnassigned && c.Cause == pool.CauseKept && !snap.Members.Has(c.LastServer):
		return true // it is kept for its server, by the pool's policy
	case c.Phase == pool.PhaseMigrating || c.Phase == pool.PhaseHandedOver:
		return b.p.unable(string(c.Server)) || len(b.p.Net.Faulty()) > 0
	case c.Phase.Owned() && !proven(snap, c) && !snap.Alive(c.Server, c.Session):
		booting := b.p.World.Server(string(c.Server))
		back := snap.Members.Has(c.Server) && b.p.unable(string(c.Server))
		return back || b.unfenceable(snap, c) || booting.Powered() && !booting.Booted() ||
			b.wasDark && b.p.Now()-b.dark < plan.ColdStartGrace+b.recoveryBound()
	case c.Phase.Owned():
		return b.leaving(string(c.Server)) || b.p.unable(string(c.Server))
	case c.Phase == pool.PhaseAssigned && b.p.unable(string(c.Server)):
		return b.p.Now()-b.told[id].at < b.told[id].patience || !b.p.roomFor(snap, vm, string(c.Server))
	case c.Phase == pool.PhaseAssigned:
		return b.leaving(string(c.Server))
	}
	status, reason := view.VM(id)
	return status == plan.VMFailed || reason != "" && status == plan.VMWaiting && !b.p.roomFor(snap, vm, "")
}

// proven reports whether the proof on record of a claim's server counts for this VM too: a guard's is none for a VM that
// it did not hold or whose disks have no lock, a watchdog's none for one that it did not stand behind.
func proven(snap *pool.Snapshot, c pool.Claim) bool {
	f, _ := snap.Fences.Get(c.Server)
	vm, _ := snap.VMs.Get(c.VM)
	guard := c.Armed && (vm.DiskLocks || snap.Config.TrustGuardAlone)
	switch {
	case !f.Covers(c.Session):
		return false
	case f.Proof == pool.ProofGuard:
		return guard
	case f.Proof == pool.ProofWatchdog:
		return guard || c.Armed && c.Watchdog > 0
	}
	return true
}

// locked reports whether a process of the VM elsewhere, which nobody can end before its own time, has the disks: one
// that its guard has paused, or that its server's agent should end and cannot.
func (b *bounds) locked(im *world.Image, c pool.Claim) bool {
	for _, q := range im.Copies() {
		if q.Server() != string(c.Server) && (q.Paused() || b.p.unable(q.Server())) {
			return true
		}
	}
	return false
}

// led reports whether somebody leads who can read and write, or should: there is a server with which nothing is wrong.
func (p *Pool) led(snap *pool.Snapshot) bool {
	l := string(snap.Leader.Server)
	if l != "" {
		return !p.Etcd.Frozen(l) && !p.Net.Slowed(l)
	}
	return slices.ContainsFunc(p.World.Servers(), func(s *world.Server) bool { return p.sound(s.Name) })
}

// unable reports whether something of a server is broken that its agent needs to start, stop or release a VM.
func (p *Pool) unable(server string) bool { return p.handicapped(server) || p.Net.Slowed(server) }

// sound reports whether nothing at all is wrong with a server.
func (p *Pool) sound(server string) bool {
	s := p.World.Server(server)
	return s.Booted() && !p.unable(server) && p.Etcd.Reaches(server) && !slices.Contains(p.Net.Faulty(), server)
}

// roomFor reports whether a server other than one certainly takes a VM: nothing is wrong with it, it is open to new VMs
// and has room to spare, and neither rules nor earlier failures of the VM narrow the choice.
func (p *Pool) roomFor(snap *pool.Snapshot, vm pool.VM, other string) bool {
	home, _ := snap.Homes.Get(vm.ID)
	claim, _ := snap.Claims.Get(vm.ID)
	if len(vm.Require) > 0 || vm.Apart != "" || vm.Together != "" || vm.DisksInDoubt != "" || home.Failed || len(home.Failures) > 0 ||
		claim.Cause == pool.CauseKept || promised(snap, claim) {
		return false
	}
	for id, s := range snap.Servers.All() {
		m, up := snap.Members.Get(id)
		if string(id) == other || !up || m.StorageLost || s.Maintenance || s.InboundLock || s.Removing || s.ShuttingDown || !p.sound(string(id)) {
			continue
		}
		free := m.MemoryBytes * 3 / 4
		for v, c := range snap.Claims.All() {
			if reg, ok := snap.VMs.Get(v); ok && (c.Server == id || c.Incoming != nil && c.Incoming.Server == id) {
				free -= reg.MemoryBytes
			}
		}
		if free > vm.MemoryBytes {
			return true
		}
	}
	return false
}

// promised reports whether a stopped VM that an operator started is kept waiting for the pool's promise to tolerate the loss
// of servers.
func promised(snap *pool.Snapshot, c pool.Claim) bool {
	if snap.Config.Tolerate == 0 {
		return false
	}
	for _, op := range snap.Operations.All() {
		if op.VM == c.VM && op.Kind == pool.OperationStart && op.Outcome == pool.OutcomeRunning && op.StartEpoch == c.Epoch && strings.Contains(op.Error, "could not tolerate") {
			return true
		}
	}
	return false
}

// handicapped reports whether something of a server is broken that its agent needs to do its work.
func (p *Pool) handicapped(server string) bool {
	s := p.World.Server(server)
	return s == nil || s.Agent() == nil || s.Agent().Hung() || p.Etcd.Frozen(server) || !s.LibvirtdUp() || !s.Storage() ||
		s.HasGuard() && (s.Guard() == nil || s.Guard().Hung())
}

// patientSwitch is how long a leader waits for a power switch at most.
const patientSwitch = 2*time.Minute - time.Second

// unfenceable reports whether the lost owner of a claim has no means by which it could be proven harmless.
func (b *bounds) unfenceable(snap *pool.Snapshot, c pool.Claim) bool {
	s := b.p.World.Server(string(c.Server))
	vm, _ := snap.VMs.Get(c.VM)
	switch s.Fencing {
	case world.FencingNone:
		return true
	case world.FencingPower:
		return !s.Fenceable() || s.FenceDelay > patientSwitch
	}
	return !c.Armed || snap.Members.Has(c.Server) || !vm.DiskLocks && !snap.Config.TrustGuardAlone && s.Fencing != world.FencingWatchdog
}
