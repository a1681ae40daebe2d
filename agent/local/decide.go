package local

import (
	"fmt"
	"time"

	"github.com/holdfast-ha/holdfast/pkg/pool"
)

// View is all that Decide looks at for one VM, at one moment.
type View struct {
	Now pool.Instant
	Me  pool.ServerID
	// Session is this server's session; 0 without one. MayStart: its stop time is ahead and the guard knows it.
	Session  pool.Session
	MayStart bool
	// Claim as last known; Fresh: read linearizably for this decision.
	Claim    pool.Claim
	HasClaim bool
	Fresh    bool
	// Foreign: the claim was seen to be written by somebody who is not Holdfast. Unseen: it was read, and the watch has not
	// shown yet how it came about.
	Foreign, Unseen bool
	VM              pool.VM
	// Registered: the VM stands in the pool's registrations.
	Registered bool
	// Protected: effective HA.
	Protected bool
	// Domain is nil if this server has none.
	Domain *Domain
	// HasGuard: this server has a guard and it answers.
	HasGuard bool
	// HeldUnder is the session under which the guard holds the domain's process; 0: not held.
	HeldUnder pool.Session
	// Acked is the revision of the last HELD write of ours that was acknowledged; 0: none.
	Acked pool.Revision
	// Made is the epoch under which this agent last made a domain of the VM; 0: it made none.
	Made pool.Epoch
	// StopAsked is when the guest was asked to shut down; 0: not yet.
	StopAsked pool.Instant
	StopLimit time.Duration
	// ServerStopping: this server is shutting down; no stop counts as the guest's wish.
	ServerStopping bool
	// StopNow: what runs here is to be shut down with the server; Keep: it is kept for the server's return.
	StopNow, Keep bool
	// GuardPaused: the guard paused it at a deadline, and it has not been held anew since.
	GuardPaused bool
	// GuardKilled: the guard killed it at a deadline.
	GuardKilled bool
	// Moving is what is known of its way to another server.
	Moving Moving
	// StorageLost: this server has lost its shared storage.
	StorageLost bool
	// DriftDue: its disks or devices may have changed since they were compared with the registration. Unrecorded: they
	// did, and the registration does not say so yet. Differs tells what cannot be recorded.
	DriftDue, Unrecorded bool
	Differs              string
	// Unpausable: the pool wants VMs of an isolated server paused, and the guard has no monitor through which it could.
	Unpausable bool
}

// Step is one kind of action.
type Step int

// Steps.
const (
	// StepNone: claim and domain agree, or somebody else must move first.
	StepNone Step = iota
	// StepReadClaim: read the claim linearizably and decide again.
	StepReadClaim
	// StepDestroy: kill a domain that must not be here.
	StepDestroy
	// StepForget: drop what is remembered of an ended domain.
	StepForget
	// StepCreate: create the domain with its CPUs stopped.
	StepCreate
	// StepAdopt: take over a running domain that Holdfast did not make.
	StepAdopt
	// StepHold: have the guard hold the process under this session.
	StepHold
	// StepWriteHeld: write HELD, with armed as the guard holds.
	StepWriteHeld
	// StepResume: let the CPUs run.
	StepResume
	// StepReassert: move the claim to this server's new session.
	StepReassert
	// StepArm: write armed.
	StepArm
	// StepDisarm: write not armed, then have the guard let go.
	StepDisarm
	// StepShutdown: ask the guest to power off.
	StepShutdown
	// StepKill: force a VM off that is to be stopped.
	StepKill
	// StepRelease: write UNASSIGNED; the process is dead.
	StepRelease
	// StepWait: nothing before Decision.At.
	StepWait
	// StepMigrate: begin the transfer to the claim's destination.
	StepMigrate
	// StepLookAtJob: ask the hypervisor whether a transfer runs.
	StepLookAtJob
	// StepAbort: have the hypervisor give a transfer up.
	StepAbort
	// StepEndMigration: write HELD; the VM stays here.
	StepEndMigration
	// StepHandOver: write HANDED_OVER: the destination owns the VM.
	StepHandOver
	// StepMark: give a copy that was handed over its new epoch, and leave its CPUs stopped.
	StepMark
)

var stepNames = [...]string{"none", "read claim", "destroy", "forget", "create", "adopt", "hold", "write held",
	"resume", "re-assert", "arm", "disarm", "shut down", "kill", "release", "wait", "migrate", "look at job", "abort",
	"end migration", "hand over", "mark"}

// String returns the step's name.
func (s Step) String() string {
	if s < 0 || int(s) >= len(stepNames) {
		return fmt.Sprintf("step %d", int(s))
	}
	return stepNames[s]
}

// Decision is the next step for one VM and why.
type Decision struct {
	Step Step
	Why  string
	// Cause is set with StepRelease.
	Cause pool.Cause
	// At is set with StepWait.
	At pool.Instant
}

func do(s Step, why string) Decision { return Decision{Step: s, Why: why} }

// Decide returns the next step for one VM. It is pure.
func Decide(v View) Decision {
	if !v.HasClaim || v.Claim.Phase == pool.PhaseUnassigned || v.Claim.Server != v.Me {
		return decideForeign(v)
	}
	if v.Session == 0 {
		return do(StepNone, "no session")
	}
	if v.Foreign {
		return do(StepNone, "its claim was written by somebody who is not Holdfast; left alone until the leader has put that right")
	}
	switch v.Claim.Phase {
	case pool.PhaseAssigned:
		return decideAssigned(v)
	case pool.PhaseHeld, pool.PhaseReleasing:
		return decideOwned(v)
	case pool.PhaseMigrating:
		return decideMigrating(v)
	case pool.PhaseHandedOver:
		return decideHandedOver(v)
	default:
		return do(StepNone, fmt.Sprintf("claim is %v", v.Claim.Phase))
	}
}

// decideForeign: the claim does not name this server.
func decideForeign(v View) Decision {
	d := v.Domain
	switch {
	case d == nil:
		return do(StepNone, "not ours, not here")
	case d.State == DomainGone:
		return do(StepForget, "ended, and not ours")
	case !v.Registered:
		return do(StepNone, "not registered with the pool; left alone")
	case v.HasClaim && v.Claim.Phase == pool.PhaseUnspecified:
		return do(StepNone, "its claim cannot be read; left alone")
	case v.HasClaim && v.Claim.Phase == pool.PhaseMigrating && v.Claim.Incoming != nil && v.Claim.Incoming.Server == v.Me:
		return decideIncoming(v)
	case !v.Fresh:
		return do(StepReadClaim, "here, though its claim is not ours")
	case !v.HasClaim:
		return do(StepNone, "its claim is missing; left alone until the leader has restored it")
	}
	owner := "no server"
	if v.Claim.Server != "" {
		owner = "server " + string(v.Claim.Server)
	}
	return do(StepDestroy, "its claim names "+owner)
}

// decideAssigned: the leader told this server to run the VM.
func decideAssigned(v View) Decision {
	d := v.Domain
	if v.Claim.Session != v.Session {
		return do(StepNone, "assigned to an earlier session; the leader assigns anew")
	}
	if v.Unseen {
		return do(StepNone, "who assigned it is not seen yet")
	}
	if v.VM.Desired == pool.DesiredUnspecified {
		return do(StepNone, "its registration cannot be read; left alone")
	}
	if v.VM.Desired != pool.DesiredRunning {
		return decideUnwanted(v)
	}
	if v.ServerStopping && (d == nil || d.Marker != nil) {
		return decideUnstarted(v)
	}
	switch {
	case d == nil && !v.MayStart:
		return do(StepNone, "the session's stop time is too close to start anything")
	case d == nil:
		return do(StepCreate, "assigned to this server")
	case d.Marker == nil && d.State == DomainGone:
		return do(StepForget, "an earlier run ended")
	case d.Marker == nil:
		return do(StepAdopt, "runs here already")
	case d.Marker.Epoch != v.Claim.Epoch && d.State == DomainGone:
		return do(StepForget, "an earlier run ended")
	case d.Marker.Epoch != v.Claim.Epoch:
		return do(StepDestroy, fmt.Sprintf("left from epoch %d; the claim is at %d", d.Marker.Epoch, v.Claim.Epoch))
	case v.Made != v.Claim.Epoch && d.State == DomainGone:
		// Create told how that went: a start refused by a disk lock, say, is no failure.
		return do(StepForget, "an attempt to start it ended")
	case v.Made != v.Claim.Epoch && d.Process.PID == 0:
		return do(StepNone, "libvirt is about to start it, or has just given up")
	case d.State == DomainGone:
		return Decision{Step: StepRelease, Why: "QEMU ended before the guest ran", Cause: pool.CauseStartFailed}
	case !v.MayStart:
		return do(StepNone, "the session's stop time is too close to start anything")
	case v.mustHold():
		return do(StepHold, "the guard must hold it before it may run")
	default:
		return do(StepWriteHeld, "ready to run")
	}
}

// decideUnstarted: assigned, but the server goes down before it has started. It never ran under this claim.
func decideUnstarted(v View) Decision {
	if v.Domain != nil && v.Domain.State != DomainGone {
		return do(StepDestroy, "the server is shutting down")
	}
	return Decision{Step: StepRelease, Why: "the server is shutting down", Cause: v.shutdownCause()}
}

// shutdownCause says what a stop with the server means for the VM.
func (v View) shutdownCause() pool.Cause {
	if v.Keep {
		return pool.CauseKept
	}
	return pool.CauseServerShutdown
}

// decideUnwanted: assigned, but wanted stopped by now. It never ran under this claim.
func decideUnwanted(v View) Decision {
	if v.Domain != nil && v.Domain.State != DomainGone {
		return do(StepDestroy, "not wanted any more")
	}
	return Decision{Step: StepRelease, Why: "not wanted any more", Cause: pool.CauseStopped}
}

// decideOwned: this server holds the VM, under this session or an earlier one.
func decideOwned(v View) Decision {
	d := v.Domain
	dead := d == nil || d.State == DomainGone
	switch {
	case dead && v.Unseen && v.Acked != v.Claim.Revision:
		return do(StepNone, "who gave it to this server is not seen yet")
	case dead:
		return Decision{Step: StepRelease, Cause: endCause(v), Why: endWhy(v)}
	case v.Claim.Session != v.Session:
		return do(StepReassert, "still running here; this server has a new session")
	case d.State == DomainPanicked:
		return do(StepKill, "the guest panicked")
	case v.VM.Desired == pool.DesiredKilled:
		return do(StepKill, "wanted killed")
	case v.VM.Desired == pool.DesiredStopped || v.Claim.Phase == pool.PhaseReleasing || v.StopNow:
		return decideStop(v)
	case d.Marker != nil && d.Marker.Epoch != v.Claim.Epoch:
		return do(StepKill, fmt.Sprintf("is of epoch %d, the claim is at %d", d.Marker.Epoch, v.Claim.Epoch))
	case d.Marker != nil && !d.Marker.Started:
		return decideFirstRun(v)
	case v.GuardPaused:
		return decidePaused(v)
	case d.State == DomainPostMigrate:
		return decideBack(v)
	}
	if next := decideGuard(v); next.Step != StepNone {
		return next
	}
	if d.State == DomainIOError && !v.StorageLost && v.MayStart {
		return do(StepResume, "storage is back after an I/O error")
	}
	return do(StepNone, "held")
}

// decideFirstRun: HELD is written, or may be, and the CPUs have not run.
func decideFirstRun(v View) Decision {
	switch {
	case !v.MayStart:
		return do(StepNone, "the session's stop time is too close to start anything")
	case v.mustHold():
		return do(StepHold, "the guard must hold it before it may run")
	case v.Acked == 0 || v.Acked != v.Claim.Revision || v.Claim.Armed != (v.HeldUnder == v.Session):
		return do(StepWriteHeld, "no acknowledged write permits it to run yet")
	default:
		return do(StepResume, "held and acknowledged")
	}
}

// decidePaused: the guard paused it when the session could not be renewed. It runs on only after its claim was
// written once more, and the guard forgets the pause only after it runs, so that a crash in between is continued.
func decidePaused(v View) Decision {
	switch {
	case !v.MayStart:
		return do(StepNone, "paused by the guard; the session is not renewed yet")
	case v.Acked == 0 || v.Acked != v.Claim.Revision:
		return do(StepWriteHeld, "paused by the guard; its claim is asserted anew before it runs on")
	case v.Domain.State == DomainPaused || v.Domain.State == DomainPostMigrate:
		return do(StepResume, "paused by the guard; its claim is still this server's")
	default:
		return do(StepHold, "runs on after a pause")
	}
}

// decideStop asks the guest, waits, then forces.
func decideStop(v View) Decision {
	switch {
	case v.Domain.Marker != nil && !v.Domain.Marker.Started && v.Domain.State == DomainPaused:
		return do(StepKill, "to be stopped before it ran")
	case v.Domain.State == DomainPaused || v.Domain.State == DomainIOError:
		return do(StepKill, "to be stopped; a paused guest cannot shut down")
	case v.StopAsked == 0:
		return do(StepShutdown, "wanted stopped")
	case v.Now.Before(v.StopAsked.Add(v.StopLimit)):
		return Decision{Step: StepWait, Why: "the guest is shutting down", At: v.StopAsked.Add(v.StopLimit)}
	default:
		return do(StepKill, fmt.Sprintf("the guest did not shut down within %v", v.StopLimit))
	}
}

// mustHold reports whether the guard has to take the process over before anything else. A server without a guard
// runs protected VMs unarmed: if it is lost, they wait for a stronger proof than the guard's.
func (v View) mustHold() bool { return v.Protected && v.HasGuard && v.HeldUnder != v.Session }

// decideGuard brings `armed` and the guard in line with effective HA.
func decideGuard(v View) Decision {
	switch {
	case v.mustHold() && v.MayStart:
		return do(StepHold, "protected, and the guard does not hold it under this session")
	case v.Protected && v.HeldUnder == v.Session && !v.Claim.Armed:
		return do(StepArm, "the guard holds it")
	case !v.Protected && (v.HeldUnder != 0 || v.Claim.Armed):
		return do(StepDisarm, "not protected any more")
	case v.Protected && !v.HasGuard && v.Claim.Armed:
		return do(StepDisarm, "the guard does not answer")
	}
	return do(StepNone, "")
}

// endCause says why a VM that this server held is not running.
func endCause(v View) pool.Cause {
	switch {
	case v.GuardKilled:
		return pool.CauseIsolated
	case v.ServerStopping && v.VM.Desired == pool.DesiredRunning && v.Claim.Operation == "":
		return v.shutdownCause()
	case v.Domain == nil:
		return pool.CauseServerRestarted
	case v.Claim.Phase == pool.PhaseReleasing:
		return pool.CauseMoved
	case v.VM.Desired != pool.DesiredRunning:
		return pool.CauseStopped
	case v.ServerStopping:
		return v.shutdownCause()
	case v.Domain.State == DomainGone && v.Domain.Panicked:
		return pool.CausePanicked
	case v.Domain.Exit == ExitGuest && v.StopAsked != 0:
		return pool.CauseStopped // it powered off as it was asked to; meanwhile it is wanted running again
	case v.Domain.Exit == ExitGuest:
		return pool.CauseGuestShutdown
	case v.Domain.Marker != nil && !v.Domain.Marker.Started:
		return pool.CauseStartFailed
	default:
		return pool.CauseCrashed
	}
}

func endWhy(v View) string {
	if v.Domain == nil {
		return "not running here any more"
	}
	if v.Domain.ExitDetail != "" {
		return v.Domain.ExitDetail
	}
	return endCause(v).String()
}
