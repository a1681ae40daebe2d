package api

import (
	"errors"
	"strings"
	"testing"

	"github.com/holdfast-ha/holdfast/pkg/pool"
	pb "github.com/holdfast-ha/holdfast/proto/holdfast/v1"
)

func TestAPlanOfMaintenanceIsWhatEnteringItDoesOrItIsRefused(t *testing.T) {
	b := newBench(t)
	b.hold("web", "srv-1")
	plan, err := b.PlanMaintenance(as(t), &pb.PlanMaintenanceRequest{Server: "srv-1"})
	if err != nil {
		t.Fatal(err)
	}
	m := plan.GetMoves()
	if len(m) != 1 || m[0].GetVm() != "web" || m[0].GetHow() != pb.LeaveBy_LEAVE_BY_LIVE || m[0].GetTarget() == "" || m[0].GetReason() == "" || plan.GetExpected() == nil {
		t.Fatalf("plan %v", plan)
	}
	if snap := b.pool.Snapshot(); snap.Operations.Len() != 0 || snap.Events.Len() != 0 {
		t.Error("a plan changed the pool")
	}
	// Where it was to go is locked meanwhile: another plan.
	if _, err := b.SetInboundLock(as(t), &pb.SetInboundLockRequest{Server: m[0].GetTarget(), On: true}); err != nil {
		t.Fatal(err)
	}
	before := b.pool.Snapshot()
	_, err = b.EnterMaintenance(as(t), &pb.EnterMaintenanceRequest{Server: "srv-1", PlanRevision: plan.GetPlanRevision()})
	b.wantRefusal(t, before, err, "PLAN_CHANGED")
	if plan, err = b.PlanMaintenance(as(t), &pb.PlanMaintenanceRequest{Server: "srv-1"}); err != nil {
		t.Fatal(err)
	}
	r, err := b.EnterMaintenance(as(t), &pb.EnterMaintenanceRequest{Server: "srv-1", PlanRevision: plan.GetPlanRevision(), Why: "disks", RequestId: "m-1"})
	if err != nil {
		t.Fatal(err)
	}
	srv, _ := b.pool.Snapshot().Servers.Get("srv-1")
	if !srv.Maintenance || srv.MaintenanceMark.Why != "disks" || r.GetOperation().GetKind() != pb.OperationKind_OPERATION_KIND_EVACUATE || r.GetOperation().GetProgress().GetItemsTotal() != 1 {
		t.Errorf("server %+v, operation %v", srv, r.GetOperation())
	}
	rev := b.pool.Snapshot().Revision
	for _, again := range []*pb.EnterMaintenanceRequest{{Server: "srv-1", RequestId: "m-1"}, {Server: "srv-1"}} {
		if r2, err := b.EnterMaintenance(as(t), again); err != nil || r2.GetOperation().GetId() != r.GetOperation().GetId() || b.pool.Snapshot().Revision != rev {
			t.Errorf("again: %v, %v", r2, err)
		}
	}
}

func TestAPlanSaysWhyAVMStaysServerByServer(t *testing.T) {
	b := newBench(t)
	b.hold("web", "srv-1")
	b.pool.change(func(s *pool.Snapshot) {
		vm, _ := s.VMs.Get("web")
		vm.MemoryBytes = 63 << 30
		s.VMs = s.VMs.With("web", vm)
		for _, id := range []pool.ServerID{"srv-2", "srv-3"} {
			m, _ := s.Members.Get(id)
			m.MemoryBytes = 32 << 30
			s.Members = s.Members.With(id, m)
		}
	})
	plan, err := b.PlanMaintenance(as(t), &pb.PlanMaintenanceRequest{Server: "srv-1"})
	if err != nil {
		t.Fatal(err)
	}
	m := plan.GetMoves()[0]
	if m.GetHow() != pb.LeaveBy_LEAVE_BY_WAITS || len(m.GetRefusals()) != 2 || m.GetRefusals()[0].GetReasons()[0].GetCode() != "MEMORY" {
		t.Errorf("plan %v", plan)
	}
	b.pool.change(func(s *pool.Snapshot) {
		vm, _ := s.VMs.Get("web")
		vm.MemoryBytes, vm.Movable = 1<<30, false
		s.VMs = s.VMs.With("web", vm)
	})
	plan, _ = b.PlanMaintenance(as(t), &pb.PlanMaintenanceRequest{Server: "srv-1"})
	restart, _ := b.PlanMaintenance(as(t), &pb.PlanMaintenanceRequest{Server: "srv-1", RestartUnmovable: true})
	if plan.GetMoves()[0].GetHow() != pb.LeaveBy_LEAVE_BY_STAYS || restart.GetMoves()[0].GetHow() != pb.LeaveBy_LEAVE_BY_RESTART || plan.GetPlanRevision() == restart.GetPlanRevision() {
		t.Errorf("plans %v and %v", plan, restart)
	}
}

func TestAServerWhoseVoteEtcdNeedsIsShutDownOnlyWithTheWholePool(t *testing.T) {
	b := newBench(t)
	b.voteStays = true
	before := b.pool.Snapshot()
	_, err := b.ShutdownServer(as(t), &pb.ShutdownServerRequest{Server: "srv-1"})
	b.wantRefusal(t, before, err, "ETCD_NEEDS_THIS_VOTE")
	b.pool.change(func(s *pool.Snapshot) {
		for id, srv := range s.Servers.All() {
			srv.ShuttingDown = id != "srv-1"
			s.Servers = s.Servers.With(id, srv)
		}
	})
	if _, err := b.ShutdownServer(as(t), &pb.ShutdownServerRequest{Server: "srv-1"}); err != nil {
		t.Errorf("the last one that stays: %v", err)
	}
}

func TestAServerWithHAVMsIsNeitherShutDownNorRemovedUnlessTheyLeave(t *testing.T) {
	b := newBench(t)
	b.hold("web", "srv-1")
	b.hold("db", "srv-1")
	b.pool.change(func(s *pool.Snapshot) {
		s.Config.HA = true
		vm, _ := s.VMs.Get("web")
		vm.HA = true
		s.VMs = s.VMs.With("web", vm)
	})
	before := b.pool.Snapshot()
	_, err := b.ShutdownServer(as(t), &pb.ShutdownServerRequest{Server: "srv-1"})
	b.wantRefusal(t, before, err, "SERVER_HOLDS_HA_VMS")
	if !strings.Contains(err.Error(), "web") || strings.Contains(err.Error(), "db") {
		t.Errorf("%v does not name the HA VMs alone", err)
	}
	_, err = b.RemoveServer(as(t), &pb.RemoveServerRequest{Server: "srv-1"})
	b.wantRefusal(t, before, err, "SERVER_HOLDS_VMS")
	r, err := b.ShutdownServer(as(t), &pb.ShutdownServerRequest{Server: "srv-1", Evacuate: true, Reboot: true, RequestId: "s-1"})
	if err != nil {
		t.Fatal(err)
	}
	srv, _ := b.pool.Snapshot().Servers.Get("srv-1")
	if !srv.ShuttingDown || !srv.Leaving() || !srv.Shutdown.Reboot || !srv.Shutdown.ByPool || r.GetOperation().GetServer() != "srv-1" {
		t.Errorf("server %+v, operation %v", srv, r.GetOperation())
	}
	before = b.pool.Snapshot()
	_, err = b.ShutdownServer(as(t), &pb.ShutdownServerRequest{Server: "srv-1", Evacuate: true})
	b.wantRefusal(t, before, err, "SHUTTING_DOWN")
	removed, err := b.RemoveServer(as(t), &pb.RemoveServerRequest{Server: "srv-1", Evacuate: true})
	if srv, _ = b.pool.Snapshot().Servers.Get("srv-1"); err != nil || !srv.Removing || removed.GetOperation().GetKind() != pb.OperationKind_OPERATION_KIND_REMOVE_SERVER {
		t.Errorf("removal after evacuation: %v, %v, %+v", removed, err, srv)
	}
}

func TestAStartThatWouldBreakThePromiseIsRefused(t *testing.T) {
	b := newBench(t)
	b.hold("web", "srv-1")
	b.pool.change(func(s *pool.Snapshot) {
		s.Config.HA, s.Config.Tolerate = true, 1
		for id, vm := range s.VMs.All() {
			vm.HA, vm.MemoryBytes = true, 40<<30
			s.VMs = s.VMs.With(id, vm)
		}
		s.Members = s.Members.Without("srv-3")
	})
	if r, err := b.GetCapacity(as(t), nil); err != nil || r.GetCapacity().GetVerdict() != pb.CapacityVerdict_CAPACITY_VERDICT_OK {
		t.Fatalf("capacity %v, %v", r, err)
	}
	before := b.pool.Snapshot()
	_, err := b.StartVM(as(t), &pb.StartVMRequest{Vm: "db"})
	b.wantRefusal(t, before, err, "NO_ROOM_LEFT")
	if _, err := b.UpdatePool(as(t), &pb.UpdatePoolRequest{Set: map[string]string{"tolerate": "0"}}); err != nil {
		t.Fatal(err)
	}
	if _, err := b.StartVM(as(t), &pb.StartVMRequest{Vm: "db"}); err != nil {
		t.Errorf("without a promise: %v", err)
	}
}

func TestWhatIfTellsWhatRestartsAndWhatDoesNot(t *testing.T) {
	b := newBench(t)
	b.hold("web", "srv-1")
	b.hold("db", "srv-1")
	b.pool.change(func(s *pool.Snapshot) {
		s.Config.HA = true
		vm, _ := s.VMs.Get("web")
		vm.HA = true
		s.VMs = s.VMs.With("web", vm)
		c, _ := s.Claims.Get("web")
		c.Armed = true
		s.Claims = s.Claims.With("web", c)
	})
	r, err := b.PlanLoss(as(t), &pb.PlanLossRequest{Servers: []string{"srv-1"}})
	if err != nil || len(r.GetVms()) != 2 {
		t.Fatalf("%v, %v", r, err)
	}
	web, db := r.GetVms()[0], r.GetVms()[1]
	if web.GetVm() != "web" || web.GetOutcome() != "RESTARTS" || web.GetTo() == "" || web.GetAfter().AsDuration() < b.pool.Snapshot().Config.LeaseTTL {
		t.Errorf("web: %v", web)
	}
	if db.GetOutcome() != "LOST" || !strings.Contains(db.GetReason(), "HA is off") {
		t.Errorf("db: %v", db)
	}
	if _, err := b.PlanLoss(as(t), &pb.PlanLossRequest{Servers: []string{"srv-9"}}); !errors.Is(err, pool.ErrNotFound) {
		t.Errorf("an unknown server: %v", err)
	}
}

func TestRulesThatCannotHoldAreRefusedWithTheConflictNamed(t *testing.T) {
	b := newBench(t)
	set := func(vm string, kv ...string) error {
		m := map[string]string{}
		for i := 0; i < len(kv); i += 2 {
			m[kv[i]] = kv[i+1]
		}
		_, err := b.UpdateVM(as(t), &pb.UpdateVMRequest{Vm: vm, Set: m})
		return err
	}
	if err := set("web", "together", "shop", "require", "srv-1"); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		set  []string
		says []string
	}{
		{[]string{"together", "shop", "require", "srv-2,srv-3"}, []string{"db must be together with web", "srv-1"}},
		{[]string{"require", "srv-9"}, []string{"no server srv-9"}},
	} {
		err := set("db", c.set...)
		if err == nil {
			t.Fatalf("%v was accepted", c.set)
		}
		for _, w := range c.says {
			if !strings.Contains(err.Error(), w) {
				t.Errorf("%v: %v, want %q", c.set, err, w)
			}
		}
	}
	if err := set("web", "together", "", "apart", "pair"); err != nil {
		t.Fatal(err)
	}
	if err := set("db", "apart", "pair", "require", "srv-1"); err == nil || !strings.Contains(err.Error(), "cannot all be apart") {
		t.Errorf("two VMs apart on one server: %v", err)
	}
}

func TestAPlanOfTheEndOfMaintenanceSaysWhoComesAndWhoDoesNotAndWhy(t *testing.T) {
	b := newBench(t)
	b.hold("web", "srv-2")
	b.hold("db", "srv-3")
	b.pool.change(func(s *pool.Snapshot) {
		s.Config.ReturnHome = true
		srv, _ := s.Servers.Get("srv-1")
		srv.Maintenance = true
		s.Servers = s.Servers.With("srv-1", srv)
		s.Leader = pool.Leader{Server: "srv-2", Revision: 50}
		for _, id := range []pool.VMID{"web", "db"} {
			s.Homes = s.Homes.With(id, pool.Home{VM: id, Server: "srv-1"})
			c, _ := s.Claims.Get(id)
			s.States = s.States.With(id, pool.VMState{VM: id, Server: c.Server, Epoch: 1, State: pool.RunRunning})
		}
		db, _ := s.VMs.Get("db")
		db.Movable = false
		s.VMs = s.VMs.With("db", db)
	})
	ask := func() (*pb.PlanMaintenanceExitResponse, []*pb.PlannedReturn) {
		t.Helper()
		plan, err := b.PlanMaintenanceExit(as(t), &pb.PlanMaintenanceExitRequest{Server: "srv-1"})
		if err != nil {
			t.Fatal(err)
		}
		if len(plan.GetReturns()) != 2 {
			t.Fatalf("plan %v", plan)
		}
		return plan, plan.GetReturns()
	}
	plan, r := ask()
	if r[0].GetVm() != "web" || !r[0].GetComes() || r[0].GetFrom() != "srv-2" || r[0].GetExpected() == nil || r[1].GetVm() != "db" || r[1].GetComes() || !strings.Contains(r[1].GetReason(), "relocate db srv-1") {
		t.Errorf("plan %v", plan)
	}
	if snap := b.pool.Snapshot(); snap.Operations.Len() != 0 || snap.Events.Len() != 0 {
		t.Error("a plan changed the pool")
	}
	for _, c := range []struct {
		why    string
		change func(s *pool.Snapshot)
	}{
		{"return=off", func(s *pool.Snapshot) { s.Config.ReturnHome = false }},
		{"HA is frozen", func(s *pool.Snapshot) { s.Config.Frozen = true }},
		{"it is stopped", func(s *pool.Snapshot) {
			vm, _ := s.VMs.Get("web")
			vm.Desired = pool.DesiredStopped
			s.VMs = s.VMs.With("web", vm)
		}},
		{"inbound lock", func(s *pool.Snapshot) {
			srv, _ := s.Servers.Get("srv-1")
			srv.InboundLock = true
			s.Servers = s.Servers.With("srv-1", srv)
		}},
		{"under way", func(s *pool.Snapshot) {
			s.Operations = s.Operations.With("op", pool.Operation{ID: "op", Kind: pool.OperationMigrate, VM: "web", Outcome: pool.OutcomeRunning})
		}},
	} {
		before := b.pool.Snapshot()
		b.pool.change(c.change)
		_, r := ask()
		if r[1].GetVm() != "web" || r[1].GetComes() || !strings.Contains(r[1].GetReason(), c.why) {
			t.Errorf("%s: %v", c.why, r)
		}
		snap := b.pool.Snapshot()
		_, err := b.ExitMaintenance(as(t), &pb.ExitMaintenanceRequest{Server: "srv-1", PlanRevision: plan.GetPlanRevision()})
		b.wantRefusal(t, snap, err, "PLAN_CHANGED")
		b.pool.change(func(s *pool.Snapshot) { rev := s.Revision; *s = *before; s.Revision = rev })
	}
	back, err := b.ExitMaintenance(as(t), &pb.ExitMaintenanceRequest{Server: "srv-1", PlanRevision: plan.GetPlanRevision()})
	if err != nil || len(back.GetComingBack()) != 1 || back.GetComingBack()[0] != "web" {
		t.Errorf("the plan as shown: %v, %v", back, err)
	}
	if _, err := b.PlanMaintenanceExit(as(t), &pb.PlanMaintenanceExitRequest{Server: "srv-9"}); !errors.Is(err, pool.ErrNotFound) {
		t.Errorf("a server that is not there: %v", err)
	}
}

func TestAShutdownOrARemovalByAnotherPlanThanTheOneShownIsRefused(t *testing.T) {
	b := newBench(t)
	b.hold("web", "srv-1")
	plan, err := b.PlanMaintenance(as(t), &pb.PlanMaintenanceRequest{Server: "srv-1"})
	if err != nil {
		t.Fatal(err)
	}
	before := b.pool.Snapshot()
	_, err = b.ShutdownServer(as(t), &pb.ShutdownServerRequest{Server: "srv-1", Evacuate: true, PlanRevision: plan.GetPlanRevision() + 1})
	b.wantRefusal(t, before, err, "PLAN_CHANGED")
	_, err = b.RemoveServer(as(t), &pb.RemoveServerRequest{Server: "srv-1", Evacuate: true, PlanRevision: plan.GetPlanRevision() + 1})
	b.wantRefusal(t, before, err, "PLAN_CHANGED")
	if _, err = b.RemoveServer(as(t), &pb.RemoveServerRequest{Server: "srv-1", Evacuate: true, PlanRevision: plan.GetPlanRevision()}); err != nil {
		t.Errorf("the plan as shown: %v", err)
	}
}
