package mesh

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"

	"github.com/holdfast-ha/holdfast/agent/api"
	"github.com/holdfast-ha/holdfast/agent/local"
	"github.com/holdfast-ha/holdfast/pkg/pki"
	"github.com/holdfast-ha/holdfast/pkg/pool"
	"github.com/holdfast-ha/holdfast/pkg/rpc"
	pb "github.com/holdfast-ha/holdfast/proto/holdfast/v1"
)

const life = "11111111-0000-4000-8000-000000000000"

// machine is what one server knows about itself. hang makes it answer nothing until the caller gives up.
type machine struct {
	session pool.Session
	inspect api.Inspection
	domains map[string]api.FoundDomain
	fails   error
	hang    bool

	mu    sync.Mutex
	asked []pool.Need
	// silenceOf lists the servers that it was asked to listen to.
	silenceOf []pool.ServerID
}

func (m *machine) Session() pool.Session { return m.session }
func (m *machine) Reachable() bool       { return true }
func (m *machine) GuardAnswers() bool    { return true }

func (m *machine) Silence(s pool.ServerID) time.Duration {
	m.silenceOf = append(m.silenceOf, s)
	return 1500 * time.Millisecond
}

func (m *machine) Inspect(ctx context.Context, _ string, needs []pool.Need) (api.Inspection, error) {
	if m.hang {
		<-ctx.Done()
		return api.Inspection{}, ctx.Err()
	}
	m.mu.Lock()
	m.asked = needs
	m.mu.Unlock()
	return m.inspect, m.fails
}

func (m *machine) Lookup(_ context.Context, name string) (api.FoundDomain, bool, error) {
	d, ok := m.domains[name]
	return d, ok, m.fails
}

func (m *machine) AdmitIncoming(context.Context, pool.OperationID, pool.VMID, pool.Epoch) error {
	return m.fails
}

func (m *machine) Incoming(_ context.Context, op pool.OperationID, _ pool.VMID, session pool.Session) (local.Confirmed, error) {
	return local.Confirmed{Arrived: op == "op-1", Held: session == m.session, Watchdog: 10 * time.Second}, m.fails
}

// site is a pool's servers, each with its certificate, on loopback.
type site struct {
	t         testing.TB
	authority *pki.Authority

	mu       sync.Mutex
	snapshot pool.Snapshot
}

func newSite(t testing.TB) *site {
	t.Helper()
	a, err := pki.NewAuthority("prod", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return &site{t: t, authority: a, snapshot: pool.Snapshot{Config: pool.Config{Name: "prod", Incarnation: life}}}
}

func (s *site) shown() *pool.Snapshot {
	s.mu.Lock()
	defer s.mu.Unlock()
	snap := s.snapshot
	return &snap
}

// registerAt makes address the one at which the pool knows a server.
func (s *site) registerAt(id pool.ServerID, address string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.snapshot.Servers = s.snapshot.Servers.With(id, pool.Server{ID: id, Address: address})
}

// certificate issues one of the pool.
func (s *site) certificate(name string, role pki.Role) *pki.Store {
	s.t.Helper()
	pair, err := s.authority.Issue(pki.Request{Name: name, Role: role}, time.Now(), 0)
	if err != nil {
		s.t.Fatal(err)
	}
	ca, err := s.authority.PEM()
	if err != nil {
		s.t.Fatal(err)
	}
	dir := s.t.TempDir()
	files := pki.Files{CA: filepath.Join(dir, "ca.crt"), Cert: filepath.Join(dir, "x.crt"), Key: filepath.Join(dir, "x.key")}
	if err := pki.Save(files, ca.Cert, pair); err != nil {
		s.t.Fatal(err)
	}
	store, err := pki.Open(files)
	if err != nil {
		s.t.Fatal(err)
	}
	return store
}

// serve runs a server's answering side, registers it, and returns how to end it.
func (s *site) serve(id pool.ServerID, host Host) (stop func()) {
	s.t.Helper()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		s.t.Fatal(err)
	}
	srv := grpc.NewServer(rpc.ServerOptions(s.certificate(string(id), pki.RoleServer).Server(true))...)
	pb.RegisterMeshServiceServer(srv, NewServer(id, "1.2.3", func() string { return life }, host))
	go srv.Serve(lis) //nolint:errcheck // ends with Stop
	s.t.Cleanup(srv.Stop)
	s.registerAt(id, lis.Addr().String())
	return srv.Stop
}

// peers returns the calling side of a server.
func (s *site) peers(id pool.ServerID, host Host) *Peers {
	s.t.Helper()
	own := s.certificate(string(id), pki.RoleServer)
	p := NewPeers(id, host, s.shown, func(to pool.ServerID) *tls.Config { return own.Client(string(to)) })
	s.t.Cleanup(p.Close)
	return p
}

func within(t *testing.T, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

func TestAMemberThatIsBackIsAskedAtOnceThoughItsConnectionHadFailed(t *testing.T) {
	s := newSite(t)
	stop := s.serve("srv-2", &machine{inspect: api.Inspection{Missing: []string{"bridge br7"}}})
	there, _ := s.shown().Servers.Get("srv-2")
	p := s.peers("srv-1", &machine{})
	ctx := within(t, 20*time.Second)
	stop()
	for range 4 { // the pause between attempts grows to a second
		c, err := p.mesh("srv-2")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Ping(ctx, &pb.PingRequest{}, grpc.WaitForReady(false)); err == nil {
			t.Fatal("it is not off")
		}
	}
	if _, err := p.Inspect(ctx, "srv-2", "<domain/>", nil); !errors.Is(err, pool.ErrUnavailable) {
		t.Fatalf("off: %v", err)
	}

	lis, err := net.Listen("tcp", there.Address)
	if err != nil {
		t.Fatal(err)
	}
	srv := grpc.NewServer(rpc.ServerOptions(s.certificate("srv-2", pki.RoleServer).Server(true))...)
	pb.RegisterMeshServiceServer(srv, NewServer("srv-2", "1.2.3", func() string { return life }, &machine{inspect: api.Inspection{Missing: []string{"bridge br7"}}}))
	go srv.Serve(lis) //nolint:errcheck // ends with Stop
	t.Cleanup(srv.Stop)
	s.mu.Lock()
	s.snapshot.Members = s.snapshot.Members.With("srv-2", pool.Member{Server: "srv-2"})
	s.mu.Unlock()
	if in, err := p.Inspect(ctx, "srv-2", "<domain/>", nil); err != nil || len(in.Missing) != 1 {
		t.Errorf("back, and a member again: %+v, %v", in, err)
	}
}

func TestServersAskEachOtherOverMutualTLS(t *testing.T) {
	s := newSite(t)
	found := api.FoundDomain{XML: "<domain/>", UUID: "u-1", Running: true, Persistent: true, Autostart: true, OwnedBy: "lab"}
	far := &machine{session: 42, domains: map[string]api.FoundDomain{"web": found},
		inspect: api.Inspection{Missing: []string{"bridge br7"}, Rejected: "no such machine type", Unlocked: []string{"/nfs/a.qcow2"}}}
	s.serve("srv-2", far)
	p := s.peers("srv-1", &machine{})
	ctx := within(t, 30*time.Second)

	needs := []pool.Need{{Kind: pool.NeedNetwork, Name: "br7"}}
	in, err := p.Inspect(ctx, "srv-2", "<domain/>", needs)
	want := far.inspect
	want.Server = "srv-2"
	if err != nil || !reflect.DeepEqual(in, want) {
		t.Errorf("inspect: %+v, %v; want %+v", in, err, want)
	}
	if !reflect.DeepEqual(far.asked, needs) {
		t.Errorf("srv-2 was asked for %+v, want %+v", far.asked, needs)
	}
	d, ok, err := p.Lookup(ctx, "srv-2", "web")
	found.Server = "srv-2"
	if err != nil || !ok || d != found {
		t.Errorf("lookup: %+v, %v, %v; want %+v", d, ok, err, found)
	}
	if _, ok, err := p.Lookup(ctx, "srv-2", "nobody"); err != nil || ok {
		t.Errorf("lookup of a domain that is not there: %v, %v", ok, err)
	}
	r, err := p.Ping(ctx, "srv-2")
	if err != nil || r.GetServer() != "srv-2" || r.GetSession() != 42 || !r.GetGuard() || !r.GetEtcdReachable() || r.GetVersion() != "1.2.3" {
		t.Errorf("ping: %v, %v", r, err)
	}
}

func TestAServerAsksItselfWithoutTheNetwork(t *testing.T) {
	s := newSite(t)
	p := s.peers("srv-1", &machine{inspect: api.Inspection{Missing: []string{"x"}}, domains: map[string]api.FoundDomain{"web": {UUID: "u"}}})
	in, err := p.Inspect(t.Context(), "srv-1", "<domain/>", nil)
	if err != nil || in.Server != "srv-1" || len(in.Missing) != 1 {
		t.Errorf("inspect: %+v, %v", in, err)
	}
	if d, ok, err := p.Lookup(t.Context(), "srv-1", "web"); err != nil || !ok || d.Server != "srv-1" {
		t.Errorf("lookup: %+v, %v, %v", d, ok, err)
	}
}

func TestAFailureKeepsItsKindAcrossTheMesh(t *testing.T) {
	s := newSite(t)
	s.serve("srv-2", &machine{fails: pool.ErrUnavailable})
	p := s.peers("srv-1", &machine{})
	if _, err := p.Inspect(within(t, 30*time.Second), "srv-2", "<domain/>", nil); !errors.Is(err, pool.ErrUnavailable) {
		t.Errorf("inspect: %v, want unavailable", err)
	}
	if _, err := p.Inspect(t.Context(), "srv-9", "<domain/>", nil); !errors.Is(err, pool.ErrNotFound) || !strings.Contains(err.Error(), "srv-9") {
		t.Errorf("a server that is not registered: %v", err)
	}
}

func TestAnOperatorsCertificateMayNotCallTheMesh(t *testing.T) {
	s := newSite(t)
	s.serve("srv-2", &machine{session: 42})
	server, _ := s.shown().Servers.Get("srv-2")
	for _, role := range []pki.Role{pki.RoleViewer, pki.RoleOperator, pki.RoleAdmin} {
		own := s.certificate("anna", role)
		cc, err := grpc.NewClient("passthrough:///"+server.Address, grpc.WithTransportCredentials(credentials.NewTLS(own.Client("srv-2"))))
		if err != nil {
			t.Fatal(err)
		}
		_, err = pb.NewMeshServiceClient(cc).Ping(within(t, 30*time.Second), &pb.PingRequest{From: "srv-1"})
		if status.Code(err) != codes.PermissionDenied {
			t.Errorf("%s: %v, want permission denied", role, err)
		}
		if err := cc.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestAServerUnderAnothersNameIsNotBelieved(t *testing.T) {
	s := newSite(t)
	s.serve("srv-3", &machine{session: 42})
	other, _ := s.shown().Servers.Get("srv-3")
	s.registerAt("srv-2", other.Address)
	p := s.peers("srv-1", &machine{})
	if r, err := p.Ping(within(t, 30*time.Second), "srv-2"); err == nil {
		t.Errorf("srv-3 was taken for srv-2: %v", r)
	}
}

func TestAnAgentOfAnotherLifeOfThePoolIsRefused(t *testing.T) {
	s := newSite(t)
	s.serve("srv-2", &machine{session: 42})
	s.snapshot.Config.Incarnation = "22222222-0000-4000-8000-000000000000"
	_, err := s.peers("srv-1", &machine{}).Ping(within(t, 30*time.Second), "srv-2")
	if !errors.Is(err, pool.ErrRefused) || !strings.Contains(err.Error(), "another life") {
		t.Errorf("ping: %v, want refused", err)
	}
}

func TestANewAddressIsCalledFromThenOn(t *testing.T) {
	s := newSite(t)
	stop := s.serve("srv-2", &machine{session: 1})
	p := s.peers("srv-1", &machine{})
	ctx := within(t, 10*time.Second)
	if r, err := p.Ping(ctx, "srv-2"); err != nil || r.GetSession() != 1 {
		t.Fatalf("before: %v, %v", r, err)
	}
	s.serve("srv-2", &machine{session: 2}) // elsewhere; the old one still answers
	if r, err := p.Ping(ctx, "srv-2"); err != nil || r.GetSession() != 2 {
		t.Errorf("after the move: %v, %v; want the new address to answer", r, err)
	}
	stop()
	if r, err := p.Ping(ctx, "srv-2"); err != nil || r.GetSession() != 2 {
		t.Errorf("after the old one's end: %v, %v", r, err)
	}
}

func TestAPeerThatComesBackIsHeardSoon(t *testing.T) {
	s := newSite(t)
	stop := s.serve("srv-2", &machine{session: 1})
	server, _ := s.shown().Servers.Get("srv-2")
	p := s.peers("srv-1", &machine{})
	ctx := within(t, 30*time.Second)
	if _, err := p.Ping(ctx, "srv-2"); err != nil {
		t.Fatal(err)
	}
	stop()
	if _, err := p.Ping(ctx, "srv-2"); !errors.Is(err, pool.ErrUnavailable) {
		t.Errorf("a dead peer: %v, want unavailable", err)
	}
	lis, err := net.Listen("tcp", server.Address)
	if err != nil {
		t.Skipf("its port was taken meanwhile: %v", err)
	}
	srv := grpc.NewServer(rpc.ServerOptions(s.certificate("srv-2", pki.RoleServer).Server(true))...)
	pb.RegisterMeshServiceServer(srv, NewServer("srv-2", "1", func() string { return life }, &machine{session: 3}))
	go srv.Serve(lis) //nolint:errcheck // ends with Stop
	t.Cleanup(srv.Stop)
	back := time.Now()
	for ctx.Err() == nil {
		if r, err := p.Ping(ctx, "srv-2"); err == nil && r.GetSession() == 3 {
			// Three seconds, and what a machine that stands still may add.
			if d := time.Since(back); d > 8*time.Second {
				t.Errorf("heard after %v", d)
			}
			return
		}
	}
	t.Error("not heard")
}

func TestASilentPeerHoldsUpNobodyForLongerThanTheCallAllows(t *testing.T) {
	s := newSite(t)
	lis, err := net.Listen("tcp", "127.0.0.1:0") // nobody accepts: the kernel connects, and no word follows
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { lis.Close() })
	s.registerAt("srv-2", lis.Addr().String())
	s.serve("srv-3", &machine{hang: true})
	s.serve("srv-4", &machine{session: 4})
	p := s.peers("srv-1", &machine{})
	for _, id := range []pool.ServerID{"srv-2", "srv-3"} {
		start := time.Now()
		_, err := p.Inspect(within(t, 300*time.Millisecond), id, "<domain/>", nil)
		if err == nil || time.Since(start) > 10*time.Second {
			t.Errorf("%s: %v after %v, want an error at the limit of the call", id, err, time.Since(start))
		}
	}
	if _, err := p.Ping(within(t, 30*time.Second), "srv-4"); err != nil {
		t.Errorf("another server, meanwhile: %v", err)
	}
}
