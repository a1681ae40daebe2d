package metrics

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Limits of the HTTP server.
const (
	readLimit  = 5 * time.Second
	writeLimit = 30 * time.Second
	idleLimit  = 2 * time.Minute
	maxHeaders = 16 << 10
	// atOnce bounds scrapes that are answered at the same time.
	atOnce = 4
)

// Handler answers /metrics.
func (m *Metrics) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{MaxRequestsInFlight: atOnce}))
	return mux
}

// Serve answers scrapes on address until ctx ends. tlsConfig nil serves plain HTTP, which only loopback may be used for;
// pkg/config sees to that.
// admit judges the certificate behind each scrape, also on connections that are open; its error is what the scraper
// reads. nil admits everybody whom tlsConfig lets in.
func (m *Metrics) Serve(ctx context.Context, address string, tlsConfig *tls.Config, admit func(tls.ConnectionState) error, log *slog.Logger) error {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return fmt.Errorf("listen for metrics on %s: %w", address, err)
	}
	if tlsConfig != nil {
		listener = tls.NewListener(listener, tlsConfig)
	}
	return m.serveOn(ctx, listener, admit, log)
}

func (m *Metrics) serveOn(ctx context.Context, listener net.Listener, admit func(tls.ConnectionState) error, log *slog.Logger) error {
	srv := &http.Server{Handler: judged(m.Handler(), admit), ReadHeaderTimeout: readLimit, ReadTimeout: readLimit, WriteTimeout: writeLimit,
		IdleTimeout: idleLimit, MaxHeaderBytes: maxHeaders, ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug)}
	ended := context.AfterFunc(ctx, func() { _ = srv.Close() })
	defer ended()
	log.Info("metrics are served", "listen", listener.Addr().String())
	if err := srv.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve metrics: %w", err)
	}
	return ctx.Err()
}

// judged asks admit before each request that came through TLS.
func judged(next http.Handler, admit func(tls.ConnectionState) error) http.Handler {
	if admit == nil {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.TLS != nil {
			if err := admit(*r.TLS); err != nil {
				http.Error(w, err.Error(), http.StatusForbidden)
				return
			}
		}
		next.ServeHTTP(w, r)
	})
}
