package pool

import (
	"strings"
	"testing"
)

// threeServers is a pool of which s2 and s3 are members, under sessions 5 and 7, and s4 is lost.
func threeServers() *Snapshot {
	return &Snapshot{Leader: Leader{Server: "s3", Revision: 3},
		Servers: NewTable(map[ServerID]Server{"s2": {ID: "s2"}, "s3": {ID: "s3"}, "s4": {ID: "s4"}}),
		Members: NewTable(map[ServerID]Member{"s2": {Server: "s2", Session: 5}, "s3": {Server: "s3", Session: 7}})}
}

func fencedFour(s *Snapshot) {
	s.Fences = NewTable(map[ServerID]Fence{"s4": {Server: "s4", Session: 4, Proof: ProofGuard}})
}

// reported: the owner of the VM reports its end with the change.
func reported(s *Snapshot) {
	s.States = NewTable(map[VMID]VMState{"a": {VM: "a", Server: "s2", State: RunStopped, Revision: 20}})
}

func nobodyLeads(s *Snapshot) { s.Leader = Leader{} }

func as(phase Phase, server ServerID, session Session, epoch Epoch) Claim {
	return Claim{VM: "a", Server: server, Session: session, Epoch: epoch, Phase: phase}
}

func with(c Claim, f func(*Claim)) Claim {
	f(&c)
	return c
}

func TestOnlyStepsOfTheProtocolAreLawful(t *testing.T) {
	none := with(as(PhaseUnassigned, "", 0, 3), func(c *Claim) { c.Revision = 20 })
	held, lost := as(PhaseHeld, "s2", 5, 3), as(PhaseHeld, "s4", 4, 3)
	moving := with(as(PhaseMigrating, "s2", 5, 3), func(c *Claim) { c.Incoming, c.Operation = &Incoming{Server: "s3", Session: 7}, "op" })
	armed := with(held, func(c *Claim) { c.Armed = true })
	adopted := with(as(PhaseAssigned, "s2", 5, 1), func(c *Claim) { c.LastServer = "s2" })
	for _, c := range []struct {
		name          string
		before, after Claim
		pool          func(*Snapshot)
		// want is a part of the reason; empty: it is lawful.
		want string
	}{
		{"the same once more", held, held, nil, ""},
		{"assigned", none, as(PhaseAssigned, "s3", 7, 4), nil, ""},
		{"assigned for the first time, not to look like an adoption", as(PhaseUnassigned, "", 0, 0), as(PhaseAssigned, "s3", 7, 2), nil, ""},
		{"assigned anew, as it never ran", as(PhaseAssigned, "s2", 5, 3), as(PhaseAssigned, "s3", 7, 4), nil, ""},
		{"started", as(PhaseAssigned, "s2", 5, 3), held, nil, ""},
		{"armed", held, armed, nil, ""},
		{"asserted anew under a new session", as(PhaseHeld, "s2", 1, 3), armed, nil, ""},
		{"disarmed after another session began", as(PhaseHeld, "s2", 1, 3), with(as(PhaseHeld, "s2", 1, 3), func(c *Claim) { c.Armed = true }), nil, ""},
		{"released by its owner", held, none, reported, ""},
		{"released by its owner under a new session", as(PhaseHeld, "s2", 1, 3), none, reported, ""},
		{"told to let go", held, as(PhaseReleasing, "s2", 5, 3), nil, ""},
		{"told to let go while its session ends", lost, as(PhaseReleasing, "s4", 4, 3), nil, ""},
		{"taken from a fenced server", lost, as(PhaseAssigned, "s3", 7, 4), fencedFour, ""},
		{"taken from a fenced server, for nobody", lost, as(PhaseUnassigned, "", 0, 3), fencedFour, ""},
		{"taken from a server that was removed", as(PhaseHeld, "s9", 2, 3), as(PhaseAssigned, "s3", 7, 4), nil, ""},
		{"moves", held, moving, nil, ""},
		{"stays", moving, held, nil, ""},
		{"handed over", moving, as(PhaseHandedOver, "s3", 7, 4), nil, ""},
		{"arrived", as(PhaseHandedOver, "s3", 7, 4), as(PhaseHeld, "s3", 7, 4), nil, ""},

		{"forged for another server", held, as(PhaseAssigned, "s3", 7, 4), nil, "the session of s2 lives"},
		{"taken from a server that is not fenced", lost, as(PhaseAssigned, "s3", 7, 4), nil, "is not fenced"},
		{"taken from a server that is to adopt it", adopted, as(PhaseAssigned, "s3", 7, 2), nil, "the session of s2 lives"},
		{"released by somebody else", held, none, nil, "s2 has not reported its end"},
		{"released after an earlier end", held, with(none, func(c *Claim) { c.Revision = 21 }), reported, "s2 has not reported its end"},
		{"released for another", as(PhaseHeld, "s3", 7, 3), none, reported, "s3 has not reported its end"},
		{"released for a server that is gone", lost, as(PhaseUnassigned, "", 0, 3), nil, "is not fenced"},
		{"assigned to a session that is over", none, as(PhaseAssigned, "s3", 6, 4), nil, "s3 has no session 6"},
		{"assigned to a server that is none", none, as(PhaseAssigned, "s8", 7, 4), nil, "s8 has no session 7"},
		{"assigned without a leader", none, as(PhaseAssigned, "s3", 7, 4), nobodyLeads, "no leader"},
		{"assigned in the same epoch", none, as(PhaseAssigned, "s3", 7, 3), nil, "without a new epoch"},
		{"assigned in an epoch of later", none, as(PhaseAssigned, "s3", 7, 9), nil, "skips a number"},
		{"rolled back", as(PhaseHeld, "s3", 7, 4), held, nil, "epoch changes without a new owner"},
		{"rolled back to nobody", held, as(PhaseUnassigned, "", 0, 2), nil, "epoch changes without a new owner"},
		{"held by another", held, as(PhaseHeld, "s3", 7, 3), nil, "another server without a new epoch"},
		{"held without having been assigned", none, held, nil, "no claim goes from UNASSIGNED to HELD"},
		{"held under a session that is not its owner's", held, as(PhaseHeld, "s2", 99, 3), nil, "s2 has no session 99"},
		{"started under another session than assigned", as(PhaseAssigned, "s2", 1, 3), held, nil, "s2 has no session 5 for it"},
		{"armed by a server that is gone", lost, with(lost, func(c *Claim) { c.Armed = true }), nil, "s4 is no member"},
		{"told to let go without a leader", held, as(PhaseReleasing, "s2", 5, 3), nobodyLeads, "no leader"},
		{"told to let go under another session", held, as(PhaseReleasing, "s2", 6, 3), nil, "does not change an owner's session"},
		{"handed over to a third", moving, as(PhaseHandedOver, "s2", 5, 4), nil, "not the destination"},
		{"handed over in the same epoch", moving, as(PhaseHandedOver, "s3", 7, 3), nil, "without a new epoch"},
		{"handed over by a server that is gone", with(moving, func(c *Claim) { c.Server = "s4" }), as(PhaseHandedOver, "s3", 7, 4), nil, "needs both"},
	} {
		s := threeServers()
		if c.pool != nil {
			c.pool(s)
		}
		why := Unlawful(c.before, c.after, s)
		if (c.want == "") != (why == "") || !strings.Contains(why, c.want) {
			t.Errorf("%s: %q, want %q", c.name, why, c.want)
		}
	}
}

func TestTheRightToRunIsAllOfAClaimThatCounts(t *testing.T) {
	c := with(as(PhaseHeld, "s2", 5, 3), func(c *Claim) { c.Armed = true })
	if o := with(c, func(c *Claim) { c.Revision, c.Replaces, c.Detail = 9, 8, "since" }); !c.SameRight(o) {
		t.Error("a claim written again gives another right")
	}
	for name, f := range map[string]func(*Claim){
		"server":   func(c *Claim) { c.Server = "s3" },
		"session":  func(c *Claim) { c.Session = 6 },
		"epoch":    func(c *Claim) { c.Epoch++ },
		"phase":    func(c *Claim) { c.Phase = PhaseReleasing },
		"armed":    func(c *Claim) { c.Armed = false },
		"incoming": func(c *Claim) { c.Incoming = &Incoming{Server: "s3"} },
	} {
		if c.SameRight(with(c, f)) {
			t.Errorf("another %s gives the same right", name)
		}
	}
}
