package local

import (
	"context"

	"github.com/holdfast-ha/holdfast/pkg/pool"
)

// Reasons for a VM that is reported paused.
const (
	pausedByHand  = "paused outside Holdfast"
	pausedByGuard = "paused by the guard, since this server was cut off"
	pausedByError = "paused by a disk I/O error"
)

// observedState translates a domain into the words of the pool.
func observedState(v View) (pool.RunState, string) {
	switch d := v.Domain; {
	case d == nil || d.State == DomainGone:
		return pool.RunStopped, ""
	case v.StopAsked != 0:
		return pool.RunStopping, "asked to shut down"
	case d.Marker != nil && !d.Marker.Started:
		return pool.RunStarting, ""
	case d.State == DomainPostMigrate && v.Claim.Phase == pool.PhaseMigrating && !v.Moving.WasPaused:
		return pool.RunRunning, "" // it stands still for a moment, for the end of the copy
	case d.State == DomainRunning && v.Differs != "":
		return pool.RunRunning, "until its next start it differs from its registration: " + v.Differs
	case d.State == DomainRunning && v.Unpausable:
		return pool.RunRunning, "until its next start it is killed, not paused, if its server is cut off: it has no monitor for the guard"
	case d.State == DomainRunning:
		return pool.RunRunning, ""
	case d.State == DomainIOError:
		return pool.RunPaused, pausedByError
	case d.State == DomainShuttingDown:
		return pool.RunStopping, "the guest is powering off"
	case v.GuardPaused:
		return pool.RunPaused, pausedByGuard
	default:
		return pool.RunPaused, pausedByHand
	}
}

// reportDue reports whether the state that stands in the pool differs from what is seen. Only an owner reports, and not
// while a VM is neither here any more nor handed over.
func (r *Reconciler) reportDue(v View) bool {
	if !v.HasClaim || v.Claim.Server != v.Me || v.Claim.Session != v.Session || !v.Claim.Phase.Owned() || v.Domain == nil || v.Claim.Phase == pool.PhaseMigrating && v.Domain.State == DomainGone {
		return false
	}
	state, reason := observedState(v)
	stored, _ := r.cfg.Pool.Snapshot().States.Get(v.Claim.VM)
	r.mu.Lock()
	last := r.vms[v.Claim.VM].reported
	r.mu.Unlock()
	if last.Revision > r.cfg.Pool.Snapshot().Revision {
		stored = last // the mirror lags behind our own write
	}
	return stored.State != state || stored.Reason != reason || stored.Server != v.Me || stored.Epoch != v.Claim.Epoch
}

func (r *Reconciler) report(ctx context.Context, v View, t *tracked) error {
	state, reason := observedState(v)
	return r.writeState(ctx, v, t, state, reason)
}

// writeState writes states/<vm> if it differs from what was written last.
func (r *Reconciler) writeState(ctx context.Context, v View, t *tracked, state pool.RunState, reason string) error {
	s := pool.VMState{VM: v.Claim.VM, Server: v.Me, Epoch: v.Claim.Epoch, State: state, Reason: reason, Since: r.cfg.Clock.Wall()}
	r.mu.Lock()
	last := t.reported
	r.mu.Unlock()
	if snap := r.cfg.Pool.Snapshot(); last.Revision <= snap.Revision {
		last, _ = snap.States.Get(s.VM)
	}
	if last.State == s.State && last.Reason == s.Reason && last.Epoch == s.Epoch && last.Server == s.Server && last.Revision > 0 {
		return nil
	}
	rev, err := r.write(ctx, v, t, Write{State: &s})
	if err != nil {
		return err
	}
	s.Revision = rev
	r.mu.Lock()
	t.reported = s
	r.mu.Unlock()
	return nil
}
