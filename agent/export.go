package main

import (
	"context"
	"crypto/tls"
	"fmt"
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
	admit   func(tls.ConnectionState) error
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
	e.admit = func(state tls.ConnectionState) error {
		if a := agent(); a != nil {
			return admitScraper(state, a.Snapshot())
		}
		return admitScraper(state, nil)
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
	return e.metrics.Serve(ctx, e.cfg.Address, e.tls, e.admit, e.log)
}

// admitScraper refuses a certificate that was revoked, as the API does.
func admitScraper(state tls.ConnectionState, snap *pool.Snapshot) error {
	id, ok := pki.Peer(state)
	if !ok {
		return fmt.Errorf("metrics are for certificates of the pool: %w", pool.ErrRefused)
	}
	if snap != nil && snap.Revokes(id.Serial, id.Role.Machine(), id.Name, id.Issued) {
		return fmt.Errorf("the certificate of %s (serial number %s) was revoked: %w", id, id.Serial, pool.ErrRefused)
	}
	return nil
}
