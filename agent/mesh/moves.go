package mesh

import (
	"context"
	"fmt"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/holdfast-ha/holdfast/agent/local"
	"github.com/holdfast-ha/holdfast/pkg/pool"
	"github.com/holdfast-ha/holdfast/pkg/rpc"
	pb "github.com/holdfast-ha/holdfast/proto/holdfast/v1"
)

// PrepareIncoming consents to taking a copy in, and names the directory of its sockets.
func (s *Server) PrepareIncoming(ctx context.Context, r *pb.PrepareIncomingRequest) (*pb.PrepareIncomingResponse, error) {
	from, err := caller(ctx)
	if err != nil {
		return nil, err
	}
	if s.ends == nil {
		return nil, fmt.Errorf("%s takes no live migrations: %w", s.server, pool.ErrUnavailable)
	}
	op, vm := pool.OperationID(r.GetOperation()), pool.VMID(r.GetVm())
	if err := s.gate.Admitted(ctx, from, op, vm); err != nil {
		return nil, err
	}
	if err := s.host.AdmitIncoming(ctx, op, vm, pool.Epoch(r.GetEpoch())); err != nil {
		return nil, err
	}
	dir, err := s.ends.Expect(ctx, op, vm)
	if err != nil {
		return nil, err
	}
	return &pb.PrepareIncomingResponse{Directory: dir}, nil
}

// ConfirmIncoming says how a copy stands.
func (s *Server) ConfirmIncoming(ctx context.Context, r *pb.ConfirmIncomingRequest) (*pb.ConfirmIncomingResponse, error) {
	c, err := s.host.Incoming(ctx, pool.OperationID(r.GetOperation()), pool.VMID(r.GetVm()), pool.Session(r.GetSession()))
	if err != nil {
		return nil, err
	}
	resp := &pb.ConfirmIncomingResponse{Arrived: c.Arrived, Held: c.Held}
	if c.Watchdog > 0 {
		resp.Watchdog = durationpb.New(c.Watchdog)
	}
	return resp, nil
}

// Moves is how this server's agent talks to the destinations of its VMs. Create it with NewMoves; safe for concurrent
// use.
type Moves struct {
	peers *Peers
	ways  *Ways
}

var _ local.Peers = (*Moves)(nil)

// NewMoves returns Moves over the mesh of peers.
func NewMoves(peers *Peers, ways *Ways) *Moves { return &Moves{peers, ways} }

// Prepare implements local.Peers.
func (m *Moves) Prepare(ctx context.Context, to pool.ServerID, op pool.OperationID, vm pool.VMID, epoch pool.Epoch) (local.Link, error) {
	c, err := m.peers.mesh(to)
	if err != nil {
		return local.Link{}, err
	}
	r, err := c.PrepareIncoming(ctx, &pb.PrepareIncomingRequest{Operation: string(op), Vm: string(vm), Epoch: int64(epoch)})
	if err != nil {
		return local.Link{}, rpc.FromStatus(err)
	}
	s, err := m.ways.Open(ctx, to, op, vm, r.GetDirectory())
	if err != nil {
		return local.Link{}, err
	}
	return local.Link{Libvirt: s.Libvirt, Stream: s.Stream}, nil
}

// ConfirmIncoming implements local.Peers.
func (m *Moves) ConfirmIncoming(ctx context.Context, to pool.ServerID, op pool.OperationID, vm pool.VMID, session pool.Session) (local.Confirmed, error) {
	c, err := m.peers.mesh(to)
	if err != nil {
		return local.Confirmed{}, err
	}
	r, err := c.ConfirmIncoming(ctx, &pb.ConfirmIncomingRequest{Operation: string(op), Vm: string(vm), Session: int64(session)})
	if err != nil {
		return local.Confirmed{}, rpc.FromStatus(err)
	}
	return local.Confirmed{Arrived: r.GetArrived(), Held: r.GetHeld(), Watchdog: r.GetWatchdog().AsDuration()}, nil
}

// Close implements local.Peers.
func (m *Moves) Close(op pool.OperationID) { m.ways.Close(op) }
