package failsafe

import (
	"maps"
	"slices"
	"time"

	"github.com/holdfast-ha/holdfast/pkg/pool"
)

// Rules are the decisions of this package as pure functions. A nil one stands for the real one; tests replace single
// ones to show what each is for.
type Rules struct {
	// Asked returns who must promise before self may let its VMs run on, in order.
	Asked func(r pool.Roster, self pool.ServerID) []pool.ServerID
	// Hold returns how long a promise must be asked for, so that VMs may be prolonged by T; settle is L.
	Hold func(ttl, settle time.Duration) time.Duration
	// Bound reports whether a promise forbids to act as leader at now.
	Bound func(p Promise, now pool.Instant) bool
	// Wait returns how long after its start an agent may not act as leader: hold is the longest promise that an
	// earlier life of it may have given.
	Wait func(hold time.Duration) time.Duration
	// Starts reports whether VMs may be started and resumed: lease says whether the lease permits it, promised whether
	// promises let VMs run on.
	Starts func(lease, promised bool) bool
	// Leads reports whether a roster lets self act as leader.
	Leads func(r pool.Roster, self pool.ServerID) bool
	// Anew returns for how long nobody acts as leader after the roster was deleted: hold is the longest promise that
	// anybody on it may have given.
	Anew func(hold time.Duration) time.Duration
}

// Promise is what an agent has promised.
type Promise struct {
	// Given is when the latest promise was given; zero: none was. Until is when all of them are over.
	Given, Until pool.Instant
	// Contact is when etcd was last reached.
	Contact pool.Instant
}

func asked(r pool.Roster, self pool.ServerID) []pool.ServerID {
	var all []pool.ServerID
	for _, id := range slices.Sorted(maps.Keys(r.Standing)) {
		if id != self {
			all = append(all, id)
		}
	}
	return all
}

func hold(ttl, settle time.Duration) time.Duration { return ttl + settle }

func bound(p Promise, now pool.Instant) bool { return now.Before(p.Until) }

func wait(hold time.Duration) time.Duration { return hold }

func starts(lease, _ bool) bool { return lease }

func leads(r pool.Roster, self pool.ServerID) bool { return r.Lets(self) }

// Real returns r with the real rule in the place of each nil one.
func (r Rules) Real() Rules {
	if r.Asked == nil {
		r.Asked = asked
	}
	if r.Hold == nil {
		r.Hold = hold
	}
	if r.Bound == nil {
		r.Bound = bound
	}
	if r.Wait == nil {
		r.Wait = wait
	}
	if r.Starts == nil {
		r.Starts = starts
	}
	if r.Leads == nil {
		r.Leads = leads
	}
	if r.Anew == nil {
		r.Anew = wait
	}
	return r
}
