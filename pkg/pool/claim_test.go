package pool

import (
	"errors"
	"strings"
	"testing"
)

func TestOnlyClaimsThatAWriterOfOursWouldWritePass(t *testing.T) {
	held := Claim{VM: "a", Server: "srv-1", Session: 5, Epoch: 1, Phase: PhaseHeld}
	change := func(f func(*Claim)) Claim {
		c := held
		f(&c)
		return c
	}
	for name, tt := range map[string]struct {
		claim Claim
		good  bool
	}{
		"held":                             {held, true},
		"unassigned":                       {Claim{VM: "a", Phase: PhaseUnassigned, LastServer: "srv-1", Cause: CauseStopped}, true},
		"migrating":                        {change(func(c *Claim) { c.Phase, c.Incoming = PhaseMigrating, &Incoming{Server: "srv-2", Session: 6} }), true},
		"without a phase":                  {change(func(c *Claim) { c.Phase = PhaseUnspecified }), false},
		"of a phase to come":               {change(func(c *Claim) { c.Phase = PhaseReleasing + 1 }), false},
		"of a negative phase":              {change(func(c *Claim) { c.Phase = -1 }), false},
		"held by nobody":                   {change(func(c *Claim) { c.Server = "" }), false},
		"held without a session":           {change(func(c *Claim) { c.Session = 0 }), false},
		"unassigned, yet on a server":      {change(func(c *Claim) { c.Phase = PhaseUnassigned }), false},
		"migrating to nowhere":             {change(func(c *Claim) { c.Phase = PhaseMigrating }), false},
		"with an epoch before the first":   {change(func(c *Claim) { c.Epoch = -1 }), false},
		"assigned":                         {change(func(c *Claim) { c.Phase = PhaseAssigned }), true},
		"releasing":                        {change(func(c *Claim) { c.Phase = PhaseReleasing }), true},
		"handed over":                      {change(func(c *Claim) { c.Phase = PhaseHandedOver }), true},
		"assigned to a server, no session": {change(func(c *Claim) { c.Phase, c.Session = PhaseAssigned, 0 }), false},
	} {
		err := tt.claim.Check()
		if tt.good != (err == nil) || (err != nil && (!errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), "claim a"))) {
			t.Errorf("%s: got %v, want good %v", name, err, tt.good)
		}
	}
}

func TestAClaimIsOwnedByOneServerAndSession(t *testing.T) {
	c := Claim{Server: "srv-1", Session: 5}
	if !c.OwnedBy("srv-1", 5) || c.OwnedBy("srv-1", 6) || c.OwnedBy("srv-2", 5) {
		t.Error("the claim is not its owner's, or is another's")
	}
	if (Claim{Server: "srv-1"}).OwnedBy("srv-1", 0) {
		t.Error("session 0 owns something")
	}
}

func TestPhasesInWhichAServerMayExecute(t *testing.T) {
	for p, want := range map[Phase]bool{PhaseUnspecified: false, PhaseUnassigned: false, PhaseAssigned: false,
		PhaseHeld: true, PhaseMigrating: true, PhaseHandedOver: true, PhaseReleasing: true, PhaseReleasing + 1: false} {
		if got := p.Owned(); got != want {
			t.Errorf("%v: got %v, want %v", p, got, want)
		}
	}
}

func TestOnlyTheGuestsOwnFailuresCount(t *testing.T) {
	counted := map[Cause]bool{CauseCrashed: true, CausePanicked: true, CauseStartFailed: true}
	for c := CauseUnspecified; c <= CauseMigrationFailed; c++ {
		if got := c.CountsAsFailure(); got != counted[c] {
			t.Errorf("%v: got %v, want %v", c, got, counted[c])
		}
	}
}

func TestAFenceCoversItsSessionAndEarlierOnes(t *testing.T) {
	f := Fence{Session: 10, Proof: ProofPower}
	for session, want := range map[Session]bool{9: true, 10: true, 11: false} {
		if got := f.Covers(session); got != want {
			t.Errorf("session %d: got %v, want %v", session, got, want)
		}
	}
	if (Fence{Session: 10}).Covers(5) {
		t.Error("a fence without proof covers something")
	}
}
