package pki

import (
	"crypto/tls"
	"errors"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-ha/holdfast/pkg/pool"
	"github.com/holdfast-ha/holdfast/pkg/statefile"
)

var now = time.Now()

func authority(t *testing.T, name string) *Authority {
	t.Helper()
	a, err := NewAuthority(name, now)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// identity issues and saves one identity and opens it.
func identity(t *testing.T, a *Authority, r Request) *Store {
	t.Helper()
	s, err := Open(saved(t, a, r, now, 0))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func saved(t *testing.T, a *Authority, r Request, from time.Time, life time.Duration) Files {
	t.Helper()
	pair, err := a.Issue(r, from, life)
	if err != nil {
		t.Fatal(err)
	}
	own, err := a.PEM()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	f := Files{CA: filepath.Join(dir, "ca.crt"), Cert: filepath.Join(dir, "a.crt"), Key: filepath.Join(dir, "a.key")}
	if err := Save(f, own.Cert, pair); err != nil {
		t.Fatal(err)
	}
	return f
}

// shake makes one TLS connection over a socket and returns what each side made of it.
func shake(t *testing.T, server, client *tls.Config) (state tls.ConnectionState, serverErr, clientErr error) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	done := make(chan struct{})
	go func() {
		defer close(done)
		c, err := l.Accept()
		if err != nil {
			serverErr = err
			return
		}
		defer c.Close()
		s := tls.Server(c, server)
		if serverErr = s.Handshake(); serverErr == nil {
			state = s.ConnectionState()
			_, serverErr = s.Write([]byte("x"))
		}
	}()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	tc := tls.Client(c, client)
	if clientErr = tc.Handshake(); clientErr == nil {
		// In TLS 1.3 a client learns of its rejection only when it reads.
		_, clientErr = tc.Read(make([]byte, 1))
	}
	c.Close()
	<-done
	return state, serverErr, clientErr
}

func TestServersKnowEachOtherByNameAndRole(t *testing.T) {
	a := authority(t, "prod")
	srv1 := identity(t, a, Request{Name: "srv-1", Role: RoleServer, Hosts: []string{"10.0.0.1"}})
	srv2 := identity(t, a, Request{Name: "srv-2", Role: RoleServer})
	state, serr, cerr := shake(t, srv1.Server(false), srv2.Client("srv-1"))
	if serr != nil || cerr != nil {
		t.Fatalf("server: %v, client: %v", serr, cerr)
	}
	if state.Version != tls.VersionTLS13 {
		t.Errorf("version %x, want TLS 1.3", state.Version)
	}
	id, ok := Peer(state)
	if !ok || id.Name != "srv-2" || id.Role != RoleServer || id.Pool != "prod" || id.Serial == "" {
		t.Errorf("peer = %+v, %v", id, ok)
	}
	if id.String() != "server srv-2" {
		t.Errorf("identity is written %q", id)
	}
	if _, _, cerr := shake(t, srv2.Server(false), srv2.Client("srv-1")); cerr == nil {
		t.Error("srv-2 was taken for srv-1")
	}
	if _, _, cerr := shake(t, srv2.Server(false), srv1.Client(ServerHost)); cerr != nil {
		t.Errorf("any server of the pool: %v", cerr)
	}
}

func TestAnotherPoolsCertificatesAreRefusedBothWays(t *testing.T) {
	ours := identity(t, authority(t, "prod"), Request{Name: "srv-1", Role: RoleServer})
	theirs := identity(t, authority(t, "prod"), Request{Name: "srv-1", Role: RoleServer})
	if _, _, err := shake(t, theirs.Server(true), ours.Client("srv-1")); err == nil {
		t.Error("our client took their server")
	}
	trusting := theirs.Client("srv-1")
	trusting.VerifyConnection = nil
	if _, serr, _ := shake(t, ours.Server(true), trusting); serr == nil {
		t.Error("our server took their client")
	}
}

func TestAClientWithoutCertificateGetsInOnlyWhereStrangersMay(t *testing.T) {
	a := authority(t, "prod")
	s := identity(t, a, Request{Name: "srv-1", Role: RoleServer})
	stranger := Pinned(a.Pin())
	state, serr, cerr := shake(t, s.Server(true), stranger)
	if serr != nil || cerr != nil {
		t.Fatalf("server: %v, client: %v", serr, cerr)
	}
	if _, ok := Peer(state); ok {
		t.Error("a stranger has an identity")
	}
	if _, serr, _ := shake(t, s.Server(false), stranger); serr == nil {
		t.Error("a stranger got in where none may")
	}
}

func TestAPinRefusesAnotherCA(t *testing.T) {
	s := identity(t, authority(t, "prod"), Request{Name: "srv-1", Role: RoleServer})
	other := authority(t, "prod")
	_, _, err := shake(t, s.Server(true), Pinned(other.Pin()))
	if !errors.Is(err, ErrWrongCA) {
		t.Errorf("error %v, want ErrWrongCA", err)
	}
}

// A server that shows our CA's public certificate beside a leaf of its own making must not pass.
func TestAPinIsNotSatisfiedByACopiedCACertificate(t *testing.T) {
	ours, evil := authority(t, "prod"), authority(t, "prod")
	pair, err := evil.Issue(Request{Name: "srv-1", Role: RoleServer}, now, 0)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := tls.X509KeyPair(append(pair.Cert, encodeCert(ours.Cert.Raw)...), pair.Key)
	if err != nil {
		t.Fatal(err)
	}
	_, _, err = shake(t, &tls.Config{MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{cert}, NextProtos: []string{"h2"}},
		Pinned(ours.Pin()))
	if err == nil {
		t.Error("the pin was satisfied")
	}
}

func TestAnOperatorsCertificateCannotServe(t *testing.T) {
	a := authority(t, "prod")
	anna := identity(t, a, Request{Name: "anna", Role: RoleViewer})
	srv := identity(t, a, Request{Name: "srv-1", Role: RoleServer})
	if _, _, err := shake(t, anna.Server(false), srv.Client("anna")); err == nil {
		t.Error("an operator's certificate was taken for a server's")
	}
	if anna.Leaf().VerifyHostname(ServerHost) == nil {
		t.Error("an operator's certificate carries the name that etcd demands")
	}
	state, serr, cerr := shake(t, srv.Server(false), anna.Client("srv-1"))
	if serr != nil || cerr != nil {
		t.Fatalf("server: %v, client: %v", serr, cerr)
	}
	if id, ok := Peer(state); !ok || id.Role != RoleViewer || id.Name != "anna" {
		t.Errorf("peer = %+v, %v", id, ok)
	}
}

func TestTLS12IsRefused(t *testing.T) {
	a := authority(t, "prod")
	s := identity(t, a, Request{Name: "srv-1", Role: RoleServer})
	old := s.Client("srv-1")
	old.MinVersion, old.MaxVersion = tls.VersionTLS12, tls.VersionTLS12
	if _, _, err := shake(t, s.Server(false), old); err == nil {
		t.Error("TLS 1.2 was accepted")
	}
}

func TestTheSignerDecidesNameAndRole(t *testing.T) {
	a := authority(t, "prod")
	csr, key, err := NewRequest()
	if err != nil {
		t.Fatal(err)
	}
	cert, err := a.Sign(csr, Request{Name: "srv-2", Role: RoleServer, Hosts: []string{"10.0.0.2", "db.example", "127.0.0.1"}}, now, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tls.X509KeyPair(cert, key); err != nil {
		t.Errorf("certificate and key: %v", err)
	}
	leaf, err := ParseCert(cert)
	if err != nil {
		t.Fatal(err)
	}
	for _, host := range []string{"10.0.0.2", "db.example", "127.0.0.1", "localhost", "srv-2", ServerHost} {
		if err := leaf.VerifyHostname(host); err != nil {
			t.Error(err)
		}
	}
	again, err := RequestFor(key)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := a.Sign(again, Request{Name: "srv-2", Role: RoleServer}, now, 0); err != nil {
		t.Errorf("a second request for the same key: %v", err)
	}
}

func TestBadRequestsAreNotSigned(t *testing.T) {
	a := authority(t, "prod")
	csr, _, err := NewRequest()
	if err != nil {
		t.Fatal(err)
	}
	damaged := []byte(strings.Replace(string(csr), "A", "B", 3))
	for name, tt := range map[string]struct {
		csr []byte
		r   Request
	}{
		"not PEM":           {[]byte("hello"), Request{Name: "a", Role: RoleServer}},
		"damaged":           {damaged, Request{Name: "a", Role: RoleServer}},
		"a CA's own":        {encodeCert(a.Cert.Raw), Request{Name: "a", Role: RoleServer}},
		"no name":           {csr, Request{Role: RoleServer}},
		"control character": {csr, Request{Name: "a\nb", Role: RoleServer}},
		"no such role":      {csr, Request{Name: "a", Role: "king"}},
		"hosts for people":  {csr, Request{Name: "a", Role: RoleAdmin, Hosts: []string{"x"}}},
	} {
		if _, err := a.Sign(tt.csr, tt.r, now, 0); !errors.Is(err, pool.ErrInvalid) {
			t.Errorf("%s: %v, want ErrInvalid", name, err)
		}
	}
}

func TestFilesAreForTheOwnerAlone(t *testing.T) {
	a := authority(t, "prod")
	f := saved(t, a, Request{Name: "srv-1", Role: RoleServer}, now, 0)
	for _, path := range []string{f.CA, f.Cert, f.Key} {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v", path, info.Mode())
		}
	}
	left, err := os.ReadDir(filepath.Dir(f.CA))
	if err != nil {
		t.Fatal(err)
	}
	if len(left) != 3 {
		t.Errorf("temporary files are left: %v", left)
	}
}

func TestACertificateIsRenewedInItsLastThirdWithoutARestart(t *testing.T) {
	a := authority(t, "prod")
	const day = 24 * time.Hour
	f := saved(t, a, Request{Name: "srv-1", Role: RoleServer, Hosts: []string{"10.0.0.1"}}, now.Add(-21*day), 30*day)
	s, err := Open(f)
	if err != nil {
		t.Fatal(err)
	}
	before := s.Leaf().SerialNumber
	if done, err := Renew(f, a, now.Add(-2*day)); done || err != nil {
		t.Errorf("renewed too soon: %v, %v", done, err)
	}
	if done, err := Renew(f, a, now); !done || err != nil {
		t.Fatalf("not renewed when due: %v, %v", done, err)
	}
	leaf := s.Leaf()
	if leaf.SerialNumber.Cmp(before) == 0 {
		t.Error("the store did not take the new certificate up")
	}
	if err := leaf.VerifyHostname("10.0.0.1"); err != nil {
		t.Errorf("renewed certificate: %v", err)
	}
	if _, _, err := shake(t, s.Server(false), s.Client("srv-1")); err != nil {
		t.Errorf("after renewal: %v", err)
	}
}

func TestAHalfDoneExchangeLeavesTheOldIdentityInUse(t *testing.T) {
	a := authority(t, "prod")
	f := saved(t, a, Request{Name: "srv-1", Role: RoleServer}, now, 0)
	s, err := Open(f)
	if err != nil {
		t.Fatal(err)
	}
	if err := statefile.Replace(f.Key, []byte("garbage"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, err := shake(t, s.Server(false), s.Client("srv-1")); err != nil {
		t.Errorf("cut off by a damaged key file: %v", err)
	}
	if s.Err() == nil {
		t.Error("the damage is not reported")
	}
}

func TestAnIdentityOfAnotherCAIsNotOpened(t *testing.T) {
	f := saved(t, authority(t, "prod"), Request{Name: "srv-1", Role: RoleServer}, now, 0)
	other, err := authority(t, "prod").PEM()
	if err != nil {
		t.Fatal(err)
	}
	if err := statefile.Replace(f.CA, other.Cert, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(f); !errors.Is(err, pool.ErrInvalid) {
		t.Errorf("error %v, want ErrInvalid", err)
	}
	if _, err := ParseAuthority(other.Cert, []byte("x")); !errors.Is(err, pool.ErrInvalid) {
		t.Errorf("authority with a bad key: %v", err)
	}
	mixed, err := authority(t, "prod").PEM()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ParseAuthority(other.Cert, mixed.Key); !errors.Is(err, pool.ErrInvalid) {
		t.Errorf("authority with another's key: %v", err)
	}
}

func TestPinSurvivesReadingTheCABack(t *testing.T) {
	a := authority(t, "prod")
	p, err := a.PEM()
	if err != nil {
		t.Fatal(err)
	}
	b, err := ParseAuthority(p.Cert, p.Key)
	if err != nil {
		t.Fatal(err)
	}
	if a.Pin() != b.Pin() || !strings.HasPrefix(a.Pin(), "sha256:") || b.Pool() != "prod" {
		t.Errorf("pins %s, %s, pool %s", a.Pin(), b.Pin(), b.Pool())
	}
}

// A CA follows another in three steps, each made on one server after the other: trust the new one as well, sign by it,
// trust it alone. At every moment every server accepts every other.
func TestACAIsExchangedWhileEverybodyGoesOnTalking(t *testing.T) {
	before, after := authority(t, "prod"), authority(t, "prod")
	own, err := before.PEM()
	if err != nil {
		t.Fatal(err)
	}
	next, err := after.PEM()
	if err != nil {
		t.Fatal(err)
	}
	type server struct {
		files Files
		key   string
		store *Store
	}
	var servers []server
	for _, name := range []string{"srv-1", "srv-2", "srv-3"} {
		f := saved(t, before, Request{Name: name, Role: RoleServer}, now, 0)
		key := filepath.Join(filepath.Dir(f.CA), "ca.key")
		if err := statefile.Replace(key, own.Key, 0o600); err != nil {
			t.Fatal(err)
		}
		s, err := Open(f)
		if err != nil {
			t.Fatal(err)
		}
		servers = append(servers, server{f, key, s})
	}
	all := func(step string) {
		t.Helper()
		for _, a := range servers {
			for _, b := range servers {
				id, err := b.store.Identity()
				if err != nil {
					t.Fatal(err)
				}
				if _, serr, cerr := shake(t, b.store.Server(false), a.store.Client(id.Name)); serr != nil || cerr != nil {
					t.Fatalf("%s: to %s: %v, %v", step, id.Name, serr, cerr)
				}
			}
		}
	}
	all("before")
	for _, s := range servers {
		if err := statefile.Replace(s.files.CA, append(slices.Clone(own.Cert), next.Cert...), 0o600); err != nil {
			t.Fatal(err)
		}
		all("trusting both")
	}
	for _, s := range servers {
		if err := statefile.Replace(s.key, next.Key, 0o600); err != nil {
			t.Fatal(err)
		}
		a, err := LoadAuthority(s.files.CA, s.key)
		if err != nil {
			t.Fatal(err)
		}
		if a.Pin() != after.Pin() || len(a.Trusted()) != 2 {
			t.Fatalf("signing by %s, trusting %d", a.Pin(), len(a.Trusted()))
		}
		if done, err := Renew(s.files, a, now); !done || err != nil {
			t.Fatalf("not renewed by the new CA: %v, %v", done, err)
		}
		if done, err := Renew(s.files, a, now); done || err != nil {
			t.Fatalf("renewed twice: %v, %v", done, err)
		}
		all("signing by the new one")
	}
	for _, s := range servers {
		if err := statefile.Replace(s.files.CA, next.Cert, 0o600); err != nil {
			t.Fatal(err)
		}
		all("trusting the new one alone")
	}
	old := identity(t, before, Request{Name: "srv-9", Role: RoleServer})
	old.roots = servers[0].store.roots
	if _, serr, _ := shake(t, servers[0].store.Server(false), old.Client("srv-1")); serr == nil {
		t.Error("a certificate of the old CA is still accepted")
	}
}

func TestWhoTrustsTheOldCAAloneAcceptsWhatItsSuccessorSigns(t *testing.T) {
	before := authority(t, "prod")
	after, err := before.Introduce(authority(t, "prod"), now)
	if err != nil {
		t.Fatal(err)
	}
	if got := Introduced(after.Trusted()); !before.Introducing() || !slices.Equal(got, []string{after.Pin()}) || len(Introduced(before.Trusted())) > 0 {
		t.Errorf("introducing %v, introduced %q", before.Introducing(), got)
	}
	// A server in the middle of the exchange: it trusts both and signs by the new one.
	server := identity(t, after.Trusting(before.Cert), Request{Name: "srv-1", Role: RoleServer})
	client := identity(t, before, Request{Name: "anna", Role: RoleViewer})
	if _, serr, cerr := shake(t, server.Server(false), client.Client("srv-1")); serr != nil || cerr != nil {
		t.Errorf("an operator of the old CA: %v, %v", serr, cerr)
	}
	if _, _, cerr := shake(t, server.Server(true), Pinned(before.Pin())); !errors.Is(cerr, ErrWrongCA) {
		t.Errorf("a token that pins the old CA: %v, want ErrWrongCA: it must be made anew", cerr)
	}
	if _, _, cerr := shake(t, server.Server(true), Pinned(after.Pin())); cerr != nil {
		t.Errorf("a token that pins the new CA: %v", cerr)
	}
	// Afterwards it trusts the new one alone.
	server = identity(t, after.Alone(), Request{Name: "srv-1", Role: RoleServer})
	if _, serr, _ := shake(t, server.Server(false), client.Client("srv-1")); serr == nil {
		t.Error("a certificate of the old CA is still accepted")
	}
}
