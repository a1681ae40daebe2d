package mesh

import (
	"context"
	"fmt"

	"google.golang.org/grpc"

	"github.com/holdfast-ha/holdfast/pkg/pool"
	pb "github.com/holdfast-ha/holdfast/proto/holdfast/v1"
)

// Life is this server's place in the lives of the pool's data. Safe for concurrent use.
type Life interface {
	// Standing says how this server stands to the pool's data, and which VMs are here; brief leaves the VMs out.
	Standing(ctx context.Context, brief bool) *pb.LifeStanding
	// Copy returns this server's copy of the pool's state as a document; nil if there is none.
	Copy() ([]byte, error)
	// Adopt leaves the life that this server belongs to for another one, for good. When it returns nil that is on disk,
	// and the agent is about to start anew.
	Adopt(ctx context.Context, r *pb.AdoptLifeRequest) error
}

// UseLife makes the server answer for l. Call it before it serves.
func (s *Server) UseLife(l Life) { s.life = l }

// partSize is how much of a copy goes into one message.
const partSize = 256 << 10

// GetSavedState sends how this server stands, then its copy of the pool's state.
func (s *Server) GetSavedState(r *pb.GetSavedStateRequest, stream grpc.ServerStreamingServer[pb.GetSavedStateResponse]) error {
	if s.life == nil {
		return fmt.Errorf("%s keeps no copy of the pool's state: %w", s.server, pool.ErrUnavailable)
	}
	if err := stream.Send(&pb.GetSavedStateResponse{Standing: s.life.Standing(stream.Context(), r.GetBrief())}); err != nil || r.GetBrief() {
		return err
	}
	data, err := s.life.Copy()
	if err != nil {
		return err
	}
	for len(data) > 0 {
		n := min(partSize, len(data))
		if err := stream.Send(&pb.GetSavedStateResponse{Part: data[:n]}); err != nil {
			return err
		}
		data = data[n:]
	}
	return nil
}

// AdoptLife has this server leave its life of the pool's data for another one.
func (s *Server) AdoptLife(ctx context.Context, r *pb.AdoptLifeRequest) (*pb.AdoptLifeResponse, error) {
	if s.life == nil {
		return nil, fmt.Errorf("%s cannot leave its life of the pool: %w", s.server, pool.ErrUnavailable)
	}
	if err := s.life.Adopt(ctx, r); err != nil {
		return nil, err
	}
	return &pb.AdoptLifeResponse{}, nil
}
