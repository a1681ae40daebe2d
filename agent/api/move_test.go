package api

import (
	"context"
	"errors"
	"strings"
	"testing"

	"google.golang.org/grpc"

	"github.com/holdfast-ha/holdfast/pkg/pool"
	pb "github.com/holdfast-ha/holdfast/proto/holdfast/v1"
)

func TestAMigrationIsAnOperationOfItsRequest(t *testing.T) {
	b := newBench(t)
	b.hold("web", "srv-1")
	req := &pb.MigrateVMRequest{Vm: "web", Server: "srv-2", RequestId: "r-1", Why: "heat"}
	first, err := b.MigrateVM(as(t), req)
	if err != nil {
		t.Fatal(err)
	}
	op := first.GetOperation()
	if op.GetServer() != "srv-2" || op.GetSource() != "srv-1" || op.GetStartEpoch() != 1 || op.GetRequested().GetBy() != "kim" || op.GetRequested().GetWhy() != "heat" {
		t.Errorf("operation %v", op)
	}
	again, err := b.MigrateVM(as(t), req)
	if err != nil || again.GetOperation().GetId() != op.GetId() || b.pool.Snapshot().Operations.Len() != 1 {
		t.Errorf("the same request again: %v, %v", again, err)
	}
	if _, err := b.MigrateVM(as(t), &pb.MigrateVMRequest{Vm: "db", RequestId: "r-1"}); !errors.Is(err, pool.ErrExists) {
		t.Errorf("the request ID for another VM: %v", err)
	}
}

func TestARefusedMigrationNamesEverythingInItsWayAndChangesNothing(t *testing.T) {
	b := newBench(t)
	b.hold("web", "srv-1")
	b.pool.change(func(s *pool.Snapshot) {
		srv, _ := s.Servers.Get("srv-2")
		srv.InboundLock, srv.Maintenance = true, true
		s.Servers = s.Servers.With("srv-2", srv)
		s.Members = s.Members.Without("srv-3")
	})
	before := b.pool.Snapshot()
	_, err := b.MigrateVM(as(t), &pb.MigrateVMRequest{Vm: "web", Server: "srv-2"})
	b.wantRefusal(t, before, err, "MAINTENANCE")
	if !strings.Contains(err.Error(), "inbound lock") {
		t.Errorf("not every reason is told: %v", err)
	}
	_, err = b.MigrateVM(as(t), &pb.MigrateVMRequest{Vm: "web"})
	b.wantRefusal(t, before, err, "NO_SERVER")
	for _, want := range []string{"srv-2 is in maintenance", "srv-3 is not up"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q in it", err, want)
		}
	}
	_, err = b.MigrateVM(as(t), &pb.MigrateVMRequest{Vm: "web", Server: "srv-1"})
	b.wantRefusal(t, before, err, "ALREADY_THERE")
	_, err = b.MigrateVM(as(t), &pb.MigrateVMRequest{Vm: "db", Server: "srv-1"})
	b.wantRefusal(t, before, err, "NOT_RUNNING")
	if _, err = b.MigrateVM(as(t), &pb.MigrateVMRequest{Vm: "web", Server: "srv-9"}); !errors.Is(err, pool.ErrNotFound) {
		t.Errorf("an unknown server: %v", err)
	}
}

func TestAVMThatCannotMoveLiveIsToldTheOtherWay(t *testing.T) {
	b := newBench(t)
	b.hold("web", "srv-1")
	b.pool.change(func(s *pool.Snapshot) {
		vm, _ := s.VMs.Get("web")
		vm.Movable = false
		s.VMs = s.VMs.With("web", vm)
	})
	before := b.pool.Snapshot()
	_, err := b.MigrateVM(as(t), &pb.MigrateVMRequest{Vm: "web", Server: "srv-2"})
	b.wantRefusal(t, before, err, "NOT_MOVABLE")
	r, err := b.RelocateVM(as(t), &pb.RelocateVMRequest{Vm: "web", Server: "srv-2"})
	if err != nil || r.GetOperation().GetKind() != pb.OperationKind_OPERATION_KIND_RELOCATE {
		t.Errorf("relocate: %v, %v", r, err)
	}
	before = b.pool.Snapshot()
	_, err = b.RelocateVM(as(t), &pb.RelocateVMRequest{Vm: "web", Server: "srv-3"})
	b.wantRefusal(t, before, err, "BUSY")
}

func TestAMigrationPlanThatIsOutdatedIsNotCarriedOut(t *testing.T) {
	b := newBench(t)
	b.hold("web", "srv-1")
	p, err := b.PlanMigration(as(t), &pb.PlanMigrationRequest{Vms: []string{"web"}})
	if err != nil {
		t.Fatal(err)
	}
	list := p.GetVms()[0].GetCandidates()
	if len(list) != 2 || !list[0].GetOk() || !list[0].GetRecommended() || list[1].GetRecommended() || list[0].GetMemoryFreeAfter() != 63<<30 {
		t.Errorf("candidates %v", list)
	}
	b.hold("db", "srv-2")
	before := b.pool.Snapshot()
	_, err = b.MigrateVM(as(t), &pb.MigrateVMRequest{Vm: "web", PlanRevision: p.GetRevision()})
	b.wantRefusal(t, before, err, "PLAN_CHANGED")
}

func TestOnlyWhatRunsIsCancelledAndOnlyOnce(t *testing.T) {
	b := newBench(t)
	b.hold("web", "srv-1")
	r, err := b.MigrateVM(as(t), &pb.MigrateVMRequest{Vm: "web", Server: "srv-2"})
	if err != nil {
		t.Fatal(err)
	}
	id := r.GetOperation().GetId()
	for range 2 {
		c, err := b.CancelOperation(as(t), &pb.CancelOperationRequest{Operation: id})
		if err != nil || !c.GetOperation().GetCancel() {
			t.Fatalf("cancel: %v, %v", c, err)
		}
	}
	b.pool.change(func(s *pool.Snapshot) {
		op, _ := s.Operations.Get(pool.OperationID(id))
		op.Outcome = pool.OutcomeCancelled
		s.Operations = s.Operations.With(op.ID, op)
	})
	before := b.pool.Snapshot()
	_, err = b.CancelOperation(as(t), &pb.CancelOperationRequest{Operation: id})
	b.wantRefusal(t, before, err, "ENDED")
	if _, err := b.CancelOperation(as(t), &pb.CancelOperationRequest{Operation: "none"}); !errors.Is(err, pool.ErrNotFound) {
		t.Errorf("an unknown operation: %v", err)
	}
}

// operationStream collects what is sent.
type operationStream struct {
	grpc.ServerStream
	ctx  context.Context //nolint:containedctx // as a stream has it
	sent chan *pb.WatchOperationResponse
}

func (s *operationStream) Context() context.Context { return s.ctx }

func (s *operationStream) Send(m *pb.WatchOperationResponse) error {
	s.sent <- m
	return nil
}

func TestAnOperationIsWatchedToItsEnd(t *testing.T) {
	b := newBench(t)
	b.hold("web", "srv-1")
	r, err := b.MigrateVM(as(t), &pb.MigrateVMRequest{Vm: "web", Server: "srv-2"})
	if err != nil {
		t.Fatal(err)
	}
	id := r.GetOperation().GetId()
	s := &operationStream{ctx: t.Context(), sent: make(chan *pb.WatchOperationResponse, 10)}
	ended := make(chan error, 1)
	go func() { ended <- b.WatchOperation(&pb.WatchOperationRequest{Operation: id}, s) }()
	if m := <-s.sent; m.GetOperation().GetOutcome() != pb.OperationOutcome_OPERATION_OUTCOME_RUNNING {
		t.Errorf("first %v", m)
	}
	b.pool.change(func(snap *pool.Snapshot) {
		op, _ := snap.Operations.Get(pool.OperationID(id))
		op.Outcome, op.Revision = pool.OutcomeDone, snap.Revision
		snap.Operations = snap.Operations.With(op.ID, op)
	})
	if m := <-s.sent; m.GetOperation().GetOutcome() != pb.OperationOutcome_OPERATION_OUTCOME_DONE {
		t.Errorf("then %v", m)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func TestWhatWasHandedOverIsNotCancelledAnyMore(t *testing.T) {
	b := newBench(t)
	b.hold("web", "srv-1")
	r, err := b.MigrateVM(as(t), &pb.MigrateVMRequest{Vm: "web", Server: "srv-2"})
	if err != nil {
		t.Fatal(err)
	}
	id := pool.OperationID(r.GetOperation().GetId())
	b.pool.change(func(s *pool.Snapshot) {
		c, _ := s.Claims.Get("web")
		m, _ := s.Members.Get("srv-2")
		c.Server, c.Session, c.Epoch, c.Phase, c.Operation, c.LastServer = "srv-2", m.Session, c.Epoch+1, pool.PhaseHandedOver, id, "srv-1"
		s.Claims = s.Claims.With("web", c)
	})
	before := b.pool.Snapshot()
	_, err = b.CancelOperation(as(t), &pb.CancelOperationRequest{Operation: string(id)})
	b.wantRefusal(t, before, err, "HANDED_OVER")
}

func TestAVMWithABlockJobIsNotMoved(t *testing.T) {
	b := newBench(t)
	b.hold("web", "srv-1")
	b.pool.change(func(s *pool.Snapshot) {
		vm, _ := s.VMs.Get("web")
		vm.DisksInDoubt = "a block job was running on disk vda"
		s.VMs = s.VMs.With("web", vm)
	})
	before := b.pool.Snapshot()
	_, err := b.MigrateVM(as(t), &pb.MigrateVMRequest{Vm: "web"})
	b.wantRefusal(t, before, err, "BLOCK_JOB")
	_, err = b.RelocateVM(as(t), &pb.RelocateVMRequest{Vm: "web", Server: "srv-2"})
	b.wantRefusal(t, before, err, "BLOCK_JOB")
	p, err := b.PlanMigration(as(t), &pb.PlanMigrationRequest{Vms: []string{"web"}})
	if err != nil || !strings.Contains(p.GetVms()[0].GetRefusal(), "copy or commit of its disks") {
		t.Errorf("%v, %v", p, err)
	}
}
