package leader

import (
	"strings"
	"testing"
	"time"

	"github.com/holdfast-ha/holdfast/pkg/plan"
	"github.com/holdfast-ha/holdfast/pkg/pool"
)

func strange(rev pool.Revision, before *pool.Claim) *pool.Snapshot {
	f := pool.Foreign{Key: "claims/web", Server: "s3", VM: "web", Revision: rev, Text: "it was so and is not", Before: before}
	return &pool.Snapshot{Revision: rev, Foreign: pool.NewTable(map[string]pool.Foreign{f.Key: f})}
}

func TestAStrangersWriteIsNewsForTenMinutesFromWhenEachAgentSawIt(t *testing.T) {
	var w witness
	at := pool.Instant(time.Hour)
	w.look(strange(5, nil), at)
	later := at.Add(plan.ForeignNews)
	if got := w.strange(strange(5, nil), later-1); len(got) != 1 {
		t.Errorf("news: %v", got)
	}
	w.look(strange(5, nil), later)
	if got := w.strange(strange(5, nil), later); len(got) != 0 {
		t.Errorf("news after ten minutes: %v", got)
	}
	w.look(strange(9, nil), later)
	if got := w.strange(strange(9, nil), later+1); len(got) != 1 || got[0].Revision != 9 {
		t.Errorf("another write: %v", got)
	}
}

func TestAStrangersClaimIsWrittenAsItWasOrNotAtAll(t *testing.T) {
	before := pool.Claim{VM: "web", Server: "s2", Session: 2, Epoch: 3, Phase: pool.PhaseHeld, Armed: true}
	s := strange(9, &before)
	forged := pool.Claim{VM: "web", Server: "s3", Session: 3, Epoch: 4, Phase: pool.PhaseHeld, Revision: 9}
	s.Claims = pool.NewTable(map[pool.VMID]pool.Claim{"web": forged})
	back := before
	back.Revision, back.Replaces = 9, 9
	if err := verifyClaim(s, nil, back); err != nil {
		t.Error(err)
	}
	for name, next := range map[string]pool.Claim{
		"unassigned": {VM: "web", Epoch: 4, Phase: pool.PhaseUnassigned, Revision: 9},
		"assigned":   {VM: "web", Server: "s1", Session: 1, Epoch: 5, Phase: pool.PhaseAssigned, Revision: 9},
		"let go":     {VM: "web", Server: "s3", Session: 3, Epoch: 4, Phase: pool.PhaseReleasing, Revision: 9},
	} {
		if err := verifyClaim(s, nil, next); err == nil || !strings.Contains(err.Error(), "changed by a stranger") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
