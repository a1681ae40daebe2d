package etcd

import (
	"fmt"
	"slices"
	"strings"
)

// Member is one entry of etcd's own member list.
type Member struct {
	ID uint64
	// Name is empty until the member has started for the first time.
	Name       string
	PeerURL    string
	ClientURLs []string
	// Learner: it receives all data and has no vote.
	Learner bool
	// Healthy: it answered when it was asked just now.
	Healthy bool
}

// Started reports whether the member has ever run.
func (m Member) Started() bool { return m.Name != "" }

// label names a member for logs, also before it has a name.
func (m Member) label() string {
	if m.Name != "" {
		return m.Name
	}
	return m.PeerURL
}

// Standing says what a seat is worth as a place for a vote.
type Standing int

// Standings of a seat, best first.
const (
	StandingUnknown Standing = iota
	// StandingFit: the machine is there.
	StandingFit
	// StandingLeaving: in maintenance, or being taken out of the pool.
	StandingLeaving
	// StandingGoing: it is about to shut down or to reboot. Its vote leaves first if etcd would stop without it.
	StandingGoing
	// StandingLost: its session ended; it may be back any moment, so votes stay.
	StandingLost
	// StandingAway: it went, or was lost, in maintenance or while it was taken out of the pool.
	StandingAway
	// StandingFenced: lost and proven harmless, so probably without power for a while.
	StandingFenced
	// StandingGone: its registration was removed.
	StandingGone
)

// String returns the standing's word.
func (s Standing) String() string {
	words := []string{"unknown", "fit", "leaving", "going down", "lost", "away", "fenced", "gone"}
	if s < 0 || int(s) >= len(words) {
		return fmt.Sprintf("unknown(%d)", int(s))
	}
	return words[s]
}

// Seat is a machine that may carry a vote, with what is known of it.
type Seat struct {
	Name string
	// PeerURL and ClientURL are where its member listens, should it have one.
	PeerURL, ClientURL string
	// Witness: it carries nothing but a vote.
	Witness  bool
	Standing Standing
}

// at finds a seat's member. Only the peer URL is known from the first moment on.
func at(members []Member, s Seat) (Member, bool) {
	i := slices.IndexFunc(members, func(m Member) bool { return m.PeerURL == s.PeerURL })
	if i < 0 {
		return Member{}, false
	}
	return members[i], true
}

// voters returns the members that vote.
func voters(members []Member) []Member {
	return slices.DeleteFunc(slices.Clone(members), func(m Member) bool { return m.Learner })
}

// healthy counts the members that answered.
func healthy(members []Member) int {
	n := 0
	for _, m := range members {
		if m.Healthy {
			n++
		}
	}
	return n
}

// quorum is how many of n voters must be alive.
func quorum(n int) int { return n/2 + 1 }

func labels(members []Member) string {
	var names []string
	for _, m := range members {
		names = append(names, m.label())
	}
	slices.Sort(names)
	return strings.Join(names, ", ")
}
