package local

import (
	"testing"
	"time"

	"github.com/holdfast-ha/holdfast/agent/guard"
	"github.com/holdfast-ha/holdfast/pkg/pool"
)

// leaving is the view of a source whose VM runs and is to be moved; nothing has been done for it.
func leaving() View {
	v := held()
	v.Claim.Phase, v.Claim.Operation, v.Claim.Incoming = pool.PhaseMigrating, "op-1", &pool.Incoming{Server: "srv-2", Session: 9}
	v.Moving = Moving{DestinationUp: true, JobAt: 90}
	return v
}

// copied is the view of a source whose transfer this agent saw end well: its QEMU is gone.
func copied() View {
	v := leaving()
	v.Domain.State, v.Domain.Exit = DomainGone, ExitMigrated
	v.Moving.Operation, v.Moving.Session, v.Moving.Clean = "op-1", 7, true
	return v
}

// arriving is the view of a destination: another server's claim names it, and the copy is there.
func arriving() View {
	v := held()
	v.Claim.Server, v.Claim.Session, v.Claim.Phase = "srv-2", 9, pool.PhaseMigrating
	v.Claim.Operation, v.Claim.Incoming = "op-1", &pool.Incoming{Server: "srv-1", Session: 7}
	v.Domain = &Domain{VM: "web", State: DomainPaused, Process: guard.Process{PID: 42}, Marker: &Marker{VM: "web", Epoch: 3, Operation: "op-1"}}
	return v
}

// handed is the view of a destination that owns the VM now.
func handed() View {
	v := arriving()
	v.Claim.Server, v.Claim.Session, v.Claim.Epoch, v.Claim.Phase, v.Claim.Incoming = "srv-1", 7, 4, pool.PhaseHandedOver, nil
	return v
}

func TestASourceDecides(t *testing.T) {
	with := func(base func() View, f func(*View)) View { v := base(); f(&v); return v }
	tests := []struct {
		name string
		view View
		want Step
	}{
		{"asks first whether a job runs without its caller", with(leaving, func(v *View) { v.Moving.JobAt = 0 }), StepLookAtJob},
		{"begins the transfer", leaving(), StepMigrate},
		{"begins no second transfer after a restart", with(leaving, func(v *View) { v.Moving.Begun = true }), StepEndMigration},
		{"aborts a job that outlived its caller", with(leaving, func(v *View) { v.Moving.JobRunning = true }), StepAbort},
		{"and waits for its end", with(leaving, func(v *View) { v.Moving.JobRunning, v.Moving.AbortAt = true, v.Now }), StepWait},
		{"waits for its call", with(leaving, func(v *View) { v.Moving.Operation, v.Moving.Running = "op-1", true }), StepWait},
		{"aborts when cancelled", with(leaving, func(v *View) {
			v.Moving.Operation, v.Moving.Running, v.Moving.Cancel = "op-1", true, true
		}), StepAbort},
		{"aborts when the destination is lost", with(leaving, func(v *View) {
			v.Moving.Operation, v.Moving.Running, v.Moving.DestinationUp = "op-1", true, false
		}), StepAbort},
		{"takes the VM back when the call has failed and QEMU lives", with(leaving, func(v *View) { v.Moving.Operation, v.Moving.Why = "op-1", "broken" }), StepEndMigration},
		{"takes it back when QEMU is paused after the migration", with(leaving, func(v *View) {
			v.Moving.Operation, v.Domain.State = "op-1", DomainPostMigrate
		}), StepEndMigration},
		{"kills a guest that stood still for too long", with(leaving, func(v *View) {
			v.Moving.Operation, v.Moving.Running, v.Domain.State = "op-1", true, DomainPostMigrate
			v.Moving.FrozenAt = v.Now.Add(-frozenKill)
		}), StepKill},
		{"paused by the guard: the pause is not forgotten for a new hold", with(leaving, func(v *View) {
			v.GuardPaused, v.HeldUnder, v.Domain.State = true, 6, DomainPaused
			v.Moving.Operation, v.Moving.Running, v.Moving.AbortAt = "op-1", true, v.Now
		}), StepWait},
		{"paused by the guard while its memory is copied: gives the copy up, so that it need not stand still until its end", with(leaving, func(v *View) {
			v.GuardPaused, v.HeldUnder, v.Domain.State = true, 6, DomainPaused
			v.Moving.Operation, v.Moving.Running = "op-1", true
		}), StepAbort},
		{"begins no transfer near the stop time: what stands still then may have been paused by the guard", with(leaving, func(v *View) { v.MayStart = false }), StepNone},
		{"paused by the guard, then by the copy's end that came to nothing: taken back first", with(leaving, func(v *View) {
			v.GuardPaused, v.HeldUnder, v.Domain.State, v.Moving.Operation = true, 7, DomainPostMigrate, "op-1"
		}), StepEndMigration},
		{"and goes on, whatever was last reported", with(held, func(v *View) {
			v.GuardPaused, v.Domain.State, v.Acked, v.Moving.WasPaused = true, DomainPostMigrate, 50, true
		}), StepResume},
		{"paused by the guard, and no job runs: written before it goes on", with(leaving, func(v *View) {
			v.GuardPaused, v.HeldUnder, v.Domain.State, v.Moving.Operation = true, 6, DomainPaused, "op-1"
		}), StepWriteHeld},
		{"hands over", copied(), StepHandOver},
		{"does not hand over without having seen the end", with(copied, func(v *View) { v.Moving.Clean = false }), StepRelease},
		{"does not hand over what another agent's life saw", with(copied, func(v *View) { v.Moving.Operation = "" }), StepRelease},
		{"does not hand over under another session", with(copied, func(v *View) { v.Moving.Session = 6 }), StepRelease},
		{"does not hand over to a lost server", with(copied, func(v *View) { v.Moving.DestinationUp = false }), StepRelease},
		{"does not hand over while the call runs", with(copied, func(v *View) { v.Moving.Running = true }), StepNone},
		{"does not hand over after too many refusals", with(copied, func(v *View) { v.Moving.Unconfirmed = confirmTries }), StepRelease},
		{"back at home and still: writes first", with(held, func(v *View) { v.Domain.State = DomainPostMigrate }), StepWriteHeld},
		{"back at home and written: goes on", with(held, func(v *View) { v.Domain.State, v.Acked = DomainPostMigrate, 50 }), StepResume},
		{"back at home, paused by hand before: stays so", with(held, func(v *View) { v.Domain.State, v.Acked, v.Moving.WasPaused = DomainPostMigrate, 50, true }), StepNone},
		{"back at home with memory of an older epoch: dies", with(held, func(v *View) { v.Domain.State, v.Domain.Marker.Epoch = DomainPostMigrate, 2 }), StepKill},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if d := Decide(tt.view); d.Step != tt.want {
				t.Errorf("Decide = %v (%s), want %v", d.Step, d.Why, tt.want)
			}
		})
	}
}

func TestADestinationDecides(t *testing.T) {
	with := func(base func() View, f func(*View)) View { v := base(); f(&v); return v }
	tests := []struct {
		name string
		view View
		want Step
	}{
		{"leaves the copy alone before the hand-over", arriving(), StepNone},
		{"has the guard hold the copy", with(arriving, func(v *View) { v.HeldUnder = 0 }), StepHold},
		{"reads before it destroys the copy of another operation", with(arriving, func(v *View) { v.Domain.Marker.Operation = "op-0" }), StepReadClaim},
		{"destroys the copy of another operation", with(arriving, func(v *View) { v.Domain.Marker.Operation, v.Fresh = "op-0", true }), StepDestroy},
		{"destroys the copy made for an earlier session", with(arriving, func(v *View) { v.Claim.Incoming.Session, v.Fresh = 6, true }), StepDestroy},
		{"destroys a copy that executes without right", with(arriving, func(v *View) { v.Domain.State, v.Fresh = DomainRunning, true }), StepDestroy},
		{"destroys the copy once the claim is only the source's", with(arriving, func(v *View) {
			v.Claim.Phase, v.Claim.Incoming, v.Claim.Operation, v.Fresh = pool.PhaseHeld, nil, "", true
		}), StepDestroy},
		{"lets the copy go on once it was handed over", handed(), StepResume},
		{"not under another operation", with(handed, func(v *View) { v.Claim.Operation, v.Fresh = "op-2", true }), StepKill},
		{"not at another epoch", with(handed, func(v *View) { v.Claim.Epoch, v.Fresh = 5, true }), StepKill},
		{"not near the stop time", with(handed, func(v *View) { v.MayStart = false }), StepNone},
		{"not before its guard holds it", with(handed, func(v *View) { v.HeldUnder = 0 }), StepHold},
		{"not armed by a guard that does not answer", with(handed, func(v *View) { v.HasGuard, v.HeldUnder = false, 0 }), StepDisarm},
		{"and if it was paused by hand, only marks it", with(handed, func(v *View) { v.Claim.Paused = true }), StepMark},
		{"writes that it holds it, once it runs", with(handed, func(v *View) {
			v.Domain.Marker, v.Domain.State = &Marker{VM: "web", Epoch: 4, Started: true}, DomainRunning
		}), StepWriteHeld},
		{"re-asserts under a new session before anything else", with(handed, func(v *View) { v.Claim.Session = 6 }), StepReassert},
		{"releases when the copy is dead", with(handed, func(v *View) { v.Domain.State = DomainGone }), StepRelease},
		{"destroys a copy before it starts the VM anew", with(handed, func(v *View) {
			v.Claim.Phase, v.Claim.Epoch, v.Claim.Operation = pool.PhaseAssigned, 5, ""
		}), StepDestroy},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if d := Decide(tt.view); d.Step != tt.want {
				t.Errorf("Decide = %v (%s), want %v", d.Step, d.Why, tt.want)
			}
		})
	}
}

func TestWhatEndsOnItsWayIsAFailureOnlyIfTheGuestOrQEMUFailed(t *testing.T) {
	ended := func(exit Exit) View { v := copied(); v.Moving.Clean, v.Domain.Exit = false, exit; return v }
	tests := []struct {
		view View
		want pool.Cause
	}{
		{ended(ExitMigrated), pool.CauseMigrationFailed}, {ended(ExitUnknown), pool.CauseMigrationFailed},
		{ended(ExitDestroyed), pool.CauseMigrationFailed}, {ended(ExitCrashed), pool.CauseCrashed},
		{ended(ExitGuest), pool.CauseGuestShutdown},
	}
	for _, tt := range tests {
		if d := Decide(tt.view); d.Step != StepRelease || d.Cause != tt.want {
			t.Errorf("exit %v: %v, %v; want %v", tt.view.Domain.Exit, d.Step, d.Cause, tt.want)
		}
	}
	if d := Decide(View{Me: "srv-1", Session: 7, HasClaim: true, Registered: true, Now: pool.Instant(time.Hour),
		Claim: pool.Claim{VM: "web", Server: "srv-1", Session: 6, Phase: pool.PhaseMigrating, Incoming: &pool.Incoming{}},
		VM:    pool.VM{ID: "web", Desired: pool.DesiredRunning}}); d.Cause != pool.CauseServerRestarted {
		t.Errorf("nothing here under a new session: %v", d.Cause)
	}
}

func TestACopyStaysPausedOnlyIfSomebodyHadPausedTheGuestByHand(t *testing.T) {
	arrived := Transfer{Clean: true, Paused: true}
	for _, tt := range []struct {
		name string
		c    transfer
		want bool
	}{
		{"paused before the transfer was asked for", transfer{result: arrived, still: true}, true},
		{"running", transfer{result: Transfer{Clean: true}}, false},
		{"paused after it was asked for, as a guard does", transfer{result: arrived}, false},
		{"paused before, and the guard says that it was its doing", transfer{result: arrived, still: true, byGuard: true}, false},
	} {
		if got := tt.c.byHand(); got != tt.want {
			t.Errorf("%s: stays paused = %v, want %v", tt.name, got, tt.want)
		}
	}
}

func TestAPauseIsReportedAsTheGuardsIfItWas(t *testing.T) {
	v := held()
	v.Domain.State = DomainPaused
	if _, why := observedState(v); why != pausedByHand {
		t.Errorf("paused by hand: %s", why)
	}
	v.GuardPaused = true
	if _, why := observedState(v); why != pausedByGuard {
		t.Errorf("paused by the guard: %s", why)
	}
}
