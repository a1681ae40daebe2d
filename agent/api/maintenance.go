package api

import (
	"context"
	"fmt"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/holdfast-ha/holdfast/pkg/plan"
	"github.com/holdfast-ha/holdfast/pkg/pool"
	pb "github.com/holdfast-ha/holdfast/proto/holdfast/v1"
)

// PlanMaintenance says what maintenance of a server would do.
func (s *Server) PlanMaintenance(_ context.Context, r *pb.PlanMaintenanceRequest) (*pb.PlanMaintenanceResponse, error) {
	snap, err := s.snapshot()
	if err != nil {
		return nil, err
	}
	srv, err := findServer(snap, r.GetServer())
	if err != nil {
		return nil, err
	}
	p := plan.PreviewMaintenance(snap, srv.ID, r.GetRestartUnmovable(), s.cfg.Clock.Wall())
	resp := &pb.PlanMaintenanceResponse{
		PlanRevision: p.Revision, Revision: int64(snap.Revision), Expected: about(p.Expected),
		CapacityBefore: capacityMessage(p.Before), CapacityAfter: capacityMessage(p.After),
		MemoryPercentBefore: int32(p.MemoryBefore), MemoryPercentAfter: int32(p.MemoryAfter),
	}
	for i, l := range p.Leaves {
		resp.Moves = append(resp.Moves, plannedMove(snap, l, p.Times[i]))
	}
	return resp, nil
}

func plannedMove(snap *pool.Snapshot, l plan.Leave, expected time.Duration) *pb.PlannedMove {
	m := &pb.PlannedMove{Vm: string(l.VM.ID), How: pb.LeaveBy(l.How), Target: string(l.Target), Reason: l.Why,
		MemoryBytes: l.VM.MemoryBytes, Expected: about(expected), UnderWay: l.UnderWay}
	if !l.Blocked() {
		return m
	}
	for _, v := range l.Refusals(snap) {
		out := &pb.ServerVerdict{Server: string(v.Server)}
		for _, r := range v.Reasons {
			out.Reasons = append(out.Reasons, &pb.ServerReason{Code: string(r.Code), Text: r.Sentence})
		}
		m.Refusals = append(m.Refusals, out)
	}
	return m
}

// sameEvacuation refuses to empty a server by another plan than the one that was shown; want is 0 for any.
func (s *Server) sameEvacuation(snap *pool.Snapshot, id pool.ServerID, restartUnmovable bool, want int64) error {
	if want == 0 {
		return nil
	}
	return stillThatPlan(want, plan.PreviewMaintenance(snap, id, restartUnmovable, s.cfg.Clock.Wall()).Revision)
}

// stillThatPlan refuses a request for a plan that is another by now.
func stillThatPlan(want, have int64) error {
	if want == have {
		return nil
	}
	return pool.Refuse("PLAN_CHANGED", "look at the plan again", "the plan has changed since it was shown: it is %d now, not %d", have, want)
}

// about is nil for what is not known.
func about(d time.Duration) *durationpb.Duration {
	if d <= 0 {
		return nil
	}
	return durationpb.New(d)
}

// EnterMaintenance begins maintenance of a server.
func (s *Server) EnterMaintenance(ctx context.Context, r *pb.EnterMaintenanceRequest) (*pb.EnterMaintenanceResponse, error) {
	m, err := s.mark(ctx, r.GetWhy())
	if err != nil {
		return nil, err
	}
	op := s.serverOperation(pool.OperationEvacuate, r.GetServer(), r.GetRequestId(), m)
	err = s.applyRetry(ctx, func(snap *pool.Snapshot) (pool.Change, error) {
		srv, repeated, err := findForOperation(snap, op)
		if err != nil || repeated {
			return pool.Change{}, err
		}
		if was, running := runningOn(snap, srv.ID, pool.OperationEvacuate); srv.Maintenance && running {
			op.ID = was.ID
			if !r.GetRestartUnmovable() || srv.RestartUnmovable {
				return pool.Change{}, nil
			}
			srv.RestartUnmovable = true
			return pool.Change{Servers: []pool.Server{srv}}, nil
		}
		if err := s.sameEvacuation(snap, srv.ID, r.GetRestartUnmovable(), r.GetPlanRevision()); err != nil {
			return pool.Change{}, err
		}
		if !srv.Maintenance {
			srv.MaintenanceMark = m
		}
		srv.Maintenance, srv.RestartUnmovable = true, r.GetRestartUnmovable()
		op.Progress.ItemsTotal = len(claimsOn(snap, srv.ID))
		return pool.Change{Servers: []pool.Server{srv}, Operations: append(stopArrivals(snap, srv.ID), op),
			Events: []pool.Event{s.event("MAINTENANCE", m, srv.ID, "", "%s put %s into maintenance", m.By, srv.ID)}}, nil
	})
	if err != nil {
		return nil, err
	}
	view, err := s.serverView(pool.ServerID(r.GetServer()))
	if err != nil {
		return nil, err
	}
	done, err := s.operation(op.ID)
	return &pb.EnterMaintenanceResponse{Server: view, Operation: done}, err
}

// PlanMaintenanceExit says what the end of a server's maintenance would do.
func (s *Server) PlanMaintenanceExit(_ context.Context, r *pb.PlanMaintenanceExitRequest) (*pb.PlanMaintenanceExitResponse, error) {
	snap, err := s.snapshot()
	if err != nil {
		return nil, err
	}
	srv, err := findServer(snap, r.GetServer())
	if err != nil {
		return nil, err
	}
	p := plan.PreviewReturn(snap, srv.ID, s.cfg.Clock.Wall())
	resp := &pb.PlanMaintenanceExitResponse{
		PlanRevision: p.Revision, Revision: int64(snap.Revision), Expected: about(p.Expected),
		CapacityBefore: capacityMessage(p.Before), CapacityAfter: capacityMessage(p.After),
		MemoryPercentBefore: int32(p.MemoryBefore), MemoryPercentAfter: int32(p.MemoryAfter),
	}
	for _, b := range p.Returns {
		resp.Returns = append(resp.Returns, &pb.PlannedReturn{Vm: string(b.VM.ID), From: string(b.From), Comes: b.Comes, Reason: b.Why,
			MemoryBytes: b.VM.MemoryBytes, Expected: about(b.Time)})
	}
	for _, id := range p.Staying {
		resp.Staying = append(resp.Staying, string(id))
	}
	return resp, nil
}

// ExitMaintenance ends maintenance of a server. What was about to leave and has not begun to stays.
func (s *Server) ExitMaintenance(ctx context.Context, r *pb.ExitMaintenanceRequest) (*pb.ExitMaintenanceResponse, error) {
	m, err := s.mark(ctx, r.GetWhy())
	if err != nil {
		return nil, err
	}
	resp := &pb.ExitMaintenanceResponse{}
	err = s.applyRetry(ctx, func(snap *pool.Snapshot) (pool.Change, error) {
		srv, err := findServer(snap, r.GetServer())
		if err != nil {
			return pool.Change{}, err
		}
		resp.ComingBack = nil
		for id, h := range snap.Homes.All() {
			c, _ := snap.Claims.Get(id)
			if vm, ok := snap.VMs.Get(id); ok && h.Server == srv.ID && c.Server != srv.ID && snap.Config.ReturnHome && vm.Movable && vm.Desired == pool.DesiredRunning {
				resp.ComingBack = append(resp.ComingBack, string(id))
			}
		}
		if !srv.Maintenance {
			return pool.Change{}, nil
		}
		if want := r.GetPlanRevision(); want != 0 {
			if err := stillThatPlan(want, plan.PreviewReturn(snap, srv.ID, s.cfg.Clock.Wall()).Revision); err != nil {
				return pool.Change{}, err
			}
		}
		srv.Maintenance, srv.RestartUnmovable, srv.MaintenanceMark = false, false, pool.Mark{}
		c := pool.Change{Servers: []pool.Server{srv},
			Events: []pool.Event{s.event("MAINTENANCE", m, srv.ID, "", "%s ended the maintenance of %s", m.By, srv.ID)}}
		if op, ok := runningOn(snap, srv.ID, pool.OperationEvacuate); ok {
			c.Operations = callOff(snap, op.ID)
		}
		return c, nil
	})
	if err != nil {
		return nil, err
	}
	resp.Server, err = s.serverView(pool.ServerID(r.GetServer()))
	return resp, err
}

// serverOperation builds the operation of a request about a whole server.
func (s *Server) serverOperation(kind pool.OperationKind, server, requestID string, m pool.Mark) pool.Operation {
	return pool.Operation{ID: s.operationID(requestID), Kind: kind, Server: pool.ServerID(server), Outcome: pool.OutcomeRunning,
		Phase: "requested", Requested: m, RequestID: requestID}
}

// findForOperation finds the server of an operation that is to be created; repeated: the same request made it before.
func findForOperation(snap *pool.Snapshot, op pool.Operation) (srv pool.Server, repeated bool, err error) {
	if old, ok := snap.Operations.Get(op.ID); ok {
		if old.Kind != op.Kind || old.Server != op.Server {
			return srv, false, fmt.Errorf("request ID %s was used to %v %s%s; a new request needs a new one: %w", clean(op.RequestID), old.Kind, old.VM, old.Server, pool.ErrExists)
		}
		return srv, true, nil
	}
	srv, err = findServer(snap, string(op.Server))
	return srv, false, err
}

// runningOn returns the running operation of a kind on a whole server.
func runningOn(snap *pool.Snapshot, server pool.ServerID, kind pool.OperationKind) (pool.Operation, bool) {
	for _, op := range snap.Operations.All() {
		if op.Kind == kind && op.Server == server && op.VM == "" && op.Outcome == pool.OutcomeRunning {
			return op, true
		}
	}
	return pool.Operation{}, false
}

// stopArrivals asks the moves towards a server to end; what has arrived by then leaves again.
func stopArrivals(snap *pool.Snapshot, server pool.ServerID) []pool.Operation {
	var out []pool.Operation
	for _, op := range snap.Operations.All() {
		if op.Kind == pool.OperationMigrate && op.Server == server && op.Outcome == pool.OutcomeRunning && !op.Cancel {
			op.Cancel = true
			out = append(out, op)
		}
	}
	return out
}

// callOff asks the parts of an operation that have not begun to end.
func callOff(snap *pool.Snapshot, parent pool.OperationID) []pool.Operation {
	var out []pool.Operation
	for _, op := range snap.Operations.All() {
		c, _ := snap.Claims.Get(op.VM)
		if op.Parent == parent && op.Outcome == pool.OutcomeRunning && !op.Cancel && c.Phase == pool.PhaseHeld {
			op.Cancel = true
			out = append(out, op)
		}
	}
	return out
}
