package pool

import (
	"fmt"
	"slices"
)

// Foreign is a change of a key, seen as it was made, that none of Holdfast's own writers can have made.
type Foreign struct {
	// Key is named from its kind on: claims/web-01.
	Key    string
	Server ServerID
	VM     VMID
	// Revision is the change's own, or the one that tells of it.
	Revision Revision
	// Text says what was there, what is there and why that is not Holdfast's, without a final full stop.
	Text string
	// Before is the last claim that Holdfast can have written, while the present one, or its absence, is a stranger's work:
	// nothing is started, released or assigned by it, and the leader writes Before again. nil: settled, or no claim.
	Before *Claim
}

// Doubted returns what the leader is to write in place of a claim, present or missing, that a stranger's hand has changed;
// nil if the claim can be acted upon.
func (s *Snapshot) Doubted(vm VMID) *Claim {
	f, _ := s.Foreign.Get(ClaimName(vm))
	return f.Before
}

// ClaimName names a VM's claim in Foreign.Key.
func ClaimName(vm VMID) string { return "claims/" + string(vm) }

// SameRight reports whether two claims give the same server the same right to run the VM.
func (c Claim) SameRight(o Claim) bool {
	incoming := c.Incoming == nil && o.Incoming == nil || c.Incoming != nil && o.Incoming != nil && *c.Incoming == *o.Incoming
	return incoming && c.VM == o.VM && c.Server == o.Server && c.Session == o.Session && c.Epoch == o.Epoch && c.Phase == o.Phase &&
		c.Armed == o.Armed && c.Watchdog == o.Watchdog && c.Operation == o.Operation && c.Paused == o.Paused
}

// Standing says in a few words what a claim permits.
func (c Claim) Standing() string {
	if c.Server == "" {
		return fmt.Sprintf("%v (epoch %d)", c.Phase, c.Epoch)
	}
	return fmt.Sprintf("%v by %s (session %d, epoch %d)", c.Phase, c.Server, c.Session, c.Epoch)
}

// MayRun reports whether the claim's server may be executing the VM: it owns it, or was told to adopt what runs there
// already, outside the pool, which is the first epoch of a VM whose server is also where it ran last.
func (c Claim) MayRun() bool {
	return c.Phase.Owned() || c.Phase == PhaseAssigned && c.Epoch == 1 && c.LastServer == c.Server
}

// Unlawful says why none of Holdfast's writers can have changed a claim from before to after, two values that followed each
// other in etcd; empty if one of them can. s is the pool just after the change. It goes by what the transactions of those
// writers compare, so an answer is certain; that there is none is not: whoever writes what Holdfast could have written
// is not told from it. docs/state-model.md has the table, docs/safety.md the use.
func Unlawful(before, after Claim, s *Snapshot) string {
	handedOver := before.Phase == PhaseMigrating && after.Phase == PhaseHandedOver
	switch {
	case before.SameRight(after):
		return ""
	case !lawful(before.Phase, after.Phase):
		return fmt.Sprintf("no claim goes from %v to %v", before.Phase, after.Phase)
	case after.Phase == PhaseAssigned || handedOver:
		if why := wrongStep(before, after); why != "" {
			return why
		}
	case after.Epoch != before.Epoch:
		return "the epoch changes without a new owner"
	}
	switch {
	case after.Phase == PhaseAssigned:
		return wronglyAssigned(before, after, s)
	case after.Phase == PhaseUnassigned:
		return wronglyReleased(before, after, s)
	case handedOver:
		return wronglyHandedOver(before, after, s)
	}
	return wronglyKept(before, after, s)
}

func lawful(from, to Phase) bool {
	return slices.ContainsFunc(Transitions, func(t Transition) bool { return t.From == from && t.To == to })
}

// wrongStep looks at the epoch of a new owner.
func wrongStep(before, after Claim) string {
	switch {
	case after.Epoch <= before.Epoch:
		return "a new owner without a new epoch"
	case after.Epoch == before.Epoch+1, before.Epoch == 0 && after.Epoch == 2: // what must not look like an adoption begins at 2
		return ""
	}
	return "the epoch skips a number"
}

// wronglyAssigned: the leader compares the new server's session, and takes a VM from nobody who may run it.
func wronglyAssigned(before, after Claim, s *Snapshot) string {
	switch {
	case s.Leader.Revision == 0:
		return "there was no leader to assign it"
	case !s.Alive(after.Server, after.Session):
		return fmt.Sprintf("%s has no session %d", after.Server, after.Session)
	case before.MayRun():
		return wronglyTaken(before, s)
	}
	return ""
}

// wronglyTaken: without a word of its owner a VM changes hands only after a proof on record.
func wronglyTaken(before Claim, s *Snapshot) string {
	switch {
	case s.FencedFor(before.Server, before.Session):
		return ""
	case s.Alive(before.Server, before.Session):
		return fmt.Sprintf("the session of %s lives, and %s has not released it", before.Server, before.Server)
	case s.Servers.Has(before.Server): // of a server that was removed the proof is gone too
		return fmt.Sprintf("%s has not released it, and is not fenced", before.Server)
	}
	return ""
}

// wronglyReleased: an owner that releases a VM reports its end in the same transaction, as a member under whatever session.
func wronglyReleased(before, after Claim, s *Snapshot) string {
	if !before.MayRun() {
		return ""
	}
	why := wronglyTaken(before, s)
	st, _ := s.States.Get(before.VM)
	switch {
	case why == "":
		return ""
	case !s.Members.Has(before.Server):
		return why
	case st.Revision != after.Revision || st.Server != before.Server || st.State != RunStopped:
		return fmt.Sprintf("%s has not reported its end", before.Server)
	}
	return ""
}

// wronglyHandedOver: the source compares the destination's session, and its own.
func wronglyHandedOver(before, after Claim, s *Snapshot) string {
	in := before.Incoming
	switch {
	case in == nil || in.Server != after.Server || in.Session != after.Session:
		return fmt.Sprintf("%s is not the destination of its migration", after.Server)
	case !s.Alive(after.Server, after.Session), !s.Members.Has(before.Server):
		return "a hand-over needs both servers"
	}
	return ""
}

// wronglyKept: the owner stays the same. It is a member when it writes, and names no session but its own.
func wronglyKept(before, after Claim, s *Snapshot) string {
	live := s.Alive(after.Server, after.Session)
	switch {
	case after.Server != before.Server:
		return "another server without a new epoch"
	case after.Phase == PhaseReleasing && before.Phase == PhaseHeld || after.Phase == PhaseMigrating && before.Phase == PhaseHeld:
		if s.Leader.Revision == 0 {
			return "there was no leader to ask for that"
		}
		if after.Session != before.Session {
			return "the leader does not change an owner's session"
		}
	case after.Session != before.Session && (!live || before.Phase == PhaseAssigned):
		return fmt.Sprintf("%s has no session %d for it", after.Server, after.Session)
	case !s.Members.Has(after.Server):
		return fmt.Sprintf("%s is no member, so it has not written that", after.Server)
	}
	return ""
}
