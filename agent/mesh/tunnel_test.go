package mesh

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"

	"github.com/holdfast-ha/holdfast/agent/mesh/tunnel"
	"github.com/holdfast-ha/holdfast/pkg/clock"
	"github.com/holdfast-ha/holdfast/pkg/pki"
	"github.com/holdfast-ha/holdfast/pkg/pool"
	"github.com/holdfast-ha/holdfast/pkg/rpc"
	pb "github.com/holdfast-ha/holdfast/proto/holdfast/v1"
)

// book is the claims as a gate reads them.
type book struct {
	mu    sync.Mutex
	claim pool.Claim
}

func (b *book) Admitted(_ context.Context, from pool.ServerID, op pool.OperationID, _ pool.VMID) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return Admit(b.claim, from, "srv-2", 7, op)
}

func (b *book) change(f func(*pool.Claim)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	f(&b.claim)
}

// crossing is two servers on loopback, and a migration of web from srv-1 to srv-2 that was admitted.
type crossing struct {
	*site
	book *book
	// source and target are the ends of the two agents; ways opens what leaves srv-1.
	source, target *tunnel.Ends
	ways           *Ways
	stop           func()
	// libvirtd listens where srv-2's libvirt does.
	libvirtd *net.UnixListener
	base     string
}

const op = "op-1"

func newCrossing(t testing.TB) *crossing {
	t.Helper()
	c := &crossing{site: newSite(t), base: filepath.Join(shortDir(t), "q")}
	var err error
	if c.libvirtd, err = net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(shortDir(t), "libvirt-sock"), Net: "unix"}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.libvirtd.Close() })
	c.book = &book{claim: pool.Claim{VM: "web", Server: "srv-1", Session: 3, Phase: pool.PhaseMigrating, Operation: op,
		Incoming: &pool.Incoming{Server: "srv-2", Session: 7}}}
	c.source, c.target = c.ends("a"), c.ends("b")
	c.stop = c.answer()
	c.ways = NewWays(c.peers("srv-1", &machine{}), c.source)
	t.Cleanup(func() { c.ways.Close(op) })
	return c
}

// ends makes one agent's; both servers' directories would be at one path, were they not one machine.
func (c *crossing) ends(part string) *tunnel.Ends {
	return tunnel.New(tunnel.Options{Dir: filepath.Join(c.base, part), Clock: clock.Real(), Log: slog.New(slog.DiscardHandler),
		User:    func(context.Context) (int, int, error) { return os.Getuid(), os.Getgid(), nil },
		Libvirt: func() (string, error) { return c.libvirtd.Addr().String(), nil }})
}

// answer runs srv-2's agent.
func (c *crossing) answer() (stop func()) {
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		c.site.t.Fatal(err)
	}
	srv := grpc.NewServer(rpc.ServerOptions(c.certificate("srv-2", pki.RoleServer).Server(true))...)
	m := NewServer("srv-2", "1", func() string { return life }, &machine{session: 7})
	m.UseTunnels(c.target, c.book)
	pb.RegisterMeshServiceServer(srv, m)
	go srv.Serve(lis) //nolint:errcheck // ends with Stop
	c.site.t.Cleanup(srv.Stop)
	c.registerAt("srv-2", lis.Addr().String())
	return srv.Stop
}

// open expects the migration at srv-2 and opens the way at srv-1. incoming is where srv-2's QEMU is to listen.
func (c *crossing) open() (s tunnel.Sockets, incoming string) {
	t := c.site.t
	t.Helper()
	dir, err := c.target.Expect(t.Context(), op, "web")
	if err != nil {
		t.Fatal(err)
	}
	s, err = c.ways.Open(t.Context(), "srv-2", op, "web", filepath.Join(c.base, "a", filepath.Base(dir)))
	if err != nil {
		t.Fatal(err)
	}
	return s, filepath.Join(dir, "s.tunnelmigrate.dest.web")
}

// shortDir is short enough for a socket's path.
func shortDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "hf")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

func dial(t testing.TB, path string) *net.UnixConn {
	t.Helper()
	c, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func accept(t testing.TB, l *net.UnixListener) *net.UnixConn {
	t.Helper()
	if err := l.SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
		t.Fatal(err)
	}
	c, err := l.AcceptUnix()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func listenAt(t testing.TB, path string) *net.UnixListener {
	t.Helper()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// ends reads until the connection ends, which must be soon.
func ends(t testing.TB, c net.Conn) []byte {
	t.Helper()
	if err := c.SetReadDeadline(time.Now().Add(5 * time.Second)); err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(c)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("it does not end; got %d bytes", len(got))
	}
	return got
}

func TestATunnelCarriesBytesBothWaysAndEachEndByItself(t *testing.T) {
	c := newCrossing(t)
	s, incoming := c.open()
	for _, far := range []struct {
		path string
		l    *net.UnixListener
	}{{s.Libvirt, c.libvirtd}, {s.Stream, listenAt(t, incoming)}} {
		near := dial(t, far.path)
		there := accept(t, far.l)
		up, down := noise(5<<20), noise(3<<20)
		sent := make(chan error, 2)
		go func() { _, err := near.Write(up); sent <- errors.Join(err, near.CloseWrite()) }()
		if got := ends(t, there); !bytes.Equal(got, up) {
			t.Fatalf("%d bytes arrived, other than the %d that were sent", len(got), len(up))
		}
		// One direction has ended; the other goes on.
		go func() { _, err := there.Write(down); sent <- errors.Join(err, there.Close()) }()
		if got := ends(t, near); !bytes.Equal(got, down) {
			t.Fatalf("%d bytes came back, other than the %d that were sent", len(got), len(down))
		}
		for range 2 {
			if err := <-sent; err != nil {
				t.Error(err)
			}
		}
	}
}

func noise(n int) []byte {
	b := make([]byte, n)
	r := rand.NewChaCha8(sha256.Sum256([]byte("noise")))
	_, _ = r.Read(b) // never fails
	return b
}

func TestSmallMessagesDoNotWaitBehindMemory(t *testing.T) {
	c := newCrossing(t)
	s, incoming := c.open()
	memory := dial(t, s.Stream)
	sink := accept(t, listenAt(t, incoming))
	go io.Copy(io.Discard, sink)                            //nolint:errcheck // ends with the test
	go io.Copy(memory, rand.NewChaCha8(sha256.Sum256(nil))) //nolint:errcheck // ends with the test
	near := dial(t, s.Libvirt)
	far := accept(t, c.libvirtd)
	go io.Copy(far, far) //nolint:errcheck // ends with the test
	var all []time.Duration
	for range 200 {
		began := time.Now()
		if _, err := near.Write([]byte("ping")); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(near, make([]byte, 4)); err != nil {
			t.Fatal(err)
		}
		all = append(all, time.Since(began))
	}
	slices.Sort(all)
	median := all[len(all)/2]
	t.Logf("median %v, worst %v", median, all[len(all)-1])
	if median > 20*time.Millisecond {
		t.Errorf("a small message takes %v there and back", median)
	}
}

func TestOnlyTheOwnerOfAnAdmittedMigrationOpensATunnel(t *testing.T) {
	for name, change := range map[string]func(*pool.Claim){
		"held":             func(c *pool.Claim) { c.Phase, c.Incoming, c.Operation = pool.PhaseHeld, nil, "" },
		"handed over":      func(c *pool.Claim) { c.Phase, c.Server, c.Incoming = pool.PhaseHandedOver, "srv-2", nil },
		"other operation":  func(c *pool.Claim) { c.Operation = "op-2" },
		"other owner":      func(c *pool.Claim) { c.Server = "srv-3" },
		"other server":     func(c *pool.Claim) { c.Incoming = &pool.Incoming{Server: "srv-3", Session: 7} },
		"earlier session":  func(c *pool.Claim) { c.Incoming = &pool.Incoming{Server: "srv-2", Session: 6} },
		"no destination":   func(c *pool.Claim) { c.Incoming = nil },
		"already released": func(c *pool.Claim) { *c = pool.Claim{Phase: pool.PhaseUnassigned} },
	} {
		t.Run(name, func(t *testing.T) {
			c := newCrossing(t)
			s, _ := c.open()
			c.book.change(change)
			if got := ends(t, dial(t, s.Libvirt)); len(got) > 0 {
				t.Errorf("got %q", got)
			}
			if err := c.libvirtd.SetDeadline(time.Now().Add(50 * time.Millisecond)); err != nil {
				t.Fatal(err)
			}
			if conn, err := c.libvirtd.Accept(); err == nil {
				conn.Close()
				t.Error("libvirt was reached")
			}
		})
	}
}

func TestADestinationThatHasNoSessionYetIsToBeAskedAgain(t *testing.T) {
	c := pool.Claim{VM: "web", Phase: pool.PhaseMigrating, Server: "srv-1", Operation: op, Incoming: &pool.Incoming{Server: "srv-2", Session: 7}}
	if err := Admit(c, "srv-1", "srv-2", 0, op); !errors.Is(err, pool.ErrUnavailable) || errors.Is(err, pool.ErrRefused) {
		t.Errorf("no session: %v; want unavailable, which is tried again", err)
	}
	if err := Admit(c, "srv-1", "srv-2", 8, op); !errors.Is(err, pool.ErrRefused) {
		t.Errorf("another session: %v; want refused", err)
	}
	if err := Admit(c, "srv-1", "srv-2", 7, op); err != nil {
		t.Errorf("the session that the claim names: %v", err)
	}
}

func TestATunnelThatWasNotAnnouncedIsRefused(t *testing.T) {
	c := newCrossing(t)
	s, err := c.ways.Open(t.Context(), "srv-2", op, "web", filepath.Join(c.base, "a", strings.Repeat("0", 20)))
	if err != nil {
		t.Fatal(err)
	}
	ends(t, dial(t, s.Libvirt))
	if _, err := c.ways.Open(t.Context(), "srv-2", op, "web", "/elsewhere/"+strings.Repeat("0", 20)); !errors.Is(err, pool.ErrRefused) {
		t.Errorf("another directory than this server's: %v", err)
	}
	if _, err := c.ways.Open(t.Context(), "srv-2", op, "web", filepath.Join(c.base, "a", "..", "x")); !errors.Is(err, pool.ErrRefused) {
		t.Errorf("a directory elsewhere: %v", err)
	}
}

func TestBothEndsOfATunnelBreakTogether(t *testing.T) {
	breaks := map[string]func(c *crossing, near, far *net.UnixConn){
		"the source's libvirt dies":      func(_ *crossing, near, _ *net.UnixConn) { near.Close() },
		"the destination's libvirt dies": func(_ *crossing, _, far *net.UnixConn) { far.Close() },
		"the migration is closed":        func(c *crossing, _, _ *net.UnixConn) { c.ways.Close(op) },
		"the destination's agent ends":   func(c *crossing, _, _ *net.UnixConn) { c.stop() },
	}
	for name, cut := range breaks {
		t.Run(name, func(t *testing.T) {
			c := newCrossing(t)
			s, _ := c.open()
			near := dial(t, s.Libvirt)
			far := accept(t, c.libvirtd)
			if _, err := near.Write([]byte("hello")); err != nil {
				t.Fatal(err)
			}
			if _, err := io.ReadFull(far, make([]byte, 5)); err != nil {
				t.Fatal(err)
			}
			cut(c, near, far)
			if !strings.Contains(name, "destination's libvirt") {
				ends(t, far)
				far.Close()
			}
			if !strings.Contains(name, "source's libvirt") {
				ends(t, near)
			}
		})
	}
}

func TestSocketsArePrivateAndGoneAfterwards(t *testing.T) {
	c := newCrossing(t)
	s, incoming := c.open()
	for _, path := range []string{s.Libvirt, s.Stream} {
		info, err := os.Stat(path)
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v; want mode 0600", path, info, err)
		}
	}
	for _, dir := range []string{filepath.Dir(s.Libvirt), filepath.Dir(incoming)} {
		if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o700 || len(filepath.Base(dir)) != 20 {
			t.Errorf("%s: %v, %v; want mode 0700 and a long name", dir, info, err)
		}
		if info, err := os.Stat(filepath.Dir(dir)); err != nil || info.Mode().Perm() != 0o711 {
			t.Errorf("above %s: %v, %v; want mode 0711", dir, info, err)
		}
	}
	again, err := c.target.Expect(t.Context(), op, "web")
	if err != nil || again == filepath.Dir(incoming) {
		t.Errorf("announced again: %s, %v; want a new name", again, err)
	}
	c.ways.Close(op)
	if _, err := os.Stat(filepath.Dir(s.Libvirt)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("after its end: %v", err)
	}
	if err := c.ends("b").Sweep(); err != nil {
		t.Error(err)
	}
	if left, err := os.ReadDir(filepath.Join(c.base, "b")); err != nil || len(left) > 0 {
		t.Errorf("what an earlier agent left: %v, %v", left, err)
	}
}
