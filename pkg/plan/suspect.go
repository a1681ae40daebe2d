package plan

import (
	"fmt"
	"slices"
	"time"

	"github.com/holdfast-ha/holdfast/pkg/pool"
)

// Suspicion is what is held against a member whose host has given no sign of life for the pool's suspect-after, neither to the leader nor to
// most of the others. It proves nothing; it lets the leader ask its power switch at once. Source: docs/safety.md,
// "Suspicion".
type Suspicion struct {
	// Session that it had then.
	Session pool.Session
	// Witnesses are the members besides the leader that hear nothing either, by name.
	Witnesses []pool.ServerID
	// Long: the silence has lasted twice as long. Where nothing can be done about it, it is told only then.
	Long bool
}

// Silence is what is known of one member that the leader does not hear.
type Silence struct {
	// Own is how long ago the leader had its latest sign of life.
	Own time.Duration
	// Others is how long each other member that was asked has listened in vain; zero: it heard something, or has
	// missed nothing yet. Those that did not answer are not in it.
	Others map[pool.ServerID]time.Duration
}

// Suspects judges the silent members of a snapshot. The leader alone does not count: a cable of its own may be cut. So
// most of the members that are neither it nor the silent one must have listened in vain for half as long.
func Suspects(s *pool.Snapshot, leader pool.ServerID, silent map[pool.ServerID]Silence) map[pool.ServerID]Suspicion {
	var out map[pool.ServerID]Suspicion
	for id, m := range s.Members.All() {
		heard, ok := silent[id]
		if !ok || id == leader || heard.Own < s.Config.SuspectAfter {
			continue
		}
		others, agree := 0, []pool.ServerID(nil)
		for other := range s.Members.All() {
			if other == leader || other == id {
				continue
			}
			others++
			if heard.Others[other] >= s.Config.SuspectAfter/2 {
				agree = append(agree, other)
			}
		}
		if others == 0 || 2*len(agree) <= others {
			continue
		}
		if out == nil {
			out = map[pool.ServerID]Suspicion{}
		}
		out[id] = Suspicion{Session: m.Session, Witnesses: agree, Long: heard.Own >= 2*s.Config.SuspectAfter}
	}
	return out
}

// Watched lists the members whose silence would matter, by name: those under whose sessions protected VMs may run.
// fenceable says for each whether power fencing is set up.
func Watched(s *pool.Snapshot, leader pool.ServerID) (watched []pool.ServerID, fenceable map[pool.ServerID]bool) {
	if !s.Config.HA || s.Config.Frozen {
		return nil, nil
	}
	fenceable = map[pool.ServerID]bool{}
	for vm, c := range pool.Join(s.VMs, s.Claims) {
		if vm == nil || c == nil || c.Server == "" || c.Server == leader || !mayRun(*c) || !vm.Readable() || !s.Protected(*vm) {
			continue
		}
		if _, known := fenceable[c.Server]; known || !s.Alive(c.Server, c.Session) {
			continue
		}
		srv, _ := s.Servers.Get(c.Server)
		fenceable[c.Server] = len(srv.Fence) > 0
		watched = append(watched, c.Server)
	}
	slices.Sort(watched)
	return watched, fenceable
}

// suspected reports whether the member is a suspect under its present session.
func (p *planner) suspected(s *server) bool {
	got, ok := p.in.Suspects[s.id]
	return ok && s.up && got.Session == s.member.Session
}

// struck reports whether a power-off that this leader sent has worked, and covers the session that the member key
// still shows.
func (p *planner) struck(s *server) bool {
	got := p.in.Power[s.id]
	return s.up && got.Off && s.member.Session <= got.Session
}

// fencedUp reports whether a proof on record covers the session that the member key still shows.
func (s *server) fencedUp() bool { return s.up && s.hasFence && s.fence.Covers(s.member.Session) }

// fewSilent reports whether the suspects and the lost servers together are a minority of those that should be up.
// Where they are not, the trouble may be on this side, and nobody's power is cut before a lease has ended.
func (p *planner) fewSilent() bool {
	silent, all := 0, 0
	for id := range p.snap.Servers.All() {
		s := p.server(id)
		switch {
		case s.up && !p.suspected(s) && !s.fencedUp():
			all++
		case s.up || p.missed(s):
			all, silent = all+1, silent+1
		}
	}
	return 2*silent < all
}

// planSuspect fences a suspect by power without waiting for its lease, and takes note of a power-off that worked.
// Every other proof needs the lease to have ended.
func (p *planner) planSuspect(s *server) {
	open := p.uncovered(s)
	switch {
	case len(open) == 0 || s.fencedUp():
	case p.struck(s):
		got := p.in.Power[s.id]
		p.recordFence(s, pool.Fence{Session: got.Session, Proof: pool.ProofPower, Evidence: got.Evidence})
	case p.suspected(s) && s.registration != nil && len(s.registration.Fence) > 0 && p.fewSilent():
		p.out.PowerOff, p.out.Urgent = append(p.out.PowerOff, s.id), append(p.out.Urgent, s.id)
	}
}

// tellSuspect reports whether a suspect is worth an alert: its power can be cut, or it has been silent for long.
func (p *planner) tellSuspect(s *server) bool {
	if !p.suspected(s) || s.fencedUp() || s.unreadable || len(s.owed) == 0 || p.cfg.Frozen {
		return false
	}
	return p.in.Suspects[s.id].Long || s.registration != nil && len(s.registration.Fence) > 0
}

// suspectText says what is known of a suspect, and what comes of it.
func (p *planner) suspectText(s *server) string {
	text := fmt.Sprintf("%s is suspect: %s and the leader %s get no sign of life from it", s.id, names(p.in.Suspects[s.id].Witnesses), p.in.Leader.Server)
	switch {
	case s.registration == nil || len(s.registration.Fence) == 0:
		return text + "; no power fencing is set up, so its lease has to end first"
	case !p.fewSilent():
		return text + "; too many servers are silent at once, so its power is not cut before its lease has ended"
	case p.in.Power[s.id].Err != "":
		return text + "; power fencing failed, so its lease has to end first: " + p.in.Power[s.id].Err
	}
	return text + "; its power is being cut"
}
