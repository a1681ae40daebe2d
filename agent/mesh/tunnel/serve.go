package tunnel

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/holdfast-ha/holdfast/pkg/pool"
	pb "github.com/holdfast-ha/holdfast/proto/holdfast/v1"
)

// Serve is the answering end of one stream: it reads what the tunnel is for, asks admit, and carries bytes to the
// socket until both directions have ended. admit must judge the caller afresh.
func (e *Ends) Serve(s grpc.ServerStream, admit func(context.Context, *pb.TunnelOpen) error) error {
	var first frame
	if err := s.RecvMsg(&first); err != nil {
		return fmt.Errorf("a tunnel's first message: %w", err)
	}
	if first.open == nil || first.data != nil {
		first.data.Free()
		return fmt.Errorf("a tunnel's first message must say what it is for: %w", pool.ErrInvalid)
	}
	if err := admit(s.Context(), first.open); err != nil {
		return err
	}
	op := pool.OperationID(first.open.GetOperation())
	a, err := e.enter(op, pool.VMID(first.open.GetVm()))
	if err != nil {
		return err
	}
	defer e.leave(op, a)
	path, err := e.socketOf(a, first.open.GetSocket())
	if err != nil {
		return err
	}
	conn, err := e.reach(s.Context(), path)
	if err != nil {
		return err
	}
	if err := s.SendMsg(&frame{}); err != nil {
		_ = conn.Close()
		return err
	}
	err = pipe(conn, s, func() error { return s.SendMsg(&frame{end: true}) })
	if err != nil && status.Code(err) != codes.Canceled {
		e.o.Log.Warn("a tunnel of a migration broke", "operation", op, "socket", first.open.GetSocket(), "err", err)
	}
	return err
}

// QEMU listens before libvirt tells the source so, so that a missing socket is a matter of moments at most.
const (
	reachFor   = 3 * time.Second
	reachEvery = 20 * time.Millisecond
)

// reach connects to a socket of this server.
func (e *Ends) reach(ctx context.Context, path string) (*net.UnixConn, error) {
	deadline := e.o.Clock.Now().Add(reachFor)
	for {
		conn, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: path, Net: "unix"})
		if err == nil {
			roomy(conn)
			return conn, nil
		}
		if !e.o.Clock.Now().Before(deadline) {
			return nil, fmt.Errorf("the far end of a tunnel: %w: %w", err, pool.ErrUnavailable)
		}
		if serr := e.o.Clock.Sleep(ctx, reachEvery); serr != nil {
			return nil, errors.Join(err, serr)
		}
	}
}
