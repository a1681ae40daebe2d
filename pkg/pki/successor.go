package pki

import (
	"bytes"
	"crypto/rand"
	"crypto/x509"
	"fmt"
	"slices"
	"time"
)

// Introduce returns next as this CA's successor: trusted with it is a second certificate of next's key, signed by this
// CA. Whoever trusts this CA alone accepts what next signs, as long as next's own certificates are shown with that one.
func (a *Authority) Introduce(next *Authority, now time.Time) (*Authority, error) {
	serial, err := newSerial()
	if err != nil {
		return nil, err
	}
	t := &x509.Certificate{
		SerialNumber: serial, Subject: next.Cert.Subject, AuthorityKeyId: a.Cert.SubjectKeyId, NotBefore: now.Add(-backdate), NotAfter: earlier(next.Cert.NotAfter, a.Cert.NotAfter),
		KeyUsage: next.Cert.KeyUsage, BasicConstraintsValid: true, IsCA: true, MaxPathLenZero: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, t, a.Cert, next.Cert.PublicKey, a.key)
	if err != nil {
		return nil, fmt.Errorf("sign the next CA: %w", err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("sign the next CA: %w", err)
	}
	return next.Trusting(cert), nil
}

// chain is what is shown behind a certificate: this CA, and how the one before it introduces it.
func (a *Authority) chain() []byte {
	out := encodeCert(a.Cert.Raw)
	for _, c := range a.others {
		if PinOf(c) == a.Pin() {
			out = append(out, encodeCert(c.Raw)...)
		}
	}
	return out
}

// Alone returns the same CA with nothing trusted beside it.
func (a *Authority) Alone() *Authority { return &Authority{Cert: a.Cert, key: a.key} }

// Without returns the same CA without those of that fingerprint among the others that are trusted.
func (a *Authority) Without(pin string) *Authority {
	b := &Authority{Cert: a.Cert, key: a.key}
	b.others = slices.DeleteFunc(slices.Clone(a.others), func(c *x509.Certificate) bool { return PinOf(c) == pin })
	return b
}

// Introducing reports whether this CA can introduce a successor: one made before successors were thought of cannot, and
// who trusts it alone must learn of the next one before that signs.
func (a *Authority) Introducing() bool { return a.Cert.MaxPathLen != 0 }

// Pins returns the fingerprints of certificates, each once, sorted.
func Pins(certs []*x509.Certificate) []string {
	var out []string
	for _, c := range certs {
		out = append(out, PinOf(c))
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// Introduced returns the fingerprints of the CAs that another one introduces among certs, sorted.
func Introduced(certs []*x509.Certificate) []string {
	var out []*x509.Certificate
	for _, c := range certs {
		if len(c.AuthorityKeyId) > 0 && !bytes.Equal(c.AuthorityKeyId, c.SubjectKeyId) {
			out = append(out, c)
		}
	}
	return Pins(out)
}
