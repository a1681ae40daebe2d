package api

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/holdfast-ha/holdfast/pkg/pool"
	"github.com/holdfast-ha/holdfast/pkg/wire"
	pb "github.com/holdfast-ha/holdfast/proto/holdfast/v1"
)

// SetInboundLock switches a server's inbound lock.
func (s *Server) SetInboundLock(ctx context.Context, r *pb.SetInboundLockRequest) (*pb.SetInboundLockResponse, error) {
	m, err := s.mark(ctx, r.GetWhy())
	if err != nil {
		return nil, err
	}
	err = s.applyRetry(ctx, func(snap *pool.Snapshot) (pool.Change, error) {
		srv, err := findServer(snap, r.GetServer())
		if err != nil || srv.InboundLock == r.GetOn() {
			return pool.Change{}, err
		}
		srv.InboundLock, srv.InboundLockMark = r.GetOn(), m
		return pool.Change{Servers: []pool.Server{srv},
			Events: []pool.Event{s.event("INBOUND_LOCK", m, srv.ID, "", "%s switched the inbound lock of %s %s", m.By, srv.ID, onOff(r.GetOn()))}}, nil
	})
	if err != nil {
		return nil, err
	}
	view, err := s.serverView(pool.ServerID(r.GetServer()))
	return &pb.SetInboundLockResponse{Server: view}, err
}

// ConfirmFenced records an operator's word that a lost server is off.
func (s *Server) ConfirmFenced(ctx context.Context, r *pb.ConfirmFencedRequest) (*pb.ConfirmFencedResponse, error) {
	m, err := s.mark(ctx, r.GetWhy())
	if err != nil {
		return nil, err
	}
	err = s.applyRetry(ctx, func(snap *pool.Snapshot) (pool.Change, error) {
		srv, err := findServer(snap, r.GetServer())
		if err != nil {
			return pool.Change{}, err
		}
		if r.GetTypedName() != r.GetServer() {
			return pool.Change{}, pool.Refuse("NAME_NOT_TYPED", "type the server's name once more",
				"confirming that %s is off needs its name in typed_name; a server that still runs its VMs then corrupts their disks", srv.ID)
		}
		if snap.Members.Has(srv.ID) {
			return pool.Change{}, pool.Refuse("SERVER_LIVES", "shut it down first, or wait until it is lost",
				"%s is a live member of the pool", srv.ID)
		}
		fence, _ := snap.Fences.Get(srv.ID)
		fence.Server, fence.Session, fence.Proof = srv.ID, pool.Session(snap.Revision), pool.ProofConfirmed
		fence.At, fence.By = m.At, m.By
		fence.Evidence = fmt.Sprintf("%s confirmed that it is off", m.By)
		change := pool.Change{Fences: []pool.Fence{fence}, MembersAbsent: []pool.ServerID{srv.ID},
			Events: []pool.Event{s.event("SERVER_CONFIRMED_FENCED", m, srv.ID, "", "%s confirmed by hand that %s is off", m.By, srv.ID)}}
		if others, orphaned := orphans(snap, srv.ID); orphaned {
			roster := snap.Roster
			change.RemoveRoster, change.MembersAbsent = &roster, append(change.MembersAbsent, others...)
			change.Events = append(change.Events, s.event("ROSTER_REMOVED", m, "", "",
				"every server that the roster lets lead is off or gone, %s was the last; those that are here may lead again", srv.ID))
		}
		return change, nil
	})
	if err != nil {
		return nil, err
	}
	view, err := s.serverView(pool.ServerID(r.GetServer()))
	return &pb.ConfirmFencedResponse{Server: view}, err
}

// orphans reports whether nobody is left who may lead once last is known to be off: every other server that the roster
// puts in force is gone from the pool, or is no member and proven to be off, by its power switch or by somebody's word.
// others are those. Source: docs/safety.md, "Failsafe".
func orphans(snap *pool.Snapshot, last pool.ServerID) (others []pool.ServerID, orphaned bool) {
	if !snap.Roster.InForce(last) {
		return nil, false
	}
	for _, id := range slices.Sorted(maps.Keys(snap.Roster.Standing)) {
		if id == last || !snap.Roster.InForce(id) {
			continue
		}
		fence, _ := snap.Fences.Get(id)
		off := fence.Proof == pool.ProofConfirmed || fence.Proof == pool.ProofPower
		if snap.Members.Has(id) || snap.Servers.Has(id) && !off {
			return nil, false
		}
		others = append(others, id)
	}
	return others, true
}

// UpdateServer sets fence devices and labels.
func (s *Server) UpdateServer(ctx context.Context, r *pb.UpdateServerRequest) (*pb.UpdateServerResponse, error) {
	m, err := s.mark(ctx, "")
	if err != nil {
		return nil, err
	}
	err = s.applyRetry(ctx, func(snap *pool.Snapshot) (pool.Change, error) {
		srv, err := findServer(snap, r.GetServer())
		if err != nil {
			return pool.Change{}, err
		}
		if r.GetSetFence() {
			parsed, err := wire.ParseServer(&pb.Server{Id: string(srv.ID), Fence: r.GetFence()})
			if err != nil {
				return pool.Change{}, fmt.Errorf("fence devices of %s: %w", srv.ID, err)
			}
			if err := pool.CheckFence(parsed.Fence); err != nil {
				return pool.Change{}, fmt.Errorf("fence devices of %s: %w", srv.ID, err)
			}
			srv.Fence = parsed.Fence
		}
		srv.Labels, err = withLabels(srv.Labels, r.GetLabels())
		if err != nil {
			return pool.Change{}, err
		}
		return pool.Change{Servers: []pool.Server{srv},
			Events: []pool.Event{s.event("SERVER_SET", m, srv.ID, "", "%s changed the settings of %s", m.By, srv.ID)}}, nil
	})
	if err != nil {
		return nil, err
	}
	view, err := s.serverView(pool.ServerID(r.GetServer()))
	return &pb.UpdateServerResponse{Server: view}, err
}

func withLabels(old, set map[string]string) (map[string]string, error) {
	out := map[string]string{}
	for k, v := range old {
		out[k] = v
	}
	for k, v := range set {
		if err := pool.CheckName("label", k); err != nil {
			return nil, err
		}
		if v == "" {
			delete(out, k)
			continue
		}
		out[k] = clean(v)
	}
	return out, nil
}

// RemoveServer takes a server out of the pool. It must hold no VM, or they leave first. Its agent, if it lives, gives
// its session back and ends.
func (s *Server) RemoveServer(ctx context.Context, r *pb.RemoveServerRequest) (*pb.RemoveServerResponse, error) {
	if r.GetEvacuate() {
		return s.removeAfterEvacuation(ctx, r)
	}
	m, err := s.mark(ctx, r.GetWhy())
	if err != nil {
		return nil, err
	}
	err = s.applyRetry(ctx, func(snap *pool.Snapshot) (pool.Change, error) {
		srv, err := findServer(snap, r.GetServer())
		if err != nil {
			return pool.Change{}, err
		}
		if here := claimsOn(snap, srv.ID); len(here) > 0 {
			return pool.Change{}, pool.Refuse("SERVER_HOLDS_VMS", "move or stop them first, or add --evacuate",
				"%s still holds %d VMs: %s", srv.ID, len(here), listed(here))
		}
		if err := mayRemove(snap, srv); err != nil {
			return pool.Change{}, err
		}
		return pool.Change{RemoveServers: []pool.Server{srv}, Revocations: pool.RevokeServer(srv.ID, m),
			Events: []pool.Event{s.event("SERVER_REMOVED", m, srv.ID, "", "%s removed %s from the pool", m.By, srv.ID)}}, nil
	})
	if err != nil {
		return nil, err
	}
	return &pb.RemoveServerResponse{}, nil
}

// claimsOn lists the VMs whose claims name a server, as owner or destination.
func claimsOn(snap *pool.Snapshot, server pool.ServerID) []pool.VMID {
	var out []pool.VMID
	for id, c := range snap.Claims.All() {
		if c.Server == server || c.Incoming != nil && c.Incoming.Server == server {
			out = append(out, id)
		}
	}
	return out
}

// ListServers lists all servers.
func (s *Server) ListServers(_ context.Context, r *pb.ListServersRequest) (*pb.ListServersResponse, error) {
	v, err := s.view()
	if err != nil {
		return nil, err
	}
	all := make([]*pb.ServerView, 0, v.snap.Servers.Len())
	for id := range v.snap.Servers.All() {
		all = append(all, v.server(id))
	}
	page, next, err := selectPage(r, all, func(m *pb.ServerView) string { return m.GetServer().GetId() }, true)
	return &pb.ListServersResponse{Servers: page, NextPageToken: next, Revision: int64(v.snap.Revision)}, err
}

// GetServer returns one server.
func (s *Server) GetServer(_ context.Context, r *pb.GetServerRequest) (*pb.GetServerResponse, error) {
	v, err := s.view()
	if err != nil {
		return nil, err
	}
	if _, err := findServer(v.snap, r.GetServer()); err != nil {
		return nil, err
	}
	server, err := masked(v.server(pool.ServerID(r.GetServer())), r.GetReadMask())
	return &pb.GetServerResponse{Server: server, Revision: int64(v.snap.Revision)}, err
}

func (s *Server) serverView(id pool.ServerID) (*pb.ServerView, error) {
	v, err := s.view()
	if err != nil {
		return nil, err
	}
	return v.server(id), nil
}
