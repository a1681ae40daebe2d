package drill

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/holdfast-ha/holdfast/pkg/clock"
	"github.com/holdfast-ha/holdfast/pkg/kv"
	"github.com/holdfast-ha/holdfast/pkg/pool"
)

// Cut is an agent's way to etcd, which a drill can close for a while. Closed, nothing passes and nothing is answered:
// calls wait until their context ends, as on a network that drops packets. Safe for concurrent use.
type Cut struct {
	clock  clock.Clock
	store  kv.Store
	leases kv.Leases
	// until is when it opens again, as a pool.Instant.
	until atomic.Int64
}

var (
	_ kv.Store  = (*Cut)(nil)
	_ kv.Leases = (*Cut)(nil)
)

// NewCut returns an open way to etcd.
func NewCut(c clock.Clock, s kv.Store, l kv.Leases) *Cut {
	return &Cut{clock: c, store: s, leases: l}
}

// Close closes the way for d; 0 opens it.
func (c *Cut) Close(d time.Duration) {
	c.until.Store(int64(c.clock.Now().Add(min(d, MaxIsolation))))
}

// Left returns for how long the way stays closed; 0 if it is open.
func (c *Cut) Left() time.Duration {
	return max(0, pool.Instant(c.until.Load()).Sub(c.clock.Now()))
}

// closedLook is how often a call that waits looks whether the way is open again.
const closedLook = 20 * time.Millisecond

// pass waits while the way is closed.
func (c *Cut) pass(ctx context.Context) error {
	for c.Left() > 0 {
		if err := c.clock.Sleep(ctx, closedLook); err != nil {
			return fmt.Errorf("etcd is closed for a drill: %w", pool.ErrUnavailable)
		}
	}
	return nil
}

// Get implements kv.Store.
func (c *Cut) Get(ctx context.Context, key string) (kv.KeyValue, bool, error) {
	if err := c.pass(ctx); err != nil {
		return kv.KeyValue{}, false, err
	}
	return c.store.Get(ctx, key)
}

// List implements kv.Store.
func (c *Cut) List(ctx context.Context, prefix string) ([]kv.KeyValue, pool.Revision, error) {
	if err := c.pass(ctx); err != nil {
		return nil, 0, err
	}
	return c.store.List(ctx, prefix)
}

// Txn implements kv.Store.
func (c *Cut) Txn(ctx context.Context, txn kv.Txn) (kv.Result, error) {
	if err := c.pass(ctx); err != nil {
		return kv.Result{}, err
	}
	return c.store.Txn(ctx, txn)
}

// Watch implements kv.Store.
func (c *Cut) Watch(ctx context.Context, prefix string, from pool.Revision) (kv.Watcher, error) {
	if err := c.pass(ctx); err != nil {
		return nil, err
	}
	w, err := c.store.Watch(ctx, prefix, from)
	if err != nil {
		return nil, err
	}
	return &cutWatcher{Watcher: w, cut: c}, nil
}

// cutWatcher holds back what came while the way is closed.
type cutWatcher struct {
	kv.Watcher
	cut  *Cut
	held *kv.Batch
}

// Next implements kv.Watcher. A batch that is held back when ctx ends is the next call's: nothing is lost.
func (w *cutWatcher) Next(ctx context.Context) (kv.Batch, error) {
	if w.held == nil {
		b, err := w.Watcher.Next(ctx)
		if err != nil {
			return b, err
		}
		w.held = &b
	}
	for w.cut.Left() > 0 {
		if err := w.cut.clock.Sleep(ctx, closedLook); err != nil {
			return kv.Batch{}, err
		}
	}
	b := *w.held
	w.held = nil
	return b, nil
}

// Grant implements kv.Leases.
func (c *Cut) Grant(ctx context.Context, ttl time.Duration) (kv.LeaseID, error) {
	if err := c.pass(ctx); err != nil {
		return 0, err
	}
	return c.leases.Grant(ctx, ttl)
}

// KeepAlive implements kv.Leases.
func (c *Cut) KeepAlive(ctx context.Context, id kv.LeaseID, attempt int) error {
	if err := c.pass(ctx); err != nil {
		return err
	}
	return c.leases.KeepAlive(ctx, id, attempt)
}

// Revoke implements kv.Leases.
func (c *Cut) Revoke(ctx context.Context, id kv.LeaseID) error {
	if err := c.pass(ctx); err != nil {
		return err
	}
	return c.leases.Revoke(ctx, id)
}
