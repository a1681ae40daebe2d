package local

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/holdfast-ha/holdfast/pkg/pool"
)

// Steps about what a VM's registration says of its disks. They are no decisions about where the VM runs, and so not
// Decide's; withDrift puts them before those of its steps that could lose what the guest wrote.
const (
	// stepCompare: compare what runs with the registration.
	stepCompare Step = -2
	// stepRecord: write what was found into the registration.
	stepRecord Step = -3
)

// driftRetry is the pause after a comparison that failed: it must not hold up what else is to be done.
const driftRetry = 5 * time.Second

// drifting is what is remembered of one VM's comparisons.
type drifting struct {
	// shape and revision of the registration that were compared last.
	shape    string
	revision pool.Revision
	// found is what that told; nil: nothing yet, or nothing to be recorded.
	found *Drift
	// recorded is the revision of our own last record, which the mirror may not show yet.
	recorded  pool.Revision
	notBefore pool.Instant
	differs   string
}

// viewDrift tells what is due about a VM's disks. The caller holds the lock.
func (r *Reconciler) viewDrift(v *View, t *tracked, revision pool.Revision) {
	d := &t.drift
	if r.cfg.Drifts == nil || !v.Registered || v.VM.Desired == pool.DesiredUnspecified || revision < d.recorded {
		return
	}
	v.Unrecorded = d.found != nil && differ(d.found.VM, v.VM)
	alive := v.Domain != nil && v.Domain.Marker != nil && v.Domain.Marker.Started && v.Domain.Shape != ""
	if !alive || v.Domain.State == DomainGone {
		return
	}
	v.Differs = d.differs
	v.DriftDue = (d.shape != v.Domain.Shape || d.revision != v.VM.Revision) && !v.Now.Before(d.notBefore)
}

// differ reports whether two registrations differ in what a comparison writes.
func differ(a, b pool.VM) bool {
	return a.XML != b.XML || a.DisksInDoubt != b.DisksInDoubt || a.DiskLocks != b.DiskLocks || a.Movable != b.Movable || !slices.Equal(a.Needs, b.Needs)
}

// withDrift puts comparing and recording before a decision that is about to end the VM, or before nothing. What a
// deadline waits for goes first: the guard, the session, the first run.
func withDrift(v View, d Decision) Decision {
	if v.Claim.Server != v.Me || v.Session == 0 || (v.Claim.Phase != pool.PhaseHeld && v.Claim.Phase != pool.PhaseReleasing) {
		return d
	}
	switch d.Step {
	case StepNone, StepWait, StepShutdown, StepKill, StepRelease:
	case StepResume:
		if v.GuardPaused || v.Domain == nil || v.Domain.State != DomainIOError {
			return d
		}
	default:
		return d
	}
	switch {
	case v.Unrecorded:
		return do(stepRecord, "its disks are recorded before anything else")
	case v.DriftDue && d.Step != StepRelease:
		return do(stepCompare, "its disks may have changed")
	}
	return d
}

// compare looks for drift. A failure is no reason to leave the VM alone for longer.
func (r *Reconciler) compare(ctx context.Context, v View, t *tracked) error {
	cctx, cancel := r.cfg.Clock.WithTimeout(ctx, callLimit)
	defer cancel()
	found, err := r.cfg.Drifts.Drift(cctx, v.VM)
	r.mu.Lock()
	defer r.mu.Unlock()
	if err != nil {
		t.drift.notBefore = r.cfg.Clock.Now().Add(driftRetry)
		r.cfg.Log.Warn("comparing a VM with its registration", "vm", v.VM.ID, "err", err)
		return nil
	}
	t.drift.shape, t.drift.revision, t.drift.differs, t.drift.found = v.Domain.Shape, v.VM.Revision, found.Differs, nil
	if found.Why != "" {
		t.drift.found = &found
	}
	return nil
}

// record writes what a comparison found: one transaction that compares the claim, this server's session and the
// registration.
func (r *Reconciler) record(ctx context.Context, v View, t *tracked) error {
	r.mu.Lock()
	found := *t.drift.found
	r.mu.Unlock()
	next := v.VM
	next.XML, next.Needs, next.DisksInDoubt = found.VM.XML, found.VM.Needs, found.VM.DisksInDoubt
	next.DiskLocks, next.Movable = found.VM.DiskLocks, found.VM.Movable
	text := fmt.Sprintf("%s on %s: %s; recorded", v.VM.ID, v.Me, found.Why)
	if next.DisksInDoubt != "" {
		text += ", and in doubt until that has ended"
	}
	rev, err := r.write(ctx, v, t, Write{Registration: &next, Event: r.event(v, "VM_DISKS", text)})
	if errors.Is(err, pool.ErrInvalid) {
		r.mu.Lock()
		t.drift.found, t.drift.differs = nil, "its disks cannot be recorded: "+err.Error()
		r.mu.Unlock()
	}
	if err != nil {
		return err
	}
	r.cfg.Log.Info("disks recorded", "vm", v.VM.ID, "reason", found.Why)
	r.mu.Lock()
	defer r.mu.Unlock()
	t.drift.found, t.drift.recorded = nil, rev
	if t.drift.revision == v.VM.Revision {
		t.drift.revision = rev
	}
	return nil
}
