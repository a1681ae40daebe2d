package rpc

import (
	"bytes"
	"crypto/tls"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/holdfast-ha/holdfast/pkg/pki"
)

// counting counts the writes to a connection. stuck, closed by Close, makes them wait as an end does that does not read.
type counting struct {
	net.Conn
	mu     sync.Mutex
	writes []int
	stuck  chan struct{}
	closed bool
	// farewell: TLS made ready to say goodbye, for which it gives the other end five seconds, before this was closed.
	farewell bool
}

func (c *counting) SetWriteDeadline(t time.Time) error {
	c.mu.Lock()
	c.farewell = c.farewell || !c.closed
	c.mu.Unlock()
	return c.Conn.SetWriteDeadline(t)
}

func (c *counting) Write(b []byte) (int, error) {
	c.mu.Lock()
	c.writes = append(c.writes, len(b))
	stuck := c.stuck
	c.mu.Unlock()
	if stuck != nil {
		<-stuck
		return 0, net.ErrClosed
	}
	return c.Conn.Write(b)
}

func (c *counting) Close() error {
	c.mu.Lock()
	if !c.closed && c.stuck != nil {
		close(c.stuck)
	}
	c.closed = true
	c.mu.Unlock()
	return c.Conn.Close()
}

// block lets nothing through from here on, and forgets what was counted.
func (c *counting) block(stuck bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.writes, c.farewell = nil, false
	if stuck {
		c.stuck = make(chan struct{})
	}
}

func (c *counting) seen() []int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]int(nil), c.writes...)
}

// wire is a connection over loopback.
func wire(t *testing.T) (near, far net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	if near, err = net.Dial("tcp", l.Addr().String()); err != nil {
		t.Fatal(err)
	}
	if far, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = near.Close(), far.Close() })
	return near, far
}

// bulk connects two servers of a pool; the caller's side is for bulk.
func bulk(t *testing.T) (net.Conn, *counting, net.Conn) {
	t.Helper()
	a := newAuthority(t, "prod")
	raw, accepted := wire(t)
	server := tls.Server(accepted, storeOf(t, a, "srv-2", pki.RoleServer).Server(true))
	shaken := make(chan error, 1)
	go func() { shaken <- server.HandshakeContext(t.Context()) }()
	below := &counting{Conn: raw}
	near, _, err := BulkTLS(storeOf(t, a, "srv-1", pki.RoleServer).Client("srv-2")).ClientHandshake(t.Context(), "srv-2", below)
	if err != nil {
		t.Fatal(err)
	}
	if err := <-shaken; err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = near.Close(), server.Close() })
	return near, below, server
}

func TestWhatIsWrittenAtOnceReachesTheKernelAtOnce(t *testing.T) {
	near, below, far := bulk(t)
	below.block(false)
	sizes := []int{IOBuffer, 9, IOBuffer, record, record + 1, 3 * IOBuffer, 1}
	var want []byte
	for i, n := range sizes {
		want = append(want, bytes.Repeat([]byte{byte('a' + i)}, n)...)
	}
	sent := make(chan error, 1)
	go func() {
		rest := want
		for _, n := range sizes {
			if _, err := near.Write(rest[:n]); err != nil {
				sent <- err
				return
			}
			rest = rest[n:]
		}
		sent <- nil
	}()
	got := make([]byte, len(want))
	if _, err := io.ReadFull(far, got); err != nil {
		t.Fatal(err)
	}
	if err := <-sent; err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Error("other bytes arrived than were sent")
	}
	// One for each, and two more for the one that is three times as large as what is gathered.
	if writes := below.seen(); len(writes) != len(sizes)+2 || writes[0] <= IOBuffer {
		t.Errorf("written in pieces of %v", writes)
	}
}

func TestAConnectionThatNobodyReadsClosesAtOnce(t *testing.T) {
	near, below, _ := bulk(t)
	below.block(true)
	sent := make(chan error, 1)
	go func() { _, err := near.Write(make([]byte, IOBuffer)); sent <- err }()
	for ctx := soon(t); len(below.seen()) == 0; {
		if ctx.Err() != nil {
			t.Fatal("nothing was written")
		}
	}
	_ = near.Close() // that there was no farewell is no matter
	if err := <-sent; err == nil {
		t.Error("what nobody took counts as written")
	}
	below.mu.Lock()
	defer below.mu.Unlock()
	if below.farewell {
		t.Error("it waited for the other end")
	}
}

func TestABulkConnectionChecksWhoAnswers(t *testing.T) {
	a := newAuthority(t, "prod")
	near, far := wire(t)
	server := tls.Server(far, storeOf(t, a, "srv-3", pki.RoleServer).Server(true))
	go func() { _ = server.HandshakeContext(t.Context()); _ = far.Close() }()
	if _, _, err := BulkTLS(storeOf(t, a, "srv-1", pki.RoleServer).Client("srv-2")).ClientHandshake(t.Context(), "srv-2", near); err == nil {
		t.Error("srv-3 was taken for srv-2")
	}
}
