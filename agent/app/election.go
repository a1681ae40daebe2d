package app

import (
	"context"

	"github.com/holdfast-ha/holdfast/agent/failsafe"
	"github.com/holdfast-ha/holdfast/pkg/lease"
	"github.com/holdfast-ha/holdfast/pkg/pool"
)

// newCandidate makes this agent stand for election on its session's lease.
func (a *Agent) newCandidate(session *lease.Session) *lease.Candidate {
	keys := a.data.store.Keys()
	timing, err := pool.NewTiming(a.Snapshot().Config.LeaseTTL)
	if err != nil { // the policy was valid a moment ago
		timing, _ = pool.NewTiming(pool.DefaultTTL)
	}
	return lease.NewCandidate(lease.CandidateConfig{
		Server: a.cfg.Server, Prefix: keys.Leaders(), MemberKey: keys.Member(a.cfg.Server), Session: session,
		MayLead: a.mayLead, Confirm: a.confirmLead, Bound: a.bound, Store: a.e.Store, Clock: a.e.Clock, Timing: timing, Log: a.e.Log,
	})
}

// rules are those of the failsafe.
func (a *Agent) rules() failsafe.Rules { return a.e.Rules.Failsafe.Real() }

// bound reports whether a promise forbids this agent to act as leader at now.
func (a *Agent) bound(now pool.Instant) bool {
	_, bound := a.promises.Bound(now)
	return bound
}

// mayLead: a server that the roster does not put in force, or that may have forgotten a promise, does not stand. A server on its way out leaves the office to others, unless it is the only member. Just after a planned
// restart the session hangs on a long lease, and so would the office: it waits for the renewal that moves it.
func (a *Agent) mayLead(context.Context) bool {
	if session := a.current(); session == nil || session.Temporary() {
		return false
	}
	snap := a.Snapshot()
	s, ok := snap.Servers.Get(a.cfg.Server)
	if !ok || !a.rules().Leads(snap.Roster, a.cfg.Server) {
		return false
	}
	// Who leads already was elected before there was a roster, and so before anybody could be asked for a promise.
	if _, waits := a.waits(); waits && snap.Roster.Revision != 0 && !a.leading() {
		return false
	}
	if a.rosterGone(snap) && !a.leading() {
		return false
	}
	return snap.Members.Len() <= 1 || (!s.Removing && !s.ShuttingDown)
}

// rosterGone reports whether the pool's roster was deleted less than T + L ago, as this agent saw it. Until then VMs of a
// server that is cut off may run on by promises of those whom the roster named; whoever leads next was not asked.
func (a *Agent) rosterGone(snap *pool.Snapshot) bool {
	gone := snap.Roster.Revision == 0 && a.book.Acknowledged() > 0
	for _, m := range snap.Members.All() {
		gone = gone || snap.Roster.Revision == 0 && m.RosterRevision > 0
	}
	now := a.e.Clock.Now()
	a.mu.Lock()
	defer a.mu.Unlock()
	if !gone {
		a.goneSince = 0
		return false
	}
	if a.goneSince == 0 {
		a.goneSince = now
	}
	known, _ := a.book.Known()
	return now.Before(a.goneSince.Add(a.rules().Anew(a.promises.Lasts(a.timing(), known.Watchdog))))
}

// leading reports whether this agent leads.
func (a *Agent) leading() bool {
	a.mu.Lock()
	candidate := a.lead
	a.mu.Unlock()
	if candidate == nil {
		return false
	}
	_, leads := candidate.Leading()
	return leads
}
