package metrics

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/holdfast-ha/holdfast/pkg/clock"
	"github.com/holdfast-ha/holdfast/pkg/pki"
)

func TestACertificateIsJudgedAtEachScrapeAlsoOnAnOpenConnection(t *testing.T) {
	ca, err := pki.NewAuthority("prod", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	store := func(r pki.Request) *pki.Store {
		pair, err := ca.Issue(r, time.Now(), 0)
		if err != nil {
			t.Fatal(err)
		}
		own, err := ca.PEM()
		if err != nil {
			t.Fatal(err)
		}
		dir := t.TempDir()
		f := pki.Files{CA: filepath.Join(dir, "ca"), Cert: filepath.Join(dir, "crt"), Key: filepath.Join(dir, "key")}
		if err := pki.Save(f, own.Cert, pair); err != nil {
			t.Fatal(err)
		}
		s, err := pki.Open(f)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	server, prometheus := store(pki.Request{Name: "srv-1", Role: pki.RoleServer}), store(pki.Request{Name: "prometheus", Role: pki.RoleViewer})
	serving := server.Server(false)
	get := serving.GetConfigForClient
	serving.GetConfigForClient = func(h *tls.ClientHelloInfo) (*tls.Config, error) {
		c, err := get(h)
		if err == nil {
			c.NextProtos = []string{"http/1.1"}
		}
		return c, err
	}
	raw, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var revoked atomic.Bool
	admit := func(state tls.ConnectionState) error {
		if id, ok := pki.Peer(state); !ok || revoked.Load() && id.Name == "prometheus" {
			return errors.New("the certificate was revoked")
		}
		return nil
	}
	m := New(Config{Server: "srv-1", Version: "1", Clock: clock.Real(), Source: func() Source { return nil }})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- m.serveOn(ctx, tls.NewListener(raw, serving), admit, slog.New(slog.DiscardHandler)) }()
	defer func() {
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("serving ended with %v", err)
		}
	}()
	asking := prometheus.Client(pki.ServerHost)
	asking.NextProtos = []string{"http/1.1"}
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: asking}}
	defer client.CloseIdleConnections()
	scrape := func() (int, string) {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://"+raw.Addr().String()+"/metrics", nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, string(body)
	}
	if code, body := scrape(); code != http.StatusOK || !strings.Contains(body, "holdfast_build_info") {
		t.Fatalf("%d %s", code, body)
	}
	revoked.Store(true)
	if code, body := scrape(); code != http.StatusForbidden || !strings.Contains(body, "revoked") || strings.Contains(body, "holdfast_") {
		t.Errorf("after the revocation: %d %s", code, body)
	}
}
