package guard

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/holdfast-ha/holdfast/pkg/clock"
	"github.com/holdfast-ha/holdfast/pkg/pool"
)

const (
	// readLimit bounds how long half a request may keep a connection.
	readLimit = 2 * time.Second
	// maxConns bounds the connections; more wait to be accepted.
	maxConns = 32
)

// Server answers agents on a UNIX socket and passes their requests to a Client, the Loop. Whatever a peer does,
// only its own connection waits for it.
type Server struct {
	client Client
	clock  clock.Clock
	log    *slog.Logger
	slots  chan struct{}
}

// NewServer returns a server in front of client.
func NewServer(client Client, c clock.Clock, log *slog.Logger) *Server {
	return &Server{client: client, clock: c, log: log, slots: make(chan struct{}, maxConns)}
}

// Listen opens the socket at path, for this user only. A socket that an earlier life left is replaced: call it only
// when no other guard can be running.
func Listen(path string) (*net.UnixListener, error) {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("guard socket: %w", err)
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("guard socket: %w", err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		_ = l.Close()
		return nil, fmt.Errorf("guard socket: %w", err)
	}
	return l, nil
}

// Serve answers until ctx ends, and closes l.
func (s *Server) Serve(ctx context.Context, l *net.UnixListener) error {
	stop := context.AfterFunc(ctx, func() { _ = l.Close() })
	defer stop()
	var wg sync.WaitGroup
	defer wg.Wait()
	for {
		s.slots <- struct{}{}
		conn, err := l.AcceptUnix()
		if err != nil {
			<-s.slots
			if ctx.Err() != nil {
				return ctx.Err()
			}
			s.log.Warn("guard socket", "err", err)
			if s.clock.Sleep(ctx, retryEvery) != nil {
				return ctx.Err()
			}
			continue
		}
		wg.Go(func() {
			defer func() { <-s.slots }()
			defer func() { _ = conn.Close() }()
			if err := s.serve(ctx, conn); err != nil && ctx.Err() == nil {
				s.log.Warn("guard request", "err", err)
			}
		})
	}
}

// serve answers one connection.
func (s *Server) serve(ctx context.Context, conn *net.UnixConn) error {
	if err := trusted(conn); err != nil {
		return err
	}
	if err := conn.SetDeadline(time.Now().Add(readLimit)); err != nil {
		return err
	}
	var c call
	if err := readFrame(conn, &c); err != nil {
		return fmt.Errorf("read: %w", err)
	}
	left := c.Expires.Sub(s.clock.Now())
	if left <= 0 {
		return fmt.Errorf("%s arrived %v after its caller gave up: %w", c.Op, -left, pool.ErrUnavailable)
	}
	cctx, cancel := s.clock.WithTimeout(ctx, left)
	defer cancel()
	r := s.handle(cctx, c)
	if err := conn.SetDeadline(time.Now().Add(readLimit)); err != nil {
		return err
	}
	if err := writeFrame(conn, r); err != nil {
		return fmt.Errorf("reply to %s: %w", c.Op, err)
	}
	return nil
}

func (s *Server) handle(ctx context.Context, c call) reply {
	var r reply
	var err error
	switch {
	case c.Op == opExtend && c.Lease != nil:
		err = s.client.Extend(ctx, *c.Lease)
	case c.Op == opHold && c.Held != nil:
		err = s.client.Hold(ctx, *c.Held)
	case c.Op == opLetGo && c.VM != "":
		err = s.client.LetGo(ctx, c.VM)
	case c.Op == opStatus:
		var st Status
		st, err = s.client.Status(ctx)
		r.Status = &st
	default:
		err = fmt.Errorf("request %q is unknown or incomplete: %w", c.Op, pool.ErrInvalid)
	}
	if err != nil {
		return failure(err)
	}
	return r
}

// trusted lets root and the guard's own user in.
func trusted(conn *net.UnixConn) error {
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	var cred *unix.Ucred
	var cerr error
	err = raw.Control(func(fd uintptr) { cred, cerr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) })
	if err = errors.Join(err, cerr); err != nil {
		return fmt.Errorf("ask who the peer is: %w", err)
	}
	if cred.Uid != 0 && int(cred.Uid) != os.Getuid() {
		return fmt.Errorf("peer with uid %d, pid %d turned away: %w", cred.Uid, cred.Pid, pool.ErrRefused)
	}
	return nil
}
