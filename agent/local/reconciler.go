package local

import (
	"context"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/holdfast-ha/holdfast/agent/guard"
	"github.com/holdfast-ha/holdfast/pkg/clock"
	"github.com/holdfast-ha/holdfast/pkg/pool"
)

// Durations of this package's loops. None of them carries safety.
const (
	// resync bounds how long a missed event can go unnoticed.
	resync = 5 * time.Second
	// retryAfter is the pause after a step that failed.
	retryAfter = 500 * time.Millisecond
	// lockRetry is the pause after a start that a disk lock refused.
	lockRetry = time.Second
	// ioRetry is the pause after a guest was let go on after a disk error.
	ioRetry = 2 * time.Second
	// callLimit bounds one call to etcd or the guard.
	callLimit = 3 * time.Second
	// guardLimit bounds one look at the guard, a process of this server that answers within milliseconds.
	guardLimit = 500 * time.Millisecond
	// hypervisorLimit bounds one call to the hypervisor; destroying a hung QEMU through libvirt takes 10 s, and
	// the first start after boot up to 5 s.
	hypervisorLimit = 30 * time.Second
)

// Config assembles a Reconciler. All fields are required, except Guard: nil means that this server has none; and Decide.
type Config struct {
	Server     pool.ServerID
	Clock      clock.Clock
	Pool       Pool
	Session    Session
	Hypervisor Hypervisor
	Guard      guard.Client
	// Peers talks to other agents about VMs that move between them; nil: none moves live.
	Peers Peers
	// Complete returns the definition that a VM is started from, with the passwords that its registration does not hold;
	// nil: it is the registered one.
	Complete func(ctx context.Context, vm pool.VM) (string, error)
	// Drifts compares what runs with what is registered; nil: nobody does.
	Drifts Drifts
	// StorageLost reports whether this server has lost its shared storage.
	StorageLost func() bool
	// Stopping reports whether, and how, this server is shutting down; nil: it never does.
	Stopping func() Stopping
	// Decide takes the place of the function of that name; nil, but in tests that show what each of its rules is for.
	Decide func(View) Decision
	Log    *slog.Logger
}

// Stopping is how a server goes down.
type Stopping struct {
	// Stopping: it is shutting down, so no stop of a guest is its own wish, and nothing starts any more.
	Stopping bool
	// Now: its guests are to be shut down with it.
	Now bool
	// Keep: those are kept for the server's return.
	Keep bool
}

// Reconciler keeps this server's VMs in line with their claims. Create it with New, call Wake whenever the pool,
// the session, the guard or a domain changed.
type Reconciler struct {
	cfg       Config
	wake      clock.Signal
	snapshots clock.Signal
	transfers *clock.Group

	mu      sync.Mutex
	vms     map[pool.VMID]*tracked
	seen    *pool.Snapshot
	domains map[pool.VMID]Domain
	// unlisted is the last error of listing domains, which is told once; empty if they were listed.
	unlisted string
	guard    guardView
}

// tracked is what the reconciler remembers of one VM between steps.
type tracked struct {
	// paused: the guard had paused it when last asked.
	paused bool
	// busy: a worker is at it. dirty: something changed meanwhile. notBefore: do not look earlier.
	busy, dirty bool
	notBefore   pool.Instant
	// claim is the newest version known, by a write or read of our own; the mirror may lag behind it.
	claim     pool.Claim
	hasClaim  bool
	acked     pool.Revision
	stopAsked pool.Instant
	// made is the epoch of the last domain that Create returned.
	made pool.Epoch
	// killsAtHold is the guard's count of kills when it took the present process; counted: it is known.
	killsAtHold int
	counted     bool
	lastWhy     string
	reported    pool.VMState
	drift       drifting
	moving      outgoing
}

// guardView is what the guard last said.
type guardView struct {
	answers  bool
	watchdog time.Duration
	held     map[pool.VMID]guard.Held
	paused   map[pool.VMID]bool
	// killed counts, by VM, what the guard killed at a deadline since it started.
	killed map[pool.VMID]int
}

// New returns a Reconciler; Run starts it.
func New(cfg Config) *Reconciler {
	if cfg.Decide == nil {
		cfg.Decide = Decide
	}
	return &Reconciler{cfg: cfg, wake: cfg.Clock.NewSignal(), snapshots: cfg.Clock.NewSignal(), transfers: clock.NewGroup(cfg.Clock),
		vms: map[pool.VMID]*tracked{}, domains: map[pool.VMID]Domain{}}
}

// Wake is the signal to set when the session, the guard or the storage of this server changed.
func (r *Reconciler) Wake() clock.Signal { return r.wake }

// Snapshots is the signal to set at each new snapshot. Those that do not concern this server cost little.
func (r *Reconciler) Snapshots() clock.Signal { return r.snapshots }

// GuardAnswers reports whether the guard answered last, and its watchdog's time-out.
func (r *Reconciler) GuardAnswers() (bool, time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.guard.answers, r.guard.watchdog
}

// Trouble says what does not answer now, as last seen: the guard, or libvirt; empty if all does.
func (r *Reconciler) Trouble() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []string
	if r.cfg.Guard != nil && !r.guard.answers {
		out = append(out, "its guard does not answer, so nothing there ends protected VMs in time, and it is no proof")
	}
	if r.unlisted != "" {
		out = append(out, "libvirt does not answer, so no VM is started, stopped or moved there")
	}
	return strings.Join(out, "; ")
}

// Live counts the VMs of the pool's that have a process on this server, as last seen.
func (r *Reconciler) Live() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := 0
	for _, d := range r.domains {
		if d.State != DomainGone && d.Marker != nil {
			n++
		}
	}
	return n
}

// Run reconciles until ctx ends. It returns once all its workers have ended; no VM is stopped by that.
func (r *Reconciler) Run(ctx context.Context) error {
	workers := clock.NewGroup(r.cfg.Clock)
	listen := clock.NewGroup(r.cfg.Clock)
	listen.Go("local domain events", func() {
		for ctx.Err() == nil {
			if r.cfg.Hypervisor.Changed().Wait(ctx, resync) {
				r.wake.Set()
			}
		}
	})
	listen.Go("local snapshots", func() { r.watchSnapshots(ctx) })
	for ctx.Err() == nil {
		next := r.Step(ctx, workers)
		r.wake.Wait(ctx, next)
	}
	workers.Wait()
	listen.Wait()
	r.transfers.Wait()
	return nil
}

// watchSnapshots wakes the loop for snapshots that concern this server.
func (r *Reconciler) watchSnapshots(ctx context.Context) {
	last := &pool.Snapshot{}
	for ctx.Err() == nil {
		snap := r.cfg.Pool.Snapshot()
		if r.concerns(last, snap) {
			r.wake.Set()
		}
		last = snap
		r.snapshots.Wait(ctx, -1)
	}
}

// concerns reports whether what changed between two snapshots may ask something of this server.
func (r *Reconciler) concerns(last, snap *pool.Snapshot) bool {
	if last.Config.Revision != snap.Config.Revision || last.Revision == 0 {
		return true
	}
	was, _ := last.Servers.Get(r.cfg.Server)
	if is, _ := snap.Servers.Get(r.cfg.Server); is.Revision != was.Revision {
		return true
	}
	for id, c := range snap.Claims.ChangesSince(last.Claims) {
		if c.Was != nil && c.Is != nil && c.Was.Revision == c.Is.Revision {
			continue
		}
		if r.named(c.Was) || r.named(c.Is) || r.tracks(id) {
			return true
		}
	}
	for id, v := range snap.VMs.ChangesSince(last.VMs) {
		if v.Was != nil && v.Is != nil && v.Was.Revision == v.Is.Revision {
			continue
		}
		if r.tracks(id) {
			return true
		}
	}
	return false
}

func (r *Reconciler) tracks(id pool.VMID) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.vms[id] != nil
}

// named reports whether there is a claim that names this server as owner or destination.
func (r *Reconciler) named(c *pool.Claim) bool {
	return c != nil && (c.Server == r.cfg.Server || c.Incoming != nil && c.Incoming.Server == r.cfg.Server)
}

// Step observes once, starts a worker for each VM that needs a step, and returns how long nothing more is to be
// done unless woken.
func (r *Reconciler) Step(ctx context.Context, workers *clock.Group) time.Duration {
	snap := r.cfg.Pool.Snapshot()
	if snap.Revision == 0 {
		return resync
	}
	r.observeGuard(ctx)
	if !r.observeDomains(ctx) {
		return retryAfter
	}
	now := r.cfg.Clock.Now()
	wait := resync
	for _, vm := range r.candidates(snap) {
		if d := r.dispatch(ctx, workers, vm, now); d < wait {
			wait = d
		}
	}
	return wait
}

// observeGuard reads the guard's status.
func (r *Reconciler) observeGuard(ctx context.Context) {
	if r.cfg.Guard == nil {
		return
	}
	ctx, cancel := r.cfg.Clock.WithTimeout(ctx, guardLimit)
	defer cancel()
	st, err := r.cfg.Guard.Status(ctx)
	r.mu.Lock()
	was := r.guard.answers
	r.guard = guardView{answers: err == nil && st.Armed, watchdog: st.Watchdog, held: map[pool.VMID]guard.Held{}, paused: map[pool.VMID]bool{}, killed: map[pool.VMID]int{}}
	for _, h := range st.Held {
		r.guard.held[h.VM] = h
	}
	for _, vm := range st.Paused {
		r.guard.paused[vm] = true
	}
	for _, vm := range st.Killed {
		r.guard.killed[vm]++
	}
	r.forgetAcks()
	answers := r.guard.answers
	r.mu.Unlock()
	if was != answers {
		r.cfg.Log.Info("guard", "answers", answers, "err", err)
	}
}

// forgetAcks drops what was acknowledged before a pause: a VM that the guard has paused needs a newer write. The
// caller holds the lock.
func (r *Reconciler) forgetAcks() {
	for id, t := range r.vms {
		if r.guard.paused[id] && !t.paused {
			t.acked = 0
		}
		t.paused = r.guard.paused[id]
	}
}

// observeDomains lists the domains; false if the hypervisor does not answer.
func (r *Reconciler) observeDomains(ctx context.Context) bool {
	ctx, cancel := r.cfg.Clock.WithTimeout(ctx, hypervisorLimit)
	defer cancel()
	list, err := r.cfg.Hypervisor.Domains(ctx)
	r.mu.Lock()
	defer r.mu.Unlock()
	if err != nil {
		if said := err.Error(); said != r.unlisted {
			r.unlisted = said
			r.cfg.Log.Warn("listing domains", "err", err)
		}
		return false
	}
	r.unlisted = ""
	r.domains = make(map[pool.VMID]Domain, len(list))
	for _, d := range list {
		r.domains[d.VM] = d
	}
	return true
}

// candidates returns, in order, the VMs that this server may have something to do with.
func (r *Reconciler) candidates(snap *pool.Snapshot) []pool.VMID {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.seen == nil || r.seen != snap {
		var before pool.Table[pool.VMID, pool.Claim]
		if r.seen != nil {
			before = r.seen.Claims
		}
		for id, c := range snap.Claims.ChangesSince(before) {
			if r.named(c.Is) && r.vms[id] == nil {
				r.vms[id] = &tracked{}
			}
		}
		r.seen = snap
	}
	for id := range r.domains {
		if r.vms[id] == nil {
			r.vms[id] = &tracked{}
		}
	}
	ids := make([]pool.VMID, 0, len(r.vms))
	for id := range r.vms {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids
}

// dispatch starts a worker for vm if a step is due, and returns when it wants to be looked at again.
func (r *Reconciler) dispatch(ctx context.Context, workers *clock.Group, vm pool.VMID, now pool.Instant) time.Duration {
	r.mu.Lock()
	t := r.vms[vm]
	if t.busy {
		t.dirty = true
		r.mu.Unlock()
		return resync
	}
	if now.Before(t.notBefore) {
		r.mu.Unlock()
		return t.notBefore.Sub(now)
	}
	r.mu.Unlock()

	v := r.view(vm, now)
	d := withDrift(v, r.cfg.Decide(v))
	if d.Step == StepNone && r.reportDue(v) {
		d.Step = stepReport
	}
	switch d.Step {
	case StepNone:
		r.idle(vm, v, t)
		return resync
	case StepWait:
		return max(d.At.Sub(now), 0)
	}
	r.mu.Lock()
	t.busy, t.dirty = true, false
	r.mu.Unlock()
	workers.Go("local "+string(vm), func() { r.work(ctx, vm, t) })
	return resync
}

// idle forgets a VM that this server has nothing to do with any more.
func (r *Reconciler) idle(vm pool.VMID, v View, t *tracked) {
	if v.Domain != nil {
		return
	}
	if v.HasClaim && r.named(&v.Claim) {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if !t.busy {
		delete(r.vms, vm)
	}
}

// view gathers what Decide looks at, from memory.
func (r *Reconciler) view(vm pool.VMID, now pool.Instant) View {
	snap := r.cfg.Pool.Snapshot()
	r.mu.Lock()
	defer r.mu.Unlock()
	t := r.vms[vm]
	v := View{
		Now: now, Me: r.cfg.Server, Session: r.cfg.Session.ID(), MayStart: r.cfg.Session.Allows(now),
		StopAsked: t.stopAsked, StopLimit: snap.Config.StopLimit, Acked: t.acked, Made: t.made,
		HasGuard: r.cfg.Guard != nil && r.guard.answers, GuardPaused: r.guard.paused[vm], GuardKilled: r.guard.killed[vm] > t.killsAtHold,
		StorageLost: r.cfg.StorageLost(),
	}
	v.VM, v.Registered = snap.VMs.Get(vm)
	v.Protected = v.Registered && snap.Protected(v.VM)
	if r.cfg.Stopping != nil {
		how := r.cfg.Stopping()
		v.ServerStopping, v.StopNow, v.Keep = how.Stopping, how.Now, how.Keep
	}
	v.Claim, v.HasClaim = snap.Claims.Get(vm)
	if t.hasClaim && t.claim.Revision > max(v.Claim.Revision, snap.Revision) {
		v.Claim, v.HasClaim, v.Unseen = t.claim, true, true
	} else {
		v.Foreign = snap.Doubted(vm) != nil
	}
	if v.Registered && v.VM.Desired == pool.DesiredUnspecified {
		// The registration cannot be read. What it says is not known, so nothing about the VM changes.
		v.Protected = v.Claim.Armed
	}
	if d, ok := r.domains[vm]; ok {
		v.Domain = &d
		if h, ok := r.guard.held[vm]; ok && h.Process == d.Process {
			v.HeldUnder = h.Session
			if !t.counted {
				// Held for an earlier life of this agent: what was killed before is no fate of this process.
				t.counted, t.killsAtHold = true, r.guard.killed[vm]
				v.GuardKilled = false
			}
		}
	}
	r.viewMoving(&v, t, snap)
	r.viewDrift(&v, t, snap.Revision)
	v.Unpausable = v.Protected && snap.Config.OnIsolation == pool.IsolationPause && v.HeldUnder != 0 && v.Domain.Monitor == ""
	return v
}
