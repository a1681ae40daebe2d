package store

import (
	"fmt"

	"github.com/holdfast-ha/holdfast/pkg/kv"
	"github.com/holdfast-ha/holdfast/pkg/pool"
)

// foreignKept bounds how many settled strangers' writes a snapshot remembers.
const foreignKept = 64

// changedKey is a claim or a member that one revision changes.
type changedKey struct {
	kind, name string
	// was is the claim before; had: there was one.
	was pool.Claim
	had bool
	// begun: the member key was created by this revision.
	begun bool
}

// noteChange remembers what an event is about to change, to be judged when its revision is complete: a watch leaves no
// revision out, so the value that is folded is the one that this event's follows.
func (f *fold) noteChange(e kv.Event) {
	kind, name, ok := f.keys.split(e.Key)
	if !ok || e.ModRevision <= f.snap.Revision {
		return
	}
	switch kind {
	case kindClaims:
		was, had := f.next.Claims.Get(pool.VMID(name))
		f.changed = append(f.changed, changedKey{kind: kind, name: name, was: was, had: had})
	case kindMembers:
		if !e.Deleted && e.CreateRevision == e.ModRevision {
			f.changed = append(f.changed, changedKey{kind: kind, name: name, begun: true})
		}
	}
}

// judge looks at what the revision rev changed, all of which is folded, for what none of Holdfast's writers can have done.
func (f *fold) judge(rev pool.Revision) {
	changed := f.changed
	f.changed = f.changed[:0]
	f.next.Leader = f.winner()
	for _, c := range changed {
		if c.kind == kindMembers {
			f.judgeMember(pool.ServerID(c.name), rev)
		} else {
			f.judgeClaim(pool.VMID(c.name), c, rev)
		}
	}
}

// judgeMember: a server that has a new session tells how its last one ended.
func (f *fold) judgeMember(id pool.ServerID, rev pool.Revision) {
	m, ok := f.next.Members.Get(id)
	if !ok || m.CutShort == "" {
		return
	}
	f.suspect(pool.Foreign{Key: kindMembers + "/" + string(id), Server: id, Revision: rev, Text: brief(m.CutShort)})
}

func (f *fold) judgeClaim(vm pool.VMID, c changedKey, rev pool.Revision) {
	is, has := f.next.Claims.Get(vm)
	open := f.next.Doubted(vm)
	switch {
	case has && !is.Readable():
		// It is reported as such, and nothing is done by it.
	case !has && !f.next.VMs.Has(vm), !c.had, open != nil && has && is.SameRight(*open):
		f.settle(vm)
	case !has:
		f.lostClaim(vm, c, rev)
	case open != nil:
		f.judgeAgain(vm, c, is, *open, rev)
	case is.Replaces == c.was.Revision && c.was.Revision <= f.listed:
		// What this agent found was a stranger's, and the leader knew.
	case c.was.Readable():
		f.judgeStep(vm, c.was, is, c.was, rev)
	}
}

// judgeAgain: a claim changes that a stranger has written. Whoever has let its VM run by it says so with HELD, and then that
// is how things are. A release by it says nothing of a server that may run the VM by the former claim.
func (f *fold) judgeAgain(vm pool.VMID, c changedKey, is, before pool.Claim, rev pool.Revision) {
	switch {
	case c.had && c.was.Readable() && pool.Unlawful(c.was, is, f.next) != "":
		f.judgeStep(vm, c.was, is, before, rev)
	case is.Phase != pool.PhaseUnassigned:
		f.settle(vm)
	}
}

func (f *fold) judgeStep(vm pool.VMID, was, is, before pool.Claim, rev pool.Revision) {
	why := pool.Unlawful(was, is, f.next)
	if why == "" {
		return
	}
	f.suspect(pool.Foreign{Key: pool.ClaimName(vm), Server: is.Server, VM: vm, Revision: rev, Before: &before,
		Text: fmt.Sprintf("it was %s and is %s: %s", was.Standing(), is.Standing(), why)})
}

// lostClaim: a claim was deleted, and its VM was not.
func (f *fold) lostClaim(vm pool.VMID, c changedKey, rev pool.Revision) {
	before := f.next.Doubted(vm)
	if before == nil && c.was.Readable() {
		before = &c.was
	}
	text := "it was deleted, and its VM was not"
	if c.was.Readable() {
		text = fmt.Sprintf("it was %s and is deleted, though its VM is not", c.was.Standing())
	}
	f.suspect(pool.Foreign{Key: pool.ClaimName(vm), Server: c.was.Server, VM: vm, Revision: rev, Before: before, Text: text})
}

// settle: the claim can be acted upon again.
func (f *fold) settle(vm pool.VMID) {
	if e, ok := f.next.Foreign.Get(pool.ClaimName(vm)); ok && e.Before != nil {
		e.Before = nil
		f.next.Foreign = f.next.Foreign.With(e.Key, e)
	}
}

// suspect adds a stranger's write, and forgets the oldest of those that are settled if there are many.
func (f *fold) suspect(e pool.Foreign) {
	f.next.Foreign = f.next.Foreign.With(e.Key, e)
	if f.next.Foreign.Len() <= foreignKept {
		return
	}
	oldest := pool.Foreign{}
	for _, o := range f.next.Foreign.All() {
		if o.Before == nil && (oldest.Revision == 0 || o.Revision < oldest.Revision) {
			oldest = o
		}
	}
	f.next.Foreign = f.next.Foreign.Without(oldest.Key)
}

// listedForeign is what a list leaves of the strangers' writes. What came before the claims that it found was not seen, but
// for those that are the very same.
func listedForeign(t pool.Table[string, pool.Foreign], claims pool.Table[pool.VMID, pool.Claim]) pool.Table[string, pool.Foreign] {
	for key, e := range t.All() {
		if c, _ := claims.Get(e.VM); e.Before != nil && c.Revision != e.Revision {
			e.Before = nil
			t = t.With(key, e)
		}
	}
	return t
}
