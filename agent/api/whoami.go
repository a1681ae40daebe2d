package api

import (
	"context"
	"slices"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/holdfast-ha/holdfast/pkg/rpc"
	pb "github.com/holdfast-ha/holdfast/proto/holdfast/v1"
)

// WhoAmI says who the caller is and what it may do.
func (s *Server) WhoAmI(ctx context.Context, _ *pb.WhoAmIRequest) (*pb.WhoAmIResponse, error) {
	id := rpc.IdentityFrom(ctx)
	permitted := rpc.Permitted(id.Role)
	resp := &pb.WhoAmIResponse{Name: id.Name, Role: string(id.Role), Permitted: permitted, Serial: id.Serial}
	// Whoever may read may also renew its own certificate; that changes nothing in the pool.
	resp.ReadOnly = !slices.ContainsFunc(permitted, func(m string) bool { return !rpc.IsRead(m) && m != pb.IdentityService_RenewCertificate_FullMethodName })
	if !id.Expires.IsZero() {
		resp.Expires = timestamppb.New(id.Expires)
	}
	return resp, nil
}
