package previous

import (
	"context"
	"strings"

	"github.com/holdfast-ha/holdfast/pkg/kv"
	"github.com/holdfast-ha/holdfast/pkg/pool"
)

// Store is etcd as an agent of the previous version sees it. prefix is what the pool's keys begin with.
func Store(edge kv.Store, prefix string) kv.Store { return store{edge, prefix} }

type store struct {
	edge   kv.Store
	prefix string
}

// seen rewrites entries in place.
func (s store) seen(e *kv.KeyValue) error {
	rest, ok := strings.CutPrefix(e.Key, s.prefix)
	if !ok || len(e.Value) == 0 {
		return nil
	}
	kind, _, _ := strings.Cut(rest, "/")
	value, err := Seen(kind, e.Value)
	e.Value = value
	return err
}

func (s store) all(found []kv.KeyValue) error {
	for i := range found {
		if err := s.seen(&found[i]); err != nil {
			return err
		}
	}
	return nil
}

func (s store) Get(ctx context.Context, key string) (kv.KeyValue, bool, error) {
	e, ok, err := s.edge.Get(ctx, key)
	if err == nil && ok {
		err = s.seen(&e)
	}
	return e, ok, err
}

func (s store) List(ctx context.Context, prefix string) ([]kv.KeyValue, pool.Revision, error) {
	found, rev, err := s.edge.List(ctx, prefix)
	if err == nil {
		err = s.all(found)
	}
	return found, rev, err
}

func (s store) Txn(ctx context.Context, txn kv.Txn) (kv.Result, error) {
	written := txn
	written.Then = append([]kv.Op(nil), txn.Then...)
	for i, op := range written.Then {
		e := kv.KeyValue{Key: op.Key, Value: op.Value}
		if err := s.seen(&e); err != nil {
			return kv.Result{}, err
		}
		written.Then[i].Value = e.Value
	}
	r, err := s.edge.Txn(ctx, written)
	if err == nil {
		err = s.all(r.Found)
	}
	return r, err
}

func (s store) Watch(ctx context.Context, prefix string, from pool.Revision) (kv.Watcher, error) {
	w, err := s.edge.Watch(ctx, prefix, from)
	if err != nil {
		return nil, err
	}
	return watcher{w, s}, nil
}

type watcher struct {
	kv.Watcher
	s store
}

func (w watcher) Next(ctx context.Context) (kv.Batch, error) {
	b, err := w.Watcher.Next(ctx)
	if err != nil {
		return b, err
	}
	// The batch may be shared with other watchers.
	b.Events = append([]kv.Event(nil), b.Events...)
	for i := range b.Events {
		if err := w.s.seen(&b.Events[i].KeyValue); err != nil {
			return b, err
		}
	}
	return b, nil
}
