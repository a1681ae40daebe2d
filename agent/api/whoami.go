package api

import (
	"context"
	"slices"

	"github.com/holdfast-ha/holdfast/pkg/rpc"
	pb "github.com/holdfast-ha/holdfast/proto/holdfast/v1"
)

// WhoAmI says who the caller is and what it may do.
func (s *Server) WhoAmI(ctx context.Context, _ *pb.WhoAmIRequest) (*pb.WhoAmIResponse, error) {
	id := rpc.IdentityFrom(ctx)
	permitted := rpc.Permitted(id.Role)
	return &pb.WhoAmIResponse{
		Name: id.Name, Role: string(id.Role), Permitted: permitted, ReadOnly: !slices.ContainsFunc(permitted, func(m string) bool { return !rpc.IsRead(m) }),
	}, nil
}
