package search

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/holdfast-ha/holdfast/agent/app"
	"github.com/holdfast-ha/holdfast/agent/guard"
	"github.com/holdfast-ha/holdfast/agent/leader"
	"github.com/holdfast-ha/holdfast/agent/local"
	"github.com/holdfast-ha/holdfast/agent/sim"
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

// oldView: what etcd tells comes late to a server that has found it again; what a server asks for does not.
var oldView = agents(func(_ string, e *app.Edges) { e.Store = lateWatch{e.Store, e.Clock} })

type lateWatch struct {
	kv.Store
	clock clock.Clock
}

func (l lateWatch) Watch(ctx context.Context, prefix string, from pool.Revision) (kv.Watcher, error) {
	if strings.Count(prefix, "/") == 4 { // the whole pool
		if err := l.clock.Sleep(ctx, 2*time.Second); err != nil {
			return nil, err
		}
	}
	return l.Store.Watch(ctx, prefix, from)
}

// believesMemory moves a claim to this server's new session as it remembers it: the write does not compare what etcd
// holds by now.
type believesMemory struct {
	kv.Store
	server string
	mu     sync.Mutex
	under  map[string]pool.Revision
}

func (b *believesMemory) Txn(ctx context.Context, t kv.Txn) (kv.Result, error) {
	held, session := puts(t, "claims", `PHASE_HELD"`), pool.Revision(0)
	for _, c := range t.If {
		if c.Target == kv.TargetCreate && strings.HasSuffix(c.Key, "/members/"+b.server) {
			session = c.Equals
		}
	}
	if len(held) != 1 || session == 0 {
		return b.Store.Txn(ctx, t)
	}
	key := held[0].Key
	b.mu.Lock()
	was := b.under[key]
	b.mu.Unlock()
	if was != 0 && was != session {
		t = unless(t, func(c kv.Compare) bool { return c.Key == key })
	}
	res, err := b.Store.Txn(ctx, t)
	if err == nil && res.Applied {
		b.mu.Lock()
		if b.under == nil {
			b.under = map[string]pool.Revision{}
		}
		b.under[key] = session
		b.mu.Unlock()
	}
	return res, err
}

// overwriter writes a server's member key whether it is there or not. The key keeps its create revision, and so the
// session its name.
type overwriter struct {
	kv.Store
	server string
	mu     sync.Mutex
	mine   map[kv.LeaseID]bool
	old    pool.Revision
}

func (o *overwriter) Get(ctx context.Context, key string) (kv.KeyValue, bool, error) {
	found, ok, err := o.Store.Get(ctx, key)
	if err != nil || !ok || !strings.HasSuffix(key, "/members/"+o.server) {
		return found, ok, err
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.mine[found.Lease] {
		return found, ok, nil
	}
	o.old = found.CreateRevision
	return kv.KeyValue{}, false, nil
}

func (o *overwriter) Txn(ctx context.Context, t kv.Txn) (kv.Result, error) {
	put := puts(t, "members")
	if len(put) != 1 || !strings.HasSuffix(put[0].Key, "/members/"+o.server) {
		return o.Store.Txn(ctx, t)
	}
	creates := len(t.If) == 1 && t.If[0] == kv.Absent(put[0].Key)
	if creates {
		t.If = nil
	}
	o.mu.Lock()
	o.mine[put[0].Lease] = true
	old := o.old
	o.mu.Unlock()
	res, err := o.Store.Txn(ctx, t)
	if err == nil && creates && old != 0 {
		res.Revision = old
	}
	return res, err
}

// lateAnswer is a fence device that does its work and says so only after a while.
func lateAnswer(after time.Duration) sim.Tamper {
	return agents(func(_ string, e *app.Edges) { e.Fencer = hesitant{e.Fencer, e.Clock, after} })
}

type hesitant struct {
	leader.Fencer
	clock clock.Clock
	after time.Duration
}

func (h hesitant) PowerOff(ctx context.Context, s pool.Server) (string, error) {
	evidence, err := h.Fencer.PowerOff(ctx, s)
	if serr := h.clock.Sleep(ctx, h.after); err == nil {
		err = serr
	}
	return evidence, err
}

// looseHand is a guard that says of copies that arrived by migration that it holds them, and does not.
type looseHand struct {
	guard.Client
	h     local.Hypervisor
	mu    sync.Mutex
	loose map[guard.Process]guard.Held
}

func (l *looseHand) Hold(ctx context.Context, h guard.Held) error {
	all, err := l.h.Domains(ctx)
	if err != nil {
		return err
	}
	for _, d := range all {
		if d.Process == h.Process && d.Marker != nil && d.Marker.Operation != "" {
			l.mu.Lock()
			l.loose[h.Process] = h
			l.mu.Unlock()
			return nil
		}
	}
	return l.Client.Hold(ctx, h)
}

func (l *looseHand) Status(ctx context.Context) (guard.Status, error) {
	st, err := l.Client.Status(ctx)
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, h := range l.loose {
		st.Held = append(st.Held, h)
	}
	slices.SortFunc(st.Held, func(a, b guard.Held) int { return strings.Compare(string(a.VM), string(b.VM)) })
	return st, err
}

// perServer tells the guard one deadline for whatever it holds, whichever session that is held under.
type perServer struct{ guard.Client }

func (p perServer) Extend(ctx context.Context, l guard.Lease) error {
	err := p.Client.Extend(ctx, l)
	if st, serr := p.Client.Status(ctx); serr == nil && err == nil && !l.Promised {
		for _, h := range st.Held {
			other := l
			if other.Session = h.Session; other.Session != l.Session {
				_ = p.Client.Extend(ctx, other)
			}
		}
	}
	return err
}

// hurried says at once that the guard holds a process; it does a little later.
type hurried struct {
	looseHand
	clock clock.Clock
}

func (h *hurried) Hold(_ context.Context, held guard.Held) error {
	h.mu.Lock()
	h.loose[held.Process] = held
	h.mu.Unlock()
	h.clock.Go("hold", func() {
		ctx := context.Background()
		if h.clock.Sleep(ctx, 5*time.Second) == nil {
			_ = h.Client.Hold(ctx, held)
		}
		h.mu.Lock()
		delete(h.loose, held.Process)
		h.mu.Unlock()
	})
	return nil
}
