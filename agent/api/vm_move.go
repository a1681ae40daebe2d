package api

import (
	"context"
	"fmt"
	"strings"

	"google.golang.org/grpc"

	"github.com/holdfast-ha/holdfast/pkg/plan"
	"github.com/holdfast-ha/holdfast/pkg/pool"
	"github.com/holdfast-ha/holdfast/pkg/wire"
	pb "github.com/holdfast-ha/holdfast/proto/holdfast/v1"
)

// move is a request to bring a VM to another server.
type move struct {
	kind         pool.OperationKind
	vm, server   string
	requestID    string
	why          string
	planRevision int64
}

// verb is how it is told.
func (m move) verb() string {
	if m.kind == pool.OperationMigrate {
		return "migrate"
	}
	return "relocate"
}

// MigrateVM moves a running VM without stopping it.
func (s *Server) MigrateVM(ctx context.Context, r *pb.MigrateVMRequest) (*pb.MigrateVMResponse, error) {
	op, err := s.moveVM(ctx, move{pool.OperationMigrate, r.GetVm(), r.GetServer(), r.GetRequestId(), r.GetWhy(), r.GetPlanRevision()})
	return &pb.MigrateVMResponse{Operation: op}, err
}

// RelocateVM stops a VM and starts it on another server.
func (s *Server) RelocateVM(ctx context.Context, r *pb.RelocateVMRequest) (*pb.RelocateVMResponse, error) {
	if r.GetServer() == "" {
		return nil, fmt.Errorf("relocate %s: to which server? %w", clean(r.GetVm()), pool.ErrInvalid)
	}
	op, err := s.moveVM(ctx, move{kind: pool.OperationRelocate, vm: r.GetVm(), server: r.GetServer(), requestID: r.GetRequestId(), why: r.GetWhy()})
	return &pb.RelocateVMResponse{Operation: op}, err
}

// moveVM admits a move as the leader would, and creates the operation that the leader carries out.
func (s *Server) moveVM(ctx context.Context, m move) (*pb.Operation, error) {
	mark, err := s.mark(ctx, m.why)
	if err != nil {
		return nil, err
	}
	id := s.operationID(m.requestID)
	err = s.applyRetry(ctx, func(snap *pool.Snapshot) (pool.Change, error) {
		vm, err := findVM(snap, m.vm)
		if err != nil {
			return pool.Change{}, err
		}
		if old, done := snap.Operations.Get(id); done {
			if old.VM != vm.ID || old.Kind != m.kind {
				return pool.Change{}, fmt.Errorf("request ID %s was used to %v %s; a new request needs a new one: %w", clean(m.requestID), old.Kind, old.VM, pool.ErrExists)
			}
			return pool.Change{}, nil
		}
		target, err := admitMove(snap, m, vm)
		if err != nil {
			return pool.Change{}, err
		}
		claim, _ := snap.Claims.Get(vm.ID)
		op := pool.Operation{ID: id, Kind: m.kind, VM: vm.ID, Server: target, Source: claim.Server, Outcome: pool.OutcomeRunning,
			Phase: pool.PhaseWordRequested, Requested: mark, RequestID: m.requestID, StartEpoch: claim.Epoch}
		c := pool.Change{Operations: []pool.Operation{op}, SameVMs: []pool.VM{vm},
			Events: []pool.Event{s.event("VM_MOVE_ASKED", mark, target, vm.ID, "%s asked to %s %s%s", mark.By, m.verb(), vm.ID, to(target))}}
		return c, nil
	})
	if err != nil {
		return nil, err
	}
	return s.operation(id)
}

func to(target pool.ServerID) string {
	if target == "" {
		return ""
	}
	return " to " + string(target)
}

// admitMove refuses what the leader would refuse, with everything that is in the way. It returns the server to move to;
// empty leaves the choice to the leader.
func admitMove(snap *pool.Snapshot, m move, vm pool.VM) (pool.ServerID, error) {
	if m.server != "" {
		if _, err := findServer(snap, m.server); err != nil {
			return "", err
		}
	}
	for _, op := range snap.Operations.All() {
		if op.VM == vm.ID && op.Outcome == pool.OutcomeRunning && (op.Kind == pool.OperationMigrate || op.Kind == pool.OperationRelocate || op.Kind == pool.OperationRestart) {
			return "", pool.Refuse("BUSY", "wait for it, or: operation cancel "+string(op.ID), "a %v of %s is under way (operation %s)", op.Kind, vm.ID, op.ID)
		}
	}
	mv, _ := plan.PlanMove(snap, vm.ID, m.kind == pool.OperationMigrate)
	if mv.Refusal != "" {
		hint := ""
		if mv.Code == "NOT_MOVABLE" {
			hint = fmt.Sprintf("stop it there and start it elsewhere: relocate %s SERVER", vm.ID)
		}
		return "", pool.Refuse(mv.Code, hint, "%s", mv.Refusal)
	}
	if m.server == "" {
		best, ok := mv.Best()
		if !ok {
			return "", pool.Refuse("NO_SERVER", "", "no other server can take %s: %s", vm.ID, everyReason(mv.Candidates))
		}
		if m.planRevision > 0 && !samePlan(snap, m) {
			return "", pool.Refuse("PLAN_CHANGED", "look at the plan again", "the pool has changed since revision %d; now %s would be chosen", m.planRevision, best.Server)
		}
		return "", nil
	}
	target := pool.ServerID(m.server)
	if target == mv.Source {
		return "", pool.Refuse("ALREADY_THERE", "", "%s runs on %s already", vm.ID, target)
	}
	c, ok := mv.On(target)
	if !ok || !c.Fits() {
		return "", pool.Refuse(string(c.Reasons[0].Code), "", "%s cannot take %s: %s", target, vm.ID, reasonsOf(c))
	}
	return target, nil
}

// samePlan reports whether nothing that a plan for the VM rests on has changed since it was looked at.
func samePlan(snap *pool.Snapshot, m move) bool {
	at := pool.Revision(m.planRevision)
	vm, _ := snap.VMs.Get(pool.VMID(m.vm))
	claim, _ := snap.Claims.Get(vm.ID)
	if vm.Revision > at || claim.Revision > at || snap.Config.Revision > at {
		return false
	}
	for _, srv := range snap.Servers.All() {
		if srv.Revision > at {
			return false
		}
	}
	for _, c := range snap.Claims.All() {
		if c.Revision > at {
			return false
		}
	}
	return true
}

func reasonsOf(c plan.Candidate) string {
	var all []string
	for _, r := range c.Reasons {
		all = append(all, r.Sentence)
	}
	return strings.Join(all, "; ")
}

// everyReason says what keeps a VM off each server.
func everyReason(list []plan.Candidate) string {
	if len(list) == 0 {
		return "there is none"
	}
	var all []string
	for i, c := range list {
		if i == maxNamed {
			all = append(all, fmt.Sprintf("and %d more servers", len(list)-i))
			break
		}
		all = append(all, reasonsOf(c))
	}
	return strings.Join(all, "; ")
}

// PlanMigration says where VMs could move.
func (s *Server) PlanMigration(_ context.Context, r *pb.PlanMigrationRequest) (*pb.PlanMigrationResponse, error) {
	snap, err := s.snapshot()
	if err != nil {
		return nil, err
	}
	if len(r.GetVms()) == 0 {
		return nil, fmt.Errorf("name the VMs to plan for: %w", pool.ErrInvalid)
	}
	resp := &pb.PlanMigrationResponse{Revision: int64(snap.Revision), N1Before: roomWord(plan.PoolCapacity(snap).Verdict)}
	for _, name := range r.GetVms() {
		vm, err := findVM(snap, name)
		if err != nil {
			return nil, err
		}
		mv, _ := plan.PlanMove(snap, vm.ID, true)
		out := &pb.PlannedMigration{Vm: name, Source: string(mv.Source), Refusal: mv.Refusal}
		for _, c := range mv.Candidates {
			out.Candidates = append(out.Candidates, candidate(c))
		}
		resp.Vms = append(resp.Vms, out)
	}
	return resp, nil
}

func candidate(c plan.Candidate) *pb.MoveCandidate {
	out := &pb.MoveCandidate{Server: string(c.Server), Ok: c.Fits(), Recommended: c.Recommended, MemoryFreeAfter: c.FreeAfter}
	for _, r := range c.Reasons {
		out.Reasons = append(out.Reasons, &pb.ServerReason{Code: string(r.Code), Text: r.Sentence})
	}
	if c.Fits() {
		out.N1After = roomWord(c.After)
	}
	return out
}

// roomWord is the verdict on the pool's room in the words of the API.
func roomWord(v plan.CapacityVerdict) string {
	if v == plan.CapacityUnspecified {
		return ""
	}
	return strings.TrimPrefix(pb.CapacityVerdict(v).String(), "CAPACITY_VERDICT_") //nolint:gosec // a small enum
}

// cancellable are the kinds of operation that may be cancelled.
var cancellable = map[pool.OperationKind]bool{pool.OperationMigrate: true, pool.OperationRelocate: true,
	pool.OperationEvacuate: true, pool.OperationRemoveServer: true, pool.OperationShutdownServer: true}

// aboutOf is what an operation is about: its VM, else its server.
func aboutOf(op pool.Operation) string {
	if op.VM != "" {
		return string(op.VM)
	}
	return string(op.Server)
}

// CancelOperation asks for the end of an operation.
func (s *Server) CancelOperation(ctx context.Context, r *pb.CancelOperationRequest) (*pb.CancelOperationResponse, error) {
	m, err := s.mark(ctx, r.GetWhy())
	if err != nil {
		return nil, err
	}
	id := pool.OperationID(r.GetOperation())
	err = s.applyRetry(ctx, func(snap *pool.Snapshot) (pool.Change, error) {
		op, ok := snap.Operations.Get(id)
		switch {
		case !ok:
			return pool.Change{}, fmt.Errorf("no operation %s; it may have left the history: %w", clean(string(id)), pool.ErrNotFound)
		case op.Outcome != pool.OutcomeRunning:
			return pool.Change{}, pool.Refuse("ENDED", "", "the %v of %s has ended: %v", op.Kind, aboutOf(op), op.Outcome)
		case !cancellable[op.Kind]:
			return pool.Change{}, pool.Refuse("NOT_CANCELLABLE", "", "a %v cannot be cancelled", op.Kind)
		case op.Cancel:
			return pool.Change{}, nil
		}
		if c, _ := snap.Claims.Get(op.VM); c.Phase == pool.PhaseHandedOver && c.Operation == op.ID {
			return pool.Change{}, pool.Refuse("HANDED_OVER", "", "%s was handed over to %s already", op.VM, c.Server)
		}
		op.Cancel = true
		e := s.event("OPERATION_CANCEL_ASKED", m, op.Server, op.VM, "%s asked to cancel the %v of %s", m.By, op.Kind, aboutOf(op))
		e.Operation = op.ID
		return pool.Change{Operations: []pool.Operation{op}, Events: []pool.Event{e}}, nil
	})
	if err != nil {
		return nil, err
	}
	op, err := s.operation(id)
	return &pb.CancelOperationResponse{Operation: op}, err
}

// WatchOperation streams an operation until it has ended.
func (s *Server) WatchOperation(r *pb.WatchOperationRequest, stream grpc.ServerStreamingServer[pb.WatchOperationResponse]) error {
	sig := s.cfg.Clock.NewSignal()
	defer s.cfg.Pool.Subscribe(sig)()
	ctx := stream.Context()
	sent := pool.Revision(0)
	for ctx.Err() == nil {
		snap, err := s.snapshot()
		if err != nil {
			return err
		}
		op, ok := snap.Operations.Get(pool.OperationID(r.GetOperation()))
		if !ok {
			return fmt.Errorf("no operation %s; it may have left the history: %w", clean(r.GetOperation()), pool.ErrNotFound)
		}
		if op.Revision != sent {
			if err := stream.Send(&pb.WatchOperationResponse{Operation: wire.Operation(op), Revision: int64(snap.Revision)}); err != nil {
				return err
			}
			sent = op.Revision
		}
		if op.Outcome != pool.OutcomeRunning {
			return nil
		}
		sig.Wait(ctx, -1)
	}
	return ctx.Err()
}
