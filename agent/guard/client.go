package guard

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/holdfast-ha/holdfast/pkg/clock"
	"github.com/holdfast-ha/holdfast/pkg/pool"
)

// callLimit bounds a call whose context has no end of its own.
const callLimit = 2 * time.Second

// SocketClient is a Client over the guard's UNIX socket. Each call makes a connection of its own, so that a guard
// that restarts or hangs leaves nothing behind. Safe for concurrent use.
type SocketClient struct {
	path  string
	clock clock.Clock
}

var _ Client = (*SocketClient)(nil)

// NewClient returns a client of the guard at path. It connects at each call.
func NewClient(path string, c clock.Clock) *SocketClient { return &SocketClient{path: path, clock: c} }

// Extend implements Client.
func (c *SocketClient) Extend(ctx context.Context, lease Lease) error {
	_, err := c.call(ctx, call{Op: opExtend, Lease: &lease})
	return err
}

// Hold implements Client.
func (c *SocketClient) Hold(ctx context.Context, held Held) error {
	_, err := c.call(ctx, call{Op: opHold, Held: &held})
	return err
}

// LetGo implements Client.
func (c *SocketClient) LetGo(ctx context.Context, vm pool.VMID) error {
	_, err := c.call(ctx, call{Op: opLetGo, VM: vm})
	return err
}

// Status implements Client.
func (c *SocketClient) Status(ctx context.Context) (Status, error) {
	r, err := c.call(ctx, call{Op: opStatus})
	if err != nil {
		return Status{}, err
	}
	if r.Status == nil {
		return Status{}, fmt.Errorf("guard: a status without a status: %w", pool.ErrInvalid)
	}
	return *r.Status, nil
}

// call makes one call. Until the request is sent whole, nothing has happened; after that, only the reply tells.
func (c *SocketClient) call(ctx context.Context, q call) (reply, error) {
	ctx, cancel := c.clock.WithTimeout(ctx, callLimit)
	defer cancel()
	q.Expires = c.clock.Now().Add(callLimit)
	if end, ok := ctx.Deadline(); ok {
		q.Expires = min(q.Expires, c.clock.Now().Add(time.Until(end)))
	}
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", c.path)
	if err != nil {
		return reply{}, fmt.Errorf("guard does not answer: %w: %w", pool.ErrUnavailable, err)
	}
	defer func() { _ = conn.Close() }()
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	if err := writeFrame(conn, q); err != nil {
		return reply{}, fmt.Errorf("guard: send %s: %w: %w", q.Op, pool.ErrUnavailable, cause(ctx, err))
	}
	var r reply
	if err := readFrame(conn, &r); err != nil {
		return reply{}, fmt.Errorf("guard: %s: no answer: %w: %w", q.Op, pool.ErrOutcomeUnknown, cause(ctx, err))
	}
	return r, r.err()
}

// cause prefers the end of ctx to what it did to the connection.
func cause(ctx context.Context, err error) error {
	if cerr := ctx.Err(); cerr != nil {
		return errors.Join(cerr)
	}
	return err
}
