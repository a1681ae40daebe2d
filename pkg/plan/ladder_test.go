package plan

import (
	"slices"
	"testing"
	"time"

	"github.com/holdfast-ha/holdfast/pkg/pool"
)

func TestTheGuardIsNoProofWhereOnlyTheWatchdogIsTrusted(t *testing.T) {
	for _, c := range []struct {
		label string
		first pool.Proof
	}{{"", pool.ProofGuard}, {FenceByWatchdog, pool.ProofWatchdog}} {
		r := newRosters(t, 3)
		r.held("v", "s3")
		claim := r.world.Claims["v"]
		claim.Watchdog = 10 * time.Second
		r.world.PutClaim(claim)
		srv := r.world.Servers["s3"]
		srv.Labels = map[string]string{LabelFenceBy: c.label}
		r.world.PutServer(srv)
		r.world.Lose("s3")
		r.plan()
		var got []pool.Proof
		for _, wait := range []time.Duration{settle, 12 * time.Second} {
			for _, a := range r.after(wait).Actions {
				if a.Kind == RecordFence {
					got = append(got, a.Change.Fences[0].Proof)
				}
			}
		}
		if len(got) != 1 || got[0] != c.first {
			t.Errorf("label %q: fenced by %v, want %v", c.label, got, c.first)
		}
	}
}

func TestEveryProofThatWasTriedIsTold(t *testing.T) {
	r := newRosters(t, 3)
	r.held("v", "s3")
	claim := r.world.Claims["v"]
	claim.Armed = false
	r.world.PutClaim(claim)
	r.world.Lose("s3")
	told := func(res Result) []pool.ProofTry {
		for _, a := range res.Actions {
			for _, alert := range a.Change.Alerts {
				if alert.Kind == AlertFencing {
					return alert.Tried
				}
			}
		}
		return nil
	}
	got := told(r.plan())
	want := []pool.ProofTry{
		{Proof: pool.ProofPower, Result: "no power fencing is set up"}, {Proof: pool.ProofWatchdog, Result: "no watchdog was armed"},
		{Proof: pool.ProofGuard, Result: "its guard did not hold v when the session ended"},
	}
	if !slices.Equal(got, want) {
		t.Errorf("tried %v, want %v", got, want)
	}
	if again := told(r.after(2 * settle)); again != nil {
		t.Errorf("the alert was written again although nothing is new: %v", again)
	}
}
