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

// HasVote reports whether the named seat's member votes.
func HasVote(members []Member, name string) bool {
	return slices.ContainsFunc(members, func(m Member) bool { return m.Name == name && !m.Learner })
}
