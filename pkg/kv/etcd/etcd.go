package etcd

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/connectivity"

	"github.com/holdfast-ha/holdfast/pkg/kv"
	"github.com/holdfast-ha/holdfast/pkg/pool"
)

// Limits of the adapter itself. Callers bound whole requests with their contexts.
const (
	// connectLimit is how long a request waits for a connection before it turns to another member. A member on a
	// network that drops packets would take minutes.
	connectLimit = time.Second
	// readLimit is how long a read waits for one member.
	readLimit = 2 * time.Second
	// pageLimit is the same for one page of a list.
	pageLimit = 10 * time.Second
)

// Options say how to reach etcd.
type Options struct {
	// Endpoints are URLs, or host:port. The first is preferred while it works; make it the nearest.
	Endpoints []string
	// TLS is nil for plain connections.
	TLS *tls.Config
	// Username and Password are for an etcd with authentication by password.
	Username, Password string
}

// Etcd is a kv.Store and kv.Leases. Safe for concurrent use. Close it.
type Etcd struct {
	options Options

	mu      sync.Mutex
	members []*member
	// first is the index of the member to ask first.
	first int
}

var (
	_ kv.Store  = (*Etcd)(nil)
	_ kv.Leases = (*Etcd)(nil)
)

// Open returns etcd behind o. It connects to nothing yet. It fails with pool.ErrInvalid without endpoints.
func Open(o Options) (*Etcd, error) {
	e := &Etcd{options: o}
	if err := e.SetEndpoints(o.Endpoints); err != nil {
		return nil, err
	}
	return e, nil
}

// SetEndpoints replaces the endpoints, after members of etcd came or went. Connections to those that stay are kept.
func (e *Etcd) SetEndpoints(endpoints []string) error {
	if len(endpoints) == 0 {
		return fmt.Errorf("etcd needs at least one endpoint: %w", pool.ErrInvalid)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	old := make(map[string]*member, len(e.members))
	for _, m := range e.members {
		old[m.endpoint] = m
	}
	members := make([]*member, len(endpoints))
	for i, endpoint := range endpoints {
		if members[i] = old[endpoint]; members[i] == nil {
			members[i] = &member{endpoint: endpoint, options: e.options}
		}
		delete(old, endpoint)
	}
	e.members, e.first = members, 0
	var errs []error
	for _, m := range old {
		errs = append(errs, m.close())
	}
	return errors.Join(errs...)
}

// Close ends all connections. Requests under way fail.
func (e *Etcd) Close() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	var errs []error
	for _, m := range e.members {
		errs = append(errs, m.close())
	}
	return errors.Join(errs...)
}

// order returns the members, the preferred one first.
func (e *Etcd) order() []*member {
	e.mu.Lock()
	defer e.mu.Unlock()
	return append(append([]*member{}, e.members[e.first:]...), e.members[:e.first]...)
}

// numbered returns the member of a number, modulo their count, in the order of the endpoints.
func (e *Etcd) numbered(n int) *member {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.members[((n%len(e.members))+len(e.members))%len(e.members)]
}

// failed makes the next request begin with the member after m.
func (e *Etcd) failed(m *member) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.members[e.first] == m {
		e.first = (e.first + 1) % len(e.members)
	}
}

// connected returns the first member that can be sent something now. Its error is pool.ErrUnavailable.
func (e *Etcd) connected(ctx context.Context) (*member, *clientv3.Client, error) {
	if err := ctx.Err(); err != nil {
		return nil, nil, fmt.Errorf("%w: %w", pool.ErrUnavailable, err)
	}
	var errs []error
	for _, m := range e.order() {
		c, err := m.connect(ctx)
		if err == nil {
			return m, c, nil
		}
		e.failed(m)
		errs = append(errs, err)
		if ctx.Err() != nil {
			break
		}
	}
	return nil, nil, errors.Join(errs...)
}

// read calls f for one member after the other until it succeeds, or fails in a way that others would share. Each
// gets its part of the time that is left, limit at most. Errors are pool.ErrUnavailable unless f's says more.
func (e *Etcd) read(ctx context.Context, limit time.Duration, f func(context.Context, *clientv3.Client) error) error {
	var errs []error
	members := e.order()
	for i, m := range members {
		err := e.ask(ctx, m, share(ctx, limit, len(members)-i), f)
		switch {
		case anyOf(err, invalid):
			return fmt.Errorf("%w: %w", pool.ErrInvalid, err)
		case err == nil || final(err):
			return err
		}
		e.failed(m)
		errs = append(errs, fmt.Errorf("etcd %s: %w", m.endpoint, err))
		if ctx.Err() != nil {
			break
		}
	}
	return fmt.Errorf("%w: %w", pool.ErrUnavailable, errors.Join(errs...))
}

func (e *Etcd) ask(ctx context.Context, m *member, limit time.Duration, f func(context.Context, *clientv3.Client) error) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	c, err := m.connect(ctx)
	if err != nil {
		return err
	}
	return f(clientv3.WithRequireLeader(ctx), c)
}

// share divides the time left in ctx between the members not yet asked.
func share(ctx context.Context, limit time.Duration, members int) time.Duration {
	if deadline, ok := ctx.Deadline(); ok {
		return min(limit, time.Until(deadline)/time.Duration(members))
	}
	return limit
}

// member is one endpoint of etcd.
type member struct {
	endpoint string
	options  Options

	mu     sync.Mutex
	client *clientv3.Client
	closed bool
}

// connect returns the member's client once its connection is up. Its error is pool.ErrUnavailable: nothing was sent.
func (m *member) connect(ctx context.Context) (*clientv3.Client, error) {
	ctx, cancel := context.WithTimeout(ctx, connectLimit)
	defer cancel()
	c, err := m.dial(ctx)
	if err != nil {
		return nil, fmt.Errorf("connect to etcd %s: %w: %w", m.endpoint, pool.ErrUnavailable, err)
	}
	conn := c.ActiveConnection()
	for {
		state := conn.GetState()
		switch state {
		case connectivity.Ready:
			return c, nil
		case connectivity.Idle:
			conn.Connect()
		case connectivity.TransientFailure, connectivity.Shutdown:
			return nil, fmt.Errorf("connect to etcd %s: no connection: %w", m.endpoint, pool.ErrUnavailable)
		}
		if !conn.WaitForStateChange(ctx, state) {
			return nil, fmt.Errorf("connect to etcd %s: %w: %w", m.endpoint, pool.ErrUnavailable, context.Cause(ctx))
		}
	}
}

// dial makes the client. With a password this asks etcd for a token.
func (m *member) dial(ctx context.Context) (*clientv3.Client, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return nil, errors.New("closed")
	}
	if m.client != nil {
		return m.client, nil
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	c, err := clientv3.New(clientv3.Config{
		Endpoints: []string{m.endpoint}, TLS: m.options.TLS,
		Username: m.options.Username, Password: m.options.Password,
		DialTimeout: connectLimit,
		// A member that vanished under a watch is noticed after 13 s at the latest (10 s is the least that gRPC allows), on a
		// connection that was not in use 3 s after the next call. Pings while no call is open are what etcd ends connections for.
		DialKeepAliveTime: 10 * time.Second, DialKeepAliveTimeout: 3 * time.Second,
		MaxUnaryRetries: 2, // one more try after an expired token
		Logger:          zap.NewNop(),
		DialOptions: []grpc.DialOption{grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: 100 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: time.Second},
			MinConnectTimeout: 2 * time.Second,
		})},
	})
	m.client = c
	return c, err
}

func (m *member) close() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.closed = true
	if m.client == nil {
		return nil
	}
	if err := m.client.Close(); err != nil && !errors.Is(err, context.Canceled) {
		return fmt.Errorf("close the connection to etcd %s: %w", m.endpoint, err)
	}
	return nil
}
