package main

import (
	"context"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"github.com/holdfast-ha/holdfast/pkg/clock"
)

type fakeRoles struct{ reaches, leads bool }

func (f *fakeRoles) Reachable() bool { return f.reaches }
func (f *fakeRoles) Leads() bool     { return f.leads }

type healthStream struct {
	grpc.ServerStream
	ctx  context.Context
	sent chan healthpb.HealthCheckResponse_ServingStatus
}

func (s healthStream) Context() context.Context { return s.ctx }

func (s healthStream) Send(m *healthpb.HealthCheckResponse) error {
	s.sent <- m.GetStatus()
	return nil
}

func TestHealthIsToldByRole(t *testing.T) {
	const serving, not = healthpb.HealthCheckResponse_SERVING, healthpb.HealthCheckResponse_NOT_SERVING
	f := &fakeRoles{reaches: true}
	h := roleHealth{f, clock.Real()}
	for service, want := range map[string]healthpb.HealthCheckResponse_ServingStatus{"": serving, "holdfast.agent": serving, "holdfast.leader": not} {
		r, err := h.Check(t.Context(), &healthpb.HealthCheckRequest{Service: service})
		if err != nil || r.GetStatus() != want {
			t.Errorf("%q: %v, %v; want %v", service, r.GetStatus(), err, want)
		}
	}
	if _, err := h.Check(t.Context(), &healthpb.HealthCheckRequest{Service: "holdfast.king"}); status.Code(err) != codes.NotFound {
		t.Errorf("a role that there is not: %v", err)
	}
	all, err := h.List(t.Context(), nil)
	if err != nil || len(all.GetStatuses()) != 3 {
		t.Errorf("list: %v, %v", all, err)
	}
	f.reaches = false
	if r, err := h.Check(t.Context(), &healthpb.HealthCheckRequest{Service: "holdfast.agent"}); err != nil || r.GetStatus() != not {
		t.Errorf("without etcd: %v, %v", r.GetStatus(), err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	st := healthStream{ctx: ctx, sent: make(chan healthpb.HealthCheckResponse_ServingStatus, 1)}
	ended := make(chan error, 1)
	go func() { ended <- h.Watch(&healthpb.HealthCheckRequest{Service: "holdfast.leader"}, st) }()
	if s := <-st.sent; s != not {
		t.Errorf("a watch begins with %v", s)
	}
	cancel()
	if err := <-ended; err == nil {
		t.Error("a watch ended without a reason")
	}
}
