package local

import (
	"testing"

	"pgregory.net/rapid"

	"github.com/holdfast-ha/holdfast/pkg/pool"
)

func TestAStrangersClaimStartsAndReleasesNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		v := anyView(t)
		v.HasClaim, v.Claim.Server, v.Foreign = true, v.Me, true
		if v.Claim.Phase == pool.PhaseUnassigned {
			v.Claim.Phase = pool.PhaseHeld
		}
		if d := Decide(v); d.Step != StepNone {
			t.Fatalf("%v (%s)", d.Step, d.Why)
		}
	})
}

func TestAStrangersClaimThatNamesAnotherStillEndsTheCopyHere(t *testing.T) {
	v := held()
	v.Claim.Server, v.Foreign = "srv-2", true
	if d := Decide(v); d.Step != StepReadClaim {
		t.Errorf("%v (%s)", d.Step, d.Why)
	}
	v.Fresh = true
	if d := Decide(v); d.Step != StepDestroy {
		t.Errorf("%v (%s)", d.Step, d.Why)
	}
}

func TestNothingIsStartedOrReleasedBeforeTheWatchShowsWhoWroteTheClaim(t *testing.T) {
	v := assigned()
	v.Unseen = true
	if d := Decide(v); d.Step != StepNone {
		t.Errorf("assigned: %v (%s)", d.Step, d.Why)
	}
	v = held()
	v.Domain, v.Unseen = nil, true
	if d := Decide(v); d.Step != StepNone {
		t.Errorf("held and not here: %v (%s)", d.Step, d.Why)
	}
	v.Acked = v.Claim.Revision
	if d := Decide(v); d.Step != StepRelease {
		t.Errorf("written by this server: %v (%s)", d.Step, d.Why)
	}
	v = held()
	v.Domain, v.Unseen = paused(v), true
	v.Acked = v.Claim.Revision
	if d := Decide(v); d.Step != StepResume {
		t.Errorf("its own write: %v (%s)", d.Step, d.Why)
	}
}
