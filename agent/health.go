package main

import (
	"context"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"github.com/holdfast-ha/holdfast/pkg/clock"
)

// Names under which the standard health service tells how an agent does.
const (
	// healthAgent: this agent knows the pool and reaches etcd, so that it can take any call. "" is the same.
	healthAgent = "holdfast.agent"
	// healthLeader: this agent leads.
	healthLeader = "holdfast.leader"
)

// roleHealth is the standard health service, by role. https://github.com/grpc/grpc/blob/master/doc/health-checking.md
type roleHealth struct {
	agent interface {
		Reachable() bool
		Leads() bool
	}
	clock clock.Clock
}

// healthEvery is how often a watch of health looks: leadership and the reach of etcd change without telling it.
const healthEvery = time.Second

func (h roleHealth) status(service string) (healthpb.HealthCheckResponse_ServingStatus, bool) {
	var well bool
	switch service {
	case "", healthAgent:
		well = h.agent.Reachable()
	case healthLeader:
		well = h.agent.Leads()
	default:
		return healthpb.HealthCheckResponse_SERVICE_UNKNOWN, false
	}
	if well {
		return healthpb.HealthCheckResponse_SERVING, true
	}
	return healthpb.HealthCheckResponse_NOT_SERVING, true
}

// Check tells how one role does now.
func (h roleHealth) Check(_ context.Context, r *healthpb.HealthCheckRequest) (*healthpb.HealthCheckResponse, error) {
	s, ok := h.status(r.GetService())
	if !ok {
		return nil, status.Errorf(codes.NotFound, "no role %q; there are %s and %s", r.GetService(), healthAgent, healthLeader)
	}
	return &healthpb.HealthCheckResponse{Status: s}, nil
}

// List tells how all roles do now.
func (h roleHealth) List(context.Context, *healthpb.HealthListRequest) (*healthpb.HealthListResponse, error) {
	resp := &healthpb.HealthListResponse{Statuses: map[string]*healthpb.HealthCheckResponse{}}
	for _, role := range []string{"", healthAgent, healthLeader} {
		s, _ := h.status(role)
		resp.Statuses[role] = &healthpb.HealthCheckResponse{Status: s}
	}
	return resp, nil
}

// Watch tells how one role does, and again at each change.
func (h roleHealth) Watch(r *healthpb.HealthCheckRequest, stream grpc.ServerStreamingServer[healthpb.HealthCheckResponse]) error {
	last := healthpb.HealthCheckResponse_ServingStatus(-1)
	for {
		if s, _ := h.status(r.GetService()); s != last {
			if err := stream.Send(&healthpb.HealthCheckResponse{Status: s}); err != nil {
				return err
			}
			last = s
		}
		if err := h.clock.Sleep(stream.Context(), healthEvery); err != nil {
			return err
		}
	}
}
