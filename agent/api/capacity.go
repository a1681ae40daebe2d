package api

import (
	"context"
	"fmt"

	"github.com/holdfast-ha/holdfast/pkg/plan"
	"github.com/holdfast-ha/holdfast/pkg/pool"
	pb "github.com/holdfast-ha/holdfast/proto/holdfast/v1"
)

// PlanLoss forecasts the loss of servers.
func (s *Server) PlanLoss(_ context.Context, r *pb.PlanLossRequest) (*pb.PlanLossResponse, error) {
	snap, err := s.snapshot()
	if err != nil {
		return nil, err
	}
	if len(r.GetServers()) == 0 {
		return nil, fmt.Errorf("name at least one server: %w", pool.ErrInvalid)
	}
	var lost []pool.ServerID
	for _, name := range r.GetServers() {
		srv, err := findServer(snap, name)
		if err != nil {
			return nil, err
		}
		lost = append(lost, srv.ID)
	}
	losses, after := plan.Lose(snap, lost)
	resp := &pb.PlanLossResponse{Revision: int64(snap.Revision), CapacityNow: capacityMessage(plan.PoolCapacity(snap)), CapacityAfter: capacityMessage(plan.PoolCapacity(after))}
	for _, l := range losses {
		resp.Vms = append(resp.Vms, &pb.PlannedLoss{Vm: string(l.VM.ID), From: string(l.From), To: string(l.To), Outcome: string(l.Fate),
			Reason: l.Why, After: about(l.After), Priority: l.VM.Priority.String(), MemoryBytes: l.VM.MemoryBytes})
	}
	return resp, nil
}

// GetCapacity returns the room that the pool keeps for the loss of servers.
func (s *Server) GetCapacity(_ context.Context, _ *pb.GetCapacityRequest) (*pb.GetCapacityResponse, error) {
	snap, err := s.snapshot()
	if err != nil {
		return nil, err
	}
	return &pb.GetCapacityResponse{Capacity: capacityMessage(plan.PoolCapacity(snap)), Revision: int64(snap.Revision)}, nil
}

func capacityMessage(c plan.Capacity) *pb.Capacity {
	m := &pb.Capacity{Verdict: pb.CapacityVerdict(c.Verdict), ServersAtRisk: names(c.AtRisk), Tolerate: int32(c.Tolerate),
		LookedAt: int32(c.Together), Text: c.Text}
	for _, r := range c.Rows {
		m.Rows = append(m.Rows, &pb.CapacityRow{Server: string(r.Server), HaVms: int32(r.VMs), NeededBytes: r.NeededBytes, LeftBytes: r.LeftBytes,
			Fits: len(r.NoPlace) == 0, NoPlace: names(r.NoPlace)})
	}
	return m
}

func names[T ~string](list []T) []string {
	out := make([]string, len(list))
	for i, v := range list {
		out[i] = string(v)
	}
	return out
}

// admits refuses what would break the pool's promise to keep room for the loss of servers.
func admits(snap *pool.Snapshot, vm pool.VM, what string) error {
	if why := plan.Admits(snap, vm); why != "" {
		return pool.Refuse("NO_ROOM_LEFT", "make room, or promise less: holdfast set pool tolerate=0",
			"%s %s would break the promise to tolerate the loss of %d servers: %s", what, vm.ID, snap.Config.Tolerate, why)
	}
	return nil
}
