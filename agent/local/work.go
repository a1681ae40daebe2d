package local

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/holdfast-ha/holdfast/agent/guard"
	"github.com/holdfast-ha/holdfast/pkg/pool"
)

// stepReport writes the observed state; it is not a decision about the VM and so not Decide's.
const stepReport Step = -1

// maxSteps bounds one worker's run, so that a step that changes nothing cannot spin.
const maxSteps = 32

// work makes steps for one VM until nothing is left to do now.
func (r *Reconciler) work(ctx context.Context, vm pool.VMID, t *tracked) {
	pause := time.Duration(0)
	fresh := false
	for range maxSteps {
		if ctx.Err() != nil {
			break
		}
		v := r.view(vm, r.cfg.Clock.Now())
		v.Fresh = fresh
		d := withDrift(v, r.cfg.Decide(v))
		if d.Step == StepNone && r.reportDue(v) {
			d.Step = stepReport
		}
		if d.Step == StepNone || d.Step == StepWait {
			break
		}
		if d.Step == StepRelease {
			d = r.blame(ctx, v, d, t)
		}
		err := r.carryOut(ctx, v, d, t)
		fresh = err == nil && d.Step == StepReadClaim
		if err != nil {
			pause = r.failed(ctx, v, d, t, err)
			break
		}
		if d.Step > StepReadClaim {
			r.cfg.Log.Info(d.Step.String(), "vm", vm, "reason", d.Why)
		}
		if d.Step == StepResume && v.Domain.State == DomainIOError {
			pause = ioRetry // it may run into the same error at once
			break
		}
	}
	r.mu.Lock()
	t.busy = false
	if pause > 0 {
		t.notBefore = r.cfg.Clock.Now().Add(pause)
	}
	r.mu.Unlock()
	r.wake.Set()
}

// failed logs an error once per change of its text and returns how long to pause before the next try.
func (r *Reconciler) failed(ctx context.Context, v View, d Decision, t *tracked, err error) time.Duration {
	if errors.Is(err, pool.ErrStale) || errors.Is(err, pool.ErrOutcomeUnknown) {
		r.reread(ctx, v.VM.ID, v.Claim.VM, t)
	}
	why := fmt.Sprintf("%v: %v", d.Step, err)
	if why != t.lastWhy {
		t.lastWhy = why
		r.cfg.Log.Warn("step not done", "vm", v.Claim.VM, "action", d.Step, "reason", d.Why, "err", err)
	}
	if errors.Is(err, ErrDiskLocked) {
		return lockRetry
	}
	if d.Step == StepKill && ctx.Err() == nil {
		if err := r.writeState(ctx, v, t, pool.RunStopping, pool.CannotEnd+err.Error()); err != nil {
			r.cfg.Log.Debug("report", "vm", v.Claim.VM, "err", err)
		}
	}
	return retryAfter
}

// reread replaces what is remembered of a claim by what etcd holds.
func (r *Reconciler) reread(ctx context.Context, registered, claimed pool.VMID, t *tracked) {
	vm := registered
	if vm == "" {
		vm = claimed
	}
	ctx, cancel := r.cfg.Clock.WithTimeout(ctx, callLimit)
	defer cancel()
	c, ok, err := r.cfg.Pool.ReadClaim(ctx, vm)
	if err != nil {
		return
	}
	r.mu.Lock()
	t.claim, t.hasClaim = c, ok
	r.mu.Unlock()
}

// carryOut makes one step. Every transaction compares the claim revision that the decision was made on.
func (r *Reconciler) carryOut(ctx context.Context, v View, d Decision, t *tracked) error {
	switch d.Step {
	case stepReport:
		return r.report(ctx, v, t)
	case stepCompare:
		return r.compare(ctx, v, t)
	case stepRecord:
		return r.record(ctx, v, t)
	case StepReadClaim:
		return r.readClaim(ctx, v, t)
	case StepDestroy, StepKill:
		return r.kill(ctx, v, d)
	case StepForget:
		r.forget(v.Domain.VM)
		return nil
	case StepCreate:
		return r.create(ctx, v, t)
	case StepAdopt:
		return r.adopt(ctx, v)
	case StepHold:
		return r.hold(ctx, v)
	case StepWriteHeld, StepArm, StepReassert:
		return r.writeHeld(ctx, v, d, t)
	case StepDisarm:
		return r.disarm(ctx, v, t)
	case StepResume:
		return r.resume(ctx, v)
	case StepShutdown:
		return r.shutdown(ctx, v, t)
	case StepMigrate:
		return r.migrate(ctx, v, t)
	case StepLookAtJob:
		return r.lookAtJob(ctx, v, t)
	case StepAbort:
		return r.abort(ctx, v, t)
	case StepEndMigration:
		return r.endMigration(ctx, v, d, t)
	case StepHandOver:
		return r.handOver(ctx, v, d, t)
	case StepMark:
		return r.mark(ctx, v)
	case StepRelease:
		return r.release(ctx, v, d, t)
	}
	return fmt.Errorf("step %v: nothing to carry out: %w", d.Step, pool.ErrInvalid)
}

func (r *Reconciler) readClaim(ctx context.Context, v View, t *tracked) error {
	ctx, cancel := r.cfg.Clock.WithTimeout(ctx, callLimit)
	defer cancel()
	c, ok, err := r.cfg.Pool.ReadClaim(ctx, v.Domain.VM)
	if err != nil {
		return err
	}
	r.mu.Lock()
	t.claim, t.hasClaim = c, ok
	r.mu.Unlock()
	return nil
}

// kill ends the domain's process and notes its end; what it means is decided by the next step.
func (r *Reconciler) kill(ctx context.Context, v View, d Decision) error {
	ctx, cancel := r.cfg.Clock.WithTimeout(ctx, hypervisorLimit)
	defer cancel()
	if err := r.cfg.Hypervisor.Kill(ctx, v.Domain.Process); err != nil {
		return fmt.Errorf("kill %v: %w", v.Domain.Process, err)
	}
	gone := *v.Domain
	gone.Panicked = gone.Panicked || gone.State == DomainPanicked
	gone.State, gone.Exit, gone.ExitDetail = DomainGone, ExitDestroyed, d.Why
	r.remember(gone)
	return nil
}

// blame finds out whether the guard ended a VM that seems to have died by itself: its process can be seen dead before
// the guard has noted that. A guard's kill is no failure of the VM's.
func (r *Reconciler) blame(ctx context.Context, v View, d Decision, t *tracked) Decision {
	if v.HeldUnder == 0 || (!d.Cause.CountsAsFailure() && d.Cause != pool.CauseGuestShutdown) {
		return d
	}
	for range blameTries {
		gctx, cancel := r.cfg.Clock.WithTimeout(ctx, guardLimit)
		st, err := r.cfg.Guard.Status(gctx)
		cancel()
		if err != nil {
			return d
		}
		killed := 0
		for _, vm := range st.Killed {
			if vm == v.Claim.VM {
				killed++
			}
		}
		r.mu.Lock()
		since := t.killsAtHold
		r.mu.Unlock()
		if killed > since {
			d.Cause = pool.CauseIsolated
			return d
		}
		noted := !slices.ContainsFunc(st.Held, func(h guard.Held) bool { return h.VM == v.Claim.VM && h.Process == v.Domain.Process })
		if noted || r.cfg.Clock.Sleep(ctx, blamePause) != nil {
			return d
		}
	}
	return d
}

// The guard is asked blameTries times, blamePause apart, what became of a process; it notes a death within 100 ms.
const (
	blameTries = 5
	blamePause = 50 * time.Millisecond
)

func (r *Reconciler) forget(vm pool.VMID) {
	r.cfg.Hypervisor.Forget(vm)
	r.mu.Lock()
	delete(r.domains, vm)
	r.mu.Unlock()
}

// remember replaces what is known of a domain until the next listing.
func (r *Reconciler) remember(d Domain) {
	r.mu.Lock()
	r.domains[d.VM] = d
	r.mu.Unlock()
}

// create makes the domain with its CPUs stopped. A start refused by a disk lock is no failure: the claim stays
// and the reason is shown. Any other refusal releases the claim as a failed start.
func (r *Reconciler) create(ctx context.Context, v View, t *tracked) error {
	hctx, cancel := r.cfg.Clock.WithTimeout(ctx, hypervisorLimit)
	defer cancel()
	d, err := Domain{}, error(nil)
	xml, err := r.complete(ctx, v.VM)
	if err == nil {
		d, err = r.cfg.Hypervisor.Create(hctx, xml, r.marker(v, false))
	}
	switch {
	case err == nil:
		r.remember(d)
		r.mu.Lock()
		t.made, t.drift = v.Claim.Epoch, drifting{}
		r.mu.Unlock()
		return nil
	case errors.Is(err, ErrDiskLocked):
		return errors.Join(err, r.writeState(ctx, v, t, pool.RunStarting, "waiting: "+err.Error()))
	case errors.Is(err, pool.ErrUnavailable):
		return err
	}
	r.cfg.Log.Warn("start failed", "vm", v.VM.ID, "err", err)
	return r.release(ctx, v, Decision{Step: StepRelease, Cause: pool.CauseStartFailed, Why: err.Error()}, t)
}

// complete returns the definition with its passwords.
func (r *Reconciler) complete(ctx context.Context, vm pool.VM) (string, error) {
	if r.cfg.Complete == nil {
		return vm.XML, nil
	}
	ctx, cancel := r.cfg.Clock.WithTimeout(ctx, callLimit)
	defer cancel()
	return r.cfg.Complete(ctx, vm)
}

func (r *Reconciler) marker(v View, started bool) Marker {
	cfg := r.cfg.Pool.Snapshot().Config
	return Marker{Pool: cfg.Name, Incarnation: cfg.Incarnation, VM: v.VM.ID, Epoch: v.Claim.Epoch, Started: started}
}

func (r *Reconciler) adopt(ctx context.Context, v View) error {
	if v.Domain.UUID != v.VM.UUID {
		return fmt.Errorf("adopt %s: the domain here has UUID %s, registered is %s; rename or remove one of them: %w",
			v.VM.ID, v.Domain.UUID, v.VM.UUID, pool.ErrInvalid)
	}
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

// hold has the guard take the process over. Only its acknowledgement counts.
func (r *Reconciler) hold(ctx context.Context, v View) error {
	ctx, cancel := r.cfg.Clock.WithTimeout(ctx, callLimit)
	defer cancel()
	h := guard.Held{VM: v.VM.ID, Process: v.Domain.Process, Session: v.Session, Monitor: v.Domain.Monitor}
	if err := r.cfg.Guard.Hold(ctx, h); err != nil {
		return err
	}
	r.mu.Lock()
	r.guard.held[v.VM.ID] = h
	delete(r.guard.paused, v.VM.ID)
	r.vms[v.VM.ID].killsAtHold, r.vms[v.VM.ID].counted = r.guard.killed[v.VM.ID], true
	r.mu.Unlock()
	return nil
}

// writeHeld writes HELD (or keeps RELEASING) for this session, with `armed` as the guard holds the process now.
func (r *Reconciler) writeHeld(ctx context.Context, v View, d Decision, t *tracked) error {
	next := v.Claim
	next.Session = v.Session
	next.Armed = v.HeldUnder != 0
	next.Watchdog = 0
	if next.Armed {
		_, next.Watchdog = r.GuardAnswers()
	}
	if next.Phase == pool.PhaseAssigned || next.Phase == pool.PhaseHandedOver && d.Step == StepWriteHeld {
		next.Phase, next.Since, next.LastServer = pool.PhaseHeld, r.cfg.Clock.Wall(), v.Me
		next.Cause, next.Detail, next.Operation, next.Paused = pool.CauseUnspecified, "", "", false
	}
	rev, err := r.write(ctx, v, t, Write{Claim: &next})
	if err != nil {
		return err
	}
	if d.Step == StepWriteHeld {
		r.mu.Lock()
		t.acked, t.stopAsked = rev, 0
		r.mu.Unlock()
	}
	return nil
}

// disarm clears `armed` by an acknowledged write, always, and only then has the guard let go.
func (r *Reconciler) disarm(ctx context.Context, v View, t *tracked) error {
	next := v.Claim
	next.Armed, next.Watchdog = false, 0
	if _, err := r.write(ctx, v, t, Write{Claim: &next}); err != nil {
		return err
	}
	if !v.HasGuard {
		return nil
	}
	return r.letGo(ctx, v.Claim.VM)
}

func (r *Reconciler) letGo(ctx context.Context, vm pool.VMID) error {
	ctx, cancel := r.cfg.Clock.WithTimeout(ctx, callLimit)
	defer cancel()
	if err := r.cfg.Guard.LetGo(ctx, vm); err != nil {
		return err
	}
	r.mu.Lock()
	delete(r.guard.held, vm)
	r.mu.Unlock()
	return nil
}

// resume lets the CPUs run. The session's stop time is checked once more at the last moment.
func (r *Reconciler) resume(ctx context.Context, v View) error {
	if !r.cfg.Session.Allows(r.cfg.Clock.Now()) || r.cfg.Session.ID() != v.Claim.Session {
		return fmt.Errorf("resume %s: the session's stop time has come: %w", v.VM.ID, pool.ErrLostSession)
	}
	ctx, cancel := r.cfg.Clock.WithTimeout(ctx, hypervisorLimit)
	defer cancel()
	m := r.marker(v, true)
	if err := r.cfg.Hypervisor.Resume(ctx, v.VM.ID, m); err != nil {
		return err
	}
	d := *v.Domain
	d.Marker, d.State = &m, DomainRunning
	r.remember(d)
	return nil
}

func (r *Reconciler) shutdown(ctx context.Context, v View, t *tracked) error {
	r.mu.Lock()
	t.stopAsked = r.cfg.Clock.Now()
	r.mu.Unlock()
	ctx, cancel := r.cfg.Clock.WithTimeout(ctx, hypervisorLimit)
	defer cancel()
	if err := r.cfg.Hypervisor.Shutdown(ctx, v.Domain.VM); err != nil {
		r.cfg.Log.Warn("asking the guest to shut down", "vm", v.Domain.VM, "err", err)
	}
	return nil
}

// release writes UNASSIGNED once the process is seen dead.
func (r *Reconciler) release(ctx context.Context, v View, d Decision, t *tracked) error {
	if err := r.verifyDead(ctx, v); err != nil {
		return err
	}
	next := v.Claim
	next.Server, next.Session, next.Phase = "", 0, pool.PhaseUnassigned
	next.Armed, next.Watchdog, next.Incoming, next.Operation, next.Paused = false, 0, nil, "", false
	next.LastServer, next.Cause, next.Detail, next.Since = v.Me, d.Cause, d.Why, r.cfg.Clock.Wall()
	w := Write{Claim: &next}
	if d.Cause == pool.CauseGuestShutdown && !v.VM.RestartOnGuestShutdown {
		stopped := v.VM
		stopped.Desired = pool.DesiredStopped
		stopped.DesiredMark = pool.Mark{By: "guest", At: next.Since, Why: "the guest powered itself off"}
		w.Registration = &stopped
	}
	w.Event = r.event(v, "VM_ENDED", fmt.Sprintf("%s ended on %s: %s", v.Claim.VM, v.Me, d.Why))
	w.State = &pool.VMState{VM: v.Claim.VM, Server: v.Me, Epoch: v.Claim.Epoch, State: pool.RunStopped, Reason: d.Why, Since: next.Since}
	if _, err := r.write(ctx, v, t, w); err != nil {
		return err
	}
	if v.HeldUnder != 0 && v.HasGuard {
		if err := r.letGo(ctx, v.Claim.VM); err != nil {
			r.cfg.Log.Warn("guard still holds an ended VM", "vm", v.Claim.VM, "err", err)
		}
	}
	r.mu.Lock()
	t.stopAsked, t.acked, t.drift, t.moving = 0, 0, drifting{}, outgoing{}
	r.mu.Unlock()
	r.forget(v.Claim.VM)
	return nil
}

// verifyDead is the only way to StepRelease's write: the process, or any process of the VM, is seen dead.
func (r *Reconciler) verifyDead(ctx context.Context, v View) error {
	ctx, cancel := r.cfg.Clock.WithTimeout(ctx, hypervisorLimit)
	defer cancel()
	if v.Domain != nil && v.Domain.Process.PID != 0 {
		dead, err := r.cfg.Hypervisor.Dead(ctx, v.Domain.Process)
		if err != nil || !dead {
			return errors.Join(fmt.Errorf("%v is not seen dead: %w", v.Domain.Process, pool.ErrUnavailable), err)
		}
	}
	absent, err := r.cfg.Hypervisor.Absent(ctx, v.VM.UUID)
	if err != nil || !absent {
		return errors.Join(fmt.Errorf("a process of %s still exists here: %w", v.Claim.VM, pool.ErrUnavailable), err)
	}
	return nil
}

// write commits w against the claim that v saw, and remembers the new claim.
func (r *Reconciler) write(ctx context.Context, v View, t *tracked, w Write) (pool.Revision, error) {
	w.Session, w.VM, w.Revision = v.Session, v.Claim.VM, v.Claim.Revision
	ctx, cancel := r.cfg.Clock.WithTimeout(ctx, callLimit)
	defer cancel()
	rev, err := r.cfg.Pool.Write(ctx, w)
	if err != nil || w.Claim == nil {
		return rev, err
	}
	r.mu.Lock()
	t.claim, t.hasClaim = *w.Claim, true
	t.claim.Revision = rev
	r.mu.Unlock()
	return rev, nil
}

func (r *Reconciler) event(v View, kind, text string) *pool.Event {
	return &pool.Event{At: r.cfg.Clock.Wall(), Kind: kind, Server: v.Me, VM: v.Claim.VM, Actor: "agent " + string(v.Me),
		Text: text, Operation: v.Claim.Operation}
}
