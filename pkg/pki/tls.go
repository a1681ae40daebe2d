package pki

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
	"sync"

	"github.com/holdfast-ha/holdfast/pkg/pool"
)

// Store holds one identity in memory and reads its files again when they change. Safe for concurrent use.
type Store struct {
	files Files

	mu     sync.Mutex
	stamp  [3]os.FileInfo
	cert   tls.Certificate
	roots  *x509.CertPool
	latest error
}

// Open reads an identity. It fails if the files are missing, do not belong together, or the CA did not sign.
func Open(f Files) (*Store, error) {
	s := &Store{files: f}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.read(); err != nil {
		return nil, err
	}
	s.stamp = s.stamps()
	return s, nil
}

// Files returns where the identity is on disk.
func (s *Store) Files() Files { return s.files }

// Leaf returns the certificate in use.
func (s *Store) Leaf() *x509.Certificate {
	cert, _ := s.current()
	return cert.Leaf
}

// Identity returns who this store is.
func (s *Store) Identity() (Identity, error) { return Of(s.Leaf()) }

// Err returns why the files last read could not be used; the earlier ones stay in use then.
func (s *Store) Err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.latest
}

// Server returns settings for a listener. With strangers set, clients without a certificate are let in as far as
// TLS is concerned and the caller must refuse them everything but joining; a certificate that the pool's CA did
// not sign is refused in both cases.
func (s *Store) Server(strangers bool) *tls.Config {
	auth := tls.RequireAndVerifyClientCert
	if strangers {
		auth = tls.VerifyClientCertIfGiven
	}
	return &tls.Config{
		MinVersion: tls.VersionTLS13, NextProtos: []string{"h2"},
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
			cert, roots := s.current()
			return &tls.Config{
				MinVersion: tls.VersionTLS13, NextProtos: []string{"h2"}, ClientAuth: auth,
				Certificates: []tls.Certificate{cert}, ClientCAs: roots,
			}, nil
		},
	}
}

// Client returns settings for dialing a server of the pool under the name that its certificate must carry: the
// server's own name, or ServerHost for any of them.
func (s *Store) Client(name string) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13, ServerName: name, NextProtos: []string{"h2"},
		// The roots may be exchanged while the settings are in use, so the check is ours; it is the same.
		InsecureSkipVerify: true,
		VerifyConnection: func(state tls.ConnectionState) error {
			_, roots := s.current()
			return verifyServer(state, roots, name)
		},
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			cert, _ := s.current()
			return &cert, nil
		},
	}
}

// Pinned returns settings for dialing a server of a pool of which only the CA's fingerprint is known (PinOf). The
// server must show a CA with that fingerprint and prove to belong to it, or the dial fails with ErrWrongCA.
func Pinned(pin string) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13, ServerName: ServerHost, NextProtos: []string{"h2"},
		InsecureSkipVerify: true,
		VerifyConnection: func(state tls.ConnectionState) error {
			for _, c := range state.PeerCertificates[1:] {
				if c.IsCA && PinOf(c) == pin {
					roots := x509.NewCertPool()
					roots.AddCert(c)
					return verifyServer(state, roots, ServerHost)
				}
			}
			return fmt.Errorf("%w: it does not belong to the CA %s", ErrWrongCA, pin)
		},
	}
}

// ErrWrongCA says that the other end has no certificate of the expected CA: another pool's server, a server set up anew, or
// somebody in between.
var ErrWrongCA = fmt.Errorf("the server's certificate is not of the expected pool: %w", pool.ErrRefused)

func verifyServer(state tls.ConnectionState, roots *x509.CertPool, name string) error {
	rest := x509.NewCertPool()
	for _, c := range state.PeerCertificates[1:] {
		rest.AddCert(c)
	}
	_, err := state.PeerCertificates[0].Verify(x509.VerifyOptions{
		DNSName: name, Roots: roots, Intermediates: rest, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	})
	if err != nil {
		return fmt.Errorf("server's certificate: %w", err)
	}
	return nil
}

// current returns the identity, read again if a file has changed. Files that cannot be used leave the old identity
// in place: a half-done exchange must not cut a server off.
func (s *Store) current() (tls.Certificate, *x509.CertPool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if now := s.stamps(); !same(now, s.stamp) {
		s.latest = s.read()
		if s.latest == nil {
			s.stamp = now
		}
	}
	return s.cert, s.roots
}

func (s *Store) stamps() (t [3]os.FileInfo) {
	for i, f := range []string{s.files.CA, s.files.Cert, s.files.Key} {
		if info, err := os.Stat(f); err == nil {
			t[i] = info
		}
	}
	return t
}

// same compares by inode too: a file system's time stamps are too coarse to tell two quick writes apart.
func same(a, b [3]os.FileInfo) bool {
	for i := range a {
		if (a[i] == nil) != (b[i] == nil) {
			return false
		}
		if a[i] != nil && (!os.SameFile(a[i], b[i]) || !a[i].ModTime().Equal(b[i].ModTime()) || a[i].Size() != b[i].Size()) {
			return false
		}
	}
	return true
}

func (s *Store) read() error {
	cert, err := tls.LoadX509KeyPair(s.files.Cert, s.files.Key)
	if err != nil {
		return fmt.Errorf("read identity: %w", err)
	}
	caPEM, err := os.ReadFile(s.files.CA)
	if err != nil {
		return fmt.Errorf("read identity: %w", err)
	}
	cas, err := ParseChain(caPEM)
	if err != nil {
		return fmt.Errorf("%s: %w", s.files.CA, err)
	}
	roots := x509.NewCertPool()
	signed := false
	for _, ca := range cas {
		roots.AddCert(ca)
		signed = signed || cert.Leaf.CheckSignatureFrom(ca) == nil
	}
	if !signed {
		return fmt.Errorf("%s is not signed by the CA in %s: %w", s.files.Cert, s.files.CA, pool.ErrInvalid)
	}
	s.cert, s.roots = cert, roots
	return nil
}
