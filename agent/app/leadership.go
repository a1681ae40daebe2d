package app

import (
	"context"

	"github.com/holdfast-ha/holdfast/pkg/clock"
	"github.com/holdfast-ha/holdfast/pkg/lease"
	"github.com/holdfast-ha/holdfast/pkg/pool"
	"github.com/holdfast-ha/holdfast/pkg/store"
)

// Leadership is what work under this agent's leadership is given.
type Leadership struct {
	Store    *store.Store
	Snapshot func() *pool.Snapshot
	// Leading returns the office while this agent holds it. Every write must be guarded by it.
	Leading func() (pool.Leader, bool)
	// Subscribe sets a signal at each new snapshot until the returned function is called.
	Subscribe func(clock.Signal) func()
}

// underLeadership runs work whenever this agent leads, and ends its context when it does not any more.
func (a *Agent) underLeadership(ctx context.Context, c *lease.Candidate, work func(context.Context, Leadership) error) error {
	sig := a.e.Clock.NewSignal()
	c.Subscribe(sig)
	for ctx.Err() == nil {
		office, leads := c.Leading()
		if !leads {
			sig.Wait(ctx, leadershipPoll)
			continue
		}
		term, end := a.e.Clock.WithCancel(ctx)
		g := clock.NewGroup(a.e.Clock)
		g.Go("work under leadership", func() {
			err := work(term, Leadership{Store: a.data.store, Snapshot: a.Snapshot, Leading: c.Leading, Subscribe: a.data.Subscribe})
			if err != nil && term.Err() == nil {
				a.e.Log.Warn("work under leadership ended", "err", err)
			}
		})
		for ctx.Err() == nil {
			if now, ok := c.Leading(); !ok || now != office {
				break
			}
			sig.Wait(ctx, leadershipPoll)
		}
		end(pool.ErrLostLeadership)
		g.Wait()
	}
	return nil
}
