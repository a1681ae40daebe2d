package rpc

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"

	"github.com/holdfast-ha/holdfast/pkg/pki"
	"github.com/holdfast-ha/holdfast/pkg/pool"
	pb "github.com/holdfast-ha/holdfast/proto/holdfast/v1"
)

// answering is an agent whose answers a test decides; it counts the calls.
type answering struct {
	pb.UnimplementedPoolServiceServer
	address string
	server  *grpc.Server

	mu     sync.Mutex
	reads  int
	writes int
	read   func(context.Context) error
	write  func(context.Context) error
}

func (a *answering) GetPool(ctx context.Context, _ *pb.GetPoolRequest) (*pb.GetPoolResponse, error) {
	a.mu.Lock()
	a.reads++
	f := a.read
	a.mu.Unlock()
	if f != nil {
		if err := f(ctx); err != nil {
			return nil, err
		}
	}
	return &pb.GetPoolResponse{Pool: &pb.PoolView{Leader: a.address}}, nil
}

func (a *answering) SetFreeze(ctx context.Context, _ *pb.SetFreezeRequest) (*pb.SetFreezeResponse, error) {
	a.mu.Lock()
	a.writes++
	f := a.write
	a.mu.Unlock()
	if f != nil {
		if err := f(ctx); err != nil {
			return nil, err
		}
	}
	return &pb.SetFreezeResponse{}, nil
}

func (a *answering) WatchPool(_ *pb.WatchPoolRequest, s grpc.ServerStreamingServer[pb.WatchPoolResponse]) error {
	if err := s.Send(&pb.WatchPoolResponse{ServedBy: a.address}); err != nil {
		return err
	}
	<-s.Context().Done()
	return s.Context().Err()
}

func (a *answering) counts() (reads, writes int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.reads, a.writes
}

func startAgent(t *testing.T, opts ...grpc.ServerOption) *answering {
	t.Helper()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	a := &answering{address: lis.Addr().String()}
	a.server = grpc.NewServer(append(opts, grpc.UnaryInterceptor(UnaryErrors), grpc.StreamInterceptor(StreamErrors))...)
	pb.RegisterPoolServiceServer(a.server, a)
	go a.server.Serve(lis) //nolint:errcheck // ends with Stop
	t.Cleanup(a.server.Stop)
	return a
}

// deadAddress is an address where nobody listens.
func deadAddress(t *testing.T) string {
	t.Helper()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer lis.Close()
	return lis.Addr().String()
}

// silentAddress takes connections and never says a word.
func silentAddress(t *testing.T) string {
	t.Helper()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { lis.Close() })
	go func() {
		for {
			conn, err := lis.Accept()
			if err != nil {
				return
			}
			t.Cleanup(func() { conn.Close() })
		}
	}()
	return lis.Addr().String()
}

func dial(t *testing.T, l Limits, agents ...string) *Client {
	t.Helper()
	c, err := Dial(Target{Agents: agents}, l)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

var quick = Limits{Connect: 2 * time.Second, Stagger: 20 * time.Millisecond, Read: time.Second, Write: time.Second}

func TestAReadGoesToTheNextAgentWhenOneIsDeadOrSilent(t *testing.T) {
	for name, first := range map[string]string{"dead": deadAddress(t), "silent": silentAddress(t)} {
		t.Run(name, func(t *testing.T) {
			living := startAgent(t)
			c := dial(t, quick, first, living.address)
			resp, err := pb.NewPoolServiceClient(c).GetPool(t.Context(), &pb.GetPoolRequest{})
			if err != nil {
				t.Fatal(err)
			}
			if resp.GetPool().GetLeader() != living.address || c.Agent() != living.address {
				t.Errorf("answered by %s, preferred %s, want %s", resp.GetPool().GetLeader(), c.Agent(), living.address)
			}
		})
	}
}

func TestAReadLeavesAnAgentThatHangsOrHasNoEtcd(t *testing.T) {
	answers := map[string]func(context.Context) error{
		"hangs":   func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() },
		"no etcd": func(context.Context) error { return pool.ErrUnavailable },
	}
	for name, answer := range answers {
		t.Run(name, func(t *testing.T) {
			bad, good := startAgent(t), startAgent(t)
			bad.read = answer
			limits := quick
			limits.Read = 3 * time.Second
			c := dial(t, limits, bad.address, good.address)
			if _, err := pb.NewPoolServiceClient(c).GetPool(t.Context(), &pb.GetPoolRequest{}); err != nil {
				t.Fatal(err)
			}
			if reads, _ := good.counts(); reads != 1 {
				t.Errorf("the good agent saw %d reads, want 1", reads)
			}
		})
	}
}

func TestAWriteWhoseConnectionBreaksIsUnknownAndNeverSentAgain(t *testing.T) {
	first, second := startAgent(t), startAgent(t)
	first.write = func(ctx context.Context) error {
		go first.server.Stop()
		<-ctx.Done()
		return ctx.Err()
	}
	c := dial(t, quick, first.address, second.address)
	_, err := pb.NewPoolServiceClient(c).SetFreeze(t.Context(), &pb.SetFreezeRequest{})
	if !errors.Is(err, pool.ErrOutcomeUnknown) {
		t.Fatalf("error = %v, want outcome unknown", err)
	}
	if _, writes := second.counts(); writes != 0 {
		t.Errorf("the second agent saw %d writes, want none", writes)
	}
}

func TestAWriteThatIsNotAnsweredInTimeIsUnknown(t *testing.T) {
	a := startAgent(t)
	a.write = func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }
	limits := quick
	limits.Write = 100 * time.Millisecond
	c := dial(t, limits, a.address)
	_, err := pb.NewPoolServiceClient(c).SetFreeze(t.Context(), &pb.SetFreezeRequest{})
	if !errors.Is(err, pool.ErrOutcomeUnknown) {
		t.Fatalf("error = %v, want outcome unknown", err)
	}
}

func TestAWriteWhoseHandlerRanOutOfTimeIsUnknown(t *testing.T) {
	a, other := startAgent(t), startAgent(t)
	a.write = func(context.Context) error { return context.DeadlineExceeded } // it tells so before the caller's own limit
	c := dial(t, quick, a.address, other.address)
	_, err := pb.NewPoolServiceClient(c).SetFreeze(t.Context(), &pb.SetFreezeRequest{})
	if !errors.Is(err, pool.ErrOutcomeUnknown) {
		t.Fatalf("error = %v, want outcome unknown", err)
	}
	if _, writes := other.counts(); writes != 0 {
		t.Error("it was sent to another agent as well")
	}
}

func TestAWriteGoesOnWhereNothingWasSentOrNothingWasChanged(t *testing.T) {
	unavailable, good := startAgent(t), startAgent(t)
	unavailable.write = func(context.Context) error { return pool.ErrUnavailable }
	c := dial(t, quick, deadAddress(t), unavailable.address, good.address)
	if _, err := pb.NewPoolServiceClient(c).SetFreeze(t.Context(), &pb.SetFreezeRequest{}); err != nil {
		t.Fatal(err)
	}
	_, a := unavailable.counts()
	_, b := good.counts()
	if a > 1 || b != 1 {
		t.Errorf("writes seen: %d and %d, want at most 1 and exactly 1", a, b)
	}
}

func TestAWriteThatFoundItsConnectionBrokenWasNeverSentAndGoesToTheNextAgent(t *testing.T) {
	alive := startAgent(t)
	alive.write = func(context.Context) error { return status.Error(codes.Unavailable, "not from a handler of ours") }
	c := dial(t, quick, deadAddress(t), alive.address)
	const method = pb.PoolService_SetFreeze_FullMethodName
	for name, want := range map[string]struct {
		agent       int
		sent, again bool
	}{
		"an agent that has vanished since it was looked for": {0, false, true},
		"an agent that has the call":                         {1, true, false},
	} {
		sent, err := c.attempt(t.Context(), want.agent, quick.Write, method, &pb.SetFreezeRequest{}, &pb.SetFreezeResponse{}, nil)
		if err == nil || sent != want.sent {
			t.Errorf("%s: sent %v, %v", name, sent, err)
			continue
		}
		again, err := judge(t.Context(), method, want.sent, status.Error(codes.Unavailable, "i/o timeout"))
		if again != want.again || errors.Is(err, pool.ErrOutcomeUnknown) == want.again {
			t.Errorf("%s: again %v, %v", name, again, err)
		}
	}
}

func TestARefusalKeepsItsReasonAndTheWayOut(t *testing.T) {
	a := startAgent(t)
	a.write = func(context.Context) error { return pool.Refuse("FROZEN", "unfreeze first", "the pool is frozen") }
	_, err := pb.NewPoolServiceClient(dial(t, quick, a.address)).SetFreeze(t.Context(), &pb.SetFreezeRequest{})
	r, ok := RefusalOf(err)
	if !ok || r.Code != "FROZEN" || r.Reason != "the pool is frozen" || r.Remedy != "unfreeze first" {
		t.Errorf("refusal = %+v, %v (error %v)", r, ok, err)
	}
	if !errors.Is(err, pool.ErrRefused) {
		t.Errorf("error %v is not pool.ErrRefused", err)
	}
}

func TestWhenNobodyAnswersEachAgentIsNamedWithItsTrouble(t *testing.T) {
	dead := []string{deadAddress(t), deadAddress(t)}
	_, err := pb.NewPoolServiceClient(dial(t, quick, dead...)).GetPool(t.Context(), &pb.GetPoolRequest{})
	if !errors.Is(err, pool.ErrUnavailable) {
		t.Fatalf("error = %v, want unavailable", err)
	}
	for _, want := range append(dead, "connection refused") {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("error %q does not contain %q", err, want)
		}
	}
	if strings.Contains(err.Error(), "desc =") {
		t.Errorf("error %q shows gRPC's wrapping", err)
	}
}

func TestTheNextStreamGoesElsewhereAfterOneBroke(t *testing.T) {
	first, second := startAgent(t), startAgent(t)
	c := dial(t, quick, first.address, second.address)
	s, err := pb.NewPoolServiceClient(c).WatchPool(t.Context(), &pb.WatchPoolRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if m, err := s.Recv(); err != nil || m.GetServedBy() != first.address {
		t.Fatalf("first message from %q, %v", m.GetServedBy(), err)
	}
	first.server.Stop()
	if _, err := s.Recv(); !errors.Is(err, pool.ErrUnavailable) {
		t.Fatalf("broken stream: %v, want unavailable", err)
	}
	s, err = pb.NewPoolServiceClient(c).WatchPool(t.Context(), &pb.WatchPoolRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if m, err := s.Recv(); err != nil || m.GetServedBy() != second.address {
		t.Errorf("next stream from %q, %v, want %s", m.GetServedBy(), err, second.address)
	}
}

func TestAgentsThatThePoolNamesAreAskedWhenThoseOfTheOperatorAreGone(t *testing.T) {
	first, second := startAgent(t), startAgent(t)
	c := dial(t, quick, first.address)
	c.Learn([]string{first.address, "srv-3.example.net:7400", "", "nonsense", second.address, second.address})
	if got, want := c.Agents(), []string{first.address, second.address}; !slices.Equal(got, want) {
		t.Errorf("agents %q, want %q: known ones once, and in plaintext none but those on loopback", got, want)
	}
	ask := func() string {
		t.Helper()
		r, err := pb.NewPoolServiceClient(c).GetPool(t.Context(), &pb.GetPoolRequest{})
		if err != nil {
			t.Fatal(err)
		}
		return r.GetPool().GetLeader()
	}
	if got := ask(); got != first.address {
		t.Errorf("%s answered while %s lives", got, first.address)
	}
	first.server.Stop()
	if got := ask(); got != second.address {
		t.Errorf("%s answered, want %s", got, second.address)
	}
	c.Close()
	c.Learn([]string{"127.0.0.1:1"})
	if n := len(c.Agents()); n != 2 {
		t.Errorf("%d agents after the end", n)
	}
}

func TestPlaintextNeverLeavesTheMachine(t *testing.T) {
	for _, address := range []string{"10.0.0.1:7400", "srv-1:7400", "[2001:db8::1]:7400"} {
		if _, err := Dial(Target{Agents: []string{address}}, Limits{}); !errors.Is(err, pool.ErrInvalid) {
			t.Errorf("plaintext to %s: %v, want it refused", address, err)
		}
	}
	if err := loopbackOnly("tcp", "10.0.0.1:7400", nil); err == nil {
		t.Error("a name that resolves to another machine was accepted")
	}
	if err := loopbackOnly("tcp", "[::1]:7400", nil); err != nil {
		t.Errorf("::1: %v", err)
	}
}

func TestACertificateOfAnotherPoolIsNamed(t *testing.T) {
	server, client := identity(t, "pool-a", pki.RoleServer), identity(t, "pool-b", pki.RoleOperator)
	a := startAgent(t, grpc.Creds(credentials.NewTLS(server.Server(false))))
	c, err := Dial(Target{Agents: []string{a.address}, TLS: client.Client(pki.ServerHost)}, quick)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_, err = pb.NewPoolServiceClient(c).GetPool(t.Context(), &pb.GetPoolRequest{})
	if err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("error = %v, want one that speaks of the certificate", err)
	}
}

func TestBothEndsProveWhoTheyAre(t *testing.T) {
	authority := newAuthority(t, "pool-a")
	server := issue(t, authority, pki.RoleServer)
	client := issue(t, authority, pki.RoleOperator)
	a := startAgent(t, grpc.Creds(credentials.NewTLS(server.Server(false))))
	call := func(config *tls.Config) error {
		c, err := Dial(Target{Agents: []string{a.address}, TLS: config}, quick)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		_, err = pb.NewPoolServiceClient(c).GetPool(t.Context(), &pb.GetPoolRequest{})
		return err
	}
	if err := call(client.Client(pki.ServerHost)); err != nil {
		t.Errorf("with a certificate: %v", err)
	}
	nobody := client.Client(pki.ServerHost)
	nobody.GetClientCertificate = nil
	if err := call(nobody); err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("without a certificate: %v, want it refused by name", err)
	}
}

func TestAgentsNamedTwiceAreAskedOnce(t *testing.T) {
	c := dial(t, quick, "127.0.0.1:1", "127.0.0.1:1", "127.0.0.1:2")
	if want := []string{"127.0.0.1:1", "127.0.0.1:2"}; !slices.Equal(c.Agents(), want) {
		t.Errorf("agents = %v, want %v", c.Agents(), want)
	}
}

func newAuthority(t *testing.T, poolName string) *pki.Authority {
	t.Helper()
	a, err := pki.NewAuthority(poolName, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func identity(t *testing.T, poolName string, role pki.Role) *pki.Store {
	t.Helper()
	return issue(t, newAuthority(t, poolName), role)
}

func issue(t *testing.T, a *pki.Authority, role pki.Role) *pki.Store {
	t.Helper()
	pair, err := a.Issue(pki.Request{Name: "x", Role: role}, time.Now(), 0)
	if err != nil {
		t.Fatal(err)
	}
	ca, err := a.PEM()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	files := pki.Files{CA: filepath.Join(dir, "ca.crt"), Cert: filepath.Join(dir, "x.crt"), Key: filepath.Join(dir, "x.key")}
	if err := pki.Save(files, ca.Cert, pair); err != nil {
		t.Fatal(err)
	}
	s, err := pki.Open(files)
	if err != nil {
		t.Fatal(err)
	}
	return s
}
