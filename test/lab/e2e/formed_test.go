package e2e

import (
	"context"
	"crypto/tls"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
)

func TestServersThatJoinedByTokenFormAPoolWithThreeVotesThatAdmitsNoStranger(t *testing.T) {
	b := prepare(t)
	b.voters() // three of four
	for _, s := range b.l.Servers() {
		out, err := s.Exec(within(t, 10*time.Second), "holdfast", "servers")
		b.must(err)
		for _, other := range b.l.Servers() {
			if !strings.Contains(out, other.Name()) {
				t.Errorf("holdfast servers on %s does not list %s:\n%s", s.Name(), other.Name(), out)
			}
		}
	}
	first := b.l.Servers()[0]
	if _, err := first.Exec(within(t, 20*time.Second), "holdfast-agent", "init", "--pool", "other"); err == nil {
		t.Error("a server that belongs to a pool is made the first of another")
	} else if !strings.Contains(err.Error(), "already") {
		t.Errorf("init on a server of a pool: %v; want the reason", err)
	}
	stranger, err := clientv3.New(clientv3.Config{Endpoints: []string{"https://" + first.Address() + ":2379"}, Logger: zap.NewNop(),
		TLS: &tls.Config{MinVersion: tls.VersionTLS13, InsecureSkipVerify: true}}) //nolint:gosec // a stranger does not care
	b.must(err)
	defer func() { _ = stranger.Close() }()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	if _, err := stranger.Get(ctx, "/holdfast/", clientv3.WithPrefix()); err == nil {
		t.Error("etcd gives the pool's data to somebody without a certificate")
	}
}
