package plan

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/holdfast-ha/holdfast/pkg/plan/plantest"
	"github.com/holdfast-ha/holdfast/pkg/pool"
)

// drawn is a random pool in any state that the parts of Holdfast may leave it in, with what the leader saw.
type drawn struct {
	world *plantest.World
	in    Input
}

func chance(t *rapid.T, oneIn int, what string) bool {
	return rapid.IntRange(1, oneIn).Draw(t, what) == 1
}

func draw(t *rapid.T) *drawn {
	d := &drawn{world: plantest.New()}
	w := d.world
	w.Config.HA = !chance(t, 8, "ha off")
	w.Config.Frozen = chance(t, 8, "frozen")
	w.Config.TrustGuardAlone = chance(t, 6, "trust")
	w.Config.LockBarsFailover = !chance(t, 3, "lock lets failover pass")
	var ids []pool.ServerID
	old := map[pool.ServerID]pool.Session{}
	for i := range rapid.IntRange(1, 5).Draw(t, "servers") {
		id := pool.ServerID(fmt.Sprintf("s%d", i+1))
		ids = append(ids, id)
		w.PutServer(pool.Server{ID: id, Maintenance: chance(t, 8, "maintenance"), InboundLock: chance(t, 6, "lock"), ShuttingDown: chance(t, 12, "down"), Removing: chance(t, 16, "removing"),
			RestartUnmovable: chance(t, 2, "restart"), Shutdown: pool.Shutdown{Policy: pool.ShutdownPolicy(rapid.IntRange(1, 3).Draw(t, "policy"))}})
		old[id] = w.Join(id, int64(rapid.IntRange(4, 20).Draw(t, "memory"))*gib, 8)
	}
	for i := range rapid.IntRange(0, 10).Draw(t, "vms") {
		d.drawVM(t, pool.VMID(fmt.Sprintf("vm%02d", i)), ids, old)
	}
	for _, id := range ids {
		if chance(t, 5, "operation on it") {
			kind := rapid.SampledFrom([]pool.OperationKind{pool.OperationEvacuate, pool.OperationRemoveServer, pool.OperationShutdownServer}).Draw(t, "server operation")
			w.PutOperation(pool.Operation{ID: pool.OperationID("op-" + string(id)), Server: id, Kind: kind, Outcome: pool.OutcomeRunning,
				Phase: rapid.SampledFrom([]string{"requested", "going down"}).Draw(t, "at"), Cancel: chance(t, 4, "cancel")})
		}
	}
	now := pool.Instant(1000 * time.Second)
	d.in = Input{Now: now, Wall: plantest.Start.Add(time.Hour), Lost: map[pool.ServerID]Sight{}, Power: map[pool.ServerID]Power{}, Suspects: map[pool.ServerID]Suspicion{}}
	for _, id := range ids {
		d.drawFate(t, id)
		d.drawSuspicion(t, id)
	}
	d.in.Snapshot, d.in.Leader = w.Snapshot(), w.Leader
	d.in.Lost = Look(d.in.Lost, d.in.Snapshot, now)
	return d
}

func (d *drawn) drawVM(t *rapid.T, id pool.VMID, ids []pool.ServerID, session map[pool.ServerID]pool.Session) {
	v := pool.DefaultVM(id)
	v.MemoryBytes, v.CPUs = int64(rapid.IntRange(1, 4).Draw(t, "size"))*gib, 1
	v.HA, v.DiskLocks = !chance(t, 4, "no ha"), !chance(t, 4, "block")
	v.Priority = pool.Priority(rapid.IntRange(1, 3).Draw(t, "priority"))
	v.Desired = pool.DesiredRunning
	if chance(t, 5, "stopped") {
		v.Desired = pool.DesiredStopped
	}
	v.Apart = rapid.SampledFrom([]string{"", "", "", "x"}).Draw(t, "apart")
	v.Together = rapid.SampledFrom([]string{"", "", "", "y"}).Draw(t, "together")
	v.Movable = !chance(t, 5, "unmovable")
	if chance(t, 4, "prefers") {
		v.Prefer = []pool.ServerID{rapid.SampledFrom(ids).Draw(t, "preferred")}
	}
	d.world.PutVM(v)
	if chance(t, 5, "has a home") {
		d.world.PutHome(pool.Home{VM: id, Server: rapid.SampledFrom(ids).Draw(t, "home")})
	}
	on := rapid.SampledFrom(ids).Draw(t, "on")
	c := pool.Claim{VM: id, Epoch: pool.Epoch(rapid.IntRange(1, 3).Draw(t, "epoch")), Phase: pool.Phase(rapid.IntRange(1, 6).Draw(t, "phase"))}
	switch c.Phase {
	case pool.PhaseUnassigned:
		c.LastServer, c.Cause = on, pool.Cause(rapid.IntRange(0, 12).Draw(t, "cause"))
	case pool.PhaseMigrating:
		to := rapid.SampledFrom(ids).Draw(t, "to")
		c.Incoming = &pool.Incoming{Server: to, Session: session[to]}
		fallthrough
	default:
		c.Server, c.Session, c.Armed = on, session[on], chance(t, 2, "armed")
		if c.Armed && chance(t, 3, "watchdog") {
			c.Watchdog = 10 * time.Second
		}
		if c.Phase == pool.PhaseAssigned && c.Epoch == 1 && chance(t, 2, "adopt") {
			c.LastServer = on
		}
	}
	d.world.PutClaim(c)
	if c.Phase == pool.PhaseHeld && chance(t, 2, "reported") {
		d.world.PutState(pool.VMState{VM: id, Server: on, Epoch: c.Epoch, State: pool.RunRunning})
	}
	for range rapid.IntRange(0, 2).Draw(t, "failures") {
		h := d.world.Homes[id]
		h.VM = id
		h.Failures = append(h.Failures, pool.Failure{Server: rapid.SampledFrom(ids).Draw(t, "failed on"), Cause: pool.CauseCrashed, At: plantest.Start.Add(55 * time.Minute)})
		d.world.PutHome(h)
	}
	if chance(t, 6, "operation") {
		kind := rapid.SampledFrom([]pool.OperationKind{pool.OperationStart, pool.OperationStop, pool.OperationRestart, pool.OperationRelocate, pool.OperationMigrate}).Draw(t, "kind")
		d.world.PutOperation(pool.Operation{ID: pool.OperationID("op-" + string(id)), VM: id, Kind: kind, Outcome: pool.OutcomeRunning, StartEpoch: c.Epoch, Server: on})
	}
}

// drawFate: a server stays, is lost, or is back with a new session.
func (d *drawn) drawFate(t *rapid.T, id pool.ServerID) {
	fate := rapid.IntRange(0, 3).Draw(t, "fate")
	if fate == 0 {
		return
	}
	d.world.Lose(id)
	d.in.Lost[id] = Sight{Since: d.in.Now.Add(-time.Duration(rapid.IntRange(0, 20000).Draw(t, "gone for ms")) * time.Millisecond), Revision: d.world.Revision}
	if chance(t, 4, "confirmed") {
		d.world.PutFence(pool.Fence{Server: id, Session: pool.Session(d.world.Revision), Proof: pool.ProofConfirmed})
	}
	if chance(t, 3, "has a fence device") {
		s := d.world.Servers[id]
		s.Fence = []pool.FenceDevice{{Agent: "fence_test"}}
		d.world.PutServer(s)
		if chance(t, 2, "tried") {
			d.in.Power[id] = Power{Session: pool.Session(rapid.IntRange(1, int(d.world.Revision)).Draw(t, "bound")), Off: chance(t, 2, "off"), Err: "no answer"}
		}
	}
	if fate == 3 {
		d.world.Join(id, 8*gib, 8)
	}
}

// drawSuspicion: a member with a power switch is silent, and may have been switched off for it.
func (d *drawn) drawSuspicion(t *rapid.T, id pool.ServerID) {
	m, up := d.world.Members[id]
	if !up || !chance(t, 3, "suspect") {
		return
	}
	d.in.Suspects[id] = Suspicion{Session: m.Session - pool.Session(rapid.IntRange(0, 1).Draw(t, "earlier")), Long: chance(t, 2, "long")}
	if chance(t, 2, "has a switch") {
		s := d.world.Servers[id]
		s.Fence = []pool.FenceDevice{{Agent: "fence_test"}}
		d.world.PutServer(s)
		if chance(t, 2, "switched") {
			d.in.Power[id] = Power{Session: m.Session + pool.Session(rapid.IntRange(-1, 5).Draw(t, "bound of it")), Off: chance(t, 2, "it is off"), Err: "no answer"}
		}
	}
}

// harmless states the rule of docs/safety.md once more: may the VM be taken from the server that its claim names?
func harmless(w *plantest.World, c pool.Claim) error {
	vm := w.VMs[c.VM]
	if c.Phase == pool.PhaseAssigned && (c.Epoch != 1 || c.LastServer != c.Server) {
		return nil // never ran
	}
	struck := func(session pool.Session) bool {
		f := w.Fences[c.Server]
		return f.Proof == pool.ProofPower && f.Session >= session
	}
	if m, up := w.Members[c.Server]; up && (m.Session != c.Session || !struck(m.Session)) {
		return fmt.Errorf("%s is a member with session %d", c.Server, m.Session)
	}
	f, ok := w.Fences[c.Server]
	if !ok || f.Session < c.Session {
		return fmt.Errorf("no fence of %s covers session %d", c.Server, c.Session)
	}
	armed := c.Armed && (vm.DiskLocks || w.Config.TrustGuardAlone)
	switch {
	case f.Proof == pool.ProofPower, f.Proof == pool.ProofConfirmed:
		return nil
	case f.Proof == pool.ProofWatchdog && (armed || (c.Armed && c.Watchdog > 0)):
		return nil
	case f.Proof == pool.ProofGuard && armed:
		return nil
	}
	return fmt.Errorf("fence by %v does not cover a claim with armed=%v watchdog=%v", f.Proof, c.Armed, c.Watchdog)
}

// proven checks a fence that the leader is about to record.
func proven(d *drawn, f pool.Fence) error {
	owes := false
	for id, c := range d.world.Claims {
		owes = owes || (c.Server == f.Server && mayRun(c) && d.world.Config.HA && d.world.VMs[id].HA)
	}
	if !owes {
		return fmt.Errorf("%s holds no protected VM", f.Server)
	}
	gone := d.in.Now.Sub(d.in.Lost[f.Server].Since)
	m, up := d.world.Members[f.Server]
	switch {
	case up && f.Proof == pool.ProofPower && d.in.Power[f.Server].Off && f.Session == d.in.Power[f.Server].Session && f.Session >= m.Session:
		return nil
	case up:
		return fmt.Errorf("%s is a member", f.Server)
	case f.Proof == pool.ProofPower && d.in.Power[f.Server].Off && f.Session == d.in.Power[f.Server].Session:
		return nil
	case f.Proof == pool.ProofGuard && gone >= 625*time.Millisecond && f.Session == pool.Session(d.in.Lost[f.Server].Revision):
		return nil
	case f.Proof == pool.ProofWatchdog && gone >= 11*time.Second && f.Session == pool.Session(d.in.Lost[f.Server].Revision):
		return nil
	}
	return fmt.Errorf("%v after %v, power %+v", f, gone, d.in.Power[f.Server])
}

// apply carries the plan out action by action and checks each for safety just before.
func (d *drawn) apply(t *rapid.T, r Result) {
	done := map[string]bool{}
	for _, a := range r.Actions {
		if a.Why == "" || a.Key == "" || done[a.Key] {
			t.Fatalf("%s of %s%s has no reason or no key of its own: %q", a.Kind, a.VM, a.Server, a.Key)
		}
		done[a.Key] = true
		for _, n := range a.Needs {
			if !done[n] {
				t.Fatalf("%s needs %s, which does not come before it", a.Key, n)
			}
		}
		for _, f := range a.Change.Fences {
			if was, had := d.world.Fences[f.Server]; had && was.Proof == f.Proof && was.Session == f.Session || f.Proof == pool.ProofNone {
				continue // remembers no more than that the server is switched on again
			}
			if err := proven(d, f); err != nil || d.world.Config.Frozen {
				t.Fatalf("fence without proof: %v (frozen %v)", err, d.world.Config.Frozen)
			}
		}
		for _, c := range a.Change.Claims {
			d.checkClaim(t, a, d.world.Claims[c.VM], c)
		}
		if err := d.world.Apply(d.world.Leader, a.Change); err != nil {
			t.Fatalf("%s: %v", a.Key, err)
		}
	}
	d.checkMemory(t, r)
}

func (d *drawn) checkClaim(t *rapid.T, a Action, was, now pool.Claim) {
	if err := now.Check(); err != nil {
		t.Fatalf("%s writes nonsense: %v", a.Key, err)
	}
	vm := d.world.VMs[now.VM]
	protected := d.world.Config.HA && !d.world.Config.Frozen && vm.HA
	if was.Server != "" && (now.Server != was.Server || now.Session != was.Session) {
		if err := harmless(d.world, was); err != nil {
			t.Fatalf("%s takes %s from %s: %v", a.Key, now.VM, was.Server, err)
		}
		_, asked := d.world.Operations[pool.OperationID("op-"+string(now.VM))]
		if mayRun(was) && !protected && !asked {
			t.Fatalf("%s takes %s, which is not protected", a.Key, now.VM)
		}
	}
	if now.Phase != pool.PhaseAssigned {
		return
	}
	s, m := d.world.Servers[now.Server], d.world.Members[now.Server]
	switch {
	case vm.Desired != pool.DesiredRunning:
		t.Fatalf("%s starts %s, which is wanted stopped", a.Key, now.VM)
	case now.Epoch <= was.Epoch:
		t.Fatalf("%s does not raise the epoch of %s", a.Key, now.VM)
	case m.Session == 0 || m.Session != now.Session:
		t.Fatalf("%s assigns %s to session %d of %s, which has %d", a.Key, now.VM, now.Session, now.Server, m.Session)
	case s.Maintenance || s.ShuttingDown:
		t.Fatalf("%s puts %s onto %s, which accepts nothing", a.Key, now.VM, now.Server)
	case s.InboundLock && was.LastServer != now.Server && d.world.Config.LockBarsFailover:
		t.Fatalf("%s puts %s onto %s, which is locked", a.Key, now.VM, now.Server)
	case protected && slices.Contains(exhausted(vm, d.world.Homes[now.VM], d.in.Wall), now.Server):
		t.Fatalf("%s puts %s onto %s, where it failed too often", a.Key, now.VM, now.Server)
	}
}

// checkMemory: no server to which the plan assigned something has promised more than it has.
func (d *drawn) checkMemory(t *rapid.T, r Result) {
	targets := map[pool.ServerID]bool{}
	for _, a := range r.Actions {
		for _, c := range a.Change.Claims {
			targets[c.Server] = c.Phase == pool.PhaseAssigned || targets[c.Server]
		}
	}
	promised := map[pool.ServerID]int64{}
	for id, c := range d.world.Claims {
		promised[c.Server] += d.world.VMs[id].MemoryBytes
		if c.Incoming != nil && c.Incoming.Server != c.Server {
			promised[c.Incoming.Server] += d.world.VMs[id].MemoryBytes
		}
	}
	for id, n := range promised {
		if m := d.world.Members[id]; targets[id] && n > m.MemoryBytes {
			t.Fatalf("%s is overcommitted: %d of %d bytes", id, n, m.MemoryBytes)
		}
	}
}

func listed(actions []Action) string {
	out := ""
	for _, a := range actions {
		out += fmt.Sprintf("\n%s %s: %s", a.Key, a.Needs, a.Why)
	}
	return out
}

func TestSafetyNoPlanTakesAVMFromAServerThatMayRunIt(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := draw(t)
		r := Plan(d.in)
		d.apply(t, r)
		if d.world.Config.Frozen && len(r.PowerOff) > 0 {
			t.Fatalf("power fencing while frozen: %v", r.PowerOff)
		}
		for _, id := range r.PowerOff {
			m, up := d.in.Snapshot.Members.Get(id)
			got, suspect := d.in.Suspects[id]
			if up && (!suspect || got.Session != m.Session || !slices.Contains(r.Urgent, id)) || len(d.world.Servers[id].Fence) == 0 {
				t.Fatalf("power fencing of %s, which is up or has no device", id)
			}
		}
		if 2*len(r.Urgent) >= len(d.world.Servers) && len(r.Urgent) > 0 {
			t.Fatalf("power fencing of %v on suspicion, of %d servers", r.Urgent, len(d.world.Servers))
		}
	})
}

func TestThePlanFollowsFromItsInputAlone(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := draw(t)
		first := Plan(d.in)
		for range 3 {
			d.in.Snapshot = d.world.Clone().Snapshot()
			d.in.Lost, d.in.Power = maps.Clone(d.in.Lost), maps.Clone(d.in.Power)
			if again := Plan(d.in); !reflect.DeepEqual(first, again) {
				t.Fatalf("two plans of one input:\n%+v\n%+v", first, again)
			}
		}
	})
}

// settlesWithin is how many plans it takes at most until nothing more is to do: a move is asked for in one, begun in
// the next, and told of where it is a part of something in the one after that.
const settlesWithin = 4

func TestLivenessPlanningAgainAfterApplyingYieldsNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := draw(t)
		r := Plan(d.in)
		for range settlesWithin {
			d.apply(t, r)
			d.in.Snapshot = d.world.Snapshot()
			d.in.Lost = Look(d.in.Lost, d.in.Snapshot, d.in.Now)
			before := r.Actions
			if r = Plan(d.in); len(r.Actions) == 0 {
				return
			}
			if len(before) > 0 && listed(before) == listed(r.Actions) {
				t.Fatalf("the same again:%s", listed(before))
			}
		}
		t.Fatalf("after %d plans still%s", settlesWithin, listed(r.Actions))
	})
}

func TestLivenessEveryVMRunsOrIsOnItsWayOrHasAReason(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := draw(t)
		d.apply(t, Plan(d.in))
		v := NewView(d.world.Snapshot())
		for id, vm := range d.world.VMs {
			c, h := d.world.Claims[id], d.world.Homes[id]
			status, why := v.VM(id)
			switch status {
			case VMWaiting, VMLost, VMFailed:
				if why == "" {
					t.Fatalf("%s is %v without a reason", id, status)
				}
			case VMUnspecified:
				t.Fatalf("%s has no status", id)
			}
			if vm.Desired != pool.DesiredRunning {
				continue
			}
			if c.Phase == pool.PhaseUnassigned && !h.Failed && d.world.Alerts[pool.AlertID("vm-waiting-"+string(id))].Text == "" {
				t.Fatalf("%s waits and nobody is told: %v", id, c)
			}
			if c.Phase != pool.PhaseUnassigned && mayRun(c) && d.world.Config.HA && !d.world.Config.Frozen && vm.HA && harmless(d.world, c) == nil {
				t.Fatalf("%s stays with %s, which is fenced", id, c.Server)
			}
		}
	})
}

func TestEveryServerHasAState(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := draw(t)
		v := NewView(d.world.Snapshot())
		for id := range d.world.Servers {
			states, why := v.Server(id)
			_, up := d.world.Members[id]
			if slices.Contains(states, ServerUp) != up || slices.Contains(states, ServerLost) == (up || slices.Contains(states, ServerDown)) {
				t.Fatalf("%s: up=%v, states %v", id, up, states)
			}
			if !up && why == "" {
				t.Fatalf("%s is %v without a reason", id, states)
			}
		}
	})
}
