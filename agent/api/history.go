package api

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"google.golang.org/grpc"

	"github.com/holdfast-ha/holdfast/pkg/pool"
	"github.com/holdfast-ha/holdfast/pkg/wire"
	pb "github.com/holdfast-ha/holdfast/proto/holdfast/v1"
)

// ListOperations lists operations, oldest first.
func (s *Server) ListOperations(_ context.Context, r *pb.ListOperationsRequest) (*pb.ListOperationsResponse, error) {
	snap, err := s.snapshot()
	if err != nil {
		return nil, err
	}
	var all []*pb.Operation
	for _, op := range operationsByTime(snap) {
		if !r.GetRunningOnly() || op.Outcome == pool.OutcomeRunning {
			all = append(all, wire.Operation(op))
		}
	}
	page, next, err := selectPage(r, all, (*pb.Operation).GetId, false)
	return &pb.ListOperationsResponse{Operations: page, NextPageToken: next, Revision: int64(snap.Revision)}, err
}

func operationsByTime(snap *pool.Snapshot) []pool.Operation {
	ops := make([]pool.Operation, 0, snap.Operations.Len())
	for _, op := range snap.Operations.All() {
		ops = append(ops, op)
	}
	slices.SortStableFunc(ops, func(a, b pool.Operation) int {
		return cmp.Or(a.Requested.At.Compare(b.Requested.At), cmp.Compare(a.ID, b.ID))
	})
	return ops
}

// GetOperation returns one operation.
func (s *Server) GetOperation(_ context.Context, r *pb.GetOperationRequest) (*pb.GetOperationResponse, error) {
	op, err := s.operation(pool.OperationID(r.GetOperation()))
	if err != nil {
		return nil, err
	}
	snap, err := s.snapshot()
	if err != nil {
		return nil, err
	}
	op, err = masked(op, r.GetReadMask())
	return &pb.GetOperationResponse{Operation: op, Revision: int64(snap.Revision)}, err
}

// eventFilter selects events; empty fields match all.
type eventFilter struct {
	server, vm, kind string
	audited          bool
}

func (f eventFilter) matches(e pool.Event) bool {
	return (f.server == "" || f.server == string(e.Server)) && (f.vm == "" || f.vm == string(e.VM)) && (f.kind == "" || f.kind == e.Kind) && (!f.audited || e.Audit != nil)
}

// ListEvents lists events, oldest first.
func (s *Server) ListEvents(_ context.Context, r *pb.ListEventsRequest) (*pb.ListEventsResponse, error) {
	snap, err := s.snapshot()
	if err != nil {
		return nil, err
	}
	if r.GetLimit() < 0 {
		return nil, pool.InField("limit", fmt.Errorf("limit %d: must be 0 (all) or more: %w", r.GetLimit(), pool.ErrInvalid))
	}
	f := eventFilter{r.GetServer(), r.GetVm(), r.GetKind(), r.GetAuditedOnly()}
	var all []*pb.Event
	for _, e := range snap.Events.All() {
		if f.matches(e) {
			all = append(all, wire.Event(e))
		}
	}
	if n := int(r.GetLimit()); n > 0 && len(all) > n {
		all = all[len(all)-n:]
	}
	page, next, err := selectPage(r, all, (*pb.Event).GetId, true)
	return &pb.ListEventsResponse{Events: page, NextPageToken: next, Revision: int64(snap.Revision)}, err
}

// WatchEvents streams events after a known one, then new ones.
func (s *Server) WatchEvents(r *pb.WatchEventsRequest, stream grpc.ServerStreamingServer[pb.WatchEventsResponse]) error {
	snap, err := s.snapshot()
	if err != nil {
		return err
	}
	after := pool.EventID(r.GetAfter())
	switch {
	case after == "":
		after = lastEvent(snap)
	case !snap.Events.Has(after):
		return pool.InField("after", fmt.Errorf("event %s is not kept any more; list events and watch from the last of them: %w", clean(string(after)), pool.ErrGone))
	}
	f := eventFilter{server: r.GetServer(), vm: r.GetVm()}
	sig := s.cfg.Clock.NewSignal()
	defer s.cfg.Pool.Subscribe(sig)()
	ctx := stream.Context()
	for ctx.Err() == nil {
		for id, e := range s.cfg.Pool.Snapshot().Events.From(after) {
			if id == after {
				continue
			}
			after = id
			if !f.matches(e) {
				continue
			}
			if err := stream.Send(&pb.WatchEventsResponse{Event: wire.Event(e)}); err != nil {
				return err
			}
		}
		sig.Wait(ctx, -1)
	}
	return ctx.Err()
}

func lastEvent(snap *pool.Snapshot) pool.EventID {
	id, _ := snap.Events.Last()
	return id
}
