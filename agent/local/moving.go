package local

import (
	"fmt"
	"time"

	"github.com/holdfast-ha/holdfast/pkg/pool"
)

// Bounds of a live migration. None of them carries safety: what ends at one of them ends in a way that is safe at any
// time.
const (
	// jobPoll is how often the hypervisor is asked about a job, and the pool told how far it is.
	jobPoll = time.Second
	// frozenAbort and frozenKill bound how long a guest stands still for the end of a copy that does not come, as when
	// its destination vanished: then the way there is closed and the job aborted, and after that the VM is killed and
	// starts anew.
	frozenAbort = 15 * time.Second
	frozenKill  = 30 * time.Second
	// confirmTries is how often a destination is asked about its copy before the VM starts anew, retryAfter apart.
	confirmTries = 30
)

// Moving is what is known of a VM's way to another server.
type Moving struct {
	// Operation and Session: for which operation, and under which session, this agent asked the hypervisor for a
	// transfer; empty if it has not, since it was started.
	Operation pool.OperationID
	Session   pool.Session
	// Running: that call has not returned.
	Running bool
	// Clean and Why are its result; see Transfer. Why also tells an error. Paused: somebody had paused the guest by hand
	// before it was asked for, and it arrived so.
	Clean, Paused bool
	Why           string
	// GaveUp says why this agent wants the job ended; empty if it does not.
	GaveUp string
	// Unconfirmed counts how often the destination did not confirm that it holds the copy.
	Unconfirmed int
	// JobAt is when the hypervisor last said whether a job runs, JobRunning what it said; JobAt is 0 before.
	JobAt      pool.Instant
	JobRunning bool
	// AbortAt is when the job was last told to end; 0: never.
	AbortAt pool.Instant
	// FrozenAt is since when the guest has been seen standing still for the end of the copy; 0: it does not.
	FrozenAt pool.Instant
	// Begun: the operation's record says that copying had begun.
	Begun bool
	// Cancel: the operation is to be cancelled.
	Cancel bool
	// DestinationUp: the session that the claim names as incoming lives.
	DestinationUp bool
	// WasPaused: the guest was last reported as paused by hand.
	WasPaused bool
}

// decideMigrating: this server runs the VM and is to hand it over.
func decideMigrating(v View) Decision {
	d, m := v.Domain, v.Moving
	own := m.Operation == v.Claim.Operation
	if v.Claim.Incoming == nil {
		return do(StepNone, "its claim names no destination; no writer of ours leaves it so")
	}
	switch {
	case (d == nil || d.State == DomainGone) && own && m.Running:
		return do(StepNone, "QEMU has ended; the hypervisor's job has not")
	case d == nil || d.State == DomainGone:
		return decideMoved(v)
	case v.Claim.Session != v.Session:
		return do(StepReassert, "still here; this server has a new session")
	case v.VM.Desired == pool.DesiredKilled:
		return do(StepKill, "wanted killed")
	case d.Marker != nil && d.Marker.Epoch != v.Claim.Epoch:
		return do(StepKill, fmt.Sprintf("is of epoch %d, the claim is at %d", d.Marker.Epoch, v.Claim.Epoch))
	case m.FrozenAt != 0 && !v.Now.Before(m.FrozenAt.Add(frozenKill)):
		return do(StepKill, fmt.Sprintf("its guest stood still for %v for the end of a copy that did not come", frozenKill))
	}
	if v.GuardPaused && d.State != DomainPostMigrate && (!own || !m.Running) && m.JobAt != 0 && !m.JobRunning {
		return decidePaused(v) // no job will let it go on
	}
	if next := decideGuard(v); next.Step != StepNone && !v.GuardPaused { // a new hold would make the guard forget the pause
		return next
	}
	if own && m.Running {
		return decideUnderWay(v)
	}
	return decideLeft(v)
}

// decideUnderWay: the call that this agent made has not returned.
func decideUnderWay(v View) Decision {
	if why := v.givesUp(); why != "" && v.abortDue() {
		return do(StepAbort, why)
	}
	return Decision{Step: StepWait, Why: "being copied", At: v.Now.Add(jobPoll)}
}

// decideLeft: no call of this agent's runs, and QEMU lives. A job goes on without its caller, so that the hypervisor's
// word counts and not an error; after that, what QEMU does. Such a job is aborted: nobody would see it end well, so that
// the VM would have to start anew.
func decideLeft(v View) Decision {
	m := v.Moving
	switch {
	case m.JobAt == 0:
		return do(StepLookAtJob, "whether a job runs without its caller")
	case m.JobRunning && v.abortDue():
		return do(StepAbort, v.endedWhy())
	case m.JobRunning && v.Now.Before(m.JobAt.Add(jobPoll)):
		return Decision{Step: StepWait, Why: "a job runs without its caller", At: m.JobAt.Add(jobPoll)}
	case m.JobRunning:
		return do(StepLookAtJob, "whether the job has ended")
	case m.Operation != v.Claim.Operation && !m.Begun && v.givesUp() == "" && !v.MayStart:
		return do(StepNone, "the session's stop time is too close to begin a transfer")
	case m.Operation != v.Claim.Operation && !m.Begun && v.givesUp() == "" && (v.Domain.State == DomainRunning || v.Domain.State == DomainPaused):
		return do(StepMigrate, fmt.Sprintf("to %s", v.Claim.Incoming.Server))
	}
	return do(StepEndMigration, v.endedWhy())
}

// decideMoved: this server's QEMU is dead. Only a transfer that this agent saw end well proves that the copy is as new.
func decideMoved(v View) Decision {
	m := v.Moving
	proven := m.Operation == v.Claim.Operation && m.Session == v.Claim.Session && v.Claim.Session == v.Session && m.Clean && !m.Running
	switch {
	case proven && v.VM.Desired != pool.DesiredKilled && m.DestinationUp && m.Unconfirmed < confirmTries:
		return do(StepHandOver, fmt.Sprintf("the copy on %s is complete, and this one is dead", v.Claim.Incoming.Server))
	case v.Domain != nil && v.GuardKilled:
		return Decision{Step: StepRelease, Cause: pool.CauseIsolated, Why: endWhy(v)}
	}
	return Decision{Step: StepRelease, Cause: movedCause(v), Why: v.movedWhy()}
}

// movedCause says why a VM ended on its way. What the guest did or what broke QEMU counts as everywhere else.
func movedCause(v View) pool.Cause {
	switch {
	case v.unwanted():
		return pool.CauseStopped
	case v.Domain == nil && v.Claim.Session != v.Session:
		return pool.CauseServerRestarted
	case v.Domain == nil:
		return pool.CauseMigrationFailed
	case v.Domain.Panicked:
		return pool.CausePanicked
	case v.Domain.Exit == ExitGuest:
		return pool.CauseGuestShutdown
	case v.Domain.Exit == ExitCrashed && !v.Moving.Clean:
		return pool.CauseCrashed
	}
	return pool.CauseMigrationFailed
}

// movedWhy says what became of a VM that ended on its way.
func (v View) movedWhy() string {
	switch m := v.Moving; {
	case v.Domain != nil && v.Domain.ExitDetail != "" && !m.Clean:
		return v.Domain.ExitDetail
	case m.Clean && !m.DestinationUp:
		return fmt.Sprintf("%s was lost before it was handed over", v.Claim.Incoming.Server)
	case m.Clean:
		return fmt.Sprintf("%s did not confirm that it holds the copy", v.Claim.Incoming.Server)
	case m.Why != "":
		return m.Why
	}
	return "its QEMU ended, and nobody saw the transfer end well"
}

// givesUp says why a migration under way is to be stopped; empty if it is not.
func (v View) givesUp() string {
	m := v.Moving
	switch {
	case m.GaveUp != "":
		return m.GaveUp
	case m.Cancel:
		return "cancelled on request"
	case v.unwanted():
		return "it was asked to stop meanwhile"
	case !m.DestinationUp:
		return fmt.Sprintf("%s, where it was going, is lost", v.Claim.Incoming.Server)
	case v.Domain.State == DomainPanicked:
		return "the guest panicked"
	case v.Domain.State == DomainIOError:
		return "the guest is " + pausedByError
	case v.GuardPaused && v.Domain.State == DomainPaused:
		return "the guest is " + pausedByGuard
	case m.FrozenAt != 0 && !v.Now.Before(m.FrozenAt.Add(frozenAbort)):
		return fmt.Sprintf("its guest stood still for %v for the end of the copy", frozenAbort)
	}
	return ""
}

// unwanted: operators want the VM stopped. A registration that cannot be read says nothing.
func (v View) unwanted() bool {
	return v.VM.Desired == pool.DesiredStopped || v.VM.Desired == pool.DesiredKilled
}

// abortDue: a job that was told to end is told so again now and then.
func (v View) abortDue() bool {
	return v.Moving.AbortAt == 0 || !v.Now.Before(v.Moving.AbortAt.Add(frozenAbort/3))
}

// endedWhy says why the VM stays where it is.
func (v View) endedWhy() string {
	switch m := v.Moving; {
	case v.givesUp() != "":
		return v.givesUp()
	case m.Why != "":
		return m.Why
	case m.Operation != v.Claim.Operation:
		return fmt.Sprintf("the agent of %s was restarted on the way, and the transfer has ended", v.Me)
	}
	return "the transfer ended, and the VM is still here"
}

// decideBack: a migration has failed, the claim says so, and the guest still stands still. Its memory is as new as any,
// since the claim's epoch is that of its marker: nobody else was ever given the VM.
func decideBack(v View) Decision {
	switch {
	case v.Moving.WasPaused:
		return do(StepNone, "it was paused by hand before it was to move")
	case !v.MayStart:
		return do(StepNone, "the session's stop time is too close to let it go on")
	case v.Acked == 0 || v.Acked != v.Claim.Revision:
		return do(StepWriteHeld, "back from a migration; its claim is asserted anew before it goes on")
	}
	return do(StepResume, "the migration failed; it goes on here")
}

// decideIncoming: the claim is another server's, and names this one as the destination. The copy that is being made is
// held by the guard and otherwise left alone; anything else is a leftover.
func decideIncoming(v View) Decision {
	d := v.Domain
	rightful := d.Marker != nil && d.Marker.Operation != "" && d.Marker.Operation == v.Claim.Operation &&
		d.Marker.Epoch == v.Claim.Epoch && v.Claim.Incoming.Session == v.Session
	switch {
	case d.Marker == nil && d.State == DomainIncoming:
		return do(StepNone, "incoming, and not marked yet")
	case v.Session == 0:
		return do(StepNone, "no session")
	case rightful && d.State != DomainRunning && d.Process.PID != 0 && v.mustHold() && v.MayStart:
		return do(StepHold, "the guard must hold the incoming copy")
	case rightful && d.State != DomainRunning:
		return do(StepNone, "incoming copy")
	case !v.Fresh:
		return do(StepReadClaim, "not the copy that is expected here")
	}
	return do(StepDestroy, "not the copy that is expected here")
}

// decideHandedOver: this server owns the VM, and may let its copy of that very migration go on: nothing else.
func decideHandedOver(v View) Decision {
	d := v.Domain
	if d == nil || d.State == DomainGone {
		return Decision{Step: StepRelease, Cause: handedCause(v), Why: endWhy(v)}
	}
	if v.Claim.Session != v.Session {
		return do(StepReassert, "its copy is still here; this server has a new session")
	}
	if v.VM.Desired == pool.DesiredKilled {
		return do(StepKill, "wanted killed")
	}
	copied := d.Marker != nil && d.Marker.Operation != "" && d.Marker.Operation == v.Claim.Operation && d.Marker.Epoch+1 == v.Claim.Epoch
	marked := d.Marker != nil && d.Marker.Operation == "" && d.Marker.Epoch == v.Claim.Epoch
	switch {
	case marked && (d.State == DomainRunning || v.Claim.Paused):
		return do(StepWriteHeld, "the copy was let go on")
	case !copied && !marked && !v.Fresh:
		return do(StepReadClaim, "not the copy that was handed over")
	case !copied && !marked:
		return do(StepKill, "not the copy that was handed over")
	case !v.MayStart:
		return do(StepNone, "the session's stop time is too close to let it go on")
	case (v.mustHold() || v.Claim.Armed && v.HeldUnder != v.Session) && v.HasGuard:
		return do(StepHold, "the guard must hold it before it may go on")
	case v.Claim.Armed && v.HeldUnder != v.Session:
		return do(StepDisarm, "the guard does not answer")
	case v.Claim.Paused:
		return do(StepMark, "handed over; it was paused by hand before, and stays so")
	}
	return do(StepResume, "handed over to this server")
}

// handedCause says why a copy that was handed over ended.
func handedCause(v View) pool.Cause {
	switch d := v.Domain; {
	case v.GuardKilled:
		return pool.CauseIsolated
	case d == nil:
		return pool.CauseServerRestarted
	case v.unwanted():
		return pool.CauseStopped
	case d.Marker != nil && d.Marker.Operation == "" && d.Marker.Started:
		return endCause(v) // it ran here
	}
	return pool.CauseMigrationFailed
}
