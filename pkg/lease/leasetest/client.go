package leasetest

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/holdfast-ha/holdfast/pkg/kv"
	"github.com/holdfast-ha/holdfast/pkg/pool"
)

// Call describes one request, for a Fault to choose by.
type Call struct {
	// Kind is get, list, txn, watch, grant, keepalive or revoke.
	Kind string
	// Key of a get, prefix of a list or watch.
	Key string
	Txn kv.Txn
	// Lease and Attempt of a keepalive; Lease of a revoke.
	Lease   kv.LeaseID
	Attempt int
}

// Fault stands between a Client and the store. It calls do to let the request take effect, before or after waiting,
// and returns what the client is to see; it may also let do happen later, in a goroutine, or never.
type Fault func(ctx context.Context, c Call, do func() error) error

// Client is one server's connection. The zero Fault passes everything. Safe for concurrent use.
type Client struct {
	e *Etcd

	mu    sync.Mutex
	fault Fault
	calls []Call
}

var (
	_ kv.Store  = (*Client)(nil)
	_ kv.Leases = (*Client)(nil)
)

// Client returns a new connection.
func (e *Etcd) Client() *Client { return &Client{e: e} }

// SetFault replaces the fault; nil heals.
func (c *Client) SetFault(f Fault) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.fault = f
}

// Count returns how many requests of a kind were made.
func (c *Client) Count(kind string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := 0
	for _, call := range c.calls {
		if call.Kind == kind {
			n++
		}
	}
	return n
}

// Cut is a Fault: requests hang until their context ends, and never take effect.
func Cut(ctx context.Context, c Call, _ func() error) error {
	<-ctx.Done()
	if c.Kind == "txn" {
		return fmt.Errorf("%s: %w: %w", c.Kind, pool.ErrOutcomeUnknown, ctx.Err())
	}
	return fmt.Errorf("%s: %w: %w", c.Kind, pool.ErrUnavailable, ctx.Err())
}

// LoseReply is a Fault: the request takes effect, the reply is lost.
func LoseReply(ctx context.Context, c Call, do func() error) error {
	_ = do()
	return Cut(ctx, c, do)
}

// Only applies f to calls of one kind.
func Only(kind string, f Fault) Fault {
	return func(ctx context.Context, c Call, do func() error) error {
		if c.Kind == kind {
			return f(ctx, c, do)
		}
		return do()
	}
}

// ask sends one request. A Fault may let it take effect when the caller has gone, so the result is handed over under
// a lock.
func ask[T any](ctx context.Context, c *Client, call Call, do func() (T, error)) (T, error) {
	var mu sync.Mutex
	var result T
	err := c.request(ctx, call, func() error {
		r, err := do()
		mu.Lock()
		defer mu.Unlock()
		result = r
		return err
	})
	mu.Lock()
	defer mu.Unlock()
	return result, err
}

func (c *Client) request(ctx context.Context, call Call, do func() error) error {
	c.mu.Lock()
	f := c.fault
	c.calls = append(c.calls, call)
	c.mu.Unlock()
	if f == nil {
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("%s: %w: %w", call.Kind, pool.ErrUnavailable, err)
		}
		return do()
	}
	return f(ctx, call, do)
}

// Get reads one key.
func (c *Client) Get(ctx context.Context, key string) (kv.KeyValue, bool, error) {
	v, err := ask(ctx, c, Call{Kind: "get", Key: key}, func() (kv.KeyValue, error) {
		v, _ := c.e.Peek(key)
		return v, nil
	})
	return v, v.CreateRevision != 0, err
}

// List reads all keys below prefix.
func (c *Client) List(ctx context.Context, prefix string) ([]kv.KeyValue, pool.Revision, error) {
	type listed struct {
		all []kv.KeyValue
		rev pool.Revision
	}
	r, err := ask(ctx, c, Call{Kind: "list", Key: prefix}, func() (listed, error) {
		all, rev := c.e.list(prefix)
		return listed{all, rev}, nil
	})
	return r.all, r.rev, err
}

// Txn runs a transaction.
func (c *Client) Txn(ctx context.Context, t kv.Txn) (kv.Result, error) {
	return ask(ctx, c, Call{Kind: "txn", Txn: t}, func() (kv.Result, error) { return c.e.txn(t) })
}

// Watch starts a watch.
func (c *Client) Watch(ctx context.Context, prefix string, from pool.Revision) (kv.Watcher, error) {
	return ask(ctx, c, Call{Kind: "watch", Key: prefix}, func() (kv.Watcher, error) { return c.e.watch(prefix, from), nil })
}

// Grant makes a lease.
func (c *Client) Grant(ctx context.Context, ttl time.Duration) (kv.LeaseID, error) {
	return ask(ctx, c, Call{Kind: "grant"}, func() (kv.LeaseID, error) { return c.e.grant(ttl), nil })
}

// KeepAlive renews a lease once.
func (c *Client) KeepAlive(ctx context.Context, id kv.LeaseID, attempt int) error {
	return c.request(ctx, Call{Kind: "keepalive", Lease: id, Attempt: attempt}, func() error { return c.e.keepAlive(id) })
}

// Revoke ends a lease.
func (c *Client) Revoke(ctx context.Context, id kv.LeaseID) error {
	return c.request(ctx, Call{Kind: "revoke", Lease: id}, func() error {
		if !c.e.Lives(id) {
			return fmt.Errorf("revoke lease %x: %w", int64(id), kv.ErrLeaseNotFound)
		}
		c.e.Expire(id)
		return nil
	})
}
