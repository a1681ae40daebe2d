package etcd

import (
	"fmt"
	"slices"
)

// Step is what a machine's etcd process does next.
type Step int

// Steps.
const (
	// StepWait: no member is wanted here now.
	StepWait Step = iota
	// StepKeep: the member runs and shall.
	StepKeep
	// StepStart: start from the data on disk.
	StepStart
	// StepJoin: start for the first time, as the learner that the member list names.
	StepJoin
	// StepClear: this member was taken out: stop, and put its data aside.
	StepClear
	// StepLeave: the member list names this machine, but its data is lost. A voter that forgot what it voted for
	// is dangerous: take the entry out and be added anew.
	StepLeave
	// StepRefuse: the data here belongs to another etcd. A person has to look.
	StepRefuse
)

// String returns the step's word.
func (s Step) String() string {
	words := []string{"wait", "keep", "start", "join", "clear", "leave", "refuse"}
	if s < 0 || int(s) >= len(words) {
		return fmt.Sprintf("unknown(%d)", int(s))
	}
	return words[s]
}

// Local is what the process knows of its own member. The IDs are zero where not known.
type Local struct {
	Running   bool
	HasData   bool
	ClusterID uint64
	MemberID  uint64
}

// View is the member list as other members gave it, linearizably. Known is false when none did.
type View struct {
	Known     bool
	ClusterID uint64
	Members   []Member
}

// Next decides the next step of the process of the machine whose member would listen on peerURL, with the reason in
// one sentence.
func Next(peerURL string, l Local, v View) (Step, string) {
	if l.Running {
		return nextRunning(l, v)
	}
	if l.HasData {
		return nextWithData(peerURL, l, v)
	}
	if !v.Known {
		return StepWait, "no etcd member answers, and there is no data here"
	}
	m, ok := at(v.Members, Seat{PeerURL: peerURL})
	switch {
	case !ok:
		return StepWait, "the pool's leader has given this machine no vote"
	case m.Started():
		return StepLeave, "etcd counts this machine as a member, but its data is not here any more"
	}
	return StepJoin, "the pool's leader added this machine"
}

func nextRunning(l Local, v View) (Step, string) {
	if !v.Known || v.ClusterID != l.ClusterID || hasID(v, l.MemberID) {
		return StepKeep, "it runs"
	}
	return StepClear, "this machine was taken out of etcd"
}

func nextWithData(peerURL string, l Local, v View) (Step, string) {
	switch {
	case !v.Known:
		return StepStart, "no other member answers; starting from the data here"
	case l.ClusterID != 0 && v.ClusterID != l.ClusterID:
		return StepRefuse, fmt.Sprintf("the data here is of etcd %x, but the pool's is %x", l.ClusterID, v.ClusterID)
	case l.MemberID != 0 && hasID(v, l.MemberID):
		return StepStart, "it is a member"
	case l.MemberID == 0:
		if _, ok := at(v.Members, Seat{PeerURL: peerURL}); ok {
			return StepStart, "it is a member"
		}
	}
	return StepClear, "this machine was taken out of etcd while its process was down"
}

func hasID(v View, id uint64) bool {
	return slices.ContainsFunc(v.Members, func(m Member) bool { return m.ID == id })
}
