package plan

import (
	"strings"
	"testing"

	"github.com/holdfast-ha/holdfast/pkg/plan/plantest"
	"github.com/holdfast-ha/holdfast/pkg/pool"
)

// movers is a pool of four servers on the first of which n VMs run, a to d, each with a migration asked for.
func movers(n int, target pool.ServerID) *plantest.World {
	w := plantest.New()
	for _, id := range []pool.ServerID{"s1", "s2", "s3", "s4"} {
		w.Join(id, 64<<30, 16)
	}
	for _, id := range []pool.VMID{"a", "b", "c", "d"}[:n] {
		runsOn(w, id, "s1")
		w.PutOperation(pool.Operation{ID: pool.OperationID("move-" + id), Kind: pool.OperationMigrate, VM: id, Server: target,
			Outcome: pool.OutcomeRunning, Phase: pool.PhaseWordRequested, StartEpoch: 3})
	}
	return w
}

// runsOn makes a server hold a VM.
func runsOn(w *plantest.World, id pool.VMID, server pool.ServerID) {
	vm := pool.DefaultVM(id)
	vm.MemoryBytes, vm.CPUs, vm.HA, vm.DiskLocks, vm.Desired = 2<<30, 1, true, true, pool.DesiredRunning
	w.PutVM(vm)
	w.PutClaim(pool.Claim{VM: id, Server: server, Session: w.Members[server].Session, Epoch: 3, Phase: pool.PhaseHeld, Armed: true, LastServer: server})
	w.PutState(pool.VMState{VM: id, Server: server, Epoch: 3, State: pool.RunRunning})
}

func planned(w *plantest.World) Result {
	s := w.Snapshot()
	return Plan(Input{Snapshot: s, Leader: w.Leader, Now: 100_000_000_000, Wall: plantest.Start, Lost: Look(nil, s, 1)})
}

func of(r Result, k Kind) []Action {
	var out []Action
	for _, a := range r.Actions {
		if a.Kind == k {
			out = append(out, a)
		}
	}
	return out
}

func TestAMigrationBeginsWithTheClaimAndTheOperationTogether(t *testing.T) {
	w := movers(1, "s2")
	begin := of(planned(w), BeginMigration)
	if len(begin) != 1 {
		t.Fatalf("begun: %v", begin)
	}
	c, op := begin[0].Change.Claims[0], begin[0].Change.Operations[0]
	if c.Phase != pool.PhaseMigrating || c.Server != "s1" || c.Epoch != 3 || !c.Armed || c.Operation != "move-a" || *c.Incoming != (pool.Incoming{Server: "s2", Session: w.Members["s2"].Session}) {
		t.Errorf("claim %+v", c)
	}
	if op.Phase != pool.PhaseWordPreparing || op.Source != "s1" || op.Server != "s2" {
		t.Errorf("operation %+v", op)
	}
	if m := begin[0].Change.Members; len(m) != 2 || m[0].Server != "s2" || m[1].Server != "s1" {
		t.Errorf("sessions compared: %v", m)
	}
	if err := w.Apply(w.Leader, begin[0].Change); err != nil {
		t.Fatal(err)
	}
	if again := planned(w); len(again.Actions) != 0 {
		t.Errorf("planning again yields %v", again.Actions)
	}
}

func TestOnlySoManyMigrationsRunAtOnce(t *testing.T) {
	for _, tt := range []struct{ all, each, want int }{{4, 2, 2}, {3, 4, 3}, {1, 1, 1}, {9, 9, 4}} {
		w := movers(4, "")
		w.Config.Migrations, w.Config.MigrationsPerServer = tt.all, tt.each
		r := planned(w)
		if got := len(of(r, BeginMigration)); got != tt.want {
			t.Errorf("limits %d and %d: %d begun, want %d", tt.all, tt.each, got, tt.want)
		}
		for _, a := range of(r, AdvanceOperation) {
			if why := a.Change.Operations[0].Error; !strings.Contains(why, "waits for its turn") {
				t.Errorf("one that waits says %q", why)
			}
		}
	}
}

func TestNoFailoverWaitsForAMigration(t *testing.T) {
	w := movers(4, "s2")
	runsOn(w, "web", "s4")
	w.Lose("s4")
	w.PutFence(pool.Fence{Server: "s4", Session: pool.Session(w.Revision), Proof: pool.ProofConfirmed})
	r := planned(w)
	for i, a := range r.Actions {
		if a.Kind == Recover {
			if a.Change.Claims[0].VM != "web" {
				t.Errorf("recovered %v", a)
			}
			return
		}
		if a.Kind == BeginMigration {
			t.Fatalf("action %d, a migration, comes before the failover", i)
		}
	}
	t.Error("web is not recovered")
}

func TestAMigrationIsJudgedAnewWhenItsTurnComes(t *testing.T) {
	w := movers(1, "s2")
	s := w.Servers["s2"]
	s.InboundLock = true
	w.PutServer(s)
	r := planned(w)
	end := of(r, FinishOperation)
	if len(of(r, BeginMigration)) != 0 || len(end) != 1 || end[0].Change.Operations[0].Phase != pool.PhaseWordRefused || !strings.Contains(end[0].Why, "inbound lock") {
		t.Errorf("actions %v", r.Actions)
	}
}

func TestOneThatIsAPartOfAnotherWaitsForAPlace(t *testing.T) {
	w := movers(1, "")
	op := w.Operations["move-a"]
	op.Parent = "evacuate-s1"
	w.PutOperation(op)
	for _, id := range []pool.ServerID{"s2", "s3", "s4"} {
		w.Lose(id)
	}
	r := planned(w)
	if a := of(r, AdvanceOperation); len(a) != 1 || a[0].Change.Operations[0].Phase != pool.PhaseWordWaiting {
		t.Errorf("actions %v", r.Actions)
	}
}

func TestHowAMigrationEndsFollowsFromTheClaim(t *testing.T) {
	begun := func(f func(w *plantest.World, c *pool.Claim, op *pool.Operation)) *plantest.World {
		w := movers(1, "s2")
		c, op := w.Claims["a"], w.Operations["move-a"]
		op.Phase, op.Source = pool.PhaseWordCopying, "s1"
		f(w, &c, &op)
		w.PutClaim(c)
		w.PutOperation(op)
		return w
	}
	handed := func(w *plantest.World, c *pool.Claim) {
		c.Server, c.Session, c.Epoch, c.LastServer = "s2", w.Members["s2"].Session, 4, "s1"
	}
	tests := []struct {
		name string
		w    *plantest.World
		want pool.Outcome
		why  string
	}{
		{"held by the destination", begun(func(w *plantest.World, c *pool.Claim, _ *pool.Operation) { handed(w, c) }), pool.OutcomeDone, ""},
		{"back at its source", begun(func(_ *plantest.World, c *pool.Claim, _ *pool.Operation) { c.Detail = "the link broke" }), pool.OutcomeFailed, "the link broke"},
		{"back at its source, as asked", begun(func(_ *plantest.World, c *pool.Claim, op *pool.Operation) {
			c.Detail, op.Cancel = "cancelled on request", true
		}), pool.OutcomeCancelled, "runs on"},
		{"ended on the way", begun(func(_ *plantest.World, c *pool.Claim, _ *pool.Operation) {
			c.Server, c.Session, c.Phase, c.Cause, c.Detail = "", 0, pool.PhaseUnassigned, pool.CauseMigrationFailed, "no proof"
		}), pool.OutcomeFailed, "starts anew"},
	}
	for _, tt := range tests {
		end := of(planned(tt.w), FinishOperation)
		if len(end) != 1 || end[0].Change.Operations[0].Outcome != tt.want || !strings.Contains(end[0].Change.Operations[0].Error, tt.why) {
			t.Errorf("%s: %+v", tt.name, end)
		}
	}
}

func TestWhereAVMCouldMoveIsSaidForEveryServer(t *testing.T) {
	w := movers(1, "")
	s := w.Servers["s2"]
	s.Maintenance = true
	w.PutServer(s)
	m, ok := PlanMove(w.Snapshot(), "a", true)
	if !ok || m.Refusal != "" || len(m.Candidates) != 3 {
		t.Fatalf("%+v, %v", m, ok)
	}
	if best, ok := m.Best(); !ok || best.Server != "s3" || !best.Recommended || best.FreeAfter != 62<<30 {
		t.Errorf("best %+v", best)
	}
	if c, _ := m.On("s2"); c.Fits() || !c.Has("MAINTENANCE") {
		t.Errorf("s2: %+v", c)
	}
	if m, _ := PlanMove(w.Snapshot(), "nobody", true); len(m.Candidates) != 0 {
		t.Errorf("an unknown VM: %+v", m)
	}
}

func TestAMoveThatBreaksThePromisedRoomIsRefused(t *testing.T) {
	w := plantest.New()
	w.Config.Tolerate = 1
	w.Join("s1", 16<<30, 8)
	w.Join("s2", 14<<30, 8)
	w.Join("s3", 4<<30, 8)
	for id, on := range map[pool.VMID]pool.ServerID{"big": "s1", "small": "s3"} {
		runsOn(w, id, on)
	}
	for id, size := range map[pool.VMID]int64{"big": 12 << 30, "small": 3 << 30} {
		vm := w.VMs[id]
		vm.MemoryBytes = size
		w.PutVM(vm)
	}
	m, _ := PlanMove(w.Snapshot(), "small", true)
	if c, _ := m.On("s2"); !c.Has(CodeCapacity) || c.After != CapacityAtRisk {
		t.Errorf("s2, the only server that could take big: %+v", c)
	}
	if c, _ := m.On("s1"); c.After != CapacityOK || !c.Fits() {
		t.Errorf("s1: %+v", c)
	}
}
