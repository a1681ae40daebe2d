package store

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/holdfast-ha/holdfast/pkg/clock"
	"github.com/holdfast-ha/holdfast/pkg/kv"
	"github.com/holdfast-ha/holdfast/pkg/pool"
)

// Waits of the mirror. A watch that shows no sign of life for patience is given up: that is several progress
// reports (kv.ProgressEvery) that did not come.
const (
	patience   = 4 * kv.ProgressEvery
	readLimit  = 5 * time.Second
	listLimit  = 60 * time.Second
	firstDelay = 100 * time.Millisecond
	longDelay  = 2 * time.Second
)

// snapshotsKept bounds how far back Since goes.
const snapshotsKept = 256

// Mirror keeps the whole pool in memory: one list, then one watch, folded into an immutable snapshot per batch.
// It survives compaction (it lists again), lost connections (it watches on from where it was) and members that hang.
// Safe for concurrent use; Run is for one caller, once.
type Mirror struct {
	store *Store
	clock clock.Clock
	log   *slog.Logger
	fold  *fold

	mu          sync.Mutex
	snap        *pool.Snapshot
	kept        []*pool.Snapshot // the latest, oldest first
	contact     pool.Instant
	ended       error
	subscribers map[int]clock.Signal
	lastID      int
}

// NewMirror returns a mirror that does nothing until Run. incarnation is the life of the pool's data that this
// agent belongs to; Run ends with ErrOtherLife if etcd holds another, or none. Empty accepts whichever is found
// first: for tools and for the moment a pool is made.
func NewMirror(s *Store, c clock.Clock, incarnation string, log *slog.Logger) *Mirror {
	f := newFold(s.keys, incarnation)
	return &Mirror{store: s, clock: c, log: log, fold: f, snap: f.snap, subscribers: map[int]clock.Signal{}}
}

// Snapshot returns the pool as last seen. It is never nil; before the first list it is empty, with revision 0:
// WaitFor(ctx, 1) waits for that.
func (m *Mirror) Snapshot() *pool.Snapshot {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.snap
}

// Since returns the newest snapshot kept that is not newer than rev, for somebody who has seen rev and wants to know what
// changed; nil if none is old enough. The latest 256 are kept; they share what did not change.
func (m *Mirror) Since(rev pool.Revision) *pool.Snapshot {
	m.mu.Lock()
	defer m.mu.Unlock()
	i, _ := slices.BinarySearchFunc(m.kept, rev+1, func(s *pool.Snapshot, r pool.Revision) int { return cmp.Compare(s.Revision, r) })
	if i == 0 {
		return nil
	}
	return m.kept[i-1]
}

// LastContact returns when etcd last gave a sign of life on the watch, or zero if it never did. While all is well
// it is at most about kv.ProgressEvery old.
func (m *Mirror) LastContact() pool.Instant {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.contact
}

// Fresh reports whether LastContact is younger than the time in which a healthy watch reports several times.
// If not, etcd is out of reach and the snapshot may be old.
func (m *Mirror) Fresh() bool {
	last := m.LastContact()
	return last != 0 && m.clock.Now().Sub(last) < patience
}

// Subscribe sets sig at every new snapshot, and when the mirror ends, until the returned function is called.
// A signal has one waiter, so each subscriber brings its own.
func (m *Mirror) Subscribe(sig clock.Signal) (cancel func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.lastID++
	id := m.lastID
	m.subscribers[id] = sig
	return func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		delete(m.subscribers, id)
	}
}

// WaitFor waits until the snapshot has revision rev or a later one, and returns it. It fails with the error of ctx
// (context.Cause), or with the mirror's own once that has ended.
func (m *Mirror) WaitFor(ctx context.Context, rev pool.Revision) (*pool.Snapshot, error) {
	if snap := m.Snapshot(); snap.Revision >= rev {
		return snap, nil
	}
	changed := m.clock.NewSignal()
	defer m.Subscribe(changed)()
	for {
		snap, ended := m.now()
		switch {
		case snap.Revision >= rev:
			return snap, nil
		case ended != nil:
			return nil, fmt.Errorf("wait for revision %d: %w", rev, ended)
		case ctx.Err() != nil:
			return nil, fmt.Errorf("wait for revision %d, have %d: %w", rev, snap.Revision, context.Cause(ctx))
		}
		changed.Wait(ctx, -1)
	}
}

func (m *Mirror) now() (*pool.Snapshot, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.snap, m.ended
}

// Run keeps the mirror up to date until ctx ends (it returns nil then) or etcd turns out to hold another life of
// the pool (ErrOtherLife). Everything else is tried again, with growing delays.
func (m *Mirror) Run(ctx context.Context) error {
	err := m.run(ctx)
	m.mu.Lock()
	m.ended = err
	if err == nil {
		m.ended = fmt.Errorf("the mirror of etcd was stopped: %w", pool.ErrUnavailable)
	}
	m.mu.Unlock()
	m.tell()
	return err
}

func (m *Mirror) run(ctx context.Context) error {
	delay, lost := firstDelay, false
	for {
		before := m.LastContact()
		err := m.follow(ctx)
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, ErrOtherLife):
			m.log.Error("stopped following etcd", "err", err)
			return err
		}
		if m.LastContact() != before { // it worked for a while
			delay, lost = firstDelay, false
		}
		if !lost {
			m.log.Warn("lost the watch on etcd, trying again", "revision", m.Snapshot().Revision, "err", err)
			lost = true
		}
		if m.clock.Sleep(ctx, delay) != nil {
			return nil
		}
		delay = min(2*delay, longDelay)
	}
}

// follow catches up and watches until something goes wrong.
func (m *Mirror) follow(ctx context.Context) error {
	if err := m.start(ctx); err != nil {
		return err
	}
	err := m.watch(ctx)
	var compacted *kv.CompactedError
	if errors.As(err, &compacted) {
		m.log.Info("etcd no longer keeps the history from here on, reading the pool anew",
			"revision", m.Snapshot().Revision, "oldest", compacted.Oldest)
		if err = m.list(ctx); err == nil {
			err = m.watch(ctx)
		}
	}
	return err
}

// start lists the first time; later it makes sure that etcd still holds the same life of the pool and has not gone
// back in time: a watch would not tell, and would mix the two.
func (m *Mirror) start(ctx context.Context) error {
	have := m.Snapshot()
	if have.Revision == 0 {
		return m.list(ctx)
	}
	ctx, cancel := m.clock.WithTimeout(ctx, readLimit)
	defer cancel()
	config := m.store.keys.Config()
	// A guard that never holds makes the transaction show the config and the revision of one moment.
	read := []string{config}
	if w := m.fold.witness(); w != "" {
		read = append(read, w)
	}
	res, err := m.store.edge.Txn(ctx, kv.Txn{If: []kv.Compare{kv.ModIs(config, -1)}, Read: read})
	if err != nil {
		return fmt.Errorf("look whether etcd is still the same: %w", err)
	}
	return m.fold.same(res.Found, res.Revision)
}

func (m *Mirror) list(ctx context.Context) error {
	ctx, cancel := m.clock.WithTimeout(ctx, listLimit)
	defer cancel()
	if err := m.store.load(ctx, m.fold); err != nil {
		return err
	}
	m.publish()
	return nil
}

func (m *Mirror) watch(ctx context.Context) error {
	w, err := m.store.edge.Watch(ctx, m.store.keys.Prefix(), m.Snapshot().Revision+1)
	if err != nil {
		return fmt.Errorf("watch the pool: %w", err)
	}
	defer w.Close()
	for {
		batch, err := m.next(ctx, w)
		if err != nil {
			return err
		}
		before := m.fold.snap.Revision
		if err := m.fold.apply(batch); err != nil {
			return err
		}
		if m.fold.snap.Revision != before {
			m.publish()
		} else {
			m.touch()
		}
	}
}

// next waits for a batch, but not for ever: a connection that is silent is no connection.
func (m *Mirror) next(ctx context.Context, w kv.Watcher) (kv.Batch, error) {
	ctx, cancel := m.clock.WithTimeout(ctx, patience)
	defer cancel()
	b, err := w.Next(ctx)
	if err != nil {
		return b, fmt.Errorf("watch the pool: %w", err)
	}
	return b, nil
}

// publish makes the fold's snapshot the current one and reports keys that turned unreadable.
func (m *Mirror) publish() {
	now := m.clock.Now()
	m.mu.Lock()
	old := m.snap
	m.snap, m.contact = m.fold.snap, now
	if m.kept = append(m.kept, m.snap); len(m.kept) > snapshotsKept {
		m.kept = slices.Delete(m.kept, 0, 1)
	}
	m.mu.Unlock()
	m.report(old, m.fold.snap)
	m.tell()
}

func (m *Mirror) touch() {
	now := m.clock.Now()
	m.mu.Lock()
	defer m.mu.Unlock()
	m.contact = now
}

func (m *Mirror) report(old, now *pool.Snapshot) {
	if now.Corrupt.Len() == 0 && old.Corrupt.Len() == 0 {
		return
	}
	for key, reason := range now.Corrupt.All() {
		if before, _ := old.Corrupt.Get(key); before != reason {
			m.log.Error("a key in etcd cannot be read; what belongs to it is left alone", "key", key, "reason", reason)
		}
	}
	for key := range old.Corrupt.All() {
		if !now.Corrupt.Has(key) {
			m.log.Info("a key in etcd can be read again", "key", key)
		}
	}
}

// tell wakes all subscribers, in the order in which they came.
func (m *Mirror) tell() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, id := range slices.Sorted(maps.Keys(m.subscribers)) {
		m.subscribers[id].Set()
	}
}
