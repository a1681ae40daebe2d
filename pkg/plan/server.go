package plan

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/holdfast-ha/holdfast/pkg/pool"
)

// server is what a plan knows of one server.
type server struct {
	id           pool.ServerID
	registration *pool.Server
	member       pool.Member
	up           bool
	// fence is the proof on record, the one that this plan records included.
	fence    pool.Fence
	hasFence bool
	// fencedBy is the action of this plan that records the fence; empty if it stands already.
	fencedBy string
	// unreadable: one of its records cannot be read, so it is left alone.
	unreadable bool
	// owed are the claims by which it may run protected VMs although its session has ended, in order of name.
	owed []owedClaim
	// ladder says what was tried for those that no proof covers.
	ladder ladder
}

type owedClaim struct {
	claim pool.Claim
	vm    pool.VM
}

// server returns the plan's entry for id, new if need be.
func (p *planner) server(id pool.ServerID) *server {
	if s, ok := p.servers[id]; ok {
		return s
	}
	s := &server{id: id}
	s.member, s.up = p.snap.Members.Get(id)
	s.fence, _ = p.snap.Fences.Get(id)
	s.hasFence = s.fence.Proof != pool.ProofNone
	s.unreadable = p.snap.Unreadable("servers", string(id)) || p.snap.Unreadable("members", string(id))
	p.servers[id] = s
	return s
}

// lostSession reports whether the claim's session has ended and its server has not come back with another.
func (s *server) lostSession(c *pool.Claim) bool {
	return !s.unreadable && (!s.up || (s.member.Session == c.Session && s.fence.Covers(c.Session)))
}

// planServers finds what lost servers owe, fences them if that can be proven now, and forgets proofs that are over.
func (p *planner) planServers() {
	p.collectOwed()
	for _, id := range slices.Sorted(maps.Keys(p.servers)) {
		s := p.servers[id]
		p.settleFence(s)
		switch {
		case s.unreadable || p.cfg.Frozen:
		case s.up:
			p.planSuspect(s)
		case len(s.owed) > 0:
			p.planFence(s)
		default:
			p.planPowerOn(s)
		}
	}
}

// collectOwed walks the claims once and notes the protected VMs of servers that are not up.
func (p *planner) collectOwed() {
	var last *server
	for vm, c := range pool.Join(p.snap.VMs, p.snap.Claims) {
		if c == nil || c.Server == "" {
			continue
		}
		if last == nil || last.id != c.Server {
			last = p.server(c.Server)
		}
		if (!last.up || p.suspected(last) || p.struck(last)) && mayRun(*c) && vm != nil && vm.Readable() && p.snap.Protected(*vm) {
			last.owed = append(last.owed, owedClaim{*c, *vm})
		}
	}
}

// uncovered returns the owed claims that the proof on record does not cover.
func (p *planner) uncovered(s *server) []owedClaim {
	var open []owedClaim
	for _, o := range s.owed {
		if !s.hasFence || !covers(s.fence, o.claim, o.vm, p.cfg) {
			open = append(open, o)
		}
	}
	return open
}

// planFence records the first proof that holds by now, and notes what the others wait for.
func (p *planner) planFence(s *server) {
	sight, seen := p.in.Lost[s.id]
	if !seen {
		sight = Sight{Since: p.in.Now, Revision: p.snap.Revision}
	}
	open := p.uncovered(s)
	if len(open) == 0 {
		return
	}
	s.ladder = p.climb(s, open, sight)
	if f := s.ladder.proven; f != nil {
		p.recordFence(s, *f)
		s.ladder = p.climb(s, p.uncovered(s), sight)
	}
	for _, at := range s.ladder.wake {
		p.wake(at)
	}
	if s.ladder.wantsPower {
		p.out.PowerOff = append(p.out.PowerOff, s.id)
	}
}

func (p *planner) recordFence(s *server, f pool.Fence) {
	f.Server, f.At, f.By = s.id, p.in.Wall, "leader "+string(p.in.Leader.Server)
	f.Revision, f.SwitchedOn = s.fence.Revision, s.fence.SwitchedOn
	change := pool.Change{Fences: []pool.Fence{f}, Roster: p.withoutFenced(s.id)}
	if f.Proof != pool.ProofPower {
		change.MembersAbsent = []pool.ServerID{s.id}
	}
	why := fmt.Sprintf("%s: %s", fencedBy(s.id, f.Proof), f.Evidence)
	change.Events = []pool.Event{p.event("SERVER_FENCED", s.id, "", why)}
	a := Action{Kind: RecordFence, Key: "fence:" + string(s.id), Server: s.id, Why: why, Change: change}
	p.add(a)
	s.fence, s.hasFence, s.fencedBy = f, true, a.Key
	p.load.Avoid(s.id)
}

// elapsed is how long this leader has seen the server without a member key.
func (p *planner) elapsed(since pool.Instant) time.Duration { return p.in.Now.Sub(since) }
