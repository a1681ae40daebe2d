package fakepool

import (
	"context"
	"fmt"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	pb "github.com/holdfast-ha/holdfast/proto/holdfast/v1"
)

// operateOn creates the operation of a request about a server. It is done at the second look.
func (a *Agent) operateOn(kind pb.OperationKind, server, why, requestID string) (*pb.Operation, error) {
	return locked(a, func(p *Pool, _ *pb.Snapshot) (*pb.Operation, error) {
		if _, err := p.server(server); err != nil {
			return nil, err
		}
		p.serial++
		o := &pb.Operation{
			Id: fmt.Sprintf("op-new-%d", p.serial), Kind: kind, Server: server, Outcome: pb.OperationOutcome_OPERATION_OUTCOME_RUNNING, Phase: "requested",
			Requested: &pb.Mark{By: "kim", At: timestamppb.Now(), Why: why}, RequestId: requestID, Progress: &pb.Progress{ItemsTotal: 2},
		}
		p.scripts[""] = []*pb.Operation{
			{Phase: "evacuating", Outcome: pb.OperationOutcome_OPERATION_OUTCOME_RUNNING},
			{Phase: "done", Outcome: pb.OperationOutcome_OPERATION_OUTCOME_DONE},
		}
		p.change(&pb.Delta{Operations: []*pb.Operation{o}})
		return o, nil
	})
}

// EnterMaintenance begins an evacuation.
func (a *Agent) EnterMaintenance(_ context.Context, r *pb.EnterMaintenanceRequest) (*pb.EnterMaintenanceResponse, error) {
	o, err := a.operateOn(pb.OperationKind_OPERATION_KIND_EVACUATE, r.GetServer(), r.GetWhy(), r.GetRequestId())
	return &pb.EnterMaintenanceResponse{Operation: o}, err
}

// ExitMaintenance ends it.
func (a *Agent) ExitMaintenance(_ context.Context, r *pb.ExitMaintenanceRequest) (*pb.ExitMaintenanceResponse, error) {
	return locked(a, func(p *Pool, _ *pb.Snapshot) (*pb.ExitMaintenanceResponse, error) {
		v, err := p.server(r.GetServer())
		return &pb.ExitMaintenanceResponse{Server: v, ComingBack: []string{"web-01"}}, err
	})
}

// ShutdownServer shuts a server down.
func (a *Agent) ShutdownServer(_ context.Context, r *pb.ShutdownServerRequest) (*pb.ShutdownServerResponse, error) {
	o, err := a.operateOn(pb.OperationKind_OPERATION_KIND_SHUTDOWN_SERVER, r.GetServer(), r.GetWhy(), r.GetRequestId())
	return &pb.ShutdownServerResponse{Operation: o}, err
}

// Room is the capacity that the pool tells of: one server is at risk.
func Room() *pb.Capacity {
	return &pb.Capacity{
		Verdict: pb.CapacityVerdict_CAPACITY_VERDICT_AT_RISK, ServersAtRisk: []string{"hv-04"}, Tolerate: 1, LookedAt: 1,
		Text: "if hv-04 were lost, there would be no place for db-r2, batch-3",
		Rows: []*pb.CapacityRow{
			{Server: "hv-01", HaVms: 38, NeededBytes: 412 << 30, Fits: true, LeftBytes: 38 << 30},
			{Server: "hv-04", HaVms: 44, NeededBytes: 508 << 30, LeftBytes: 12 << 30, NoPlace: []string{"db-r2", "batch-3"}},
		},
	}
}

// GetCapacity tells the pool's room.
func (a *Agent) GetCapacity(context.Context, *pb.GetCapacityRequest) (*pb.GetCapacityResponse, error) {
	return &pb.GetCapacityResponse{Capacity: Room(), Revision: 8812}, nil
}

// PlanLoss tells of one VM that would restart and one that would wait.
func (a *Agent) PlanLoss(context.Context, *pb.PlanLossRequest) (*pb.PlanLossResponse, error) {
	return &pb.PlanLossResponse{Revision: 8812, CapacityNow: Room(), CapacityAfter: Room(), Vms: []*pb.PlannedLoss{
		{Vm: "web-01", From: "hv-02", To: "hv-01", Outcome: "RESTARTS", After: durationpb.New(6 * time.Second), Priority: "high", MemoryBytes: 8 << 30, Reason: "the only server that qualifies"},
		{Vm: "batch-3", From: "hv-02", Outcome: "WAITS", Priority: "low", MemoryBytes: 32 << 30, Reason: "batch-3 waits: no server has 32 GiB of memory free"},
	}}, nil
}

// PlanMaintenance tells of a VM of each kind.
func (a *Agent) PlanMaintenance(context.Context, *pb.PlanMaintenanceRequest) (*pb.PlanMaintenanceResponse, error) {
	return &pb.PlanMaintenanceResponse{
		PlanRevision: 8812, Revision: 8812, Expected: durationpb.New(5 * time.Minute), CapacityBefore: &pb.Capacity{Verdict: pb.CapacityVerdict_CAPACITY_VERDICT_OK},
		CapacityAfter: Room(), MemoryPercentBefore: 79, MemoryPercentAfter: 91,
		Moves: []*pb.PlannedMove{
			{Vm: "web-01", How: pb.LeaveBy_LEAVE_BY_LIVE, Target: "hv-05", MemoryBytes: 8 << 30, Expected: durationpb.New(74 * time.Second), Reason: "least loaded of 3 that qualify, 40% of its memory promised now"},
			{Vm: "db-r2", How: pb.LeaveBy_LEAVE_BY_WAITS, MemoryBytes: 64 << 30, Reason: "no server has 64 GiB of memory free"},
			{Vm: "gpu-1", How: pb.LeaveBy_LEAVE_BY_STAYS, MemoryBytes: 32 << 30, Reason: "it cannot migrate live"},
		},
	}, nil
}

// PlanMaintenanceExit tells of a VM that would come and of one that would not.
func (a *Agent) PlanMaintenanceExit(context.Context, *pb.PlanMaintenanceExitRequest) (*pb.PlanMaintenanceExitResponse, error) {
	return &pb.PlanMaintenanceExitResponse{
		PlanRevision: 8813, Revision: 8812, Expected: durationpb.New(74 * time.Second), CapacityBefore: Room(),
		CapacityAfter: &pb.Capacity{Verdict: pb.CapacityVerdict_CAPACITY_VERDICT_OK}, MemoryPercentBefore: 91, MemoryPercentAfter: 79, Staying: []string{"gpu-1"},
		Returns: []*pb.PlannedReturn{
			{Vm: "web-01", From: "hv-05", Comes: true, MemoryBytes: 8 << 30, Expected: durationpb.New(74 * time.Second), Reason: "web-01 goes home to hv-02"},
			{Vm: "db-r2", From: "hv-01", MemoryBytes: 64 << 30, Reason: "it cannot migrate live; with a restart: relocate db-r2 hv-02"},
		},
	}, nil
}
