package app

import (
	"context"
	"fmt"
	"slices"

	"github.com/holdfast-ha/holdfast/agent/leader"
	"github.com/holdfast-ha/holdfast/pkg/kv"
	"github.com/holdfast-ha/holdfast/pkg/lease"
	"github.com/holdfast-ha/holdfast/pkg/pool"
	"github.com/holdfast-ha/holdfast/pkg/store"
)

var _ leader.Pool = (*data)(nil)

// newLeader makes the loop that leads while the candidate holds the office.
func (a *Agent) newLeader(c *lease.Candidate) *leader.Leader {
	l := leader.New(leader.Config{Clock: a.e.Clock, Office: c, Pool: a.data, Fencer: a.e.Fencer, Hearing: a.newHearing(), Plan: a.e.Rules.Plan, Decided: a.e.Decided, BoundUntil: a.boundUntil, Log: a.e.Log})
	c.Subscribe(l.Wake())
	a.data.mirror.Subscribe(l.Wake())
	return l
}

// boundUntil is until when a promise keeps this agent from acting as leader; 0: none does.
func (a *Agent) boundUntil() pool.Instant {
	until, bound := a.promises.Bound(a.e.Clock.Now())
	if !bound {
		return 0
	}
	return until
}

// Commit applies the leader's changes, each guarded by the office and the roster that lets this server hold it. After a
// change of the roster the next ones compare the new one.
func (d *data) Commit(ctx context.Context, office pool.Leader, changes []pool.Change) []error {
	roster := d.Snapshot().Roster
	errs := make([]error, 0, len(changes))
	for len(changes) > 0 {
		n := slices.IndexFunc(changes, func(c pool.Change) bool { return c.Roster != nil })
		switch {
		case d.bound() || !d.leads(roster, d.server):
			errs = append(errs, fmt.Errorf("not free to lead: %w", pool.ErrLostLeadership))
			n = 1
		case n == 0:
			errs = append(errs, d.commitRoster(ctx, office, changes[0]))
			n = 1
		default:
			if n < 0 {
				n = len(changes)
			}
			errs = append(errs, d.commitEach(ctx, office, d.rosterSince(roster.Revision), changes[:n])...)
		}
		changes = changes[n:]
	}
	return errs
}

func (d *data) commitEach(ctx context.Context, office pool.Leader, roster pool.Revision, changes []pool.Change) []error {
	keys := d.store.Keys()
	out := make([]store.Change, len(changes))
	for i, c := range changes {
		out[i] = d.change(c)
	}
	return d.store.CommitEach(ctx, []kv.Compare{keys.LeaderIs(office), keys.RosterIs(roster)}, out)
}

// commitRoster commits a change that holds a roster, alone, and remembers its revision.
func (d *data) commitRoster(ctx context.Context, office pool.Leader, c pool.Change) error {
	next := *c.Roster
	next.Revision = d.rosterSince(d.Snapshot().Roster.Revision)
	c.Roster = &next
	change := d.change(c)
	rev, err := d.store.Commit(ctx, kv.Txn{If: append([]kv.Compare{d.store.Keys().LeaderIs(office)}, change.If...), Then: change.Then})
	if err == nil {
		d.mu.Lock()
		d.roster = rev
		d.mu.Unlock()
	}
	return err
}

// rosterSince returns the revision of the newest roster: the one seen, or the one that this leader wrote since.
func (d *data) rosterSince(seen pool.Revision) pool.Revision {
	d.mu.Lock()
	defer d.mu.Unlock()
	return max(seen, d.roster)
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
