package main

import (
	"google.golang.org/grpc"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/reflection"

	"github.com/holdfast-ha/holdfast/agent/app"
	"github.com/holdfast-ha/holdfast/pkg/clock"
	pb "github.com/holdfast-ha/holdfast/proto/holdfast/v1"
)

// registerServices puts an agent's API on a gRPC server, with reflection for grpcurl and the standard health service.
func registerServices(srv *grpc.Server, agent *app.Agent) {
	api := agent.API()
	pb.RegisterPoolServiceServer(srv, api)
	pb.RegisterServerServiceServer(srv, api)
	pb.RegisterVMServiceServer(srv, api)
	pb.RegisterOperationServiceServer(srv, api)
	pb.RegisterEventServiceServer(srv, api)
	pb.RegisterIdentityServiceServer(srv, api)
	pb.RegisterDrillServiceServer(srv, api)
	healthpb.RegisterHealthServer(srv, roleHealth{agent, clock.Real()})
	reflection.RegisterV1(srv)
}
