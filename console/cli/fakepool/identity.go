package fakepool

import (
	"context"

	pb "github.com/holdfast-ha/holdfast/proto/holdfast/v1"
)

// CreateLogin gives a token that is none.
func (a *Agent) CreateLogin(context.Context, *pb.CreateLoginRequest) (*pb.CreateLoginResponse, error) {
	return &pb.CreateLoginResponse{Token: "hf1-token"}, nil
}

// RevokeCertificate says that it revoked what was named.
func (a *Agent) RevokeCertificate(_ context.Context, r *pb.RevokeCertificateRequest) (*pb.RevokeCertificateResponse, error) {
	return &pb.RevokeCertificateResponse{Revocations: []*pb.Revocation{{Id: "operator-" + r.GetOperator()}}}, nil
}

// ListRevocations lists nothing.
func (a *Agent) ListRevocations(context.Context, *pb.ListRevocationsRequest) (*pb.ListRevocationsResponse, error) {
	return &pb.ListRevocationsResponse{}, nil
}
