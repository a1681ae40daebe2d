package metrics

import (
	"context"
	"time"

	"github.com/holdfast-ha/holdfast/pkg/kv"
	"github.com/holdfast-ha/holdfast/pkg/pool"
)

// Store counts what goes through an edge to etcd. Watches are not requests and go through uncounted.
func (m *Metrics) Store(edge kv.Store) kv.Store { return countedStore{edge, m} }

// Leases counts what goes through an edge to etcd's leases.
func (m *Metrics) Leases(edge kv.Leases) kv.Leases { return countedLeases{edge, m} }

type countedStore struct {
	kv.Store
	m *Metrics
}

func (s countedStore) Get(ctx context.Context, key string) (kv.KeyValue, bool, error) {
	begun := s.m.cfg.Clock.Now()
	v, ok, err := s.Store.Get(ctx, key)
	s.m.asked("get", begun, err)
	return v, ok, err
}

func (s countedStore) List(ctx context.Context, prefix string) ([]kv.KeyValue, pool.Revision, error) {
	begun := s.m.cfg.Clock.Now()
	all, rev, err := s.Store.List(ctx, prefix)
	s.m.asked("list", begun, err)
	return all, rev, err
}

func (s countedStore) Txn(ctx context.Context, txn kv.Txn) (kv.Result, error) {
	begun := s.m.cfg.Clock.Now()
	r, err := s.Store.Txn(ctx, txn)
	s.m.asked("txn", begun, err)
	return r, err
}

type countedLeases struct {
	kv.Leases
	m *Metrics
}

func (l countedLeases) Grant(ctx context.Context, ttl time.Duration) (kv.LeaseID, error) {
	begun := l.m.cfg.Clock.Now()
	id, err := l.Leases.Grant(ctx, ttl)
	l.m.asked("grant", begun, err)
	return id, err
}

func (l countedLeases) KeepAlive(ctx context.Context, id kv.LeaseID, attempt int) error {
	begun := l.m.cfg.Clock.Now()
	err := l.Leases.KeepAlive(ctx, id, attempt)
	l.m.asked("keepalive", begun, err)
	return err
}

func (l countedLeases) Revoke(ctx context.Context, id kv.LeaseID) error {
	begun := l.m.cfg.Clock.Now()
	err := l.Leases.Revoke(ctx, id)
	l.m.asked("revoke", begun, err)
	return err
}
