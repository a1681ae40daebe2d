package main

import (
	"context"
	"crypto/tls"
	"log/slog"

	"google.golang.org/grpc"

	"github.com/holdfast-ha/holdfast/agent/app"
	"github.com/holdfast-ha/holdfast/agent/metrics"
	"github.com/holdfast-ha/holdfast/pkg/clock"
	"github.com/holdfast-ha/holdfast/pkg/config"
	"github.com/holdfast-ha/holdfast/pkg/kv"
	"github.com/holdfast-ha/holdfast/pkg/pki"
	"github.com/holdfast-ha/holdfast/pkg/pool"
	"github.com/holdfast-ha/holdfast/pkg/version"
)

// export is what Prometheus may scrape; nothing is counted unless it is configured.
type export struct {
	cfg     config.Metrics
	tls     *tls.Config
	metrics *metrics.Metrics // nil: not configured
	log     *slog.Logger
}

func newExport(c config.Config, id *pki.Store, clk clock.Clock, log *slog.Logger, agent func() *app.Agent) *export {
	e := &export{cfg: c.Metrics, log: log}
	if c.Metrics.Address == "" {
		return e
	}
	if c.Metrics.TLS {
		e.tls = overHTTP(id.Server(false))
	}
	e.metrics = metrics.New(metrics.Config{Server: pool.ServerID(c.Server), Version: version.Version, Clock: clk, Source: func() metrics.Source {
		if a := agent(); a != nil {
			return a
		}
		return nil
	}})
	return e
}

// overHTTP makes the settings of a gRPC server those of a plain HTTP one.
func overHTTP(c *tls.Config) *tls.Config {
	get := c.GetConfigForClient
	return &tls.Config{MinVersion: tls.VersionTLS13, GetConfigForClient: func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		own, err := get(hello)
		if err != nil {
			return nil, err
		}
		own.NextProtos = []string{"http/1.1"}
		return own, nil
	}}
}

func (e *export) store(edge kv.Store) kv.Store {
	if e.metrics == nil {
		return edge
	}
	return e.metrics.Store(edge)
}

func (e *export) leases(edge kv.Leases) kv.Leases {
	if e.metrics == nil {
		return edge
	}
	return e.metrics.Leases(edge)
}

func (e *export) serverOptions() []grpc.ServerOption {
	if e.metrics == nil {
		return nil
	}
	return e.metrics.ServerOptions()
}

// run serves until ctx ends.
func (e *export) run(ctx context.Context) error {
	if e.metrics == nil {
		<-ctx.Done()
		return ctx.Err()
	}
	return e.metrics.Serve(ctx, e.cfg.Address, e.tls, e.log)
}
