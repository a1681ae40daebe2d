package mesh

import (
	"context"
	"fmt"

	"google.golang.org/grpc"

	"github.com/holdfast-ha/holdfast/agent/figures"
	"github.com/holdfast-ha/holdfast/pkg/pool"
	"github.com/holdfast-ha/holdfast/pkg/rpc"
	pb "github.com/holdfast-ha/holdfast/proto/holdfast/v1"
)

var _ figures.Peers = (*Peers)(nil)

// Figures gives each measurement of another server to take until ctx ends or that agent is away.
func (p *Peers) Figures(ctx context.Context, server pool.ServerID, take func(*pb.ServerFigures)) error {
	c, err := p.mesh(server)
	if err != nil {
		return err
	}
	stream, err := c.StreamFigures(ctx, &pb.StreamFiguresRequest{From: string(p.self), Incarnation: p.snapshot().Config.Incarnation})
	if err != nil {
		return fmt.Errorf("figures of %s: %w", server, rpc.FromStatus(err))
	}
	for {
		r, err := stream.Recv()
		if err != nil {
			return fmt.Errorf("figures of %s: %w", server, rpc.FromStatus(err))
		}
		if f := r.GetFigures(); f.GetServer() == string(server) {
			take(f)
		}
	}
}

// UseFigures makes the server answer with m's measurements. Call it before it serves; without, it measures nothing.
func (s *Server) UseFigures(m *figures.Meter) { s.meter = m }

// StreamFigures measures this server while the caller listens.
func (s *Server) StreamFigures(r *pb.StreamFiguresRequest, stream grpc.ServerStreamingServer[pb.StreamFiguresResponse]) error {
	if s.meter == nil {
		return fmt.Errorf("%s measures nothing: %w", s.server, pool.ErrUnavailable)
	}
	if mine := s.incarnation(); r.GetIncarnation() != "" && mine != "" && r.GetIncarnation() != mine {
		return fmt.Errorf("%s belongs to another life of the pool (%s, not %s): %w", s.server, mine, r.GetIncarnation(), pool.ErrRefused)
	}
	return s.meter.Stream(stream.Context(), func(f *pb.ServerFigures) error {
		return stream.Send(&pb.StreamFiguresResponse{Figures: f})
	})
}
