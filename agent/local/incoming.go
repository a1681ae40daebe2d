package local

import (
	"context"
	"fmt"
	"time"

	"github.com/holdfast-ha/holdfast/agent/guard"
	"github.com/holdfast-ha/holdfast/pkg/pool"
)

// Admits reports whether this server, as a destination, takes in the copy that operation op makes of vm under a claim
// of epoch; nil if it does. The claim is read linearizably. It is ErrUnavailable while a leftover is being cleared.
func (r *Reconciler) Admits(ctx context.Context, op pool.OperationID, vm pool.VMID, epoch pool.Epoch) error {
	rctx, cancel := r.cfg.Clock.WithTimeout(ctx, callLimit)
	c, ok, err := r.cfg.Pool.ReadClaim(rctx, vm)
	cancel()
	session := r.cfg.Session.ID()
	switch {
	case err != nil:
		return err
	case !ok || c.Phase != pool.PhaseMigrating || c.Incoming == nil || c.Incoming.Server != r.cfg.Server || c.Operation != op || c.Epoch != epoch || op == "":
		return fmt.Errorf("no migration of %s to %s by operation %s is under way: %w", vm, r.cfg.Server, op, pool.ErrRefused)
	case session == 0 || c.Incoming.Session != session:
		return fmt.Errorf("%s has another session than the one that was to take %s in: %w", r.cfg.Server, vm, pool.ErrRefused)
	}
	if !r.cfg.Session.Allows(r.cfg.Clock.Now()) {
		return r.notNow(vm)
	}
	d, found, err := r.lookFor(ctx, vm)
	if err == nil && !found {
		return r.free(ctx, vm)
	}
	if err != nil {
		return err
	}
	r.wake.Set()
	return fmt.Errorf("%s still has a domain of %s (%v): %w", r.cfg.Server, vm, d.Process, pool.ErrUnavailable)
}

// free reports whether the hypervisor can take in a copy of a VM that it does not run; nil if it can.
func (r *Reconciler) free(ctx context.Context, vm pool.VMID) error {
	ctx, cancel := r.cfg.Clock.WithTimeout(ctx, callLimit)
	defer cancel()
	busy, err := r.cfg.Hypervisor.PutsAway(ctx, vm)
	if err == nil && busy {
		err = fmt.Errorf("the hypervisor of %s has not put the last run of %s away yet: %w", r.cfg.Server, vm, pool.ErrUnavailable)
	}
	return err
}

// A copy that is not complete yet is looked at arriveTries times again, arrivePause apart.
const (
	arriveTries = 20
	arrivePause = 10 * time.Millisecond
)

// Incoming says how the copy that operation op made of vm stands here, for its source. session is the one of this
// server that the source's claim names.
func (r *Reconciler) Incoming(ctx context.Context, op pool.OperationID, vm pool.VMID, session pool.Session) (Confirmed, error) {
	if now := r.cfg.Session.ID(); now == 0 || now != session {
		return Confirmed{}, fmt.Errorf("%s has another session: %w", r.cfg.Server, pool.ErrRefused)
	}
	d, found, err := r.lookFor(ctx, vm)
	// Its source has seen the end; word of it from this server's hypervisor may be on its way.
	for range arriveTries {
		if err != nil || !found || d.State != DomainIncoming || d.Marker == nil || d.Marker.Operation != op || r.cfg.Clock.Sleep(ctx, arrivePause) != nil {
			break
		}
		d, found, err = r.lookFor(ctx, vm)
	}
	if err != nil {
		return Confirmed{}, err
	}
	if !found || d.State != DomainPaused || d.Marker == nil || d.Marker.Operation != op || d.Marker.Started || op == "" {
		return Confirmed{}, nil
	}
	if !r.cfg.Session.Allows(r.cfg.Clock.Now()) {
		return Confirmed{}, r.notNow(vm)
	}
	out := Confirmed{Arrived: true}
	if r.cfg.Guard == nil {
		return out, nil
	}
	gctx, cancel := r.cfg.Clock.WithTimeout(ctx, guardLimit)
	defer cancel()
	st, err := r.cfg.Guard.Status(gctx)
	if err != nil || !st.Armed {
		return out, nil //nolint:nilerr // a guard that does not answer holds nothing, as far as anybody may assume
	}
	out.Held = holds(st, d, session)
	if out.Held {
		out.Watchdog = st.Watchdog
	} else {
		r.wake.Set()
	}
	return out, nil
}

// notNow says that no VM may be let run here for the moment.
func (r *Reconciler) notNow(vm pool.VMID) error {
	return fmt.Errorf("%s may let no VM go on now, %s neither: its session is not renewed, or its guard does not answer: %w", r.cfg.Server, vm, pool.ErrUnavailable)
}

func holds(st guard.Status, d Domain, session pool.Session) bool {
	for _, h := range st.Held {
		if h.VM == d.VM && h.Process == d.Process && h.Session == session {
			return true
		}
	}
	return false
}

// lookFor lists the domains anew and finds a live one of vm.
func (r *Reconciler) lookFor(ctx context.Context, vm pool.VMID) (Domain, bool, error) {
	ctx, cancel := r.cfg.Clock.WithTimeout(ctx, callLimit)
	defer cancel()
	list, err := r.cfg.Hypervisor.Domains(ctx)
	if err != nil {
		return Domain{}, false, err
	}
	for _, d := range list {
		if d.VM == vm && d.State != DomainGone {
			return d, true, nil
		}
	}
	return Domain{}, false, nil
}
