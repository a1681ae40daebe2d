package demo

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/holdfast-ha/holdfast/pkg/kv"
	"github.com/holdfast-ha/holdfast/pkg/pool"
)

// gate is one agent's way to etcd. Closed, nothing passes: calls wait until their context ends, as on a network that
// drops packets.
type gate struct {
	store  kv.Store
	leases kv.Leases
	closed atomic.Bool
}

var (
	_ kv.Store  = (*gate)(nil)
	_ kv.Leases = (*gate)(nil)
)

// pass waits while the gate is closed.
func (g *gate) pass(ctx context.Context) error {
	for g.closed.Load() {
		select {
		case <-ctx.Done():
			return fmt.Errorf("etcd does not answer: %w", pool.ErrUnavailable)
		case <-time.After(20 * time.Millisecond):
		}
	}
	return nil
}

// Get implements kv.Store.
func (g *gate) Get(ctx context.Context, key string) (kv.KeyValue, bool, error) {
	if err := g.pass(ctx); err != nil {
		return kv.KeyValue{}, false, err
	}
	return g.store.Get(ctx, key)
}

// List implements kv.Store.
func (g *gate) List(ctx context.Context, prefix string) ([]kv.KeyValue, pool.Revision, error) {
	if err := g.pass(ctx); err != nil {
		return nil, 0, err
	}
	return g.store.List(ctx, prefix)
}

// Txn implements kv.Store.
func (g *gate) Txn(ctx context.Context, txn kv.Txn) (kv.Result, error) {
	if err := g.pass(ctx); err != nil {
		return kv.Result{}, err
	}
	return g.store.Txn(ctx, txn)
}

// Watch implements kv.Store.
func (g *gate) Watch(ctx context.Context, prefix string, from pool.Revision) (kv.Watcher, error) {
	if err := g.pass(ctx); err != nil {
		return nil, err
	}
	w, err := g.store.Watch(ctx, prefix, from)
	if err != nil {
		return nil, err
	}
	return &gatedWatcher{w, g}, nil
}

type gatedWatcher struct {
	kv.Watcher
	gate *gate
}

// Next implements kv.Watcher.
func (w *gatedWatcher) Next(ctx context.Context) (kv.Batch, error) {
	b, err := w.Watcher.Next(ctx)
	if err != nil {
		return b, err
	}
	return b, w.gate.pass(ctx)
}

// Grant implements kv.Leases.
func (g *gate) Grant(ctx context.Context, ttl time.Duration) (kv.LeaseID, error) {
	if err := g.pass(ctx); err != nil {
		return 0, err
	}
	return g.leases.Grant(ctx, ttl)
}

// KeepAlive implements kv.Leases.
func (g *gate) KeepAlive(ctx context.Context, id kv.LeaseID, attempt int) error {
	if err := g.pass(ctx); err != nil {
		return err
	}
	return g.leases.KeepAlive(ctx, id, attempt)
}

// Revoke implements kv.Leases.
func (g *gate) Revoke(ctx context.Context, id kv.LeaseID) error {
	if err := g.pass(ctx); err != nil {
		return err
	}
	return g.leases.Revoke(ctx, id)
}
