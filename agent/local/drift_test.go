package local

import (
	"testing"

	"github.com/holdfast-ha/holdfast/pkg/pool"
)

func TestDisksAreComparedAndRecordedBeforeAVMEndsAndAfterWhatADeadlineWaitsFor(t *testing.T) {
	due := func(change func(*View)) View {
		v := held()
		v.DriftDue = true
		change(&v)
		return v
	}
	moved := func(change func(*View)) View {
		v := held()
		v.Unrecorded = true
		change(&v)
		return v
	}
	for name, c := range map[string]struct {
		view View
		want Step
	}{
		"nothing else to do":                     {due(func(*View) {}), stepCompare},
		"before it is stopped":                   {due(func(v *View) { v.VM.Desired = pool.DesiredStopped }), stepCompare},
		"before it is killed":                    {due(func(v *View) { v.VM.Desired = pool.DesiredKilled }), stepCompare},
		"before a panicked guest is ended":       {due(func(v *View) { v.Domain.State = DomainPanicked }), stepCompare},
		"the guard first":                        {due(func(v *View) { v.HeldUnder = 0 }), StepHold},
		"the session first":                      {due(func(v *View) { v.Claim.Session = 6 }), StepReassert},
		"paused by the guard: run on first":      {due(func(v *View) { v.GuardPaused, v.Acked, v.Domain.State = true, 50, DomainPaused }), StepResume},
		"dead: nothing is left to compare":       {due(func(v *View) { v.Domain.State = DomainGone }), StepRelease},
		"somebody else's":                        {due(func(v *View) { v.Claim.Server = "srv-2" }), StepReadClaim},
		"what was found is recorded":             {moved(func(*View) {}), stepRecord},
		"recorded before a dead VM is let go":    {moved(func(v *View) { v.Domain.State = DomainGone }), stepRecord},
		"recorded before it is stopped":          {moved(func(v *View) { v.VM.Desired = pool.DesiredStopped }), stepRecord},
		"recorded before disks are gone on with": {moved(func(v *View) { v.Domain.State = DomainIOError }), stepRecord},
		"without a session nothing is written":   {moved(func(v *View) { v.Session = 0 }), StepNone},
	} {
		if got := withDrift(c.view, Decide(c.view)); got.Step != c.want {
			t.Errorf("%s: %v (%s), want %v", name, got.Step, got.Why, c.want)
		}
	}
}

func TestWhatRunsOtherwiseThanWantedIsSaidOfARunningVM(t *testing.T) {
	for want, change := range map[string]func(*View){
		"": func(*View) {},
		"until its next start it differs from its registration: network interface 52:54:00:00:00:01 was attached": func(v *View) {
			v.Differs = "network interface 52:54:00:00:00:01 was attached"
		},
		"until its next start it is killed, not paused, if its server is cut off: it has no monitor for the guard": func(v *View) { v.Unpausable = true },
	} {
		v := held()
		change(&v)
		if state, reason := observedState(v); state != pool.RunRunning || reason != want {
			t.Errorf("got %v, %q, want %q", state, reason, want)
		}
	}
}
