package api

import (
	"context"
	"errors"

	"github.com/holdfast-ha/holdfast/pkg/pool"
	pb "github.com/holdfast-ha/holdfast/proto/holdfast/v1"
)

// ShutdownServer shuts a server down, or reboots it. Its agent does the rest.
func (s *Server) ShutdownServer(ctx context.Context, r *pb.ShutdownServerRequest) (*pb.ShutdownServerResponse, error) {
	m, err := s.mark(ctx, r.GetWhy())
	if err != nil {
		return nil, err
	}
	op := s.serverOperation(pool.OperationShutdownServer, r.GetServer(), r.GetRequestId(), m)
	stays := s.leavesEtcd(ctx, pool.ServerID(r.GetServer()))
	err = s.applyRetry(ctx, func(snap *pool.Snapshot) (pool.Change, error) {
		srv, repeated, err := findForOperation(snap, op)
		if err != nil || repeated {
			return pool.Change{}, err
		}
		member, up := snap.Members.Get(srv.ID)
		switch {
		case !up:
			return pool.Change{}, pool.Refuse("SERVER_LOST", "", "%s is not up, so its agent cannot shut it down", srv.ID)
		case srv.ShuttingDown:
			return pool.Change{}, pool.Refuse("SHUTTING_DOWN", "", "%s is shutting down already", srv.ID)
		case stays != nil && snap.OthersStay(srv.ID):
			return pool.Change{}, stays
		}
		if err := mayLose(snap, srv.ID, r.GetEvacuate(), word(r.GetReboot())+" "+r.GetServer()); err != nil {
			return pool.Change{}, err
		}
		if err := s.sameEvacuation(snap, srv.ID, false, r.GetPlanRevision()); err != nil {
			return pool.Change{}, err
		}
		srv.ShuttingDown = true
		srv.Shutdown = pool.Shutdown{Policy: pool.ShutdownStop, Reboot: r.GetReboot(), BootID: member.BootID, ByPool: true, Mark: m}
		if r.GetEvacuate() {
			srv.Shutdown.Policy = pool.ShutdownEvacuate
		}
		op.Progress.ItemsTotal = len(claimsOn(snap, srv.ID))
		return pool.Change{Servers: []pool.Server{srv}, Operations: append(stopArrivals(snap, srv.ID), op),
			Events: []pool.Event{s.event("SERVER_SHUTDOWN", m, srv.ID, "", "%s asked to %s %s", m.By, word(r.GetReboot()), srv.ID)}}, nil
	})
	if err != nil {
		return nil, err
	}
	done, err := s.operation(op.ID)
	return &pb.ShutdownServerResponse{Operation: done}, err
}

// leavesEtcd says why the pool's etcd cannot go on without a server; nil if it can, or nobody knows.
func (s *Server) leavesEtcd(ctx context.Context, id pool.ServerID) error {
	if s.cfg.GoesOn == nil {
		return nil
	}
	if _, err := s.cfg.GoesOn(ctx, s.cfg.Pool.Snapshot(), id); errors.Is(err, pool.ErrRefused) {
		return err
	}
	return nil
}

func word(reboot bool) string {
	if reboot {
		return "reboot"
	}
	return "shut down"
}

// mayLose refuses to take a server away while HA VMs run there, unless they leave first.
func mayLose(snap *pool.Snapshot, server pool.ServerID, evacuate bool, what string) error {
	if evacuate {
		return nil
	}
	var ha []pool.VMID
	for _, id := range claimsOn(snap, server) {
		if vm, ok := snap.VMs.Get(id); ok && vm.HA && snap.Config.HA {
			ha = append(ha, id)
		}
	}
	if len(ha) > 0 {
		return pool.Refuse("SERVER_HOLDS_HA_VMS", "add --evacuate to move them first", "refused to %s: %d HA VMs run there: %s", what, len(ha), listed(ha))
	}
	return nil
}

// removeAfterEvacuation has a server emptied and then taken out of the pool.
func (s *Server) removeAfterEvacuation(ctx context.Context, r *pb.RemoveServerRequest) (*pb.RemoveServerResponse, error) {
	m, err := s.mark(ctx, r.GetWhy())
	if err != nil {
		return nil, err
	}
	op := s.serverOperation(pool.OperationRemoveServer, r.GetServer(), r.GetRequestId(), m)
	err = s.applyRetry(ctx, func(snap *pool.Snapshot) (pool.Change, error) {
		srv, repeated, err := findForOperation(snap, op)
		if err != nil || repeated {
			return pool.Change{}, err
		}
		if err := mayRemove(snap, srv); err != nil {
			return pool.Change{}, err
		}
		if was, running := runningOn(snap, srv.ID, pool.OperationRemoveServer); running {
			op.ID = was.ID
			return pool.Change{}, nil
		}
		if err := s.sameEvacuation(snap, srv.ID, r.GetRestartUnmovable(), r.GetPlanRevision()); err != nil {
			return pool.Change{}, err
		}
		srv.Removing, srv.RestartUnmovable = true, r.GetRestartUnmovable()
		op.Progress.ItemsTotal = len(claimsOn(snap, srv.ID))
		return pool.Change{Servers: []pool.Server{srv}, Operations: append(stopArrivals(snap, srv.ID), op),
			Events: []pool.Event{s.event("SERVER_REMOVING", m, srv.ID, "", "%s asked to remove %s from the pool once it is empty", m.By, srv.ID)}}, nil
	})
	if err != nil {
		return nil, err
	}
	done, err := s.operation(op.ID)
	return &pb.RemoveServerResponse{Operation: done}, err
}

// mayRemove refuses what would leave the pool, or a VM's rules, without a server.
func mayRemove(snap *pool.Snapshot, srv pool.Server) error {
	if snap.Servers.Len() == 1 {
		return pool.Refuse("LAST_SERVER", "", "%s is the last server of the pool", srv.ID)
	}
	if snap.Config.HA && snap.Servers.Len() <= 2 {
		return pool.Refuse("TOO_FEW_SERVERS", "holdfast ha off, or add a server first",
			"without %s the pool would have one server, and its HA is on", srv.ID)
	}
	return checkRulesWithout(snap, srv.ID)
}
