package local

import (
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/holdfast-ha/holdfast/agent/guard"
	"github.com/holdfast-ha/holdfast/pkg/pool"
)

// held is the view of a protected VM that runs here and is held as it should be.
func held() View {
	return View{
		Now: 100, Me: "srv-1", Session: 7, MayStart: true, HasClaim: true, Registered: true, Protected: true, HasGuard: true, HeldUnder: 7,
		Claim:     pool.Claim{VM: "web", Server: "srv-1", Session: 7, Epoch: 3, Phase: pool.PhaseHeld, Armed: true, Revision: 50},
		VM:        pool.VM{ID: "web", Desired: pool.DesiredRunning, HA: true},
		Domain:    &Domain{VM: "web", State: DomainRunning, Process: guard.Process{PID: 42}, Marker: &Marker{VM: "web", Epoch: 3, Started: true}},
		StopLimit: time.Minute,
	}
}

// assigned is the view of a VM that this server was just told to run.
func assigned() View {
	v := held()
	v.Claim.Phase, v.Claim.Armed = pool.PhaseAssigned, false
	v.Domain, v.HeldUnder = nil, 0
	return v
}

// paused is a domain of this epoch that never ran.
func paused(v View) *Domain {
	return &Domain{VM: v.VM.ID, State: DomainPaused, Process: guard.Process{PID: 42}, Marker: &Marker{VM: v.VM.ID, Epoch: v.Claim.Epoch}}
}

func TestDecideMakesTheStepThatItsSituationAsksFor(t *testing.T) {
	tests := []struct {
		name string
		view func() View
		want Step
	}{
		{"a VM that is held and runs is left alone", held, StepNone},
		{"assigned and absent: create", assigned, StepCreate},
		{"assigned, but the stop time is near: nothing is created", func() View { v := assigned(); v.MayStart = false; return v }, StepNone},
		{"assigned to an earlier session: nothing", func() View { v := assigned(); v.Claim.Session = 6; return v }, StepNone},
		{"created: the guard holds before anything is written", func() View { v := assigned(); v.Domain = paused(v); return v }, StepHold},
		{"created and held by the guard: write", func() View { v := assigned(); v.Domain = paused(v); v.HeldUnder = 7; return v }, StepWriteHeld},
		{"an unprotected VM needs no guard", func() View { v := assigned(); v.Domain = paused(v); v.Protected = false; return v }, StepWriteHeld},
		{"a server without a guard starts unarmed", func() View { v := assigned(); v.Domain = paused(v); v.HasGuard = false; return v }, StepWriteHeld},
		{"held, but no acknowledged write yet: write again", func() View { v := held(); v.Domain = paused(v); return v }, StepWriteHeld},
		{"held and acknowledged: resume", func() View { v := held(); v.Domain = paused(v); v.Acked = 50; return v }, StepResume},
		{"acknowledged, but the claim changed since: write again", func() View { v := held(); v.Domain = paused(v); v.Acked = 49; return v }, StepWriteHeld},
		{"acknowledged, but the stop time is near: no resume", func() View { v := held(); v.Domain = paused(v); v.Acked = 50; v.MayStart = false; return v }, StepNone},
		{"acknowledged, but the guard lost it: hold first", func() View { v := held(); v.Domain = paused(v); v.Acked = 50; v.HeldUnder = 0; return v }, StepHold},
		{"a copy of an older epoch is destroyed before a start", func() View { v := assigned(); v.Domain = paused(v); v.Domain.Marker.Epoch = 2; return v }, StepDestroy},
		{"claimed elsewhere: read before killing", func() View { v := held(); v.Claim.Server = "srv-2"; return v }, StepReadClaim},
		{"claimed elsewhere, read afresh: kill", func() View { v := held(); v.Claim.Server = "srv-2"; v.Fresh = true; return v }, StepDestroy},
		{"unassigned, yet here, read afresh: kill", func() View {
			v := held()
			v.Claim.Server, v.Claim.Phase, v.Fresh = "", pool.PhaseUnassigned, true
			return v
		}, StepDestroy},
		{"a domain that the pool does not know is left alone", func() View { v := held(); v.HasClaim, v.Registered = false, false; return v }, StepNone},
		{"a missing claim kills nothing", func() View { v := held(); v.HasClaim, v.Fresh = false, true; return v }, StepNone},
		{"an unreadable claim kills nothing", func() View { v := held(); v.Claim = pool.Claim{VM: "web"}; v.Fresh = true; return v }, StepNone},
		{"an older session: re-assert", func() View { v := held(); v.Claim.Session = 6; v.HeldUnder = 6; return v }, StepReassert},
		{"re-asserted: hold under the new session", func() View { v := held(); v.HeldUnder = 6; return v }, StepHold},
		{"held under the new session: arm", func() View { v := held(); v.Claim.Armed = false; return v }, StepArm},
		{"HA switched off: disarm", func() View { v := held(); v.Protected = false; return v }, StepDisarm},
		{"HA off and the guard still holds though the claim says no: the claim is written all the same", func() View {
			v := held()
			v.Protected, v.Claim.Armed = false, false
			return v
		}, StepDisarm},
		{"the guard fell silent: the claim must not promise it", func() View { v := held(); v.HasGuard, v.HeldUnder = false, 0; return v }, StepDisarm},
		{"wanted stopped: ask the guest", func() View { v := held(); v.VM.Desired = pool.DesiredStopped; return v }, StepShutdown},
		{"wanted stopped while paused by a disk error: force, it cannot shut down", func() View { v := held(); v.VM.Desired = pool.DesiredStopped; v.Domain.State = DomainIOError; return v }, StepKill},
		{"asked: wait", func() View { v := held(); v.VM.Desired = pool.DesiredStopped; v.StopAsked = 99; return v }, StepWait},
		{"asked too long ago: force", func() View {
			v := held()
			v.VM.Desired, v.StopAsked, v.Now = pool.DesiredStopped, 99, pool.Instant(99).Add(time.Minute)
			return v
		}, StepKill},
		{"wanted killed: force", func() View { v := held(); v.VM.Desired = pool.DesiredKilled; return v }, StepKill},
		{"told to release: ask the guest", func() View { v := held(); v.Claim.Phase = pool.PhaseReleasing; return v }, StepShutdown},
		{"panicked: force", func() View { v := held(); v.Domain.State = DomainPanicked; return v }, StepKill},
		{"paused by a disk error while storage is gone: left alone", func() View { v := held(); v.Domain.State, v.StorageLost = DomainIOError, true; return v }, StepNone},
		{"paused by a disk error, storage is back: resume", func() View { v := held(); v.Domain.State = DomainIOError; return v }, StepResume},
		{"paused by somebody's hand: left alone", func() View { v := held(); v.Domain.State = DomainPaused; return v }, StepNone},
		{"paused by the guard, the session is not back: left alone", func() View {
			v := held()
			v.GuardPaused, v.MayStart = true, false
			v.Domain.State = DomainPaused
			return v
		}, StepNone},
		{"paused by the guard: its claim is written before anything", func() View { v := held(); v.GuardPaused = true; v.Domain.State = DomainPaused; return v }, StepWriteHeld},
		{"paused by the guard, claim asserted: resume", func() View { v := held(); v.GuardPaused, v.Acked = true, 50; v.Domain.State = DomainPaused; return v }, StepResume},
		{"runs on after a pause: the guard is told", func() View { v := held(); v.GuardPaused, v.Acked = true, 50; return v }, StepHold},
		{"paused by the guard, its server has a new session: re-assert first", func() View {
			v := held()
			v.GuardPaused, v.Claim.Session = true, 6
			v.Domain.State = DomainPaused
			return v
		}, StepReassert},
		{"runs already, without a marker: adopt", func() View {
			v := assigned()
			v.Domain = &Domain{VM: "web", State: DomainRunning, Process: guard.Process{PID: 9}}
			return v
		}, StepAdopt},
		{"its registration cannot be read: left as it is", func() View { v := assigned(); v.VM.Desired = pool.DesiredUnspecified; return v }, StepNone},
		{"no session: nothing", func() View { v := held(); v.Session = 0; return v }, StepNone},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := Decide(tt.view()); got.Step != tt.want {
				t.Errorf("Decide = %v (%s), want %v", got.Step, got.Why, tt.want)
			}
		})
	}
}

func TestTheCauseOfAnEndIsTold(t *testing.T) {
	gone := func(exit Exit) View {
		v := held()
		v.Domain.State, v.Domain.Exit = DomainGone, exit
		return v
	}
	tests := []struct {
		name string
		view func() View
		want pool.Cause
	}{
		{"QEMU died", func() View { return gone(ExitCrashed) }, pool.CauseCrashed},
		{"the guest powered off", func() View { return gone(ExitGuest) }, pool.CauseGuestShutdown},
		{"the server is going down: not the guest's wish", func() View { v := gone(ExitGuest); v.ServerStopping = true; return v }, pool.CauseServerShutdown},
		{"wanted stopped", func() View { v := gone(ExitGuest); v.VM.Desired = pool.DesiredStopped; return v }, pool.CauseStopped},
		{"released for a move", func() View { v := gone(ExitGuest); v.Claim.Phase = pool.PhaseReleasing; return v }, pool.CauseMoved},
		{"asked to stop, then wanted running again", func() View { v := gone(ExitGuest); v.StopAsked = 1; return v }, pool.CauseStopped},
		{"killed by the guard", func() View { v := gone(ExitCrashed); v.GuardKilled = true; return v }, pool.CauseIsolated},
		{"panicked, then killed", func() View { v := gone(ExitDestroyed); v.Domain.Panicked = true; return v }, pool.CausePanicked},
		{"nothing left after a reboot", func() View { v := held(); v.Domain = nil; return v }, pool.CauseServerRestarted},
		{"never ran", func() View { v := gone(ExitCrashed); v.Domain.Marker.Started = false; return v }, pool.CauseStartFailed},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := Decide(tt.view())
			if got.Step != StepRelease || got.Cause != tt.want {
				t.Errorf("Decide = %v, cause %v, want release with cause %v", got.Step, got.Cause, tt.want)
			}
		})
	}
}

// anyView draws a view without any regard for what is plausible.
func anyView(t *rapid.T) View {
	server := rapid.SampledFrom([]pool.ServerID{"", "srv-1", "srv-2"})
	small := rapid.Int64Range(0, 3)
	v := View{
		Now: pool.Instant(small.Draw(t, "now")), Me: "srv-1", Session: pool.Session(small.Draw(t, "session")),
		MayStart: rapid.Bool().Draw(t, "mayStart"), HasClaim: rapid.Bool().Draw(t, "hasClaim"), Fresh: rapid.Bool().Draw(t, "fresh"),
		Registered: rapid.Bool().Draw(t, "registered"), Protected: rapid.Bool().Draw(t, "protected"),
		HasGuard: rapid.Bool().Draw(t, "hasGuard"), HeldUnder: pool.Session(small.Draw(t, "heldUnder")),
		Acked: pool.Revision(small.Draw(t, "acked")), StopAsked: pool.Instant(small.Draw(t, "stopAsked")), StopLimit: 1,
		ServerStopping: rapid.Bool().Draw(t, "stopping"), GuardKilled: rapid.Bool().Draw(t, "guardKilled"),
		StorageLost: rapid.Bool().Draw(t, "storageLost"),
		Claim: pool.Claim{Server: server.Draw(t, "owner"), Session: pool.Session(small.Draw(t, "claimSession")),
			Epoch: pool.Epoch(small.Draw(t, "epoch")), Phase: pool.Phase(rapid.IntRange(0, 6).Draw(t, "phase")),
			Armed: rapid.Bool().Draw(t, "armed"), Revision: pool.Revision(small.Draw(t, "revision"))},
		VM: pool.VM{ID: "web", Desired: pool.Desired(rapid.IntRange(0, 3).Draw(t, "desired"))},
	}
	op := rapid.SampledFrom([]pool.OperationID{"", "op-1", "op-2"})
	v.Claim.Operation, v.Claim.Paused = op.Draw(t, "operation"), rapid.Bool().Draw(t, "wasPaused")
	v.GuardPaused = rapid.IntRange(0, 4).Draw(t, "guardPaused") == 0
	if rapid.Bool().Draw(t, "hasIncoming") {
		v.Claim.Incoming = &pool.Incoming{Server: server.Draw(t, "incoming"), Session: pool.Session(small.Draw(t, "incomingSession"))}
	}
	v.Moving = Moving{Operation: op.Draw(t, "called"), Session: pool.Session(small.Draw(t, "calledIn")), Running: rapid.Bool().Draw(t, "calling"),
		Clean: rapid.Bool().Draw(t, "clean"), JobAt: pool.Instant(small.Draw(t, "jobAt")), JobRunning: rapid.Bool().Draw(t, "job"),
		Begun: rapid.Bool().Draw(t, "begun"), Cancel: rapid.Bool().Draw(t, "cancel"), DestinationUp: rapid.Bool().Draw(t, "destinationUp")}
	if rapid.Bool().Draw(t, "hasDomain") {
		v.Domain = &Domain{VM: "web", State: DomainState(rapid.IntRange(1, 8).Draw(t, "state")), Exit: Exit(rapid.IntRange(0, 4).Draw(t, "exit"))}
		if rapid.Bool().Draw(t, "marked") {
			v.Domain.Marker = &Marker{Epoch: pool.Epoch(small.Draw(t, "markerEpoch")), Started: rapid.Bool().Draw(t, "started"), Operation: op.Draw(t, "copyOf")}
		}
	}
	return v
}

func TestNothingRunsExceptUnderAHeldClaimOfThisSession(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		v := anyView(t)
		if Decide(v).Step != StepResume {
			return
		}
		first := v.Domain.Marker != nil && !v.Domain.Marker.Started
		switch {
		case !v.HasClaim || v.Claim.Server != v.Me || v.Claim.Session != v.Session || v.Session == 0:
			t.Fatalf("resumes though the claim does not name this server and session: %+v", v)
		case v.Claim.Phase == pool.PhaseMigrating && v.GuardPaused && !v.Moving.JobRunning && (!v.Moving.Running || v.Moving.Operation != v.Claim.Operation):
		case v.Claim.Phase == pool.PhaseHandedOver:
			m := v.Domain.Marker
			if m == nil || m.Operation == "" && m.Epoch != v.Claim.Epoch || m.Operation != "" && (m.Operation != v.Claim.Operation || m.Epoch+1 != v.Claim.Epoch) {
				t.Fatalf("lets go on what was not handed over: %+v", v)
			}
			if v.Claim.Paused {
				t.Fatal("lets a guest go on that was paused by hand")
			}
			return
		case v.Claim.Phase != pool.PhaseHeld:
			t.Fatalf("resumes in phase %v", v.Claim.Phase)
		case !v.MayStart:
			t.Fatal("resumes past the stop time")
		case first && v.Acked != v.Claim.Revision:
			t.Fatal("runs for the first time without an acknowledged write")
		case v.GuardPaused && v.Acked != v.Claim.Revision:
			t.Fatal("runs on after a pause without an acknowledged write")
		case !v.GuardPaused && v.Protected && v.HasGuard && v.HeldUnder != v.Session:
			t.Fatal("a protected VM runs though the guard does not hold it")
		case first && v.Protected && v.HasGuard && !v.Claim.Armed:
			t.Fatal("a protected VM runs for the first time unarmed")
		}
	})
}

func TestAVMIsHandedOverOnlyWithTheWholeProof(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		v := anyView(t)
		if Decide(v).Step != StepHandOver {
			return
		}
		m := v.Moving
		dead := v.Domain == nil || v.Domain.State == DomainGone
		if !dead || v.Claim.Phase != pool.PhaseMigrating || v.Claim.Server != v.Me || !m.Clean || m.Running || m.Operation != v.Claim.Operation ||
			m.Session != v.Claim.Session || v.Claim.Session != v.Session || !m.DestinationUp {
			t.Fatalf("hands over without proof: %+v", v)
		}
	})
}

func TestADomainIsDestroyedOnlyAfterAFreshReadOrUnderAClaimOfOurs(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		v := anyView(t)
		d := Decide(v)
		ours := v.HasClaim && v.Claim.Server == v.Me && v.Claim.Phase != pool.PhaseUnassigned
		if d.Step == StepDestroy && !ours && !v.Fresh {
			t.Fatalf("destroys on a cached claim: %+v", v)
		}
		if d.Step == StepKill && !ours {
			t.Fatalf("kills what is not ours: %+v", v)
		}
		if (d.Step == StepDestroy || d.Step == StepKill) && !v.Registered && !ours {
			t.Fatalf("kills a domain that the pool does not know: %+v", v)
		}
	})
}

func TestAClaimIsReleasedOnlyWhenNothingRuns(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		v := anyView(t)
		if Decide(v).Step == StepRelease && v.Domain != nil && v.Domain.State != DomainGone {
			t.Fatalf("releases a VM whose domain is %v", v.Domain.State)
		}
	})
}

func TestACorruptRegistrationChangesNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		v := anyView(t)
		v.VM.Desired, v.HasClaim, v.Claim.Server, v.Claim.Phase = pool.DesiredUnspecified, true, v.Me, pool.PhaseAssigned
		if got := Decide(v).Step; got != StepNone {
			t.Fatalf("makes step %v", got)
		}
	})
}
