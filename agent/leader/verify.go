package leader

import (
	"fmt"

	"github.com/holdfast-ha/holdfast/pkg/plan"
	"github.com/holdfast-ha/holdfast/pkg/pool"
)

// verify checks the rules that no plan may break, apart from the planner and more coarsely: a claim changes at most
// once, from the revision in the snapshot, into something sound; and a VM is taken from an owner only if that owner's
// session has ended and a proof covers it. An error means that the planner is broken.
func verify(s *pool.Snapshot, actions []plan.Action) error {
	fences := map[pool.ServerID]pool.Fence{}
	for _, a := range actions {
		for _, f := range a.Change.Fences {
			fences[f.Server] = f
		}
	}
	changed := map[pool.VMID]string{}
	for _, a := range actions {
		for _, c := range a.Change.Claims {
			if by, twice := changed[c.VM]; twice {
				return fmt.Errorf("%s and %s both change the claim of %s: %w", by, a.Key, c.VM, pool.ErrInvalid)
			}
			changed[c.VM] = a.Key
			if err := verifyClaim(s, fences, c); err != nil {
				return fmt.Errorf("%s: %w", a.Key, err)
			}
		}
	}
	return nil
}

func verifyClaim(s *pool.Snapshot, fences map[pool.ServerID]pool.Fence, next pool.Claim) error {
	if err := next.Check(); err != nil {
		return err
	}
	was, _ := s.Claims.Get(next.VM)
	if next.Revision != was.Revision {
		return fmt.Errorf("claim %s: decided on revision %d, the snapshot has %d: %w", next.VM, next.Revision, was.Revision, pool.ErrInvalid)
	}
	if before := s.Doubted(next.VM); before != nil {
		if before.SameRight(next) {
			return nil
		}
		return fmt.Errorf("claim %s: changed by a stranger, and not written as it was: %w", next.VM, pool.ErrInvalid)
	}
	taken := was.Phase.Owned() && (next.Server != was.Server || next.Session != was.Session)
	if !taken || s.FencedFor(was.Server, was.Session) || fences[was.Server].Covers(was.Session) {
		return nil
	}
	return fmt.Errorf("claim %s: taken from %s, session %d, which no proof covers: %w", next.VM, was.Server, was.Session, pool.ErrInvalid)
}
