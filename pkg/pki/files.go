package pki

import (
	"crypto/x509"
	"fmt"
	"os"
	"time"

	"github.com/holdfast-ha/holdfast/pkg/statefile"
)

// Files names one identity on disk.
type Files struct {
	CA, Cert, Key string
}

// Save writes an identity, the key first: a certificate on disk always has its key beside it.
func Save(f Files, ca []byte, pair Pair) error {
	for _, w := range []struct {
		path string
		data []byte
	}{{f.Key, pair.Key}, {f.CA, ca}, {f.Cert, pair.Cert}} {
		if err := statefile.Replace(w.path, w.data, 0o600); err != nil {
			return err
		}
	}
	return nil
}

// LoadAuthority reads the pool's CA and its key.
func LoadAuthority(certFile, keyFile string) (*Authority, error) {
	cert, err := os.ReadFile(certFile)
	if err != nil {
		return nil, fmt.Errorf("read CA: %w", err)
	}
	key, err := os.ReadFile(keyFile)
	if err != nil {
		return nil, fmt.Errorf("read CA key: %w", err)
	}
	return ParseAuthority(cert, key)
}

// RenewAt returns when a certificate should be exchanged: when a third of its life is left.
func RenewAt(cert *x509.Certificate) time.Time {
	return cert.NotAfter.Add(-cert.NotAfter.Sub(cert.NotBefore) / 3)
}

// Renew exchanges a machine's key and certificate if they are due at now, or signed by another CA, and reports whether it
// did. Name, role and
// hosts stay as they were. Running processes take the new files up by themselves.
func Renew(f Files, a *Authority, now time.Time) (bool, error) {
	data, err := os.ReadFile(f.Cert)
	if err != nil {
		return false, fmt.Errorf("read certificate: %w", err)
	}
	old, err := ParseCert(data)
	if err != nil {
		return false, fmt.Errorf("%s: %w", f.Cert, err)
	}
	if now.Before(RenewAt(old)) && old.CheckSignatureFrom(a.Cert) == nil {
		return false, nil
	}
	id, err := Of(old)
	if err != nil {
		return false, err
	}
	hosts := old.DNSNames
	for _, ip := range old.IPAddresses {
		hosts = append(hosts, ip.String())
	}
	pair, err := a.Issue(Request{Name: id.Name, Role: id.Role, Hosts: hosts}, now, 0)
	if err != nil {
		return false, err
	}
	trusted, err := a.PEM()
	if err != nil {
		return false, err
	}
	return true, Save(f, trusted.Cert, pair)
}
