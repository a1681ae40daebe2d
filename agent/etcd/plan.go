package etcd

import (
	"cmp"
	"fmt"
	"slices"
)

// ActionKind is one kind of membership change.
type ActionKind int

// Kinds of action.
const (
	// ActionNone: nothing to do, or something to wait for; Reason says which.
	ActionNone ActionKind = iota
	// ActionAdd adds a seat's member as a learner.
	ActionAdd
	// ActionPromote gives a learner its vote.
	ActionPromote
	// ActionRemove takes a member out.
	ActionRemove
	// ActionForget drops the seat of a removed server that has no member any more.
	ActionForget
)

// String returns the kind's word.
func (k ActionKind) String() string {
	words := []string{"none", "add learner", "promote", "remove", "forget seat"}
	if k < 0 || int(k) >= len(words) {
		return fmt.Sprintf("unknown(%d)", int(k))
	}
	return words[k]
}

// Action is one step towards the wanted votes.
type Action struct {
	Kind ActionKind
	// Seat is the name of the seat that it concerns, Member the etcd member, where there is one.
	Seat   string
	Member uint64
	// PeerURL of the member to add.
	PeerURL string
	// Reason is one sentence for logs and events.
	Reason string
}

// Wish is which seats should vote, and which should keep a copy of the data without a vote.
type Wish struct {
	Voters  []string
	Standby []string
}

// Votes returns how many seats should vote in a pool with that many servers of which so many seats can be used:
// 3 up to 4 servers, 5 from 5 on, never more than there are seats, never an even number, for an even number of
// votes survives no more losses than one vote less. Source: docs/operations.md,
// "Losing etcd".
func Votes(servers, seats int) int {
	n := 3
	if servers >= 5 {
		n = 5
	}
	n = min(n, seats)
	if n > 0 && n%2 == 0 {
		n--
	}
	return n
}

// Want chooses the seats that should vote. Votes stay where they are unless a seat is leaving, fenced or gone and
// another can take over: a lost server may be back in a moment, and moving a vote needs the quorum it is part of.
func Want(members []Member, seats []Seat) Wish {
	var usable []Seat
	servers := 0
	for _, s := range judged(members, seats) {
		if s.Standing == StandingGone {
			continue
		}
		usable = append(usable, s)
		if !s.Witness {
			servers++
		}
	}
	slices.SortFunc(usable, func(a, b Seat) int {
		return cmp.Or(cmp.Compare(worth(members, a), worth(members, b)), cmp.Compare(hold(members, a), hold(members, b)),
			preferWitness(a, b), cmp.Compare(a.Name, b.Name))
	})
	n := Votes(servers, len(usable))
	var w Wish
	for i, s := range usable {
		switch {
		case i < n:
			w.Voters = append(w.Voters, s.Name)
		case n == 1 && i == 1:
			w.Standby = append(w.Standby, s.Name)
		}
	}
	return w
}

// judged returns the seats with the going ones taken for leaving if etcd would stop without them, and else for fit: a vote
// need not move for a reboot that the others can wait for.
func judged(members []Member, seats []Seat) []Seat {
	all := voters(members)
	staying := slices.DeleteFunc(slices.Clone(all), func(m Member) bool {
		return slices.ContainsFunc(seats, func(s Seat) bool { return s.Standing == StandingGoing && s.PeerURL == m.PeerURL })
	})
	standing := StandingFit
	if healthy(staying) < quorum(len(all)) {
		standing = StandingLeaving
	}
	out := slices.Clone(seats)
	for i := range out {
		if out[i].Standing == StandingGoing {
			out[i].Standing = standing
		}
	}
	return out
}

// worth ranks seats by how good a place for a vote they are.
func worth(members []Member, s Seat) int {
	m, ok := at(members, s)
	switch {
	case s.Standing == StandingFit, s.Standing == StandingLost && ok && !m.Learner:
		return 0
	case s.Standing == StandingLeaving:
		return 1
	}
	return 2
}

// hold ranks seats by what they have already: a vote, the data, nothing.
func hold(members []Member, s Seat) int {
	m, ok := at(members, s)
	switch {
	case !ok:
		return 2
	case m.Learner:
		return 1
	}
	return 0
}

// preferWitness puts a witness first: it is there for the vote and dies for other reasons than servers do.
func preferWitness(a, b Seat) int {
	switch {
	case a.Witness && !b.Witness:
		return -1
	case b.Witness && !a.Witness:
		return 1
	}
	return 0
}

// Plan returns the next change that brings the members nearer to what Want says, or ActionNone. It is called again
// after each change. It never proposes one after which fewer than a majority of voters would be healthy. Members
// without a seat are left alone: somebody else's business. The order of the arguments does not matter.
func Plan(members []Member, seats []Seat) Action {
	p := planner{members: slices.Clone(members), seats: judged(members, seats)}
	slices.SortFunc(p.members, func(a, b Member) int { return cmp.Compare(a.ID, b.ID) })
	slices.SortFunc(p.seats, func(a, b Seat) int { return cmp.Compare(a.Name, b.Name) })
	p.wish = Want(p.members, p.seats)
	p.voters = voters(p.members)
	if alive := healthy(p.voters); alive < quorum(len(p.voters)) {
		return Action{Reason: fmt.Sprintf("%d of %d voters answer: no change is possible", alive, len(p.voters))}
	}
	for _, rule := range []func() (Action, bool){
		p.dropLearner, p.dropDeadVoter, p.add, p.promote, p.dropVoter, p.forget,
	} {
		if a, ok := rule(); ok {
			return a
		}
	}
	return Action{Reason: p.waiting()}
}

type planner struct {
	members []Member
	seats   []Seat
	voters  []Member
	wish    Wish
}

// dropLearner takes out a learner that is wanted neither as voter nor as standby, and one that its machine was lost
// before it started. It never touches quorum.
func (p *planner) dropLearner() (Action, bool) {
	for _, s := range p.seats {
		m, ok := at(p.members, s)
		switch {
		case !ok || !m.Learner:
		case !p.wanted(s):
			return remove(s, m, "it is not needed as a voter: "+p.why(s)), true
		case !m.Started() && !present(s):
			return remove(s, m, fmt.Sprintf("%s is %v and never started it", s.Name, s.Standing)), true
		}
	}
	return Action{}, false
}

// present reports whether a seat's machine can start a member now.
func present(s Seat) bool { return s.Standing == StandingFit || s.Standing == StandingLeaving }

// dropDeadVoter takes out an unwanted voter that does not answer, before its successor gets the vote: with the
// dead one still counted, one more voter would need one more to be alive.
func (p *planner) dropDeadVoter() (Action, bool) {
	for _, s := range p.worstFirst() {
		m, ok := at(p.members, s)
		if !ok || m.Learner || m.Healthy || p.wantedVoter(s) || !p.safeWithout(m) {
			continue
		}
		if s.Standing == StandingGone || p.successorReady() || len(p.voters) > len(p.wish.Voters) {
			return remove(s, m, "it does not answer, and "+p.why(s)), true
		}
	}
	return Action{}, false
}

// add brings in a learner for every seat that should have a member. All of them before any promotion: promotions then
// follow each other closely and the time with an even number of votes is short. But the next only when the one
// before has started: a member that starts asks all others, and two of them would wait for each other.
func (p *planner) add() (Action, bool) {
	if slices.ContainsFunc(p.members, func(m Member) bool { return !m.Started() }) {
		return Action{}, false
	}
	for _, s := range p.seats {
		if _, ok := at(p.members, s); !ok && p.wanted(s) && present(s) {
			what := "a voter"
			if !p.wantedVoter(s) {
				what = "a standby with a copy of the data"
			}
			return Action{Kind: ActionAdd, Seat: s.Name, PeerURL: s.PeerURL, Reason: fmt.Sprintf("%s shall be %s", s.Name, what)}, true
		}
	}
	return Action{}, false
}

// promote gives votes to learners that answer, but only as many as make the number of wanted voters odd.
func (p *planner) promote() (Action, bool) {
	have, ready := 0, []Seat(nil)
	for _, s := range p.seats {
		m, ok := at(p.members, s)
		switch {
		case !ok || !p.wantedVoter(s):
		case !m.Learner:
			have++
		case m.Started() && m.Healthy:
			ready = append(ready, s)
		}
	}
	reach := have + len(ready)
	if reach%2 == 0 {
		reach--
	}
	if len(ready) == 0 || have >= reach || healthy(p.voters)+1 < quorum(len(p.voters)+1) {
		return Action{}, false
	}
	m, _ := at(p.members, ready[0])
	return Action{Kind: ActionPromote, Seat: ready[0].Name, Member: m.ID, Reason: ready[0].Name + " has the data and shall vote"}, true
}

// dropVoter takes out a voter that is alive and not wanted, once those that are wanted vote.
func (p *planner) dropVoter() (Action, bool) {
	successors := 0
	for _, s := range p.seats {
		if m, ok := at(p.members, s); ok && !m.Learner && p.wantedVoter(s) {
			successors++
		}
	}
	for _, s := range p.worstFirst() {
		m, ok := at(p.members, s)
		if !ok || m.Learner || p.wantedVoter(s) || !p.safeWithout(m) {
			continue
		}
		if successors >= len(p.wish.Voters) || (s.Standing == StandingGone && !p.successorReady()) {
			return remove(s, m, p.why(s)), true
		}
	}
	return Action{}, false
}

// forget drops a removed server's seat after its member.
func (p *planner) forget() (Action, bool) {
	for _, s := range p.seats {
		if _, ok := at(p.members, s); !ok && s.Standing == StandingGone {
			return Action{Kind: ActionForget, Seat: s.Name, Reason: s.Name + " is no longer registered"}, true
		}
	}
	return Action{}, false
}

// waiting says what the plan is short of, or that all is well.
func (p *planner) waiting() string {
	for _, s := range p.seats {
		m, ok := at(p.members, s)
		switch {
		case !ok || !p.wanted(s) || !m.Learner:
		case !m.Started():
			return "waiting for the etcd process of " + s.Name + " to start"
		case !m.Healthy:
			return "waiting for the etcd process of " + s.Name + " to answer"
		case p.wantedVoter(s):
			return "waiting for another learner, so that the number of votes stays odd"
		}
	}
	return allWell
}

// worstFirst orders seats so that the one most likely to vanish loses its vote first.
func (p *planner) worstFirst() []Seat {
	out := slices.Clone(p.seats)
	slices.SortStableFunc(out, func(a, b Seat) int { return cmp.Compare(b.Standing, a.Standing) })
	return out
}

// safeWithout reports whether a majority of the other voters answers.
func (p *planner) safeWithout(m Member) bool {
	alive := healthy(p.voters)
	if m.Healthy {
		alive--
	}
	n := len(p.voters) - 1
	return n > 0 && alive >= quorum(n)
}

// successorReady reports whether a learner that should vote answers.
func (p *planner) successorReady() bool {
	return slices.ContainsFunc(p.seats, func(s Seat) bool {
		m, ok := at(p.members, s)
		return ok && m.Learner && m.Started() && m.Healthy && p.wantedVoter(s)
	})
}

func (p *planner) wantedVoter(s Seat) bool { return slices.Contains(p.wish.Voters, s.Name) }

func (p *planner) wanted(s Seat) bool {
	return p.wantedVoter(s) || slices.Contains(p.wish.Standby, s.Name)
}

func (p *planner) why(s Seat) string {
	switch s.Standing {
	case StandingGone:
		return s.Name + " was removed from the pool"
	case StandingLeaving, StandingAway, StandingFenced, StandingLost:
		return fmt.Sprintf("%s is %v and others can vote", s.Name, s.Standing)
	}
	return fmt.Sprintf("%d votes are enough", len(p.wish.Voters))
}

func remove(s Seat, m Member, why string) Action {
	return Action{Kind: ActionRemove, Seat: s.Name, Member: m.ID, Reason: why}
}
