package local

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/holdfast-ha/holdfast/pkg/pool"
)

const (
	// prepareLimit bounds one request to a destination; it is repeated prepareTries times, retryAfter apart, while a
	// leftover there is being cleared.
	prepareLimit = 5 * time.Second
	prepareTries = 10
	// slowGrace is how long a guest may change its memory as fast as it is copied before the migration is stopped.
	slowGrace = 60 * time.Second
)

// transfer is one call to the hypervisor for a VM's migration. Its fields are guarded by the reconciler's lock.
type transfer struct {
	op      pool.OperationID
	session pool.Session
	running bool
	result  Transfer
	why     string
	gaveUp  string
	begun   pool.Instant
	// refused counts how often the destination did not confirm its copy.
	refused int
	// still: the guest stood still when the transfer was asked for. byGuard: the guard has paused it since.
	still, byGuard bool
}

// byHand reports whether the copy arrived paused because somebody paused the guest, which it then stays. A guard's pause
// is over with the process that it paused.
func (c *transfer) byHand() bool { return c.result.Paused && c.still && !c.byGuard }

// outgoing is what the reconciler remembers of a VM's way out.
type outgoing struct {
	call *transfer
	// of is the operation that the rest is about.
	of         pool.OperationID
	jobAt      pool.Instant
	jobRunning bool
	abortAt    pool.Instant
	frozenAt   pool.Instant
}

// viewMoving fills in what is known of a migration. The caller holds the lock.
func (r *Reconciler) viewMoving(v *View, t *tracked, snap *pool.Snapshot) {
	st, ok := snap.States.Get(v.VM.ID)
	v.Moving.WasPaused = ok && st.State == pool.RunPaused && st.Reason == pausedByHand && st.Server == v.Me && st.Epoch == v.Claim.Epoch
	if v.Claim.Phase != pool.PhaseMigrating || v.Claim.Server != v.Me || v.Claim.Incoming == nil {
		t.moving.jobAt, t.moving.abortAt, t.moving.frozenAt = 0, 0, 0
		return
	}
	if t.moving.of != v.Claim.Operation {
		t.moving.of, t.moving.jobAt, t.moving.abortAt, t.moving.frozenAt = v.Claim.Operation, 0, 0, 0
	}
	switch frozen := v.Domain != nil && v.Domain.State == DomainPostMigrate; {
	case frozen && t.moving.frozenAt == 0:
		t.moving.frozenAt = v.Now
	case !frozen:
		t.moving.frozenAt = 0
	}
	m := &v.Moving
	m.JobAt, m.JobRunning, m.AbortAt, m.FrozenAt = t.moving.jobAt, t.moving.jobRunning, t.moving.abortAt, t.moving.frozenAt
	if c := t.moving.call; c != nil {
		m.Operation, m.Session, m.Running, m.GaveUp, m.Unconfirmed = c.op, c.session, c.running, c.gaveUp, c.refused
		c.byGuard = c.byGuard || v.GuardPaused
		if m.Clean, m.Paused, m.Why = c.result.Clean, c.byHand(), c.why; m.Why == "" {
			m.Why = c.result.Why
		}
	}
	if op, ok := snap.Operations.Get(v.Claim.Operation); ok {
		m.Cancel, m.Begun = op.Cancel, op.Phase == pool.PhaseWordCopying
	}
	m.DestinationUp = snap.Alive(v.Claim.Incoming.Server, v.Claim.Incoming.Session)
}

// migrate starts a transfer and returns at once.
func (r *Reconciler) migrate(ctx context.Context, v View, t *tracked) error {
	if r.cfg.Peers == nil {
		return r.endMigration(ctx, v, do(StepEndMigration, "this agent has no way to migrate VMs live"), t)
	}
	c := &transfer{op: v.Claim.Operation, session: v.Session, running: true, begun: v.Now, still: v.Domain.State == DomainPaused}
	r.mu.Lock()
	t.moving.call, t.moving.jobAt = c, 0
	r.mu.Unlock()
	r.transfers.Go("transfer "+string(v.VM.ID), func() {
		result, err := r.transfer(ctx, v, c)
		r.mu.Lock()
		c.running, c.result = false, result
		if err != nil {
			c.why = err.Error()
		}
		t.moving.jobAt, t.notBefore = 0, 0
		r.mu.Unlock()
		if result.Rest != nil {
			r.wake.Set()
			result.Rest(ctx)
		}
		r.cfg.Peers.Close(c.op)
		r.wake.Set()
	})
	return nil
}

// transfer has the destination prepare, says so in the operation's record, and makes the call.
func (r *Reconciler) transfer(ctx context.Context, v View, c *transfer) (Transfer, error) {
	to := v.Claim.Incoming.Server
	link, err := r.prepare(ctx, v, c, to)
	if err != nil {
		return Transfer{}, fmt.Errorf("%s does not take it: %w", to, err)
	}
	if err := r.sayBegun(ctx, v); err != nil {
		return Transfer{}, fmt.Errorf("the operation's record could not be written: %w", err)
	}
	if r.stopped(c) {
		return Transfer{}, fmt.Errorf("it was stopped before it began: %w", pool.ErrRefused)
	}
	r.transfers.Go("progress "+string(v.VM.ID), func() { r.follow(ctx, v, c) })
	cfg := r.cfg.Pool.Snapshot().Config
	marker := r.marker(v, false)
	marker.Operation = c.op
	result, err := r.cfg.Hypervisor.Migrate(ctx, Migration{VM: v.VM.ID, Operation: c.op, To: to, Marker: marker,
		Bandwidth: cfg.MigrateBandwidth, AutoConverge: cfg.AutoConverge, Link: link})
	if err == nil && !result.Clean {
		r.cfg.Log.Warn("a transfer ended without proof that the copy is as new", "vm", v.VM.ID, "operation", c.op, "reason", result.Why)
	}
	return result, err
}

// prepare asks the destination for its consent. A leftover there takes a moment to be cleared.
func (r *Reconciler) prepare(ctx context.Context, v View, c *transfer, to pool.ServerID) (Link, error) {
	var err error
	for range prepareTries {
		if err = ctx.Err(); err != nil {
			break
		}
		var link Link
		pctx, cancel := r.cfg.Clock.WithTimeout(ctx, prepareLimit)
		link, err = r.cfg.Peers.Prepare(pctx, to, v.Claim.Operation, v.VM.ID, v.Claim.Epoch)
		cancel()
		if err == nil || !errors.Is(err, pool.ErrUnavailable) || r.stopped(c) || r.cfg.Clock.Sleep(ctx, retryAfter) != nil {
			return link, err
		}
	}
	return Link{}, err
}

// sayBegun records that copying begins: an agent that restarts must not begin a second time.
func (r *Reconciler) sayBegun(ctx context.Context, v View) error {
	var err error
	for range prepareTries {
		if err = r.reportProgress(ctx, v, pool.Progress{BytesTotal: v.VM.MemoryBytes}); err == nil || ctx.Err() != nil {
			return err
		}
		if r.cfg.Clock.Sleep(ctx, retryAfter/5) != nil {
			return err
		}
	}
	return err
}

// reportProgress writes how far the transfer is into the operation's record, guarded by this server's session.
func (r *Reconciler) reportProgress(ctx context.Context, v View, p pool.Progress) error {
	op, ok := r.cfg.Pool.Snapshot().Operations.Get(v.Claim.Operation)
	if !ok {
		return fmt.Errorf("operation %s is not recorded any more: %w", v.Claim.Operation, pool.ErrNotFound)
	}
	op.Phase, op.Error, op.Progress = pool.PhaseWordCopying, "", p
	ctx, cancel := r.cfg.Clock.WithTimeout(ctx, callLimit)
	defer cancel()
	return r.cfg.Pool.WriteProgress(ctx, v.Session, op)
}

// follow tells the pool how far a transfer is, and gives it up when it takes too long or cannot end.
func (r *Reconciler) follow(ctx context.Context, v View, c *transfer) {
	var slowSince pool.Instant
	for r.cfg.Clock.Sleep(ctx, jobPoll) == nil {
		r.mu.Lock()
		running := c.running
		r.mu.Unlock()
		if !running {
			return
		}
		jctx, cancel := r.cfg.Clock.WithTimeout(ctx, jobPoll)
		job, err := r.cfg.Hypervisor.Job(jctx, v.VM.ID)
		cancel()
		now := r.cfg.Clock.Now()
		if why := r.tooLong(now.Sub(c.begun)); why != "" {
			r.giveUp(c, why)
		}
		if err != nil || !job.Running {
			continue
		}
		if job.Pass < 2 || job.DirtyPerSecond < job.BytesPerSecond {
			slowSince = 0
		} else if slowSince == 0 {
			slowSince = now
		} else if now.Sub(slowSince) >= slowGrace {
			r.giveUp(c, fmt.Sprintf("the guest changes %d MiB of memory a second and %d are copied: it cannot converge",
				job.DirtyPerSecond>>20, job.BytesPerSecond>>20))
		}
		if err := r.reportProgress(ctx, v, progressOf(job)); err != nil {
			r.cfg.Log.Debug("progress", "vm", v.VM.ID, "operation", c.op, "err", err)
		}
	}
}

func (r *Reconciler) tooLong(took time.Duration) string {
	if limit := r.cfg.Pool.Snapshot().Config.MigrateLimit; limit > 0 && took >= limit {
		return fmt.Sprintf("it took longer than the pool's limit of %v", limit)
	}
	return ""
}

// stopped reports whether a transfer was given up.
func (r *Reconciler) stopped(c *transfer) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return c.gaveUp != ""
}

// EndTransfers has every transfer under way given up, and waits until none is left or ctx ends: an agent that is about to
// stop would not see them end well. The VMs run on where they are.
func (r *Reconciler) EndTransfers(ctx context.Context) {
	for {
		r.mu.Lock()
		var under []*transfer
		for _, t := range r.vms {
			if c := t.moving.call; c != nil && c.running {
				under = append(under, c)
			}
		}
		r.mu.Unlock()
		if len(under) == 0 {
			return
		}
		for _, c := range under {
			r.giveUp(c, fmt.Sprintf("the agent of %s is being stopped", r.cfg.Server))
		}
		if r.cfg.Clock.Sleep(ctx, jobPoll/10) != nil {
			return
		}
	}
}

func (r *Reconciler) giveUp(c *transfer, why string) {
	r.mu.Lock()
	if c.gaveUp == "" {
		c.gaveUp = why
	}
	r.mu.Unlock()
	r.wake.Set()
}

func progressOf(j Job) pool.Progress {
	p := pool.Progress{BytesDone: j.BytesDone, BytesTotal: j.BytesTotal, BytesPerSecond: j.BytesPerSecond, ExpectedDowntime: j.Downtime}
	if left := j.BytesTotal - j.BytesDone; j.BytesPerSecond > 0 && left > 0 {
		p.EstimatedTimeToFinish = time.Duration(float64(left)/float64(j.BytesPerSecond)*1000) * time.Millisecond
	}
	return p
}

// lookAtJob asks the hypervisor whether a job runs, and if none does, what became of the VM: what was listed before its
// end is no news.
func (r *Reconciler) lookAtJob(ctx context.Context, v View, t *tracked) error {
	ctx, cancel := r.cfg.Clock.WithTimeout(ctx, callLimit)
	defer cancel()
	job, err := r.cfg.Hypervisor.Job(ctx, v.VM.ID)
	if err != nil {
		return err
	}
	if !job.Running && !r.observeDomains(ctx) {
		return fmt.Errorf("the hypervisor does not list its domains: %w", pool.ErrUnavailable)
	}
	r.mu.Lock()
	t.moving.jobAt, t.moving.jobRunning = r.cfg.Clock.Now(), job.Running
	r.mu.Unlock()
	if job.Running && v.Moving.Begun {
		if err := r.reportProgress(ctx, v, progressOf(job)); err != nil {
			r.cfg.Log.Debug("progress", "vm", v.VM.ID, "operation", v.Claim.Operation, "err", err)
		}
	}
	return nil
}

// abort has the hypervisor give the job up. The way to the destination is closed too: it may be what a frozen guest
// waits for, and then the hypervisor does not answer before.
func (r *Reconciler) abort(ctx context.Context, v View, t *tracked) error {
	r.mu.Lock()
	t.moving.abortAt = r.cfg.Clock.Now()
	if c := t.moving.call; c != nil && c.op == v.Claim.Operation && c.gaveUp == "" {
		c.gaveUp = v.givesUp()
	}
	r.mu.Unlock()
	if r.cfg.Peers != nil {
		r.cfg.Peers.Close(v.Claim.Operation)
	}
	ctx, cancel := r.cfg.Clock.WithTimeout(ctx, callLimit)
	defer cancel()
	if err := r.cfg.Hypervisor.Abort(ctx, v.VM.ID); err != nil {
		r.cfg.Log.Warn("aborting a migration", "vm", v.VM.ID, "operation", v.Claim.Operation, "err", err)
	}
	return nil
}

// endMigration takes the VM back: the migration has failed, and this server's QEMU lives.
func (r *Reconciler) endMigration(ctx context.Context, v View, d Decision, t *tracked) error {
	next := v.Claim
	next.Phase, next.Incoming, next.Operation, next.Detail, next.Since = pool.PhaseHeld, nil, "", d.Why, r.cfg.Clock.Wall()
	e := r.event(v, "VM_MIGRATION_ENDED", fmt.Sprintf("%s stays on %s instead of moving to %s: %s", v.Claim.VM, v.Me, v.Claim.Incoming.Server, d.Why))
	rev, err := r.write(ctx, v, t, Write{Claim: &next, Event: e})
	if err != nil {
		return err
	}
	r.mu.Lock()
	t.acked, t.moving = rev, outgoing{}
	r.mu.Unlock()
	return nil
}

// handOver gives the VM to the destination, in one transaction that compares the claim, this server's session and the
// destination's. Decide has seen the transfer end well; here QEMU is seen dead once more, by its process and by the
// process table, and the destination says that its copy is complete and held by its guard.
func (r *Reconciler) handOver(ctx context.Context, v View, d Decision, t *tracked) error {
	if err := r.verifyDead(ctx, v); err != nil {
		return err
	}
	in := *v.Claim.Incoming
	got, err := r.confirm(ctx, v, in)
	if err != nil {
		r.mu.Lock()
		if c := t.moving.call; c != nil {
			c.refused++
		}
		r.mu.Unlock()
		return err
	}
	next := v.Claim
	next.Server, next.Session, next.Epoch, next.Phase = in.Server, in.Session, v.Claim.Epoch+1, pool.PhaseHandedOver
	next.Armed, next.Watchdog = got.Held, 0
	if got.Held {
		next.Watchdog = got.Watchdog
	}
	next.Incoming, next.Paused, next.LastServer, next.Since = nil, v.Moving.Paused, v.Me, r.cfg.Clock.Wall()
	w := Write{Claim: &next, Peer: in.Server, PeerSession: in.Session,
		Event: r.event(v, "VM_HANDED_OVER", fmt.Sprintf("%s is handed over by %s to %s", v.Claim.VM, v.Me, in.Server))}
	if _, err := r.write(ctx, v, t, w); err != nil {
		return err
	}
	if v.HeldUnder != 0 && v.HasGuard {
		if err := r.letGo(ctx, v.Claim.VM); err != nil {
			r.cfg.Log.Warn("guard still holds a VM that has moved", "vm", v.Claim.VM, "err", err)
		}
	}
	r.mu.Lock()
	t.acked, t.moving = 0, outgoing{}
	r.mu.Unlock()
	r.forget(v.Claim.VM)
	return nil
}

// confirm asks the destination about its copy. A protected VM is handed over only into the hands of a guard, where the
// destination has one.
func (r *Reconciler) confirm(ctx context.Context, v View, in pool.Incoming) (Confirmed, error) {
	ctx, cancel := r.cfg.Clock.WithTimeout(ctx, callLimit)
	defer cancel()
	got, err := r.cfg.Peers.ConfirmIncoming(ctx, in.Server, v.Claim.Operation, v.Claim.VM, in.Session)
	if err != nil {
		return Confirmed{}, err
	}
	m, _ := r.cfg.Pool.Snapshot().Members.Get(in.Server)
	switch {
	case !got.Arrived:
		return Confirmed{}, fmt.Errorf("%s has no complete copy: %w", in.Server, pool.ErrUnavailable)
	case v.Protected && m.Guard && !got.Held:
		return Confirmed{}, fmt.Errorf("the guard of %s does not hold the copy yet: %w", in.Server, pool.ErrUnavailable)
	}
	return got, nil
}

// mark gives a copy that was handed over its new epoch without letting it run.
func (r *Reconciler) mark(ctx context.Context, v View) error {
	ctx, cancel := r.cfg.Clock.WithTimeout(ctx, hypervisorLimit)
	defer cancel()
	m := r.marker(v, true)
	if err := r.cfg.Hypervisor.Adopt(ctx, v.VM.ID, m); err != nil {
		return err
	}
	d := *v.Domain
	d.Marker = &m
	r.remember(d)
	return nil
}
