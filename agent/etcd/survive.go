package etcd

import (
	"fmt"
	"slices"

	"github.com/holdfast-ha/holdfast/pkg/pool"
)

// CodeTooFewVotes is the Refusal's code of CheckSurvivesLoss.
const CodeTooFewVotes = "ETCD_TOO_FEW_VOTES"

// CheckSurvivesLoss refuses an etcd that would stop with the loss of one server: then HA would protect nothing.
// Learners have no vote. It returns nil or a *pool.Refusal that names the voters and the ways out. It judges an
// external etcd by its member list in the same way.
func CheckSurvivesLoss(members []Member) error {
	v := voters(members)
	if len(v)-1 >= quorum(len(v)) {
		return nil
	}
	const remedy = "add a third vote: join another server, or a witness with `holdfast-agent join --witness TOKEN` on any small machine, or use an external etcd of three members"
	switch len(v) {
	case 0:
		return pool.Refuse(CodeTooFewVotes, remedy, "the pool's etcd has no voter that is known")
	case 1:
		text := fmt.Sprintf("the pool's etcd has its only vote on %s", labels(v))
		if learners := slices.DeleteFunc(slices.Clone(members), func(m Member) bool { return !m.Learner }); len(learners) > 0 {
			text += fmt.Sprintf(" (%s has a copy without a vote)", labels(learners))
		}
		return pool.Refuse(CodeTooFewVotes, remedy, "%s: without that server no VM could be restarted anywhere", text)
	}
	return pool.Refuse(CodeTooFewVotes, remedy, "the pool's etcd has votes on %s only: without one of them no VM could be restarted anywhere", labels(v))
}

// Voters returns the names of the machines that have a vote, sorted; one that has not started yet is named by its URL.
func Voters(members []Member) []string {
	var names []string
	for _, m := range voters(members) {
		names = append(names, m.label())
	}
	slices.Sort(names)
	return names
}

// CodeVoteStays is the Refusal's code of GoesOn.
const CodeVoteStays = "ETCD_NEEDS_THIS_VOTE"

// GoesFirst lists the servers on which nobody may count who goes down with the named one: they are about to go down
// too and said so earlier, or have no session any more. So of two that go down together one sees the other. Pure.
func GoesFirst(snap *pool.Snapshot, id pool.ServerID) []string {
	own, _ := snap.Servers.Get(id)
	var out []string
	for other, s := range snap.Servers.All() {
		if other != id && s.ShuttingDown && (!snap.Members.Has(other) || !own.ShuttingDown || s.Revision < own.Revision) {
			out = append(out, string(other))
		}
	}
	return out
}

// GoesOn reports whether etcd goes on if the named machine goes down now, after those of first. If it does not, the error is
// nil if the machine's vote can move to another before, which Plan sees to, and else a *pool.Refusal. Pure.
func GoesOn(members []Member, seats []Seat, first []string, name string) (now bool, err error) {
	members = slices.Clone(members)
	for i, m := range members {
		members[i].Healthy = m.Healthy && !slices.Contains(first, m.Name)
	}
	v := voters(members)
	rest := slices.DeleteFunc(slices.Clone(v), func(m Member) bool { return m.Name == name })
	if len(rest) == len(v) || healthy(rest) >= quorum(len(v)) {
		return true, nil
	}
	going := slices.Clone(seats)
	for i := range going {
		if going[i].Name == name {
			going[i].Standing = StandingGoing
		}
	}
	if healthy(v) >= quorum(len(v)) && !slices.Contains(Want(members, going).Voters, name) {
		return false, nil
	}
	text := fmt.Sprintf("without %s the pool's etcd stops, and with it HA on every other server: it has votes on %s", name, labels(v))
	remedy := "add a third vote first: join another server, or a witness with `holdfast-agent join --witness TOKEN`; or shut the other servers down too"
	if silent := slices.DeleteFunc(rest, func(m Member) bool { return m.Healthy }); len(silent) > 0 {
		text += fmt.Sprintf(", of which %s does not answer or goes down", labels(silent))
		remedy = fmt.Sprintf("bring %s back first, or take it out of the pool with remove-server; or shut the other servers down too", labels(silent))
	}
	return false, pool.Refuse(CodeVoteStays, remedy, "%s", text)
}

// HasVote reports whether the named seat's member votes.
func HasVote(members []Member, name string) bool {
	return slices.ContainsFunc(members, func(m Member) bool { return m.Name == name && !m.Learner })
}
