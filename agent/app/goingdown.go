package app

import (
	"context"
	"fmt"
	"time"

	"github.com/holdfast-ha/holdfast/agent/local"
	"github.com/holdfast-ha/holdfast/pkg/clock"
	"github.com/holdfast-ha/holdfast/pkg/pool"
)

// Machine is this server's own power as its agent uses it. Safe for concurrent use.
type Machine interface {
	// GoingDown reports whether the server was asked to shut down, or to reboot, and waits for this agent.
	GoingDown() (down, reboot bool)
	// Subscribe sets sig whenever that changes.
	Subscribe(sig clock.Signal)
	// LetGo lets the shutdown go on.
	LetGo(ctx context.Context) error
	// PowerOff asks the server to shut down, or to reboot; GoingDown tells of it then.
	PowerOff(ctx context.Context, reboot bool) error
	// HoldUp returns for how long a shutdown can be held up; 0: nobody knows.
	HoldUp() time.Duration
}

// Durations of a shutdown. docs/operations.md, "Shutting a server down".
const (
	// shutdownLook is how often an agent looks how far the shutdown is.
	shutdownLook = time.Second
	// aloneFor is how long a server that is asked to shut down waits for etcd and a leader before it stops its guests
	// without them.
	aloneFor = 15 * time.Second
	// shutdownMargin is kept free at the end of the hold-up, besides the time that guests may take.
	shutdownMargin = 15 * time.Second
	// powerOffRetry is the pause after a failed attempt to power the server off.
	powerOffRetry = 10 * time.Second
)

// departure is what an agent remembers of its server's shutdown.
type departure struct {
	// since is when it was first seen going down; alone since when there has been no etcd or no leader.
	since, alone pool.Instant
	// stopAll: guests are stopped, whatever the policy.
	stopAll bool
	// gone: the session was given back, and the machine may go down.
	gone bool
	// asked is when the machine was last asked to power off.
	asked pool.Instant
	// held is why the machine may not go down yet, though no VM is left; empty if it may.
	held string
}

// stopping says how this server goes down, for the reconciler.
func (a *Agent) stopping() local.Stopping {
	a.mu.Lock()
	stopAll := a.departure.stopAll
	a.mu.Unlock()
	snap := a.Snapshot()
	srv, down, reboot := a.goingDown(snap)
	announced := srv.ShuttingDown && srv.Shutdown.BootID == a.bootID()
	if !down && !announced {
		return local.Stopping{}
	}
	if !announced {
		srv.Shutdown = pool.Shutdown{Policy: snap.Config.Shutdown, Reboot: reboot}
	}
	return local.Stopping{Stopping: true, Keep: srv.Keeps(), Now: stopAll || announced && srv.Shutdown.Policy != pool.ShutdownEvacuate}
}

func (a *Agent) goingDown(snap *pool.Snapshot) (srv pool.Server, down, reboot bool) {
	srv, _ = snap.Servers.Get(a.cfg.Server)
	if a.e.Machine != nil {
		down, reboot = a.e.Machine.GoingDown()
	}
	return srv, down, reboot
}

func (a *Agent) bootID() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.facts.capacity.BootID
}

// keepShutdown carries this server's shutdown out: it announces one that the server's own shell asked for, powers the
// server off once one that the pool asked for may go on, gives the session back when no VM is left, and tells that the
// server is back.
func (a *Agent) keepShutdown(ctx context.Context, rec *local.Reconciler) error {
	sig := a.e.Clock.NewSignal()
	defer a.data.mirror.Subscribe(sig)()
	if a.e.Machine != nil {
		a.e.Machine.Subscribe(sig)
	}
	for ctx.Err() == nil {
		wait, err := a.stepShutdown(ctx, rec)
		if err != nil {
			return err
		}
		sig.Wait(ctx, wait)
	}
	return nil
}

// stepShutdown makes one step and returns when to look again.
func (a *Agent) stepShutdown(ctx context.Context, rec *local.Reconciler) (time.Duration, error) {
	snap := a.Snapshot()
	srv, down, reboot := a.goingDown(snap)
	boot := a.bootID()
	ours := srv.ShuttingDown && srv.Shutdown.BootID == boot
	switch {
	case boot == "" || snap.Revision == 0 || srv.ID == "":
		return shutdownLook, nil
	case a.departure.gone && !down:
		return 0, fmt.Errorf("the shutdown of %s was called off after its session was given back; the agent starts anew: %w", srv.ID, pool.ErrUnavailable)
	case a.departure.gone:
		return factsEvery, nil
	case srv.ShuttingDown && !ours:
		return shutdownLook, a.writeShutdown(ctx, srv, false, pool.Shutdown{}, fmt.Sprintf("%s is back after its %s", srv.ID, shutdownWord(srv.Shutdown.Reboot)))
	case down && !ours:
		a.clockDeparture(snap)
		how := pool.Shutdown{Policy: snap.Config.Shutdown, Reboot: reboot, BootID: boot, Mark: pool.Mark{By: "server " + string(srv.ID), At: a.e.Clock.Wall()}}
		if err := a.writeShutdown(ctx, srv, true, how, aboutTo(srv.ID, how)); err != nil {
			return 0, err
		}
	case !down && ours && !srv.Shutdown.ByPool:
		return shutdownLook, a.writeShutdown(ctx, srv, false, pool.Shutdown{}, fmt.Sprintf("the %s of %s was called off", shutdownWord(srv.Shutdown.Reboot), srv.ID))
	case !down && !ours:
		a.forgetDeparture()
		return factsEvery, nil
	}
	a.clockDeparture(snap)
	rec.Wake().Set()
	if a.emptied(snap, rec) && a.mayGo(ctx, snap, srv) {
		a.leave(ctx, srv, down)
	}
	return shutdownLook, nil
}

func shutdownWord(reboot bool) string {
	if reboot {
		return "reboot"
	}
	return "shutdown"
}

// aboutTo tells of a shutdown that begins, and what becomes of the VMs.
func aboutTo(id pool.ServerID, how pool.Shutdown) string {
	verb := "shut down"
	if how.Reboot {
		verb = "reboot"
	}
	vms := "its VMs move elsewhere first"
	switch {
	case how.Policy == pool.ShutdownStop && how.Reboot:
		vms = "its VMs are stopped, and start there again"
	case how.Policy == pool.ShutdownStop:
		vms = "its VMs are stopped, and start elsewhere"
	case how.Policy == pool.ShutdownFreeze:
		vms = "its VMs are stopped, and kept for it"
	}
	return fmt.Sprintf("%s is about to %s: %s", id, verb, vms)
}

// emptied reports whether nothing of the pool's is left here. Without etcd the claims cannot tell.
func (a *Agent) emptied(snap *pool.Snapshot, rec *local.Reconciler) bool {
	if rec.Live() > 0 {
		return false
	}
	if !a.Reachable() {
		return a.departure.stopAll
	}
	for _, c := range snap.Claims.All() {
		if c.Server == a.cfg.Server || c.Incoming != nil && c.Incoming.Server == a.cfg.Server {
			return false
		}
	}
	return true
}

// mayGo reports whether etcd goes on without this server, so that the others' VMs run on: if its vote is needed, it moves
// to another server first. Whoever leaves nobody behind, or waits for etcd or a leader in vain, or can wait no longer,
// goes.
func (a *Agent) mayGo(ctx context.Context, snap *pool.Snapshot, srv pool.Server) bool {
	why := ""
	if a.e.GoesOn != nil && !a.departure.stopAll && !srv.ShuttingDown {
		return false // its own announcement is not read back, nor are those that came before it
	}
	if a.e.GoesOn != nil && !a.departure.stopAll && snap.OthersStay(a.cfg.Server) {
		gctx, cancel := a.e.Clock.WithTimeout(ctx, leaveLimit)
		now, err := a.e.GoesOn(gctx, snap, a.cfg.Server)
		cancel()
		switch {
		case err != nil:
			why = err.Error()
		case !now:
			why = "its etcd vote moves to another server first"
		}
	}
	if why != a.departure.held {
		a.departure.held = why
		a.e.Log.Info("this server goes down", "waits", why != "", "reason", why)
	}
	return why == ""
}

// leave gives the office and the session back, so that nobody waits for a lease, and lets the machine go down; or asks
// it to, if the pool wants it down and it is not going yet.
func (a *Agent) leave(ctx context.Context, srv pool.Server, down bool) {
	if a.e.Machine == nil {
		return
	}
	now := a.e.Clock.Now()
	if !down {
		if a.departure.asked != 0 && now.Before(a.departure.asked.Add(powerOffRetry)) {
			return
		}
		a.departure.asked = now
		if err := a.e.Machine.PowerOff(ctx, srv.Shutdown.Reboot); err != nil {
			a.e.Log.Error("this server cannot be powered off", "err", err)
		}
		return
	}
	a.mu.Lock()
	session, candidate := a.session, a.lead
	a.mu.Unlock()
	lctx, cancel := a.e.Clock.WithTimeout(ctx, leaveLimit)
	defer cancel()
	if err := candidate.Resign(lctx); err != nil {
		a.e.Log.Warn("resigning", "err", err)
	}
	if err := session.Release(lctx); err != nil {
		a.e.Log.Warn("giving the session back", "err", err)
	}
	a.departure.gone = true
	if err := a.e.Machine.LetGo(ctx); err != nil {
		a.e.Log.Error("the shutdown is still held up", "err", err)
	}
}

// leaveLimit bounds giving the office and the session back.
const leaveLimit = 5 * time.Second

// clockDeparture gives evacuation up where it makes no sense any more: nobody is there to move VMs, or the time for
// which a shutdown can be held up runs out.
func (a *Agent) clockDeparture(snap *pool.Snapshot) {
	now := a.e.Clock.Now()
	a.mu.Lock()
	defer a.mu.Unlock()
	d := &a.departure
	if d.since == 0 {
		d.since = now
	}
	if a.Reachable() && snap.Leader.Server != "" {
		d.alone = 0
	} else if d.alone == 0 {
		d.alone = now
	}
	late := false
	if _, down, _ := a.goingDown(snap); down && a.e.Machine.HoldUp() > 0 {
		late = now.Sub(d.since) > a.e.Machine.HoldUp()-snap.Config.StopLimit-shutdownMargin
	}
	if late || d.alone != 0 && now.Sub(d.alone) > aloneFor {
		if !d.stopAll {
			a.e.Log.Warn("VMs are stopped with this server instead of moved", "late", late, "alone", d.alone != 0)
		}
		d.stopAll = true
	}
}

func (a *Agent) forgetDeparture() {
	a.mu.Lock()
	a.departure = departure{}
	a.mu.Unlock()
}

// writeShutdown notes in the server's registration whether it is going down. What could not be written is tried again.
func (a *Agent) writeShutdown(ctx context.Context, srv pool.Server, on bool, how pool.Shutdown, text string) error {
	srv.ShuttingDown, srv.Shutdown = on, how
	e := pool.Event{At: a.e.Clock.Wall(), Kind: "SERVER_SHUTDOWN", Server: srv.ID, Actor: "agent " + string(srv.ID), Text: text}
	if _, err := a.data.Apply(ctx, pool.Change{Servers: []pool.Server{srv}, Events: []pool.Event{e}}); err != nil {
		if ctx.Err() == nil {
			a.e.Log.Warn("the shutdown is not in the pool's record yet", "err", err)
		}
		return nil
	}
	a.e.Log.Info("shutdown", "reason", text)
	return nil
}
