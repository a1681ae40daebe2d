package store

import (
	"github.com/holdfast-ha/holdfast/pkg/kv"
	"github.com/holdfast-ha/holdfast/pkg/pool"
)

// Follower folds a pool's keys into snapshots for a caller that is handed every change itself, such as the
// simulator's observer. A Mirror is the choice for everybody who reads from etcd. Not safe for concurrent use; the
// snapshots are.
type Follower struct{ fold *fold }

// NewFollower returns a follower of the pool with these keys, of whatever incarnation it is.
func NewFollower(keys Keys) *Follower { return &Follower{newFold(keys, "")} }

// List replaces everything by what was found at rev. Its error is ErrOtherLife.
func (f *Follower) List(all []kv.KeyValue, rev pool.Revision) error { return f.fold.list(all, rev) }

// Apply folds one batch of changes. Its error is ErrOtherLife.
func (f *Follower) Apply(b kv.Batch) error { return f.fold.apply(b) }

// Snapshot returns the pool at the revision last folded.
func (f *Follower) Snapshot() *pool.Snapshot { return f.fold.snap }
