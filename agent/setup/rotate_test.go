package setup

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/holdfast-ha/holdfast/agent/etcd"
	"github.com/holdfast-ha/holdfast/pkg/clock"
	kvetcd "github.com/holdfast-ha/holdfast/pkg/kv/etcd"
	"github.com/holdfast-ha/holdfast/pkg/pki"
	"github.com/holdfast-ha/holdfast/pkg/pool"
	"github.com/holdfast-ha/holdfast/pkg/rpc"
	holdfastv1 "github.com/holdfast-ha/holdfast/proto/holdfast/v1"
)

// authorityServer is what of an agent the exchange of a CA needs.
type authorityServer struct {
	holdfastv1.UnimplementedMeshServiceServer
	a Authority
}

func (s authorityServer) ChangeAuthority(ctx context.Context, r *holdfastv1.ChangeAuthorityRequest) (*holdfastv1.ChangeAuthorityResponse, error) {
	return s.a.Change(ctx, r)
}

// answer serves the mesh, joins and health at the machine's address until the returned function is called.
func (n *node) answer() (stop func()) {
	n.t.Helper()
	l, err := net.Listen("tcp", n.settings.Address)
	if err != nil {
		n.t.Fatal(err)
	}
	srv := grpc.NewServer(rpc.ServerOptions(n.id.Server(true))...)
	holdfastv1.RegisterMeshServiceServer(srv, authorityServer{a: Authority{Settings: n.settings, ConfigPath: n.m.ConfigPath, Clock: clock.Real()}})
	holdfastv1.RegisterJoinServiceServer(srv, NewJoinService(ServiceOptions{Settings: n.settings, Store: n.store, Clock: clock.Real(), Log: n.m.Log,
		Endpoints: func() []string { return nil }}))
	healthpb.RegisterHealthServer(srv, health.NewServer())
	go func() { _ = srv.Serve(l) }()
	n.t.Cleanup(srv.Stop)
	return srv.Stop
}

// call makes one call over a connection of its own.
func healthOf(ctx context.Context, address string, id *pki.Store, host string) error {
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(credentials.NewTLS(id.Client(host))))
	if err != nil {
		return err
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	_, err = healthpb.NewHealthClient(conn).Check(ctx, &healthpb.HealthCheckRequest{})
	return err
}

// errCut is a command that dies.
var errCut = errors.New("the command was killed")

// rotation is the command on this machine. cut, if not nil, dies after that many steps that changed something.
func (n *node) rotation(cut *atomic.Int32) Rotation {
	cluster := n.cluster()
	return NewRotation(RotationOptions{Settings: n.settings, Store: n.store, Clock: clock.Real(), By: "test",
		Say: func(format string, args ...any) {
			n.t.Logf("%s: %s", n.settings.Server, fmt.Sprintf(format, args...))
		},
		Voters: func(ctx context.Context) error {
			all, err := cluster.Members(ctx)
			if err != nil {
				return err
			}
			return etcd.AllAnswer(all)
		},
		Ask: func(ctx context.Context, s pool.Server, r *holdfastv1.ChangeAuthorityRequest) (*holdfastv1.ChangeAuthorityResponse, error) {
			changes := r.GetStep() != holdfastv1.AuthorityStep_AUTHORITY_STEP_UNSPECIFIED
			conn, err := grpc.NewClient(s.Address, grpc.WithTransportCredentials(credentials.NewTLS(n.id.Client(string(s.ID)))))
			if err != nil {
				return nil, err
			}
			defer conn.Close()
			ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
			defer cancel()
			a, err := holdfastv1.NewMeshServiceClient(conn).ChangeAuthority(ctx, r)
			if err == nil && changes && cut != nil && cut.Add(-1) < 0 {
				return nil, errCut // it was done, and nobody was told
			}
			return a, err
		}})
}

// persevere runs do on one server after the other; each attempt dies after its first step, whose answer is lost.
func persevere(t *testing.T, on []*node, between func(), do func(Rotation, context.Context) error) {
	t.Helper()
	for i := range 40 {
		err := do(on[i%len(on)].rotation(new(atomic.Int32)), t.Context())
		if err == nil {
			return
		}
		if !errors.Is(err, errCut) {
			t.Fatal(err)
		}
		between()
	}
	t.Fatal("it never ends")
}

func TestThePoolsCAIsExchangedThroughCrashesWhileCallsGoOn(t *testing.T) {
	a := foundAgent(t, "srv-1")
	b, c := a.admit("srv-2", false), a.admit("srv-3", false)
	b.answer()
	stopC := c.answer()
	end := a.lead(a, b, c)
	a.votes(a.cluster(), 3, 0)
	end()
	nodes := []*node{a, b, c}
	old := a.id.Leaf()
	before, err := pki.LoadAuthority(a.settings.TLS.CA, a.settings.TLS.CAKey)
	if err != nil {
		t.Fatal(err)
	}
	anna := operatorOf(t, before, "anna")
	ghost := machineOf(t, before, "srv-9")

	// A server is away: nothing begins, and it is named with the way out.
	stopC()
	err = a.rotation(nil).Rotate(t.Context())
	if !errors.Is(err, pool.ErrRefused) || !strings.Contains(err.Error(), "srv-3") || !strings.Contains(err.Error(), "remove-server") {
		t.Fatalf("with a server away: %v, want a refusal that names it", err)
	}
	if got := trusted(t, a); len(got) != 1 {
		t.Errorf("trusted although a server was away: %v", got)
	}
	c.answer()

	everybody := func() {
		t.Helper()
		for _, from := range nodes {
			for _, to := range nodes {
				if err := healthOf(t.Context(), to.settings.Address, from.id, to.settings.Server); err != nil {
					t.Fatalf("%s to %s: %v", from.settings.Server, to.settings.Server, err)
				}
			}
			if !from.writes(t) {
				t.Fatalf("%s cannot write to etcd", from.settings.Server)
			}
		}
	}
	// anna, who knows nothing of it, is served all along.
	annaToo := func() {
		t.Helper()
		everybody()
		for _, to := range nodes {
			if err := healthOf(t.Context(), to.settings.Address, anna, pki.ServerHost); err != nil {
				t.Fatalf("anna to %s: %v", to.settings.Server, err)
			}
		}
	}
	if err := a.rotation(nil).Drop(t.Context()); err != nil {
		t.Errorf("drop with nothing to drop: %v", err)
	}
	persevere(t, nodes, annaToo, Rotation.Rotate)
	annaToo()
	for _, n := range nodes {
		if got := trusted(t, n); len(got) != 2 {
			t.Errorf("%s trusts %v, want both CAs", n.settings.Server, got)
		}
		leaf := n.id.Leaf()
		if leaf.CheckSignatureFrom(before.Cert) == nil {
			t.Errorf("%s still shows a certificate of the old CA", n.settings.Server)
		}
		root, err := pki.Open(pki.Files{CA: filepath.Join(filepath.Dir(n.m.ConfigPath), "ca.crt"), Cert: filepath.Join(filepath.Dir(n.m.ConfigPath), "admin.crt"), Key: filepath.Join(filepath.Dir(n.m.ConfigPath), "admin.key")})
		if err != nil || root.Leaf().CheckSignatureFrom(before.Cert) == nil {
			t.Errorf("root's certificate on %s: %v", n.settings.Server, err)
		}
		if exist(n.settings.TLS.CAKey + ".next") {
			t.Errorf("%s keeps the key twice", n.settings.Server)
		}
	}
	if err := a.rotation(nil).Rotate(t.Context()); err != nil {
		t.Errorf("once more, with nothing to do: %v", err)
	}

	persevere(t, nodes, everybody, Rotation.Drop)
	everybody()
	for _, n := range nodes {
		if got := trusted(t, n); len(got) != 1 || got[0] == before.Pin() {
			t.Errorf("%s trusts %v, want the new CA alone", n.settings.Server, got)
		}
		// A command that was killed may have asked for one restart more, which comes now.
		var pins []string
		var runs bool
		var err error
		if !eventually(t, func() bool {
			pins, runs, err = etcd.Trusted(n.settings.EtcdDir())
			return err == nil && runs && slices.Equal(pins, trusted(t, n))
		}) {
			t.Errorf("etcd of %s trusts %v (%v, %v)", n.settings.Server, pins, runs, err)
		}
		if err := healthOf(t.Context(), n.settings.Address, ghost, n.settings.Server); err == nil {
			t.Errorf("%s still accepts a certificate of the old CA", n.settings.Server)
		}
		if err := healthOf(t.Context(), n.settings.Address, anna, pki.ServerHost); err == nil {
			t.Errorf("%s still accepts anna's old certificate", n.settings.Server)
		}
	}
	if err := etcdAs(t, a, ghost); err == nil {
		t.Error("etcd still accepts a server's certificate of the old CA")
	}
	if a.id.Leaf().Equal(old) {
		t.Error("srv-1 shows its old certificate")
	}
	d := a.admit("srv-4", false)
	if got := trusted(t, d); !slices.Equal(got, trusted(t, a)) {
		t.Errorf("a server that joins afterwards trusts %v", got)
	}
}

func TestAServerThatJoinsInTheMiddleOfTheExchangeTakesPartInIt(t *testing.T) {
	a := foundAgent(t, "srv-1")
	one := new(atomic.Int32)
	if err := a.rotation(one).Rotate(t.Context()); !errors.Is(err, errCut) {
		t.Fatal(err)
	}
	b := a.admit("srv-2", false)
	b.answer()
	if err := b.rotation(nil).Drop(t.Context()); !errors.Is(err, pool.ErrRefused) || !strings.Contains(err.Error(), "ca rotate first") {
		t.Errorf("drop before every server signs by the new CA: %v", err)
	}
	if err := b.rotation(nil).Rotate(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := b.rotation(nil).Drop(t.Context()); err != nil {
		t.Fatal(err)
	}
	if x, y := trusted(t, a), trusted(t, b); len(x) != 1 || !slices.Equal(x, y) {
		t.Errorf("srv-1 trusts %v, srv-2 %v", x, y)
	}
	if !a.writes(t) || !b.writes(t) {
		t.Error("etcd cannot be written to")
	}
	if kinds := history(t, a); !slices.Contains(kinds, "CA_TRUSTED") || !slices.Contains(kinds, "CA_SIGNS") || !slices.Contains(kinds, "CA_DROPPED") {
		t.Errorf("history: %v", kinds)
	}
}

func TestOfTwoExchangesBegunAtOnceOneGoesOn(t *testing.T) {
	a := foundAgent(t, "srv-1")
	b := a.admit("srv-2", false)
	b.answer()
	for _, n := range []*node{a, b} {
		ca, err := n.rotation(nil).Make()
		if err != nil {
			t.Fatal(err)
		}
		pair, err := ca.PEM()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := (Authority{Settings: n.settings, ConfigPath: n.m.ConfigPath, Clock: clock.Real()}).Change(t.Context(), &holdfastv1.ChangeAuthorityRequest{
			Step: holdfastv1.AuthorityStep_AUTHORITY_STEP_TRUST, Authority: ca.Pin(), Ca: pair.Cert, Key: pair.Key}); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.rotation(nil).Rotate(t.Context()); err != nil {
		t.Fatal(err)
	}
	if x, y := trusted(t, a), trusted(t, b); len(x) != 2 || !slices.Equal(x, y) {
		t.Errorf("srv-1 trusts %v, srv-2 %v: want the old CA and one new one", x, y)
	}
}

func TestAPoolWithAWitnessIsToldThatItsCAIsExchangedByHand(t *testing.T) {
	a := foundAgent(t, "srv-1")
	a.admit("wit-1", true)
	if err := a.rotation(nil).Rotate(t.Context()); !errors.Is(err, pool.ErrRefused) || !strings.Contains(err.Error(), "wit-1") {
		t.Errorf("with a witness: %v, want a refusal that names it", err)
	}
}

// foundAgent makes a pool of one server that answers as an agent does.
func foundAgent(t *testing.T, name string) *node {
	t.Helper()
	m := newMachine(t, name)
	if _, err := Init(t.Context(), m); err != nil {
		t.Fatal(err)
	}
	n := open(t, m)
	n.start()
	n.answer()
	if !n.writes(t) {
		t.Fatal("etcd does not come up")
	}
	return n
}

func trusted(t *testing.T, n *node) []string {
	t.Helper()
	data, err := os.ReadFile(n.settings.TLS.CA)
	if err != nil {
		t.Fatal(err)
	}
	certs, err := pki.ParseChain(data)
	if err != nil {
		t.Fatal(err)
	}
	return pki.Pins(certs)
}

func operatorOf(t *testing.T, ca *pki.Authority, name string) *pki.Store {
	t.Helper()
	return storeOf(t, ca, pki.Request{Name: name, Role: pki.RoleViewer})
}

func machineOf(t *testing.T, ca *pki.Authority, name string) *pki.Store {
	t.Helper()
	return storeOf(t, ca, pki.Request{Name: name, Role: pki.RoleServer})
}

func storeOf(t *testing.T, ca *pki.Authority, r pki.Request) *pki.Store {
	t.Helper()
	pair, err := ca.Issue(r, time.Now(), 0)
	if err != nil {
		t.Fatal(err)
	}
	own, err := ca.PEM()
	if err != nil {
		t.Fatal(err)
	}
	f := identity(t.TempDir())
	if err := pki.Save(f, own.Cert, pair); err != nil {
		t.Fatal(err)
	}
	id, err := pki.Open(f)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// etcdAs reads from the machine's etcd with somebody's certificate. Who asks does not care whom it talks to.
func etcdAs(t *testing.T, n *node, id *pki.Store) error {
	t.Helper()
	cfg, err := etcd.FromSettings(n.settings)
	if err != nil {
		t.Fatal(err)
	}
	tls := id.Client(pki.ServerHost)
	tls.VerifyConnection = nil
	edge, err := kvetcd.Open(kvetcd.Options{Endpoints: []string{cfg.ClientURL}, TLS: tls})
	if err != nil {
		t.Fatal(err)
	}
	defer edge.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
	defer cancel()
	_, _, err = edge.Get(ctx, n.store.Keys().Config())
	return err
}

func history(t *testing.T, n *node) []string {
	t.Helper()
	snap, err := n.store.Load(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	var kinds []string
	for _, e := range snap.Events.All() {
		kinds = append(kinds, e.Kind)
	}
	return kinds
}
