package mesh

import (
	"context"
	"fmt"

	"github.com/holdfast-ha/holdfast/pkg/pool"
	pb "github.com/holdfast-ha/holdfast/proto/holdfast/v1"
)

// Authority is this server's side of the exchange of the pool's CA. Safe for concurrent use.
type Authority interface {
	// Change does one step, or none, and says how this server stands.
	Change(ctx context.Context, r *pb.ChangeAuthorityRequest) (*pb.ChangeAuthorityResponse, error)
}

// UseAuthority makes the server answer for a. Call it before it serves.
func (s *Server) UseAuthority(a Authority) { s.authority = a }

// ChangeAuthority does one step of the exchange of the pool's CA on this server.
func (s *Server) ChangeAuthority(ctx context.Context, r *pb.ChangeAuthorityRequest) (*pb.ChangeAuthorityResponse, error) {
	if s.authority == nil {
		return nil, fmt.Errorf("%s has no CA: %w", s.server, pool.ErrUnavailable)
	}
	return s.authority.Change(ctx, r)
}
