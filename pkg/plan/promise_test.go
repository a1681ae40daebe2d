package plan

import (
	"strings"
	"testing"
	"time"

	"github.com/holdfast-ha/holdfast/pkg/plan/plantest"
	"github.com/holdfast-ha/holdfast/pkg/pool"
)

// tight is a pool that promises to tolerate the loss of a server: three servers of 16 GiB, with 9 GiB on the first two,
// and a small fourth one with two VMs of 4 GiB. Either of these may go to c; with both there, the loss of a or b leaves a VM
// without a place.
func tight() *plantest.World {
	w := roomy(4, placed{"x", "a", 9}, placed{"y", "b", 9}, placed{"one", "d", 4}, placed{"two", "d", 4})
	w.Config.Tolerate = 1
	m := w.Members["d"]
	m.MemoryBytes = 8 * gib
	w.Members["d"] = m
	return w
}

func asked(w *plantest.World, kind pool.OperationKind, vm pool.VMID, to pool.ServerID, parent pool.OperationID) {
	w.PutOperation(pool.Operation{ID: pool.OperationID("op-" + vm), Kind: kind, VM: vm, Server: to, Outcome: pool.OutcomeRunning,
		Phase: pool.PhaseWordRequested, StartEpoch: w.Claims[vm].Epoch, Parent: parent})
}

func TestOfTwoMovesThatTogetherBreakThePromiseTheSecondIsRefused(t *testing.T) {
	for _, kind := range []pool.OperationKind{pool.OperationMigrate, pool.OperationRelocate} {
		begun := map[pool.OperationKind]Kind{pool.OperationMigrate: BeginMigration, pool.OperationRelocate: Release}[kind]
		w := tight()
		asked(w, kind, "one", "c", "")
		asked(w, kind, "two", "c", "")
		r := planned(w)
		if got := of(r, begun); len(got) != 1 || got[0].VM != "one" {
			t.Errorf("%v: begun %v", kind, got)
		}
		end := of(r, FinishOperation)
		if len(end) != 1 || end[0].VM != "two" || !strings.Contains(end[0].Why, "could not tolerate the loss of 1 server") {
			t.Errorf("%v: ended %v", kind, end)
		}
	}
}

func TestAMoveUnderWayCountsAsDoneForThePromise(t *testing.T) {
	w := tight()
	asked(w, pool.OperationMigrate, "one", "c", "")
	if err := w.Apply(w.Leader, of(planned(w), BeginMigration)[0].Change); err != nil {
		t.Fatal(err)
	}
	m, _ := PlanMove(w.Snapshot(), "two", true)
	if c, _ := m.On("c"); !c.Has(CodeCapacity) {
		t.Errorf("%+v", c)
	}
}

func TestWithoutATargetAMoveKeepsThePromiseIfItCan(t *testing.T) {
	w := tight()
	c := w.Members["c"]
	c.CPUs = 64 // the best by load
	w.Members["c"] = c
	w.Join("e", 16*gib, 8)
	asked(w, pool.OperationMigrate, "one", "c", "")
	asked(w, pool.OperationMigrate, "two", "", "")
	for _, a := range of(planned(w), BeginMigration) {
		if err := w.Apply(w.Leader, a.Change); err != nil {
			t.Fatal(err)
		}
	}
	if got := PoolCapacity(movesDone(w.Snapshot())); got.Verdict != CapacityOK || w.Claims["two"].Incoming == nil {
		t.Errorf("%+v, two: %+v", got, w.Claims["two"])
	}
}

func TestNeitherEvacuationsNorRecoveriesAreRefusedForThePromise(t *testing.T) {
	w := tight()
	asked(w, pool.OperationMigrate, "one", "c", "evacuate-d")
	asked(w, pool.OperationMigrate, "two", "c", "evacuate-d")
	if got := of(planned(w), BeginMigration); len(got) != 2 {
		t.Errorf("evacuation: %v", got)
	}
	w = tight()
	w.Lose("d")
	w.PutFence(pool.Fence{Server: "d", Session: pool.Session(w.Revision), Proof: pool.ProofConfirmed})
	if got := of(planned(w), Recover); len(got) != 2 {
		t.Errorf("recovery: %v", got)
	}
}

func TestOfTwoStartsThatTogetherBreakThePromiseTheSecondWaits(t *testing.T) {
	w := roomy(3, placed{"x", "a", 9}, placed{"y", "b", 9}, placed{"one", "c", 7}, placed{"two", "c", 7})
	w.Config.Tolerate = 1
	for _, vm := range []pool.VMID{"one", "two"} {
		w.PutClaim(pool.Claim{VM: vm, Phase: pool.PhaseUnassigned, Epoch: 1, Cause: pool.CauseStopped, LastServer: "c"})
		asked(w, pool.OperationStart, vm, "", "")
	}
	for vm, other := range map[pool.VMID]pool.VMID{"one": "two", "two": "one"} {
		alone := w.Snapshot()
		alone.Operations, alone.VMs = alone.Operations.Without("op-one").Without("op-two"), alone.VMs.Without(other)
		if why := Admits(alone, w.VMs[vm]); why != "" {
			t.Fatalf("%s alone: %s", vm, why)
		}
	}
	r := planned(w)
	if got := of(r, Assign); len(got) != 1 || got[0].VM != "one" {
		t.Errorf("assigned %v", got)
	}
	var waits string
	for _, a := range of(r, AdvanceOperation) {
		if op := a.Change.Operations[0]; op.VM == "two" && op.Phase == pool.PhaseWordWaiting {
			waits = op.Error
		}
		if err := w.Apply(w.Leader, a.Change); err != nil {
			t.Fatal(err)
		}
	}
	if !strings.Contains(waits, "could not tolerate the loss of 1 server") {
		t.Errorf("two waits: %q", waits)
	}
	if status, why := NewView(w.Snapshot()).VM("two"); status != VMWaiting || why != waits {
		t.Errorf("shown as %v: %q", status, why)
	}
}

func TestABrokenPromiseRaisesAnAlertThatClosesByItself(t *testing.T) {
	w := roomy(3, placed{"x", "a", 9}, placed{"y", "b", 9}, placed{"z", "c", 4})
	w.Config.Tolerate = 1
	now, room := pool.Instant(time.Hour), (*RoomSight)(nil)
	step := func() {
		t.Helper()
		now = now.Add(RoomEvery)
		s := w.Snapshot()
		room = LookAtRoom(room, s, now)
		for _, a := range Plan(Input{Snapshot: s, Leader: w.Leader, Now: now, Wall: plantest.Start, Room: room}).Actions {
			if err := w.Apply(w.Leader, a.Change); err != nil {
				t.Fatal(err)
			}
		}
	}
	open := func() string { return w.Alerts["capacity"].Text }
	step()
	if open() != "" {
		t.Fatalf("there is room: %s", open())
	}
	v := w.VMs["z"]
	v.MemoryBytes = 8 * gib
	w.PutVM(v)
	step()
	if !strings.Contains(open(), "the promise to tolerate the loss of 1 server is broken") {
		t.Errorf("a VM has grown: %q", open())
	}
	// A leader that has not looked leaves it open.
	if r := Plan(Input{Snapshot: w.Snapshot(), Leader: w.Leader, Now: now, Wall: plantest.Start}); len(of(r, ClearAlert)) != 0 {
		t.Errorf("closed without a look: %v", r.Actions)
	}
	v.MemoryBytes = 4 * gib
	w.PutVM(v)
	step()
	if open() != "" {
		t.Errorf("the VM is small again: %s", open())
	}
	v.MemoryBytes = 8 * gib
	w.PutVM(v)
	step()
	w.Config.Tolerate = 0
	step()
	if open() != "" {
		t.Errorf("nothing is promised any more: %s", open())
	}
}

func TestTheRoomIsWorkedOutOnlyIfSomethingHasChangedAndNotTooOften(t *testing.T) {
	w := tight()
	s := w.Snapshot()
	first := LookAtRoom(nil, s, 0)
	if LookAtRoom(first, s, pool.Instant(time.Hour)) != first {
		t.Error("worked out again, though nothing has changed")
	}
	v := w.VMs["x"]
	w.PutVM(v)
	if LookAtRoom(first, w.Snapshot(), pool.Instant(RoomEvery)-1) != first {
		t.Error("worked out again too soon")
	}
	if LookAtRoom(first, w.Snapshot(), pool.Instant(RoomEvery)) == first {
		t.Error("not worked out again after a change")
	}
}

func TestAVMWithABlockJobDoesNotMoveAndSaysWhy(t *testing.T) {
	w := movers(1, "s2")
	v := w.VMs["a"]
	v.DisksInDoubt = "a block job was running on disk vda"
	w.PutVM(v)
	if m, _ := PlanMove(w.Snapshot(), "a", true); m.Code != CodeBlockJob || !strings.Contains(m.Refusal, "copy or commit of its disks") {
		t.Errorf("%+v", m)
	}
	if end := of(planned(w), FinishOperation); len(end) != 1 || !strings.Contains(end[0].Why, "copy or commit of its disks") {
		t.Errorf("%v", end)
	}
	delete(w.Operations, "move-a")
	s := w.Servers["s1"]
	s.Maintenance = true
	w.PutServer(s)
	if p := PreviewMaintenance(w.Snapshot(), "s1", false, plantest.Start); len(p.Leaves) != 1 || p.Leaves[0].How != LeaveWaits || !strings.Contains(p.Leaves[0].Why, "copy or commit") {
		t.Errorf("%+v", p.Leaves)
	}
}

func TestMaintenanceTakesNoLessThanItsLongestMove(t *testing.T) {
	w := roomy(3, placed{"big", "a", 8}, placed{"small", "a", 1}, placed{"tiny", "a", 1})
	p := PreviewMaintenance(w.Snapshot(), "a", false, plantest.Start)
	if len(p.Times) != 3 || p.Times[0] < 10*time.Second || p.Expected < p.Times[0] {
		t.Errorf("%v in all, one by one %v", p.Expected, p.Times)
	}
}
