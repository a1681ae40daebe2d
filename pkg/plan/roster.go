package plan

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/holdfast-ha/holdfast/pkg/pool"
)

// The roster lists who may lead. Whoever lets VMs run on without etcd asks everybody on it, so it must never lack one
// that may lead, and should lack those that cannot answer. Additions take two steps: pending is asked and may not lead;
// in force comes when nobody can be left whose VMs run on without having asked. Removals take one: every write of a
// leader compares the roster. Source: docs/safety.md, "Failsafe".

// mayLead reports whether the snapshot lets the planning leader lead; it plans nothing else otherwise.
func (p *planner) mayLead() bool { return p.snap.Roster.Lets(p.in.Leader.Server) }

// planRoster brings the roster in line with the pool, by one write at most.
func (p *planner) planRoster() {
	if p.snap.Roster.Revision == 0 {
		p.createRoster()
		return
	}
	next := p.roster
	next.Standing = maps.Clone(p.roster.Standing)
	for _, id := range slices.Sorted(maps.Keys(next.Standing)) {
		if p.leaves(next, id) {
			delete(next.Standing, id)
		}
	}
	for id, m := range p.snap.Members.All() {
		s, registered := p.snap.Servers.Get(id)
		if _, on := next.Standing[id]; !on && registered && !s.Removing && !p.fencedMember(m) {
			next.Standing[id] = pool.StandingPending
		}
	}
	if p.acknowledged() {
		for id, st := range p.snap.Roster.Standing {
			if m, up := p.snap.Members.Get(id); up && st == pool.StandingPending && next.Standing[id] == st && !p.fencedMember(m) {
				next.Standing[id] = pool.StandingInForce
			}
		}
	}
	if why := changes(p.roster, next); why != "" {
		p.writeRoster(next, why)
	}
}

// createRoster makes the first one: everybody who is registered may lead, as before, and nobody ran anything on
// without etcd yet. It waits until every member obeys it. A roster that a stranger has deleted is made anew with the
// leader alone in force: members may have acknowledged less.
func (p *planner) createRoster() {
	standing, next := pool.StandingInForce, pool.Roster{Standing: map[pool.ServerID]pool.Standing{}}
	for _, m := range p.snap.Members.All() {
		if !m.Failsafe {
			return
		}
		if m.RosterRevision > 0 {
			standing = pool.StandingPending
		}
	}
	if !p.snap.Members.Has(p.in.Leader.Server) {
		return
	}
	for id := range p.snap.Servers.All() {
		next.Standing[id] = standing
	}
	next.Standing[p.in.Leader.Server] = pool.StandingInForce
	p.writeRoster(next, fmt.Sprintf("the pool has its first roster: %s", changes(pool.Roster{}, next)))
}

func (p *planner) writeRoster(next pool.Roster, why string) {
	p.roster = next
	p.add(Action{Kind: UpdateRoster, Key: string(UpdateRoster), Why: why, Change: pool.Change{Roster: &next}})
}

// withoutFenced returns the roster without a server that is being fenced, to be written together with the proof; nil
// if it stays as it is.
func (p *planner) withoutFenced(id pool.ServerID) *pool.Roster {
	if _, on := p.roster.Standing[id]; !on || id == p.in.Leader.Server || !p.spareable(p.roster, id) {
		return nil
	}
	next := p.roster
	next.Standing = maps.Clone(p.roster.Standing)
	delete(next.Standing, id)
	p.roster = next
	return &next
}

// leaves reports whether a server is to leave the roster r: it is not registered any more, or has been lost for L, so
// that its absence would only keep others from running on.
func (p *planner) leaves(r pool.Roster, id pool.ServerID) bool {
	if id == p.in.Leader.Server || p.snap.Unreadable("servers", string(id)) {
		return false
	}
	if !p.snap.Servers.Has(id) {
		return true
	}
	s := p.server(id)
	if s.unreadable {
		return false
	}
	if s.up {
		return p.fencedMember(s.member) && p.spareable(r, id)
	}
	cold := p.in.Now.Before(p.in.ColdUntil) && s.fence.Proof == pool.ProofNone
	return !cold && p.over(s) && p.spareable(r, id)
}

// spareable reports whether enough stay in force without a server: more than half of those registered. So whenever
// half of the servers are up, one of them may lead, whatever happened before.
func (p *planner) spareable(r pool.Roster, id pool.ServerID) bool {
	if r.Standing[id] != pool.StandingInForce {
		return true
	}
	stay := 0
	for other, st := range r.Standing {
		if other != id && st == pool.StandingInForce && p.snap.Servers.Has(other) {
			stay++
		}
	}
	return stay >= p.snap.Servers.Len()/2+1
}

// acknowledged reports whether nobody is left whose VMs could run on without having asked everybody on the roster:
// each member has acknowledged it, and whoever is no member has been lost for L.
func (p *planner) acknowledged() bool {
	all := true
	for id := range p.servers {
		s := p.servers[id]
		_, on := p.snap.Roster.Standing[id]
		switch {
		case s.up && !p.fencedMember(s.member):
			all = all && s.member.RosterRevision >= p.snap.Roster.Revision
		case !s.up && (on || s.registration != nil):
			all = p.over(s) && all
		}
	}
	return all
}

// fencedMember reports whether a member's session is proven harmless though its key is still there.
func (p *planner) fencedMember(m pool.Member) bool { return p.server(m.Server).fence.Covers(m.Session) }

// over reports whether a server has been seen without a member key for L, so that its guard has done its work.
func (p *planner) over(s *server) bool {
	sight, seen := p.in.Lost[s.id]
	if !seen {
		return false
	}
	var slowest time.Duration
	for _, o := range s.owed {
		slowest = max(slowest, o.claim.Watchdog)
	}
	wait := p.timing.Settle
	if slowest > 0 {
		wait = p.timing.WatchdogSettle(slowest)
	}
	if p.elapsed(sight.Since) < wait {
		p.wake(sight.Since.Add(wait))
		return false
	}
	return true
}

// changes tells the difference between two rosters in words; empty if there is none.
func changes(was, is pool.Roster) string {
	var inForce, pending, gone []pool.ServerID
	for _, id := range slices.Sorted(maps.Keys(is.Standing)) {
		switch st := is.Standing[id]; st {
		case was.Standing[id]:
		case pool.StandingInForce:
			inForce = append(inForce, id)
		default:
			pending = append(pending, id)
		}
	}
	for _, id := range slices.Sorted(maps.Keys(was.Standing)) {
		if _, still := is.Standing[id]; !still {
			gone = append(gone, id)
		}
	}
	var out []string
	say := func(list []pool.ServerID, what string) {
		if len(list) > 0 {
			out = append(out, names(list)+" "+what)
		}
	}
	say(inForce, "may lead")
	say(pending, "must be asked from now on")
	say(gone, "need not be asked any more")
	return strings.Join(out, "; ")
}
