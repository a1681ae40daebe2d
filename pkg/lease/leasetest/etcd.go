package leasetest

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/holdfast-ha/holdfast/pkg/clock"
	"github.com/holdfast-ha/holdfast/pkg/kv"
	"github.com/holdfast-ha/holdfast/pkg/pool"
)

// Etcd is the store that Clients share. Safe for concurrent use.
type Etcd struct {
	ctx   context.Context // ends the timers
	clock clock.Clock

	mu       sync.Mutex
	rev      pool.Revision
	keys     map[string]kv.KeyValue
	leases   map[kv.LeaseID]lease
	lastID   kv.LeaseID
	history  []kv.Event
	watchers []clock.Signal
}

type lease struct {
	ttl time.Duration
	end pool.Instant
}

// NewEtcd returns an empty store in c's time. Its timers end with ctx: give it the test's.
func NewEtcd(ctx context.Context, c clock.Clock) *Etcd {
	return &Etcd{ctx: ctx, clock: c, rev: 1, keys: map[string]kv.KeyValue{}, leases: map[kv.LeaseID]lease{}, lastID: 0x7f00}
}

// Peek returns a key as stored now, without any fault.
func (e *Etcd) Peek(key string) (kv.KeyValue, bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.expire()
	v, ok := e.keys[key]
	return v, ok
}

// Lives reports whether a lease lives now.
func (e *Etcd) Lives(id kv.LeaseID) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.expire()
	_, ok := e.leases[id]
	return ok
}

// Expire ends a lease at once, as a revocation by somebody else would.
func (e *Etcd) Expire(id kv.LeaseID) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.drop(id)
}

// Remove deletes a key by hand.
func (e *Etcd) Remove(key string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.expire()
	e.apply([]kv.Op{kv.Delete(key)})
}

// expire drops the leases whose time is over; every access calls it first. The caller holds mu.
func (e *Etcd) expire() {
	now := e.clock.Now()
	for _, id := range slices.Sorted(maps.Keys(e.leases)) {
		if !now.Before(e.leases[id].end) {
			e.drop(id)
		}
	}
}

// drop removes a lease and its keys, in one revision. The caller holds mu.
func (e *Etcd) drop(id kv.LeaseID) {
	if _, ok := e.leases[id]; !ok {
		return
	}
	delete(e.leases, id)
	var ops []kv.Op
	for _, k := range slices.Sorted(maps.Keys(e.keys)) {
		if e.keys[k].Lease == id {
			ops = append(ops, kv.Delete(k))
		}
	}
	e.apply(ops)
}

// apply carries ops out in one new revision. The caller holds mu.
func (e *Etcd) apply(ops []kv.Op) {
	var events []kv.Event
	for _, op := range ops {
		old, exists := e.keys[op.Key]
		if op.Delete && !exists {
			continue
		}
		v := kv.KeyValue{Key: op.Key, Value: op.Value, Lease: op.Lease, CreateRevision: e.rev + 1, ModRevision: e.rev + 1}
		if exists {
			v.CreateRevision = old.CreateRevision
		}
		if op.Delete {
			delete(e.keys, op.Key)
		} else {
			e.keys[op.Key] = v
		}
		events = append(events, kv.Event{KeyValue: v, Deleted: op.Delete})
	}
	if len(events) == 0 {
		return
	}
	e.rev++
	e.history = append(e.history, events...)
	for _, w := range e.watchers {
		w.Set()
	}
}

func (e *Etcd) txn(t kv.Txn) (kv.Result, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.expire()
	for _, c := range t.If {
		v := e.keys[c.Key]
		got := v.ModRevision
		if c.Target == kv.TargetCreate {
			got = v.CreateRevision
		}
		if got != c.Equals {
			res := kv.Result{Revision: e.rev}
			for _, k := range t.Read {
				if v, ok := e.keys[k]; ok {
					res.Found = append(res.Found, v)
				}
			}
			return res, nil
		}
	}
	for _, op := range t.Then {
		if _, ok := e.leases[op.Lease]; op.Lease != 0 && !ok {
			return kv.Result{}, fmt.Errorf("put %s: %w", op.Key, kv.ErrLeaseNotFound)
		}
	}
	e.apply(t.Then)
	return kv.Result{Applied: true, Revision: e.rev}, nil
}

func (e *Etcd) list(prefix string) ([]kv.KeyValue, pool.Revision) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.expire()
	var found []kv.KeyValue
	for _, k := range slices.Sorted(maps.Keys(e.keys)) {
		if strings.HasPrefix(k, prefix) {
			found = append(found, e.keys[k])
		}
	}
	return found, e.rev
}

func (e *Etcd) grant(ttl time.Duration) kv.LeaseID {
	e.mu.Lock()
	e.lastID++
	id := e.lastID
	e.leases[id] = lease{ttl: ttl, end: e.clock.Now().Add(ttl)}
	e.mu.Unlock()
	e.expireLater(ttl)
	return id
}

func (e *Etcd) keepAlive(id kv.LeaseID) error {
	e.mu.Lock()
	e.expire()
	l, ok := e.leases[id]
	if ok {
		l.end = e.clock.Now().Add(l.ttl)
		e.leases[id] = l
	}
	e.mu.Unlock()
	if !ok {
		return fmt.Errorf("keep lease %x alive: %w", int64(id), kv.ErrLeaseNotFound)
	}
	e.expireLater(l.ttl)
	return nil
}

// expireLater makes watchers see an end that nobody asks about.
func (e *Etcd) expireLater(d time.Duration) {
	e.clock.Go("lease expiry", func() {
		if e.clock.Sleep(e.ctx, d) != nil {
			return
		}
		e.mu.Lock()
		defer e.mu.Unlock()
		e.expire()
	})
}

type watcher struct {
	e      *Etcd
	prefix string
	next   pool.Revision
	sig    clock.Signal
}

func (e *Etcd) watch(prefix string, from pool.Revision) kv.Watcher {
	w := &watcher{e: e, prefix: prefix, next: from, sig: e.clock.NewSignal()}
	e.mu.Lock()
	e.watchers = append(e.watchers, w.sig)
	e.mu.Unlock()
	return w
}

// Next returns all that has happened below the prefix since the last call.
func (w *watcher) Next(ctx context.Context) (kv.Batch, error) {
	for {
		if err := ctx.Err(); err != nil {
			return kv.Batch{}, err
		}
		if b := w.collect(); len(b.Events) > 0 {
			return b, nil
		}
		w.sig.Wait(ctx, -1)
	}
}

func (w *watcher) collect() kv.Batch {
	w.e.mu.Lock()
	defer w.e.mu.Unlock()
	b := kv.Batch{Revision: w.e.rev}
	for _, ev := range w.e.history {
		if ev.ModRevision >= w.next && strings.HasPrefix(ev.Key, w.prefix) {
			b.Events = append(b.Events, ev)
		}
	}
	w.next = w.e.rev + 1
	return b
}

// Close ends the watch.
func (w *watcher) Close() {
	w.e.mu.Lock()
	defer w.e.mu.Unlock()
	w.e.watchers = slices.DeleteFunc(w.e.watchers, func(s clock.Signal) bool { return s == w.sig })
}
