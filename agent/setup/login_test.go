package setup

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/holdfast-ha/holdfast/agent/api"
	"github.com/holdfast-ha/holdfast/pkg/clock"
	"github.com/holdfast-ha/holdfast/pkg/kv"
	"github.com/holdfast-ha/holdfast/pkg/pki"
	"github.com/holdfast-ha/holdfast/pkg/pool"
	"github.com/holdfast-ha/holdfast/pkg/rpc"
	"github.com/holdfast-ha/holdfast/pkg/store"
	holdfastv1 "github.com/holdfast-ha/holdfast/proto/holdfast/v1"
)

// mirrored is the pool's data for an API, as an agent has it.
type mirrored struct {
	*store.Mirror
	store *store.Store
	by    pool.ServerID
	count *uint64
}

func (m mirrored) Reachable() bool { return true }

func (m mirrored) Apply(ctx context.Context, c pool.Change) (pool.Revision, error) {
	for i := range c.Events {
		*m.count++
		c.Events[i].ID = store.EventID(c.Events[i].At, m.by, *m.count)
	}
	change := m.store.Keys().FromPool(c)
	rev, err := m.store.Commit(ctx, kv.Txn{If: change.If, Then: change.Then})
	if err == nil {
		_, err = m.WaitFor(ctx, rev)
	}
	return rev, err
}

// entrance serves a node's whole API as an agent does, behind a gate; at an address of its own.
func (n *node) entrance() (address string) {
	n.t.Helper()
	mirror := store.NewMirror(n.store, clock.Real(), "", n.m.Log)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- mirror.Run(ctx) }()
	if _, err := mirror.WaitFor(n.t.Context(), 1); err != nil {
		n.t.Fatal(err)
	}
	o := ServiceOptions{Settings: n.settings, Store: n.store, Clock: clock.Real(), Log: n.m.Log}
	handlers := api.New(api.Config{Server: pool.ServerID(n.settings.Server), Clock: clock.Real(), Log: n.m.Log,
		Pool: mirrored{mirror, n.store, pool.ServerID(n.settings.Server), new(uint64)}, Authority: &Identities{o, n.edge}})
	gate := rpc.NewGate(rpc.ServeLimits{}, func(id pki.Identity) bool {
		return mirror.Snapshot().Revokes(id.Serial, id.Role.Machine(), id.Name, id.Issued)
	})
	srv := grpc.NewServer(gate.Options(n.id.Server(true))...)
	holdfastv1.RegisterIdentityServiceServer(srv, handlers)
	holdfastv1.RegisterPoolServiceServer(srv, handlers)
	holdfastv1.RegisterEventServiceServer(srv, handlers)
	holdfastv1.RegisterServerServiceServer(srv, handlers)
	holdfastv1.RegisterJoinServiceServer(srv, NewJoinService(o))
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		n.t.Fatal(err)
	}
	go func() { _ = srv.Serve(gate.Listen(l)) }()
	n.t.Cleanup(func() {
		srv.Stop()
		cancel()
		if err := <-done; err != nil {
			n.t.Error(err)
		}
	})
	return l.Addr().String()
}

// dial connects to an API.
func dial(t *testing.T, address string, cfg *tls.Config) *rpc.Client {
	t.Helper()
	c, err := rpc.Dial(rpc.Target{Agents: []string{address}, TLS: cfg}, rpc.Limits{Connect: 20 * time.Second, Read: 20 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// person is somebody with a key of his own.
type person struct {
	t    *testing.T
	at   string
	dir  string
	key  []byte
	csr  []byte
	last *holdfastv1.LoginResponse
}

func newPerson(t *testing.T, at string) *person {
	t.Helper()
	csr, key, err := pki.NewRequest()
	if err != nil {
		t.Fatal(err)
	}
	return &person{t: t, at: at, dir: t.TempDir(), key: key, csr: csr}
}

func (p *person) login(token string) error {
	p.t.Helper()
	tok, err := ParseToken(token)
	if err != nil {
		p.t.Fatal(err)
	}
	p.last, err = holdfastv1.NewJoinServiceClient(dial(p.t, p.at, pki.Pinned(tok.Pin))).Login(p.t.Context(),
		&holdfastv1.LoginRequest{TokenId: tok.ID, Secret: tok.Secret, Csr: p.csr})
	return err
}

// connect uses the certificate that the person was given last.
func (p *person) connect() *rpc.Client {
	p.t.Helper()
	f := pki.Files{CA: filepath.Join(p.dir, "ca.crt"), Cert: filepath.Join(p.dir, "me.crt"), Key: filepath.Join(p.dir, "me.key")}
	if err := pki.Save(f, p.last.GetCa(), pki.Pair{Cert: p.last.GetCertificate(), Key: p.key}); err != nil {
		p.t.Fatal(err)
	}
	s, err := pki.Open(f)
	if err != nil {
		p.t.Fatal(err)
	}
	return dial(p.t, p.at, s.Client(pki.ServerHost))
}

func TestAnOperatorLogsInActsByItsRoleAndIsRevoked(t *testing.T) {
	n := found(t, "srv-1")
	at := n.entrance()
	ctx := t.Context()
	dir := filepath.Dir(n.m.ConfigPath)
	root, err := pki.Open(pki.Files{CA: filepath.Join(dir, "ca.crt"), Cert: filepath.Join(dir, "admin.crt"), Key: filepath.Join(dir, "admin.key")})
	if err != nil {
		t.Fatal(err)
	}
	admin := holdfastv1.NewIdentityServiceClient(dial(t, at, root.Client(pki.ServerHost)))
	invite := func(name, role string) string {
		r, err := admin.CreateLogin(ctx, &holdfastv1.CreateLoginRequest{Name: name, Role: role, Why: "new here"})
		if err != nil {
			t.Fatal(err)
		}
		return r.GetToken()
	}

	// One command for the admin, one for anna. A lost answer may be asked for again; the token serves nobody else.
	token := invite("anna", "operator")
	anna := newPerson(t, at)
	if err := anna.login(token); err != nil {
		t.Fatal(err)
	}
	if err := anna.login(token); err != nil {
		t.Errorf("the same login again: %v", err)
	}
	wantCode(t, newPerson(t, at).login(token), "TOKEN_USED", "this token was used already; ask for a new one")
	if _, err := Join(ctx, JoinOptions{Machine: newMachine(t, "srv-9"), Token: invite("x", "viewer")}); err == nil {
		t.Error("a login token admitted a machine")
	}
	wantCode(t, newPerson(t, at).login(n.token(0).String()), "TOKEN_FOR_MACHINE", "this token admits a machine")

	// What the certificate says decides.
	hers := anna.connect()
	if _, err := holdfastv1.NewPoolServiceClient(hers).SetFreeze(ctx, &holdfastv1.SetFreezeRequest{Frozen: true, Why: "network work"}); err != nil {
		t.Fatal(err)
	}
	_, err = holdfastv1.NewIdentityServiceClient(hers).CreateLogin(ctx, &holdfastv1.CreateLoginRequest{Name: "eve", Role: "admin"})
	if status.Code(err) != codes.PermissionDenied {
		t.Errorf("an operator made an admin: %v", err)
	}
	ben := newPerson(t, at)
	if err := ben.login(invite("ben", "viewer")); err != nil {
		t.Fatal(err)
	}
	his := ben.connect()
	if _, err := holdfastv1.NewPoolServiceClient(his).SetFreeze(ctx, &holdfastv1.SetFreezeRequest{}); status.Code(err) != codes.PermissionDenied {
		t.Errorf("a viewer ended a freeze: %v", err)
	}

	// A new key and certificate while the old one is in use.
	csr, _, err := pki.NewRequest()
	if err != nil {
		t.Fatal(err)
	}
	renewed, err := holdfastv1.NewIdentityServiceClient(his).RenewCertificate(ctx, &holdfastv1.RenewCertificateRequest{Csr: csr})
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := pki.ParseCert(renewed.GetCertificate())
	if err != nil {
		t.Fatal(err)
	}
	if id, err := pki.Of(leaf); err != nil || id.Name != "ben" || id.Role != pki.RoleViewer {
		t.Errorf("renewed: %+v, %v", id, err)
	}

	// Revoked: the connection that is open answers no more; a new login is good at once.
	revoke := &holdfastv1.RevokeCertificateRequest{Operator: "anna", Why: "laptop lost", RequestId: "lost-1"}
	if _, err := admin.RevokeCertificate(ctx, revoke); err != nil {
		t.Fatal(err)
	}
	_, err = holdfastv1.NewPoolServiceClient(hers).GetPool(ctx, &holdfastv1.GetPoolRequest{})
	if status.Code(err) != codes.Unauthenticated || !strings.Contains(err.Error(), "was revoked; ask an admin for a new login token") {
		t.Errorf("after the revocation: %v", err)
	}
	again := newPerson(t, at)
	if err := again.login(invite("anna", "operator")); err != nil {
		t.Fatal(err)
	}
	if _, err := admin.RevokeCertificate(ctx, revoke); err != nil {
		t.Errorf("the same revocation again: %v", err)
	}
	if _, err := holdfastv1.NewPoolServiceClient(again.connect()).GetPool(ctx, &holdfastv1.GetPoolRequest{}); err != nil {
		t.Errorf("after a new login, and the same revocation once more: %v", err)
	}
	if _, err := holdfastv1.NewPoolServiceClient(his).GetPool(ctx, &holdfastv1.GetPoolRequest{}); err != nil {
		t.Errorf("ben: %v", err)
	}

	// And all of it is in the history, with who, from where, by which request, and what was before and after.
	events, err := holdfastv1.NewEventServiceClient(his).ListEvents(ctx, &holdfastv1.ListEventsRequest{AuditedOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]*holdfastv1.Event{}
	for _, e := range events.GetEvents() {
		a := e.GetAudit()
		if e.GetActor() == "" || !strings.HasPrefix(a.GetFrom(), "127.0.0.1:") || a.GetRequestId() == "" || a.GetMethod() == "" || strings.Contains(e.String(), token) {
			t.Errorf("event %v", e)
		}
		seen[e.GetKind()] = e
	}
	for kind, want := range map[string]string{
		"LOGIN_TOKEN_CREATED": `"role":"operator"`, "LOGIN": `"name":"anna"`, "POOL_SET": `"frozen":true`, "CERTIFICATE_RENEWED": `{}`,
		"CERTIFICATE_REVOKED": `"revoked/operator-anna":`,
	} {
		if e := seen[kind]; e == nil || !strings.Contains(e.GetAudit().GetAfter(), want) || e.GetAudit().GetBefore() == "" {
			t.Errorf("%s: %v, want %s after", kind, e, want)
		}
	}
	if a := seen["CERTIFICATE_REVOKED"].GetAudit(); a.GetRequestId() != "lost-1" || a.GetRole() != "admin" || a.GetSerial() == "" {
		t.Errorf("audit of the revocation: %v", a)
	}
}

// wantCode checks a refusal that came over the wire.
func wantCode(t *testing.T, err error, code, words string) {
	t.Helper()
	r, ok := rpc.RefusalOf(err)
	if !ok || r.Code != code || !strings.Contains(err.Error(), words) {
		t.Errorf("error %v, want %s: %s", err, code, words)
	}
}

func TestALoginTokenExpiresAndIsRefusedLikeOneThatNeverWas(t *testing.T) {
	n := found(t, "srv-1")
	tok, err := CreateToken(t.Context(), TokenOptions{Settings: n.settings, Store: n.edge, Leases: n.edge, Clock: clock.Real(), By: "test", Name: "anna", Role: pki.RoleViewer})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := n.edge.Txn(t.Context(), kv.Txn{Then: []kv.Op{kv.Delete(n.store.Keys().Token(tok.ID))}}); err != nil { // as etcd does when its lease ends
		t.Fatal(err)
	}
	p := newPerson(t, n.settings.Address)
	wantCode(t, p.login(tok.String()), "TOKEN_UNKNOWN", "pool prod knows no such token: it has expired or was withdrawn; make a new one with `holdfast-agent token create`")
	for _, o := range []TokenOptions{{Name: "anna", Role: "king"}, {Name: "an/na", Role: pki.RoleViewer}, {Name: "anna", Role: pki.RoleServer}, {Role: pki.RoleViewer}} {
		o.Settings, o.Store, o.Leases, o.Clock = n.settings, n.edge, n.edge, clock.Real()
		if _, err := CreateToken(t.Context(), o); !errors.Is(err, pool.ErrInvalid) {
			t.Errorf("token for %q as %q: %v", o.Name, o.Role, err)
		}
	}
}

func TestARequestThatIsRepeatedMakesNoSecondLoginToken(t *testing.T) {
	n := found(t, "srv-1")
	i := &Identities{ServiceOptions{Settings: n.settings, Store: n.store, Clock: clock.Real(), Log: n.m.Log}, n.edge}
	m := pool.Mark{By: "kim", At: time.Now()}
	if _, _, err := i.CreateLogin(t.Context(), "anna", "viewer", 0, m, "req-1"); err != nil {
		t.Fatal(err)
	}
	if _, _, err := i.CreateLogin(t.Context(), "anna", "viewer", 0, m, "req-1"); !errors.Is(err, pool.ErrExists) {
		t.Errorf("the second: %v", err)
	}
	if _, _, err := i.CreateLogin(t.Context(), "anna", "viewer", 0, m, ""); err != nil {
		t.Errorf("without an ID: %v", err)
	}
}
