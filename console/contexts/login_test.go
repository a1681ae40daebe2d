package contexts

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"

	"github.com/holdfast-ha/holdfast/pkg/pki"
	"github.com/holdfast-ha/holdfast/pkg/pool"
	"github.com/holdfast-ha/holdfast/pkg/rpc"
	pb "github.com/holdfast-ha/holdfast/proto/holdfast/v1"
)

// registry is a pool that gives certificates.
type registry struct {
	pb.UnimplementedJoinServiceServer
	pb.UnimplementedIdentityServiceServer
	t       *testing.T
	ca      *pki.Authority
	address string
	role    pki.Role
	lose    bool // the next answer
	keys    map[string]bool
}

func newRegistry(t *testing.T) *registry {
	t.Helper()
	r := &registry{t: t, role: pki.RoleOperator, keys: map[string]bool{}}
	var err error
	if r.ca, err = pki.NewAuthority("prod", time.Now()); err != nil {
		t.Fatal(err)
	}
	pair, err := r.ca.Issue(pki.Request{Name: "srv-1", Role: pki.RoleServer}, time.Now(), 0)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	f := pki.Files{CA: filepath.Join(dir, "ca"), Cert: filepath.Join(dir, "crt"), Key: filepath.Join(dir, "key")}
	if err := pki.Save(f, r.trusted(), pair); err != nil {
		t.Fatal(err)
	}
	store, err := pki.Open(f)
	if err != nil {
		t.Fatal(err)
	}
	srv := grpc.NewServer(rpc.ServerOptions(store.Server(true))...)
	pb.RegisterJoinServiceServer(srv, r)
	pb.RegisterIdentityServiceServer(srv, r)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r.address = l.Addr().String()
	go func() { _ = srv.Serve(l) }()
	t.Cleanup(srv.Stop)
	return r
}

func (r *registry) trusted() []byte {
	p, err := r.ca.PEM()
	if err != nil {
		r.t.Error(err)
	}
	return p.Cert
}

func (r *registry) token() string {
	return pki.Token{Pool: "prod", Servers: []string{r.address}, Pin: r.ca.Pin(), ID: "0a", Secret: "s", Expires: time.Now().Add(time.Hour), Name: "kim", Role: pki.RoleOperator}.String()
}

func (r *registry) Login(_ context.Context, q *pb.LoginRequest) (*pb.LoginResponse, error) {
	key, err := pki.RequestKey(q.GetCsr())
	if err != nil {
		return nil, err
	}
	r.keys[string(key)] = true
	if r.lose {
		r.lose = false
		return nil, pool.ErrOutcomeUnknown
	}
	cert, err := r.ca.Sign(q.GetCsr(), pki.Request{Name: "kim", Role: r.role}, time.Now(), 0)
	return &pb.LoginResponse{Pool: "prod", Name: "kim", Role: string(r.role), Certificate: cert, Ca: r.trusted(), Servers: []string{r.address, "hv-02:7400"}}, err
}

func (r *registry) RenewCertificate(ctx context.Context, q *pb.RenewCertificateRequest) (*pb.RenewCertificateResponse, error) {
	id := rpc.IdentityFrom(ctx)
	cert, err := r.ca.Sign(q.GetCsr(), pki.Request{Name: id.Name, Role: id.Role}, time.Now(), 0)
	return &pb.RenewCertificateResponse{Certificate: cert, Ca: r.trusted()}, err
}

func (r *registry) login(file, name string) (LoggedIn, error) {
	return Login(r.t.Context(), LoginWish{Token: r.token(), Name: name, File: file, Now: time.Now})
}

func TestALoginWritesAContextThatWorksAndARenewalReplacesItsKey(t *testing.T) {
	r := newRegistry(t)
	file := filepath.Join(t.TempDir(), "holdfast", "config.yaml")
	in, err := r.login(file, "")
	if err != nil {
		t.Fatal(err)
	}
	if in.Context != "prod" || in.Name != "kim" || in.Role != "operator" || in.Expires.Before(time.Now()) {
		t.Errorf("logged in: %+v", in)
	}
	choice, err := Find(Wish{File: file, Getenv: func(string) string { return "" }})
	if err != nil || choice.Name != "prod" || choice.Target.TLS == nil || len(choice.Target.Agents) != 2 {
		t.Errorf("context: %+v, %v", choice, err)
	}
	key := filepath.Join(filepath.Dir(file), "prod", "kim.key")
	before, err := os.ReadFile(key)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(key); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the key's mode: %v, %v", info.Mode(), err)
	}
	if left, _ := filepath.Glob(filepath.Join(filepath.Dir(key), ".login-*")); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
	if _, err := Renew(t.Context(), "", file, os.Getenv); err != nil {
		t.Fatal(err)
	}
	after, err := os.ReadFile(key)
	if err != nil || string(before) == string(after) {
		t.Errorf("the key is the old one: %v", err)
	}
	if _, err := Renew(t.Context(), "", file, os.Getenv); err != nil {
		t.Errorf("with the new certificate: %v", err)
	}
}

func TestALoginKeepsWhatElseIsInTheFile(t *testing.T) {
	r := newRegistry(t)
	file := filepath.Join(t.TempDir(), "config.yaml")
	text := "# my pools\ndefault: lab\ncontexts:\n  - name: lab # in the cellar\n    agents: [127.0.0.1:7400]\n  - name: prod\n    agents: [old:7400]\n    label: PROD\n    read_only: true\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := r.login(file, ""); err != nil {
		t.Fatal(err)
	}
	if _, err := r.login(file, "second"); err != nil {
		t.Fatal(err)
	}
	f, err := Load(file)
	if err != nil {
		t.Fatal(err)
	}
	if f.Default != "lab" || len(f.Contexts) != 3 || f.Contexts[1].Label != "PROD" || !f.Contexts[1].ReadOnly || f.Contexts[1].Agents[0] != r.address {
		t.Errorf("file: %+v", f)
	}
	data, err := os.ReadFile(file)
	if err != nil || !strings.Contains(string(data), "# my pools") || !strings.Contains(string(data), "# in the cellar") {
		t.Errorf("comments are lost: %v\n%s", err, data)
	}
}

func TestALoginWhoseAnswerWasLostIsRepeatedWithTheSameKey(t *testing.T) {
	r := newRegistry(t)
	r.lose = true
	file := filepath.Join(t.TempDir(), "config.yaml")
	if _, err := r.login(file, ""); !errors.Is(err, pool.ErrOutcomeUnknown) || !strings.Contains(err.Error(), "run the same login again") {
		t.Fatalf("a lost answer: %v", err)
	}
	if _, err := r.login(file, ""); err != nil {
		t.Fatal(err)
	}
	if len(r.keys) != 1 {
		t.Errorf("%d keys for one token", len(r.keys))
	}
}

func TestALoginRefusesWhatTheTokenDidNotPromise(t *testing.T) {
	r := newRegistry(t)
	file := filepath.Join(t.TempDir(), "config.yaml")
	r.role = pki.RoleViewer
	if _, err := r.login(file, ""); !errors.Is(err, pool.ErrInvalid) {
		t.Errorf("another role: %v", err)
	}
	other := newRegistry(t)
	other.address = r.address
	if _, err := other.login(file, ""); !errors.Is(err, pool.ErrUnavailable) || !strings.Contains(err.Error(), "not of the expected pool") {
		t.Errorf("another CA: %v", err)
	}
	machine := pki.Token{Pool: "prod", Servers: []string{r.address}, Pin: r.ca.Pin(), ID: "0a", Secret: "s"}.String()
	for _, token := range []string{"hello", machine} {
		if _, err := Login(t.Context(), LoginWish{Token: token, File: file, Now: time.Now}); !errors.Is(err, pool.ErrInvalid) {
			t.Errorf("token %q: %v", token, err)
		}
	}
	if _, err := os.Stat(file); err == nil {
		t.Error("a refused login wrote a context")
	}
}
