package store

import (
	"sync"

	"github.com/holdfast-ha/holdfast/pkg/pool"
)

// sharedKept bounds how many revisions a Shared remembers: enough for followers that lag a little.
const sharedKept = 256

// Shared lets many mirrors of one pool in one process, as in the simulator, fold each revision once and hold each
// snapshot once. What etcd holds at a revision is one thing, so are the snapshots. Safe for concurrent use.
type Shared struct {
	mu    sync.Mutex
	at    map[pool.Revision]sharedFold
	order []pool.Revision
}

// sharedFold is the outcome of folding everything up to a revision.
type sharedFold struct {
	snap    *pool.Snapshot
	leaders pool.Table[string, pool.Leader]
}

// NewShared returns an empty Shared.
func NewShared() *Shared { return &Shared{at: map[pool.Revision]sharedFold{}} }

// Share makes the mirror fold together with others. Call it before Run.
func (m *Mirror) Share(s *Shared) { m.fold.shared = s }

// Share makes the follower fold together with mirrors.
func (f *Follower) Share(s *Shared) { f.fold.shared = s }

// known takes over what another mirror has folded up to rev; false if none has, or if it is another life's.
func (f *fold) known(rev pool.Revision) bool {
	if f.shared == nil {
		return false
	}
	f.shared.mu.Lock()
	defer f.shared.mu.Unlock()
	s, ok := f.shared.at[rev]
	if !ok || (f.incarnation != "" && f.incarnation != s.snap.Config.Incarnation) {
		return false
	}
	f.snap, f.leaders, f.incarnation = s.snap, s.leaders, s.snap.Config.Incarnation
	return true
}

// publish lets others take over what was folded.
func (f *fold) publish() {
	if f.shared == nil {
		return
	}
	f.shared.mu.Lock()
	defer f.shared.mu.Unlock()
	rev := f.snap.Revision
	if _, ok := f.shared.at[rev]; !ok {
		f.shared.order = append(f.shared.order, rev)
	}
	f.shared.at[rev] = sharedFold{f.snap, f.leaders}
	if len(f.shared.order) > sharedKept {
		delete(f.shared.at, f.shared.order[0])
		f.shared.order = f.shared.order[1:]
	}
}
