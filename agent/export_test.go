package main

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-ha/holdfast/pkg/pki"
	"github.com/holdfast-ha/holdfast/pkg/pool"
)

func TestWhoScrapesMetricsWithARevokedCertificateIsRefused(t *testing.T) {
	ca, err := pki.NewAuthority("prod", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	pair, err := ca.Issue(pki.Request{Name: "prometheus", Role: pki.RoleViewer}, time.Now(), 0)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := pki.ParseCert(pair.Cert)
	if err != nil {
		t.Fatal(err)
	}
	state := tls.ConnectionState{VerifiedChains: [][]*x509.Certificate{{leaf, ca.Cert}}}
	id, _ := pki.Peer(state)
	snap := &pool.Snapshot{}
	for name, s := range map[string]*pool.Snapshot{"nothing known": nil, "nothing revoked": snap} {
		if err := admitScraper(state, s); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	revocation := pool.Revocation{ID: pool.RevokedSerial(id.Serial)}
	snap.Revocations = snap.Revocations.With(revocation.ID, revocation)
	if err := admitScraper(state, snap); !errors.Is(err, pool.ErrRefused) || !strings.Contains(err.Error(), "viewer prometheus") {
		t.Errorf("revoked: %v", err)
	}
	if err := admitScraper(tls.ConnectionState{}, snap); !errors.Is(err, pool.ErrRefused) {
		t.Errorf("no certificate: %v", err)
	}
}
