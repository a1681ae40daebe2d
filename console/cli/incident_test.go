package cli

import (
	"encoding/json"
	"testing"

	"github.com/holdfast-ha/holdfast/console/cli/fakepool"
)

func TestIncidentsAreListedWithProofAndTheLongestDowntime(t *testing.T) {
	b := newBench(t, fakepool.Troubled(), 1)
	contains(t, "the list", b.must(ExitOK, "incident", "list").out, "20261122T130512-hv-06", "open", "7.0s", "guard", "hv-06 was lost with 2 VMs")
}

func TestAnIncidentIsShownWithWhatMovedWhatWaitsAndATimeLine(t *testing.T) {
	b := newBench(t, fakepool.Troubled(), 1)
	for _, args := range [][]string{{"incident", "show"}, {"incident", "show", "20261122T130512-hv-06"}} {
		contains(t, "the incident", b.must(ExitOK, args...).out, "proof guard: guard armed, lease gone for 0.6 s (leader hv-03)", "web-08", "hv-05", "7.0s",
			"restarted", "pending", "waited: no free GPU anywhere", "time line", "+  5.00s  hv-06 is lost", "web-08 runs on hv-05 again")
	}
	b.must(ExitRefused, "incident", "show", "1999")
}

func TestScriptsGetIncidentsAsTheAPIHasThem(t *testing.T) {
	b := newBench(t, fakepool.Troubled(), 1)
	var got struct {
		Incident struct{ ID string }
		Timeline []struct{ Kind string }
	}
	if err := json.Unmarshal([]byte(b.must(ExitOK, "incident", "show", "-o", "json").out), &got); err != nil || len(got.Timeline) != 2 {
		t.Errorf("%v, %+v", err, got)
	}
	contains(t, "yaml", b.must(ExitOK, "incident", "list", "-o", "yaml").out, "proof: PROOF_GUARD", "recovery: RECOVERY_RESTARTED")
}
