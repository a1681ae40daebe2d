package kvtest

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sort"
	"strings"
	"sync"
	"time"

	"github.com/holdfast-ha/holdfast/pkg/clock"
	"github.com/holdfast-ha/holdfast/pkg/kv"
	"github.com/holdfast-ha/holdfast/pkg/pool"
)

// Memory is a kv.Store and kv.Leases in memory, in the time of a Clock. It keeps all history until Compact. Leases
// expire when somebody looks. Safe for concurrent use; it starts nothing and needs no closing.
type Memory struct {
	clock clock.Clock

	mu        sync.Mutex
	rev       pool.Revision
	compacted pool.Revision
	live      map[string]kv.KeyValue
	history   []kv.Event
	leases    map[kv.LeaseID]*memoryLease
	lastLease kv.LeaseID
	watchers  map[*memoryWatcher]bool
	broken    error
}

type memoryLease struct {
	ttl     time.Duration
	expires pool.Instant
}

var (
	_ kv.Store  = (*Memory)(nil)
	_ kv.Leases = (*Memory)(nil)
)

// NewMemory returns an empty store. Like etcd, its first write gets revision 2.
func NewMemory(c clock.Clock) *Memory {
	return &Memory{clock: c, rev: 1, live: map[string]kv.KeyValue{}, leases: map[kv.LeaseID]*memoryLease{},
		watchers: map[*memoryWatcher]bool{}}
}

// Break makes every call fail with err from now on, and every watch too; nil repairs it.
func (m *Memory) Break(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.broken = err
	m.wake()
}

// Compact forgets the history before rev. It fails with pool.ErrInvalid for a revision that is compacted already or
// lies ahead.
func (m *Memory) Compact(rev pool.Revision) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if rev <= m.compacted || rev > m.rev {
		return fmt.Errorf("compact at %d, oldest %d, newest %d: %w", rev, m.compacted, m.rev, pool.ErrInvalid)
	}
	m.compacted = rev
	m.history = slices.DeleteFunc(m.history, func(e kv.Event) bool { return e.ModRevision < rev })
	return nil
}

// Get implements kv.Store.
func (m *Memory) Get(ctx context.Context, key string) (kv.KeyValue, bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.enter(ctx); err != nil {
		return kv.KeyValue{}, false, err
	}
	entry, ok := m.live[key]
	return entry, ok, nil
}

// List implements kv.Store.
func (m *Memory) List(ctx context.Context, prefix string) ([]kv.KeyValue, pool.Revision, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.enter(ctx); err != nil {
		return nil, 0, err
	}
	var found []kv.KeyValue
	for _, key := range slices.Sorted(maps.Keys(m.live)) {
		if strings.HasPrefix(key, prefix) {
			found = append(found, m.live[key])
		}
	}
	return found, m.rev, nil
}

// Txn implements kv.Store.
func (m *Memory) Txn(ctx context.Context, txn kv.Txn) (kv.Result, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.enter(ctx); err != nil {
		return kv.Result{}, err
	}
	if err := txn.Check(); err != nil {
		return kv.Result{}, err
	}
	for _, c := range txn.If {
		if !m.holds(c) {
			return kv.Result{Revision: m.rev, Found: m.found(txn.Read)}, nil
		}
	}
	for _, op := range txn.Then {
		if _, ok := m.leases[op.Lease]; op.Lease != 0 && !ok {
			return kv.Result{}, fmt.Errorf("put %s: %w", op.Key, kv.ErrLeaseNotFound)
		}
	}
	m.write(txn.Then)
	return kv.Result{Applied: true, Revision: m.rev}, nil
}

// Watch implements kv.Store.
func (m *Memory) Watch(ctx context.Context, prefix string, from pool.Revision) (kv.Watcher, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.enter(ctx); err != nil {
		return nil, err
	}
	w := &memoryWatcher{store: m, prefix: prefix, next: from, signal: m.clock.NewSignal()}
	m.watchers[w] = true
	return w, nil
}

// Grant implements kv.Leases.
func (m *Memory) Grant(ctx context.Context, ttl time.Duration) (kv.LeaseID, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.enter(ctx); err != nil {
		return 0, err
	}
	if ttl < time.Second || ttl%time.Second != 0 {
		return 0, fmt.Errorf("lease of %v: must be whole seconds, at least 1s: %w", ttl, pool.ErrInvalid)
	}
	m.lastLease++
	m.leases[m.lastLease] = &memoryLease{ttl: ttl, expires: m.clock.Now().Add(ttl)}
	return m.lastLease, nil
}

// KeepAlive implements kv.Leases; there is only one member.
func (m *Memory) KeepAlive(ctx context.Context, id kv.LeaseID, _ int) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.enter(ctx); err != nil {
		return err
	}
	l, ok := m.leases[id]
	if !ok {
		return fmt.Errorf("keep lease %x alive: %w", int64(id), kv.ErrLeaseNotFound)
	}
	l.expires = m.clock.Now().Add(l.ttl)
	return nil
}

// Revoke implements kv.Leases.
func (m *Memory) Revoke(ctx context.Context, id kv.LeaseID) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.enter(ctx); err != nil {
		return err
	}
	if _, ok := m.leases[id]; !ok {
		return fmt.Errorf("revoke lease %x: %w", int64(id), kv.ErrLeaseNotFound)
	}
	m.end(id)
	return nil
}

// enter is the beginning of every call: the failures, then the leases that are due.
func (m *Memory) enter(ctx context.Context) error {
	if m.broken != nil {
		return m.broken
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("%w: %w", err, pool.ErrUnavailable)
	}
	m.expire()
	return nil
}

func (m *Memory) expire() {
	now := m.clock.Now()
	for _, id := range slices.Sorted(maps.Keys(m.leases)) {
		if l := m.leases[id]; !now.Before(l.expires) {
			m.end(id)
		}
	}
}

// end removes a lease and, in one revision, its keys.
func (m *Memory) end(id kv.LeaseID) {
	delete(m.leases, id)
	var ops []kv.Op
	for _, key := range slices.Sorted(maps.Keys(m.live)) {
		if m.live[key].Lease == id {
			ops = append(ops, kv.Delete(key))
		}
	}
	m.write(ops)
}

// write applies ops as one revision; deleting what is not there is no change.
func (m *Memory) write(ops []kv.Op) {
	rev := m.rev + 1
	for _, op := range ops {
		old, exists := m.live[op.Key]
		if op.Delete && !exists {
			continue
		}
		m.rev = rev
		if op.Delete {
			delete(m.live, op.Key)
			m.history = append(m.history, kv.Event{Deleted: true, KeyValue: kv.KeyValue{Key: op.Key, ModRevision: rev}})
			continue
		}
		created := rev
		if exists {
			created = old.CreateRevision
		}
		entry := kv.KeyValue{Key: op.Key, Value: slices.Clone(op.Value), CreateRevision: created, ModRevision: rev, Lease: op.Lease}
		m.live[op.Key] = entry
		m.history = append(m.history, kv.Event{KeyValue: entry})
	}
	m.wake()
}

func (m *Memory) wake() {
	for w := range m.watchers {
		w.signal.Set()
	}
}

func (m *Memory) holds(c kv.Compare) bool {
	if c.Target == kv.TargetCreate {
		return m.live[c.Key].CreateRevision == c.Equals
	}
	return m.live[c.Key].ModRevision == c.Equals
}

func (m *Memory) found(keys []string) []kv.KeyValue {
	var out []kv.KeyValue
	for _, key := range keys {
		if entry, ok := m.live[key]; ok {
			out = append(out, entry)
		}
	}
	return out
}

type memoryWatcher struct {
	store  *Memory
	prefix string
	next   pool.Revision
	signal clock.Signal
}

// Next waits for something to tell, looking at leases again when the first is due.
func (w *memoryWatcher) Next(ctx context.Context) (kv.Batch, error) {
	quiet := w.store.clock.Now().Add(kv.ProgressEvery)
	for {
		b, wait, err := w.poll(quiet)
		if err != nil || b.Revision != 0 {
			return b, err
		}
		if err := ctx.Err(); err != nil {
			return kv.Batch{}, err
		}
		w.signal.Wait(ctx, wait)
	}
}

// poll returns a batch if there is one, else how long to wait at most.
func (w *memoryWatcher) poll(quiet pool.Instant) (kv.Batch, time.Duration, error) {
	m := w.store
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case !m.watchers[w]:
		return kv.Batch{}, 0, fmt.Errorf("the watch is closed: %w", pool.ErrUnavailable)
	case m.broken != nil:
		return kv.Batch{}, 0, m.broken
	case w.next < m.compacted:
		return kv.Batch{}, 0, &kv.CompactedError{Oldest: m.compacted}
	}
	m.expire()
	var events []kv.Event
	from := sort.Search(len(m.history), func(i int) bool { return m.history[i].ModRevision >= w.next })
	for _, e := range m.history[from:] {
		if strings.HasPrefix(e.Key, w.prefix) {
			events = append(events, e)
		}
	}
	now := m.clock.Now()
	if len(events) == 0 && now.Before(quiet) {
		return kv.Batch{}, w.due(now, quiet), nil
	}
	w.next = max(w.next, m.rev+1)
	return kv.Batch{Revision: m.rev, Events: events}, 0, nil
}

// due is the time until something may happen by itself.
func (w *memoryWatcher) due(now, quiet pool.Instant) time.Duration {
	for _, l := range w.store.leases {
		quiet = min(quiet, l.expires)
	}
	return max(0, quiet.Sub(now))
}

// Close ends the watch.
func (w *memoryWatcher) Close() {
	w.store.mu.Lock()
	defer w.store.mu.Unlock()
	delete(w.store.watchers, w)
	w.signal.Set()
}
