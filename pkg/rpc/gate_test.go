package rpc

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/holdfast-ha/holdfast/pkg/pki"
	pb "github.com/holdfast-ha/holdfast/proto/holdfast/v1"
)

// patience bounds what must happen soon, on a machine however slow.
const patience = 30 * time.Second

// answers is a pool that says yes.
type answers struct {
	pb.UnimplementedPoolServiceServer
	pb.UnimplementedVMServiceServer
	pb.UnimplementedMeshServiceServer

	migrations atomic.Int32
	sent       atomic.Int32
	calls      sync.Map // request ID -> Call
}

func (a *answers) GetPool(context.Context, *pb.GetPoolRequest) (*pb.GetPoolResponse, error) {
	return &pb.GetPoolResponse{Pool: &pb.PoolView{}}, nil
}

func (a *answers) MigrateVM(ctx context.Context, _ *pb.MigrateVMRequest) (*pb.MigrateVMResponse, error) {
	a.migrations.Add(1)
	c, _ := CallFrom(ctx)
	a.calls.Store(c.RequestID, c)
	return &pb.MigrateVMResponse{}, nil
}

func (a *answers) RegisterVM(context.Context, *pb.RegisterVMRequest) (*pb.RegisterVMResponse, error) {
	return &pb.RegisterVMResponse{}, nil
}

// WatchPool sends as fast as it is let.
func (a *answers) WatchPool(r *pb.WatchPoolRequest, s grpc.ServerStreamingServer[pb.WatchPoolResponse]) error {
	big := &pb.WatchPoolResponse{ServedBy: strings.Repeat("x", 32<<10)}
	if r.GetWithoutXml() {
		if err := s.Send(&pb.WatchPoolResponse{}); err != nil {
			return err
		}
		<-s.Context().Done()
		return s.Context().Err()
	}
	for {
		if err := s.Send(big); err != nil {
			return err
		}
		a.sent.Add(1)
	}
}

// gateBed is a server behind a gate, and a CA to make callers with.
type gateBed struct {
	t       testing.TB
	ca      *pki.Authority
	address string
	answers *answers
	gate    *Gate
	revoked atomic.Pointer[string] // name
}

func newGateBed(t testing.TB, l ServeLimits, plain bool) *gateBed {
	t.Helper()
	b := &gateBed{t: t, answers: &answers{}}
	var err error
	if b.ca, err = pki.NewAuthority("prod", time.Now()); err != nil {
		t.Fatal(err)
	}
	b.gate = NewGate(l, func(id pki.Identity) bool { n := b.revoked.Load(); return n != nil && *n == id.Name })
	var config *tls.Config
	if !plain {
		config = b.identity("srv-1", pki.RoleServer).Server(true)
	}
	srv := grpc.NewServer(b.gate.Options(config)...)
	pb.RegisterPoolServiceServer(srv, b.answers)
	pb.RegisterVMServiceServer(srv, b.answers)
	pb.RegisterMeshServiceServer(srv, b.answers)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	b.address = listener.Addr().String()
	go func() { _ = srv.Serve(b.gate.Listen(listener)) }()
	t.Cleanup(srv.Stop)
	return b
}

func (b *gateBed) identity(name string, role pki.Role) *pki.Store {
	return storeOf(b.t, b.ca, name, role)
}

func storeOf(t testing.TB, ca *pki.Authority, name string, role pki.Role) *pki.Store {
	t.Helper()
	pair, err := ca.Issue(pki.Request{Name: name, Role: role}, time.Now(), 0)
	if err != nil {
		t.Fatal(err)
	}
	own, err := ca.PEM()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	f := pki.Files{CA: filepath.Join(dir, "ca.crt"), Cert: filepath.Join(dir, "id.crt"), Key: filepath.Join(dir, "id.key")}
	if err := pki.Save(f, own.Cert, pair); err != nil {
		t.Fatal(err)
	}
	s, err := pki.Open(f)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// dial connects as gRPC does for scripts, without our Client.
func (b *gateBed) dial(config *tls.Config) *grpc.ClientConn {
	b.t.Helper()
	creds := insecure.NewCredentials()
	if config != nil {
		creds = credentials.NewTLS(config)
	}
	conn, err := grpc.NewClient("passthrough:///"+b.address, grpc.WithTransportCredentials(creds), grpc.WithNoProxy())
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { conn.Close() })
	return conn
}

func (b *gateBed) as(name string, role pki.Role) *grpc.ClientConn {
	return b.dial(b.identity(name, role).Client(pki.ServerHost))
}

func soon(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

// wantRefusal checks code, reason and words.
func wantRefusal(t *testing.T, err error, code codes.Code, reason string, words ...string) {
	t.Helper()
	st := status.Convert(err)
	if st.Code() != code {
		t.Fatalf("error %v, want %v", err, code)
	}
	got := ""
	for _, d := range st.Details() {
		if info, ok := d.(*errdetails.ErrorInfo); ok {
			got = info.GetReason()
		}
	}
	if got != reason {
		t.Errorf("reason %q, want %q", got, reason)
	}
	for _, w := range words {
		if !strings.Contains(st.Message(), w) {
			t.Errorf("message %q lacks %q", st.Message(), w)
		}
	}
}

func TestAViewerMayNotMigrate(t *testing.T) {
	b := newGateBed(t, ServeLimits{}, false)
	_, err := pb.NewVMServiceClient(b.as("anna", pki.RoleViewer)).MigrateVM(soon(t), &pb.MigrateVMRequest{Vm: "web-01"})
	wantRefusal(t, err, codes.PermissionDenied, "ROLE_NEEDED",
		"viewer anna may not call /holdfast.v1.VMService/MigrateVM: it needs role operator, admin")
	if n := b.answers.migrations.Load(); n != 0 {
		t.Errorf("%d migrations", n)
	}
}

func TestACallerWithoutACertificateIsToldHowToGetOne(t *testing.T) {
	b := newGateBed(t, ServeLimits{}, false)
	_, err := pb.NewPoolServiceClient(b.dial(pki.Pinned(b.ca.Pin()))).GetPool(soon(t), &pb.GetPoolRequest{})
	wantRefusal(t, err, codes.Unauthenticated, "CERTIFICATE_NEEDED", "this call needs a certificate of the pool; get one with `holdfast login TOKEN`")
}

func TestACertificateOfAnotherCAIsRefusedBothWays(t *testing.T) {
	b := newGateBed(t, ServeLimits{}, false)
	other, err := pki.NewAuthority("prod", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	client, err := Dial(Target{Agents: []string{b.address}, TLS: storeOf(t, other, "anna", pki.RoleAdmin).Client(pki.ServerHost)}, Limits{})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	_, err = pb.NewPoolServiceClient(client).GetPool(soon(t), &pb.GetPoolRequest{})
	if err == nil || !strings.Contains(err.Error(), "server's certificate: x509: certificate signed by unknown authority") {
		t.Errorf("a server of another pool: %v", err)
	}
	careless := storeOf(t, other, "anna", pki.RoleAdmin).Client(pki.ServerHost)
	careless.VerifyConnection = nil
	_, err = pb.NewPoolServiceClient(b.dial(careless)).GetPool(soon(t), &pb.GetPoolRequest{})
	if status.Code(err) != codes.Unavailable {
		t.Errorf("a caller of another pool: %v", err)
	}
}

func TestAPlaintextCallerIsTurnedAway(t *testing.T) {
	b := newGateBed(t, ServeLimits{}, false)
	client, err := Dial(Target{Agents: []string{b.address}}, Limits{})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	_, err = pb.NewPoolServiceClient(client).GetPool(soon(t), &pb.GetPoolRequest{})
	if err == nil || !strings.Contains(err.Error(), "the agent closed the connection; it may want a certificate: name a context that has one") {
		t.Errorf("error %v", err)
	}
}

func TestACallerWithTLS12IsTurnedAway(t *testing.T) {
	b := newGateBed(t, ServeLimits{}, false)
	old := b.identity("anna", pki.RoleAdmin).Client(pki.ServerHost)
	old.MinVersion, old.MaxVersion = tls.VersionTLS12, tls.VersionTLS12
	_, err := pb.NewPoolServiceClient(b.dial(old)).GetPool(soon(t), &pb.GetPoolRequest{})
	if status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), "protocol version not supported") {
		t.Errorf("error %v", err)
	}
}

func TestAnOversizedMessageIsRefusedUnread(t *testing.T) {
	b := newGateBed(t, ServeLimits{}, false)
	_, err := pb.NewVMServiceClient(b.as("anna", pki.RoleAdmin)).RegisterVM(soon(t), &pb.RegisterVMRequest{Xml: strings.Repeat("x", maxMessage)})
	if status.Code(err) != codes.ResourceExhausted || !strings.Contains(err.Error(), "received message larger than max") {
		t.Errorf("error %v", err)
	}
}

func TestARevokedCertificateIsRefusedOnConnectionsAndStreamsThatAreOpen(t *testing.T) {
	b := newGateBed(t, ServeLimits{}, false)
	anna, ben := b.as("anna", pki.RoleAdmin), b.as("ben", pki.RoleAdmin)
	watch := func(c *grpc.ClientConn) grpc.ServerStreamingClient[pb.WatchPoolResponse] {
		s, err := pb.NewPoolServiceClient(c).WatchPool(soon(t), &pb.WatchPoolRequest{WithoutXml: true})
		if err == nil {
			_, err = s.Recv()
		}
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	hers, his := watch(anna), watch(ben)
	name := "anna"
	b.revoked.Store(&name)
	b.gate.Recheck()
	_, err := hers.Recv()
	wantRefusal(t, err, codes.Unauthenticated, "CERTIFICATE_REVOKED", "the certificate of admin anna (serial number ", "was revoked; ask an admin for a new login token")
	_, err = pb.NewPoolServiceClient(anna).GetPool(soon(t), &pb.GetPoolRequest{})
	wantRefusal(t, err, codes.Unauthenticated, "CERTIFICATE_REVOKED")
	if _, err := pb.NewPoolServiceClient(ben).GetPool(soon(t), &pb.GetPoolRequest{}); err != nil {
		t.Errorf("ben's call: %v", err)
	}
	if err := his.Context().Err(); err != nil {
		t.Errorf("ben's watch: %v", err)
	}
}

func TestAWatcherThatDoesNotReadIsDroppedAndHoldsNothing(t *testing.T) {
	b := newGateBed(t, ServeLimits{Slow: 200 * time.Millisecond}, false)
	conn := b.as("anna", pki.RoleViewer)
	s, err := pb.NewPoolServiceClient(conn).WatchPool(soon(t), &pb.WatchPoolRequest{})
	if err != nil {
		t.Fatal(err)
	}
	// Nothing is read until the agent has ended the stream.
	for deadline := time.Now().Add(patience); ; {
		b.gate.mu.Lock()
		open := len(b.gate.open)
		b.gate.mu.Unlock()
		if open == 0 && b.answers.sent.Load() > 0 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the stream is not ended")
		}
		if _, err := pb.NewPoolServiceClient(conn).GetPool(soon(t), &pb.GetPoolRequest{}); err != nil {
			t.Fatalf("another call on the same connection: %v", err)
		}
	}
	if n := b.answers.sent.Load(); n > 64 {
		t.Errorf("%d messages of 32 KiB were taken from the handler for somebody who does not read", n)
	}
	for err == nil {
		_, err = s.Recv()
	}
	wantRefusal(t, err, codes.ResourceExhausted, "SLOW_CLIENT", "the stream was ended: a message was left unread for 200ms; read faster, or watch less, and begin anew")
}

func TestConnectionsBeyondTheLimitAreRefusedPolitely(t *testing.T) {
	b := newGateBed(t, ServeLimits{Connections: 3, PerCaller: 2, Farewell: patience}, false)
	call := func(c *grpc.ClientConn) error {
		_, err := pb.NewPoolServiceClient(c).GetPool(soon(t), &pb.GetPoolRequest{})
		return err
	}
	var annas []*grpc.ClientConn
	for range 2 {
		c := b.as("anna", pki.RoleViewer)
		if err := call(c); err != nil {
			t.Fatal(err)
		}
		annas = append(annas, c)
	}
	wantRefusal(t, call(b.as("anna", pki.RoleViewer)), codes.ResourceExhausted, "TOO_MANY_CONNECTIONS",
		"too many connections: this agent serves 3 at a time, and 2 of viewer anna; close some, share one connection for many calls, or ask another agent of the pool")
	if err := call(b.as("ben", pki.RoleViewer)); err != nil {
		t.Errorf("somebody else: %v", err)
	}
	wantRefusal(t, call(b.as("carl", pki.RoleViewer)), codes.ResourceExhausted, "TOO_MANY_CONNECTIONS")
	if _, err := pb.NewMeshServiceClient(b.as("srv-2", pki.RoleServer)).Ping(soon(t), &pb.PingRequest{}); status.Code(err) != codes.Unimplemented {
		t.Errorf("a server of the pool is not let in: %v", err)
	}
	annas[0].Close()
	for deadline := time.Now().Add(patience); ; {
		c := b.as("anna", pki.RoleViewer)
		err := call(c)
		if err == nil {
			break
		}
		c.Close()
		if time.Now().After(deadline) {
			t.Fatalf("no place is free after a close: %v", err)
		}
	}
}

func TestStrangersAreFewAndHurried(t *testing.T) {
	b := newGateBed(t, ServeLimits{Strangers: 2, PerAddress: 2, Handshakes: 3, HandshakesPerAddress: 3, Handshake: 300 * time.Millisecond, Farewell: patience}, false)
	stranger := func() error {
		_, err := pb.NewPoolServiceClient(b.dial(pki.Pinned(b.ca.Pin()))).GetPool(soon(t), &pb.GetPoolRequest{})
		return err
	}
	for range 2 {
		wantRefusal(t, stranger(), codes.Unauthenticated, "CERTIFICATE_NEEDED")
	}
	wantRefusal(t, stranger(), codes.ResourceExhausted, "TOO_MANY_CONNECTIONS")

	// Those who say nothing at all are closed, the fourth at once, and make room again.
	var silent []net.Conn
	for range 4 {
		c, err := net.Dial("tcp", b.address)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		silent = append(silent, c)
	}
	for i, c := range silent {
		_ = c.SetReadDeadline(time.Now().Add(patience))
		var timeout net.Error
		if _, err := c.Read(make([]byte, 64)); err == nil || errors.As(err, &timeout) && timeout.Timeout() {
			t.Errorf("silent connection %d was not closed: %v", i, err)
		}
	}
	if _, err := pb.NewPoolServiceClient(b.as("anna", pki.RoleViewer)).GetPool(soon(t), &pb.GetPoolRequest{}); err != nil {
		t.Errorf("a caller with a certificate: %v", err)
	}
}

func TestACallIsKnownByItsRequestIDAndWhereItCameFrom(t *testing.T) {
	b := newGateBed(t, ServeLimits{}, false)
	c := pb.NewVMServiceClient(b.as("anna", pki.RoleOperator))
	if _, err := c.MigrateVM(soon(t), &pb.MigrateVMRequest{Vm: "web-01", RequestId: "move-1"}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.MigrateVM(soon(t), &pb.MigrateVMRequest{Vm: "web-01"}); err != nil {
		t.Fatal(err)
	}
	own := 0
	b.answers.calls.Range(func(id, v any) bool {
		call, ok := v.(Call)
		if !ok || call.Method != "/holdfast.v1.VMService/MigrateVM" || !strings.HasPrefix(call.From, "127.0.0.1:") {
			t.Errorf("call %+v", v)
		}
		if id == "move-1" {
			own++
		} else if !strings.HasPrefix(fmt.Sprint(id), "auto-") {
			t.Errorf("request ID %v", id)
		}
		return true
	})
	if own != 1 {
		t.Error("the caller's request ID is not known")
	}
}

// A crowd of watchers comes over loopback, some at a time; as many as there are places are served, all others are told
// so, and none of them costs the agent more than a moment. BenchmarkTenThousandWatchers does it with ten thousand.
func TestACrowdOfWatchersIsServedOrRefusedPolitely(t *testing.T) { crowd(t, 1500, 100) }

func BenchmarkTenThousandWatchers(b *testing.B) {
	for b.Loop() {
		crowd(b, 10_000, 500)
	}
}

func crowd(t testing.TB, watchers, places int) {
	b := newGateBed(t, ServeLimits{Connections: places, PerCaller: places, Refusals: 100, Handshakes: 200, HandshakesPerAddress: 200, Farewell: patience}, true)
	var served, refused atomic.Int32
	var group sync.WaitGroup
	next := make(chan struct{}, watchers)
	for range watchers {
		next <- struct{}{}
	}
	close(next)
	for range 16 {
		group.Go(func() {
			for range next {
				conn, err := grpc.NewClient("passthrough:///"+b.address, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithNoProxy())
				if err != nil {
					t.Error(err)
					return
				}
				s, err := pb.NewPoolServiceClient(conn).WatchPool(t.Context(), &pb.WatchPoolRequest{WithoutXml: true})
				if err == nil {
					_, err = s.Recv()
				}
				switch status.Code(err) {
				case codes.OK:
					served.Add(1)
					t.Cleanup(func() { conn.Close() })
				case codes.ResourceExhausted:
					refused.Add(1)
					conn.Close()
				default:
					t.Errorf("a watcher was told %v", err)
					conn.Close()
				}
			}
		})
	}
	group.Wait()
	if s, r := int(served.Load()), int(refused.Load()); s != places || s+r != watchers {
		t.Errorf("%d served and %d refused of %d, with %d places", s, r, watchers, places)
	}
}
