package tunnel

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"time"

	"google.golang.org/grpc"

	"github.com/holdfast-ha/holdfast/pkg/pool"
	pb "github.com/holdfast-ha/holdfast/proto/holdfast/v1"
)

// Way is how one migration leaves this server.
type Way struct {
	Operation pool.OperationID
	VM        pool.VMID
	// Dir is the directory that the destination named in Expect. It must lie where this server's own do.
	Dir string
	// Dial returns a connection to the destination for one socket's streams alone: libvirt's many small messages must
	// not wait behind the guest's memory. The connection is closed by Close.
	Dial func() (*grpc.ClientConn, error)
}

// Sockets are where the source's libvirt connects.
type Sockets struct{ Libvirt, Stream string }

// way is an open Way.
type way struct {
	Way
	dir     string
	sockets Sockets
	uid     int
	conns   []*grpc.ClientConn
	ls      []*net.UnixListener
	// life ends with Close.
	life context.Context //nolint:containedctx // the streams' life is the way's, not a caller's
	end  context.CancelCauseFunc
}

var errClosed = errors.New("the migration is over")

// Open listens on this server's ends of a migration's tunnels. A way that is open already for the operation is closed.
func (e *Ends) Open(ctx context.Context, w Way) (Sockets, error) {
	e.Close(w.Operation)
	name := filepath.Base(w.Dir)
	if !nameRE.MatchString(name) || filepath.Join(e.o.Dir, name) != w.Dir {
		return Sockets{}, pool.Refuse("OTHER_DIRECTORY", "run the same version of Holdfast on both servers",
			"the destination keeps a migration's sockets at %s, this server below %s", w.Dir, e.o.Dir)
	}
	uid, gid, err := e.o.User(ctx)
	if err != nil {
		return Sockets{}, fmt.Errorf("open a tunnel: %w", err)
	}
	o := &way{Way: w, uid: uid}
	if o.dir, err = makeDirectory(e.o.Dir, name, uid, gid); err != nil {
		return Sockets{}, err
	}
	o.sockets = Sockets{Libvirt: filepath.Join(o.dir, libvirtSocket), Stream: streamSocket(o.dir, w.VM)}
	o.life, o.end = e.o.Clock.WithCancel(context.WithoutCancel(ctx))
	if err := e.listenAll(o, gid); err != nil {
		o.close(e)
		return Sockets{}, err
	}
	e.mu.Lock()
	e.leaving[w.Operation] = o
	e.mu.Unlock()
	return o.sockets, nil
}

func (e *Ends) listenAll(o *way, gid int) error {
	for _, s := range []struct {
		path   string
		socket pb.TunnelSocket
		uid    int
	}{{o.sockets.Libvirt, pb.TunnelSocket_TUNNEL_SOCKET_LIBVIRT, os.Geteuid()}, {o.sockets.Stream, pb.TunnelSocket_TUNNEL_SOCKET_STREAM, o.uid}} {
		cc, err := o.Dial()
		if err != nil {
			return fmt.Errorf("open a tunnel: %w", err)
		}
		o.conns = append(o.conns, cc)
		l, err := listen(s.path, s.uid, gid)
		if err != nil {
			return err
		}
		o.ls = append(o.ls, l)
		e.o.Clock.Go("tunnel listen", func() { e.accept(o, l, cc, s.socket, s.uid) })
	}
	return nil
}

// Close ends a migration's tunnels and removes its sockets; nil if there are none.
func (e *Ends) Close(op pool.OperationID) {
	e.mu.Lock()
	o := e.leaving[op]
	delete(e.leaving, op)
	e.mu.Unlock()
	if o != nil {
		o.close(e)
	}
}

func (o *way) close(e *Ends) {
	o.end(errClosed)
	for _, l := range o.ls {
		_ = l.Close() // it unlinks its socket
	}
	for _, cc := range o.conns {
		_ = cc.Close() // closing twice is its only error
	}
	if err := os.RemoveAll(o.dir); err != nil {
		e.o.Log.Warn("directory of a migration's sockets", "err", err)
	}
}

// accept takes connections of the local libvirt and QEMU until the way is closed.
func (e *Ends) accept(o *way, l *net.UnixListener, cc *grpc.ClientConn, socket pb.TunnelSocket, uid int) {
	for {
		conn, err := l.AcceptUnix()
		if err != nil {
			if o.life.Err() == nil {
				e.o.Log.Warn("a tunnel's socket", "err", err)
			}
			return
		}
		if err := callerIs(conn, uid); err != nil {
			e.o.Log.Warn("a stranger at a tunnel's socket was turned away", "operation", o.Operation, "err", err)
			_ = conn.Close()
			continue
		}
		e.o.Clock.Go("tunnel", func() {
			if err := e.carry(o, conn, cc, socket); err != nil && o.life.Err() == nil {
				e.o.Log.Warn("a tunnel of a migration broke", "vm", o.VM, "operation", o.Operation, "socket", socket, "err", err)
			}
		})
	}
}

// openFor bounds how long the destination may take to judge and connect a stream.
const openFor = 10 * time.Second

// carry takes one local connection to the destination.
func (e *Ends) carry(o *way, conn *net.UnixConn, cc *grpc.ClientConn, socket pb.TunnelSocket) error {
	defer func() { _ = conn.Close() }() // closed already but for an early failure
	roomy(conn)
	ctx, end := e.o.Clock.WithCancel(o.life)
	defer end(nil)
	s, err := e.begin(ctx, o, cc, socket)
	if err != nil {
		return err
	}
	return pipe(conn, s, s.CloseSend)
}

// tunnelDesc describes the call; tunnelMethod is its full name.
var tunnelDesc = &grpc.StreamDesc{StreamName: "Tunnel", ServerStreams: true, ClientStreams: true}

// begin opens a stream, and returns once the destination has reached its socket.
func (e *Ends) begin(ctx context.Context, o *way, cc *grpc.ClientConn, socket pb.TunnelSocket) (grpc.ClientStream, error) {
	s, err := cc.NewStream(ctx, tunnelDesc, pb.MeshService_Tunnel_FullMethodName, grpc.CallContentSubtype(codecName))
	if err != nil {
		return nil, fmt.Errorf("open a tunnel: %w", err)
	}
	open := &pb.TunnelOpen{Operation: string(o.Operation), Vm: string(o.VM), Socket: socket}
	if err := s.SendMsg(&frame{open: open}); err != nil && !errors.Is(err, io.EOF) { // EOF: the answer says why
		return nil, fmt.Errorf("open a tunnel: %w", err)
	}
	answered := make(chan error, 1)
	var f frame
	go func() { answered <- s.RecvMsg(&f) }()
	limit, cancel := e.o.Clock.WithTimeout(ctx, openFor)
	defer cancel()
	select {
	case err := <-answered:
		if err != nil {
			return nil, fmt.Errorf("open a tunnel: %w", err)
		}
		f.data.Free()
		return s, nil
	case <-limit.Done():
		return nil, fmt.Errorf("open a tunnel: the destination has not answered for %v: %w", openFor, pool.ErrUnavailable)
	}
}
