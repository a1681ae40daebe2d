package fakepool

import (
	"context"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	pb "github.com/holdfast-ha/holdfast/proto/holdfast/v1"
)

// MigrateVM moves a VM live.
func (a *Agent) MigrateVM(_ context.Context, r *pb.MigrateVMRequest) (*pb.MigrateVMResponse, error) {
	o, err := a.operate(pb.OperationKind_OPERATION_KIND_MIGRATE, r.GetVm(), r.GetWhy(), r.GetRequestId())
	return &pb.MigrateVMResponse{Operation: o}, err
}

// RelocateVM stops a VM and starts it elsewhere.
func (a *Agent) RelocateVM(_ context.Context, r *pb.RelocateVMRequest) (*pb.RelocateVMResponse, error) {
	o, err := a.operate(pb.OperationKind_OPERATION_KIND_RELOCATE, r.GetVm(), r.GetWhy(), r.GetRequestId())
	return &pb.RelocateVMResponse{Operation: o}, err
}

// PlanMigration says that one server can take each VM and another cannot.
func (a *Agent) PlanMigration(_ context.Context, r *pb.PlanMigrationRequest) (*pb.PlanMigrationResponse, error) {
	resp := &pb.PlanMigrationResponse{Revision: 4711, N1Before: "OK"}
	for _, vm := range r.GetVms() {
		resp.Vms = append(resp.Vms, &pb.PlannedMigration{Vm: vm, Source: "hv-01", Candidates: []*pb.MoveCandidate{
			{Server: "hv-02", Ok: true, Recommended: true, MemoryFreeAfter: 24 << 30, N1After: "OK"},
			{Server: "hv-03", Reasons: []*pb.ServerReason{{Code: "LOST", Text: "hv-03 is not up"}}},
		}})
	}
	return resp, nil
}

// CancelOperation asks an operation to end.
func (a *Agent) CancelOperation(_ context.Context, r *pb.CancelOperationRequest) (*pb.CancelOperationResponse, error) {
	return locked(a, func(p *Pool, s *pb.Snapshot) (*pb.CancelOperationResponse, error) {
		for _, o := range s.GetOperations() {
			if o.GetId() == r.GetOperation() {
				o.Cancel = true
				return &pb.CancelOperationResponse{Operation: o}, nil
			}
		}
		return &pb.CancelOperationResponse{Operation: &pb.Operation{Id: r.GetOperation(), Cancel: true}}, nil
	})
}

// WatchOperation sends an operation as it is, and then as done.
func (a *Agent) WatchOperation(r *pb.WatchOperationRequest, stream grpc.ServerStreamingServer[pb.WatchOperationResponse]) error {
	got, err := a.GetOperation(stream.Context(), &pb.GetOperationRequest{Operation: r.GetOperation()})
	if err != nil {
		return err
	}
	o := proto.CloneOf(got.GetOperation())
	if err := stream.Send(&pb.WatchOperationResponse{Operation: o}); err != nil {
		return err
	}
	o = proto.CloneOf(o)
	o.Outcome, o.Phase, o.Error = pb.OperationOutcome_OPERATION_OUTCOME_DONE, "done", ""
	return stream.Send(&pb.WatchOperationResponse{Operation: o})
}
