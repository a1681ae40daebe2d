package app

import (
	"context"

	"github.com/holdfast-ha/holdfast/agent/leader"
	"github.com/holdfast-ha/holdfast/pkg/kv"
	"github.com/holdfast-ha/holdfast/pkg/lease"
	"github.com/holdfast-ha/holdfast/pkg/pool"
	"github.com/holdfast-ha/holdfast/pkg/store"
)

var _ leader.Pool = (*data)(nil)

// newLeader makes the loop that leads while the candidate holds the office.
func (a *Agent) newLeader(c *lease.Candidate) *leader.Leader {
	l := leader.New(leader.Config{Clock: a.e.Clock, Office: c, Pool: a.data, Fencer: a.e.Fencer, Plan: a.e.Rules.Plan, Log: a.e.Log})
	c.Subscribe(l.Wake())
	a.data.mirror.Subscribe(l.Wake())
	return l
}

// Commit applies the leader's changes, each guarded by the office.
func (d *data) Commit(ctx context.Context, office pool.Leader, changes []pool.Change) []error {
	keys := d.store.Keys()
	out := make([]store.Change, len(changes))
	for i, c := range changes {
		out[i] = d.change(c)
	}
	return d.store.CommitEach(ctx, []kv.Compare{keys.LeaderIs(office)}, out)
}

// CatchUp waits until the mirror shows every write acknowledged before the call.
func (d *data) CatchUp(ctx context.Context) error {
	rev, err := d.store.Revision(ctx)
	if err != nil {
		return err
	}
	_, err = d.mirror.WaitFor(ctx, rev)
	return err
}
