package metrics

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"google.golang.org/grpc"
	"google.golang.org/grpc/status"

	"github.com/holdfast-ha/holdfast/pkg/clock"
	"github.com/holdfast-ha/holdfast/pkg/pool"
)

// Source is the agent that the figures are about. Safe for concurrent use.
type Source interface {
	// Snapshot returns the pool as the agent sees it; its revision is 0 before the first.
	Snapshot() *pool.Snapshot
	// StopTime is when this server's protected VMs are stopped unless the session is renewed before; ok is false
	// without a session.
	StopTime() (at pool.Instant, ok bool)
	// GuardAnswers reports whether the guard answered last.
	GuardAnswers() bool
	// Leads reports whether this agent leads.
	Leads() bool
	// Reachable reports whether etcd answered lately.
	Reachable() bool
}

// Config assembles Metrics. All fields are required.
type Config struct {
	Server  pool.ServerID
	Version string
	Clock   clock.Clock
	Source  func() Source
}

// Metrics is what is exported. Create it with New.
type Metrics struct {
	cfg      Config
	registry *prometheus.Registry

	calls    *prometheus.CounterVec
	latency  *prometheus.HistogramVec
	inFlight prometheus.Gauge
	etcd     *prometheus.HistogramVec
	etcdErrs *prometheus.CounterVec
}

// etcdBuckets, callBuckets: in seconds, from a fast local disk to a request that times out.
var (
	etcdBuckets = []float64{.001, .002, .005, .01, .02, .05, .1, .2, .5, 1, 2}
	callBuckets = []float64{.001, .005, .02, .1, .5, 2, 10}
)

// New returns metrics that count nothing yet.
func New(cfg Config) *Metrics {
	m := &Metrics{
		cfg: cfg, registry: prometheus.NewRegistry(),
		calls: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "holdfast_grpc_requests_total",
			Help: "Calls of the API that have ended, by method and status code; streams count when they end."}, []string{"method", "code"}),
		latency: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "holdfast_grpc_request_seconds",
			Help: "How long calls of the API took, streams apart.", Buckets: callBuckets}, []string{"method"}),
		inFlight: prometheus.NewGauge(prometheus.GaugeOpts{Name: "holdfast_grpc_in_flight", Help: "Calls of the API under way, streams included."}),
		etcd: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "holdfast_etcd_request_seconds",
			Help: "How long etcd took to answer this agent, by kind of request; failed ones too.", Buckets: etcdBuckets}, []string{"request"}),
		etcdErrs: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "holdfast_etcd_errors_total",
			Help: "Requests that etcd did not answer or refused, by kind of request."}, []string{"request"}),
	}
	m.registry.MustRegister(m.calls, m.latency, m.inFlight, m.etcd, m.etcdErrs, newState(cfg), newFailovers(cfg),
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	for _, request := range []string{"get", "list", "txn", "grant", "keepalive", "revoke"} {
		m.etcdErrs.WithLabelValues(request)
	}
	return m
}

// ServerOptions count the calls of a gRPC server. They come before others, so that they see final status codes.
func (m *Metrics) ServerOptions() []grpc.ServerOption {
	return []grpc.ServerOption{grpc.ChainUnaryInterceptor(m.unary), grpc.ChainStreamInterceptor(m.stream)}
}

func (m *Metrics) unary(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	m.inFlight.Inc()
	begun := m.cfg.Clock.Now()
	resp, err := handler(ctx, req)
	m.inFlight.Dec()
	m.latency.WithLabelValues(info.FullMethod).Observe(m.since(begun))
	m.calls.WithLabelValues(info.FullMethod, status.Code(err).String()).Inc()
	return resp, err
}

func (m *Metrics) stream(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
	m.inFlight.Inc()
	err := handler(srv, ss)
	m.inFlight.Dec()
	m.calls.WithLabelValues(info.FullMethod, status.Code(err).String()).Inc()
	return err
}

func (m *Metrics) since(begun pool.Instant) float64 { return m.cfg.Clock.Now().Sub(begun).Seconds() }

// asked notes one request to etcd.
func (m *Metrics) asked(request string, begun pool.Instant, err error) {
	m.etcd.WithLabelValues(request).Observe(m.since(begun))
	if err != nil {
		m.etcdErrs.WithLabelValues(request).Inc()
	}
}

func seconds(d time.Duration) float64 { return d.Seconds() }
