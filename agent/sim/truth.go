package sim

import (
	"github.com/holdfast-ha/holdfast/agent/sim/simkv"
	"github.com/holdfast-ha/holdfast/pkg/kv"
	"github.com/holdfast-ha/holdfast/pkg/pool"
	"github.com/holdfast-ha/holdfast/pkg/store"
)

// Change is one commit to etcd with the pool before and after it.
type Change struct {
	simkv.Commit
	Before, After *pool.Snapshot
}

// truth follows what etcd holds, commit by commit.
type truth struct {
	keys      store.Keys
	follower  *store.Follower
	observers []func(Change)
	err       error
}

func newTruth(c *simkv.Cluster, keys store.Keys) *truth {
	t := &truth{keys: keys, follower: store.NewFollower(keys)}
	c.OnCommit(t.commit)
	return t
}

// start takes what etcd holds as the beginning.
func (t *truth) start(c *simkv.Cluster) error {
	return t.follower.List(c.Peek(t.keys.Prefix()), c.Revision())
}

// snapshot returns the pool as etcd holds it now.
func (t *truth) snapshot() *pool.Snapshot { return t.follower.Snapshot() }

func (t *truth) commit(k simkv.Commit) {
	before := t.snapshot()
	if before.Revision == 0 {
		return
	}
	if err := t.follower.Apply(kv.Batch{Revision: k.Revision, Events: k.Events}); err != nil && t.err == nil {
		t.err = err
	}
	c := Change{k, before, t.snapshot()}
	for _, f := range t.observers {
		f(c)
	}
}
