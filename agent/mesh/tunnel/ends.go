package tunnel

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/holdfast-ha/holdfast/pkg/clock"
	"github.com/holdfast-ha/holdfast/pkg/pool"
	pb "github.com/holdfast-ha/holdfast/proto/holdfast/v1"
)

// Options assembles the Ends of one agent. All fields are required.
type Options struct {
	// Dir is where the migrations' directories are made: the same path on every server, as libvirt has QEMU use one
	// path at both ends. Everything above it must let QEMU's user pass.
	Dir string
	// User returns as whom QEMU runs on this server.
	User func(ctx context.Context) (uid, gid int, err error)
	// Libvirt returns the path of this server's libvirt socket.
	Libvirt func() (string, error)
	Clock   clock.Clock
	Log     *slog.Logger
}

// Ends are the ends of tunnels on one server: those that its own migrations leave by, and those that others' arrive at.
// Create it with New. Safe for concurrent use.
type Ends struct {
	o Options

	mu       sync.Mutex
	leaving  map[pool.OperationID]*way
	arriving map[pool.OperationID]*arrival
}

// New returns Ends without any tunnel.
func New(o Options) *Ends {
	return &Ends{o: o, leaving: map[pool.OperationID]*way{}, arriving: map[pool.OperationID]*arrival{}}
}

// Sweep removes the sockets that an earlier agent left. Call it once, before the first tunnel.
func (e *Ends) Sweep() error { return sweep(e.o.Dir) }

// arrival is a migration that is expected here, or arriving.
type arrival struct {
	vm  pool.VMID
	dir string
	// open counts its streams; idle counts the times that there was none.
	open, idle int
}

// How long a directory stays without a stream: until libvirt of the source has begun, and after the last stream's end.
const (
	expectFor = 2 * time.Minute
	lingerFor = 10 * time.Second
)

// Expect makes ready for a migration's streams, and returns the directory that the source must use too. Repeated for
// the same operation, it makes a new directory and forgets the old one.
func (e *Ends) Expect(ctx context.Context, op pool.OperationID, vm pool.VMID) (string, error) {
	uid, gid, err := e.o.User(ctx)
	if err != nil {
		return "", fmt.Errorf("expect a migration: %w", err)
	}
	name, err := newName()
	if err != nil {
		return "", err
	}
	dir, err := makeDirectory(e.o.Dir, name, uid, gid)
	if err != nil {
		return "", err
	}
	a := &arrival{vm: vm, dir: dir}
	e.mu.Lock()
	old := e.arriving[op]
	e.arriving[op] = a
	e.mu.Unlock()
	if old != nil {
		e.drop(old)
	}
	e.forgetLater(op, a, 0, expectFor)
	return dir, nil
}

// forgetLater forgets an arrival unless a stream was opened since it fell idle for the n-th time.
func (e *Ends) forgetLater(op pool.OperationID, a *arrival, n int, after time.Duration) {
	e.o.Clock.Go("tunnel end", func() {
		_ = e.o.Clock.Sleep(context.Background(), after) // nobody ends it early
		e.mu.Lock()
		due := a.open == 0 && a.idle == n
		if due && e.arriving[op] == a {
			delete(e.arriving, op)
		}
		e.mu.Unlock()
		if due {
			e.drop(a)
		}
	})
}

func (e *Ends) drop(a *arrival) {
	if err := os.RemoveAll(a.dir); err != nil {
		e.o.Log.Warn("directory of a migration's sockets", "err", err)
	}
}

// enter finds an expected migration and counts one stream more; leave counts it off.
func (e *Ends) enter(op pool.OperationID, vm pool.VMID) (*arrival, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	a := e.arriving[op]
	if a == nil || a.vm != vm {
		return nil, fmt.Errorf("no migration of %s by operation %s is expected here; it was announced to an earlier agent, or long ago: %w", vm, op, pool.ErrRefused)
	}
	a.open++
	return a, nil
}

func (e *Ends) leave(op pool.OperationID, a *arrival) {
	e.mu.Lock()
	a.open--
	last := a.open == 0
	if last {
		a.idle++
	}
	n := a.idle
	e.mu.Unlock()
	if last {
		e.forgetLater(op, a, n, lingerFor)
	}
}

// socketOf returns the path of a tunnel's far end on this server.
func (e *Ends) socketOf(a *arrival, s pb.TunnelSocket) (string, error) {
	switch s {
	case pb.TunnelSocket_TUNNEL_SOCKET_LIBVIRT:
		return e.o.Libvirt()
	case pb.TunnelSocket_TUNNEL_SOCKET_STREAM:
		return streamSocket(a.dir, a.vm), nil
	}
	return "", fmt.Errorf("a tunnel to %v: %w", s, pool.ErrInvalid)
}
