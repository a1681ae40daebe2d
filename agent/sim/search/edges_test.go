package search

import (
	"context"
	"errors"
	"strings"
	"sync"
	"time"

	"github.com/holdfast-ha/holdfast/agent/app"
	"github.com/holdfast-ha/holdfast/agent/guard"
	"github.com/holdfast-ha/holdfast/agent/leader"
	"github.com/holdfast-ha/holdfast/agent/local"
	"github.com/holdfast-ha/holdfast/pkg/clock"
	"github.com/holdfast-ha/holdfast/pkg/kv"
	"github.com/holdfast-ha/holdfast/pkg/pool"
)

// txnFunc carries a transaction out.
type txnFunc func(context.Context, kv.Txn) (kv.Result, error)

// otherStore is etcd with another way to carry transactions out.
type otherStore struct {
	kv.Store
	txn func(ctx context.Context, t kv.Txn, real txnFunc) (kv.Result, error)
}

func (s otherStore) Txn(ctx context.Context, t kv.Txn) (kv.Result, error) {
	return s.txn(ctx, t, s.Store.Txn)
}

// unless returns a transaction without the guards that drop says yes to.
func unless(t kv.Txn, drop func(kv.Compare) bool) kv.Txn {
	var kept []kv.Compare
	for _, c := range t.If {
		if !drop(c) {
			kept = append(kept, c)
		}
	}
	t.If = kept
	return t
}

// below reports whether a key lies in a folder of the pool's.
func below(key, folder string) bool { return strings.Contains(key, "/"+folder+"/") }

// puts returns what a transaction writes into a folder, whose text has all the words.
func puts(t kv.Txn, folder string, words ...string) []kv.Op {
	var out []kv.Op
	for _, op := range t.Then {
		ok := !op.Delete && below(op.Key, folder)
		for _, w := range words {
			ok = ok && strings.Contains(string(op.Value), w)
		}
		if ok {
			out = append(out, op)
		}
	}
	return out
}

// toothless is a guard whose kills do nothing.
type toothless struct{ guard.Processes }

func (toothless) Kill(guard.Process) error { return nil }

// byReply counts a session's deadlines from when the answer to a renewal came, not from when it was asked for.
type byReply struct {
	kv.Leases
	guard.Client
	clock clock.Clock
	mu    sync.Mutex
	came  pool.Instant
}

func (b *byReply) KeepAlive(ctx context.Context, id kv.LeaseID, attempt int) error {
	err := b.Leases.KeepAlive(ctx, id, attempt)
	if err == nil {
		b.mu.Lock()
		b.came = b.clock.Now()
		b.mu.Unlock()
	}
	return err
}

func (b *byReply) Extend(ctx context.Context, l guard.Lease) error {
	b.mu.Lock()
	late := b.came.Sub(l.Sent)
	b.mu.Unlock()
	if late > 0 {
		l.Sent, l.KillAt, l.Deadline = l.Sent.Add(late), l.KillAt.Add(late), l.Deadline.Add(late)
	}
	return b.Client.Extend(ctx, l)
}

// hopeful takes a renewal that failed for one that did not.
type hopeful struct{ kv.Leases }

func (h hopeful) KeepAlive(ctx context.Context, id kv.LeaseID, attempt int) error {
	if err := h.Leases.KeepAlive(ctx, id, attempt); errors.Is(err, kv.ErrLeaseNotFound) {
		return err
	}
	return nil
}

// eager is a hypervisor whose calls are changed where a function is set.
type eager struct {
	local.Hypervisor
	create func(ctx context.Context, xml string, m local.Marker) (local.Domain, error)
	kill   func(ctx context.Context, p guard.Process) error
	dead   bool
}

func (h eager) Create(ctx context.Context, xml string, m local.Marker) (local.Domain, error) {
	if h.create != nil {
		return h.create(ctx, xml, m)
	}
	return h.Hypervisor.Create(ctx, xml, m)
}

func (h eager) Kill(ctx context.Context, p guard.Process) error {
	if h.kill != nil {
		return h.kill(ctx, p)
	}
	return h.Hypervisor.Kill(ctx, p)
}

func (h eager) Dead(ctx context.Context, p guard.Process) (bool, error) {
	if h.dead {
		return true, nil
	}
	return h.Hypervisor.Dead(ctx, p)
}

func (h eager) Absent(ctx context.Context, uuid string) (bool, error) {
	if h.dead {
		return true, nil
	}
	return h.Hypervisor.Absent(ctx, uuid)
}

// resumer lets every paused guest run on as soon as its server has a session again.
type resumer struct {
	kv.Store
	e *app.Edges
}

func (r resumer) Txn(ctx context.Context, t kv.Txn) (kv.Result, error) {
	res, err := r.Store.Txn(ctx, t)
	if err != nil || !res.Applied || len(t.If) != 1 || !below(t.If[0].Key, "members") {
		return res, err
	}
	if all, lerr := r.e.Hypervisor.Domains(ctx); lerr == nil {
		for _, d := range all {
			if d.State == local.DomainPaused && d.Marker != nil && d.Marker.Started {
				_ = r.e.Hypervisor.Resume(ctx, d.VM, *d.Marker)
			}
		}
	}
	return res, err
}

// believer takes a power-off for done once it was asked for.
type believer struct {
	leader.Fencer
	clock clock.Clock
}

func (b believer) PowerOff(_ context.Context, s pool.Server) (string, error) {
	b.clock.Go("power off", func() { _, _ = b.Fencer.PowerOff(context.Background(), s) })
	return "asked for", nil
}

// idleDog is a watchdog that is said to be armed and is not.
type idleDog struct{ timeout time.Duration }

func (d idleDog) Arm() (guard.Watch, error) {
	return guard.Watch{Timeout: d.timeout, Hardware: true}, nil
}
func (idleDog) Pet() error    { return nil }
func (idleDog) Disarm() error { return nil }

// arrivals calls f for each copy that has arrived by migration and never ran here.
type arrivals struct {
	local.Hypervisor
	f func(context.Context, local.Domain)
}

func (a arrivals) Domains(ctx context.Context) ([]local.Domain, error) {
	all, err := a.Hypervisor.Domains(ctx)
	for _, d := range all {
		if d.State == local.DomainPaused && d.Marker != nil && d.Marker.Operation != "" && !d.Marker.Started {
			a.f(ctx, d)
		}
	}
	return all, err
}
