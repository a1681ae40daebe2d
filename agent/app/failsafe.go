package app

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/holdfast-ha/holdfast/agent/failsafe"
	"github.com/holdfast-ha/holdfast/agent/guard"
	"github.com/holdfast-ha/holdfast/pkg/lease"
	"github.com/holdfast-ha/holdfast/pkg/pool"
	pb "github.com/holdfast-ha/holdfast/proto/holdfast/v1"
)

// newFailsafe builds what lets VMs run on without etcd, and what this agent promises to others.
func (a *Agent) newFailsafe() {
	book, err := failsafe.NewBook(a.cfg.Server, a.e.Roster)
	if err != nil {
		a.e.Log.Warn("what an earlier agent knew of the roster is lost; until etcd answers, VMs here do not run on by promises", "err", err)
	}
	a.book, a.look, a.outages = book, a.e.Clock.NewSignal(), newOutages(a.e.Clock)
	a.promises = failsafe.NewPromises(failsafe.PromisesConfig{Clock: a.e.Clock, Reach: a.reach, Contact: a.contact, Timing: a.timing, Rules: a.e.Rules.Failsafe})
	if a.e.Asker != nil {
		a.keeper = failsafe.NewKeeper(failsafe.Config{Server: a.cfg.Server, Clock: a.e.Clock, Asker: a.e.Asker, Guard: a.e.Guard, Book: book,
			Trouble: a.trouble, Timing: a.timing, StopTime: a.stopTime, Ended: a.outages.add, Rules: a.e.Rules.Failsafe, Log: a.e.Log})
	}
	a.data.leads = a.rules().Leads
	a.data.bound = func() bool {
		_, bound := a.promises.Bound(a.e.Clock.Now())
		return bound
	}
}

// reach asks etcd for something that takes a quorum to answer.
func (a *Agent) reach(ctx context.Context) error {
	_, _, err := a.e.Store.Get(ctx, a.data.store.Keys().Member(a.cfg.Server))
	return err
}

// contact is when etcd last gave a sign of life.
func (a *Agent) contact() pool.Instant {
	last := a.data.mirror.LastContact()
	if s := a.current(); s != nil {
		info, _ := s.Current()
		last = max(last, info.Sent)
	}
	return last
}

// timing returns the pool's timing, as far as it is known.
func (a *Agent) timing() pool.Timing {
	ttl := a.Snapshot().Config.LeaseTTL
	if a.Snapshot().Revision == 0 {
		known, _ := a.book.Known()
		ttl = known.TTL
	}
	t, err := pool.NewTiming(ttl)
	if err != nil {
		t, _ = pool.NewTiming(pool.DefaultTTL)
	}
	return t
}

// trouble reports whether the session is not being renewed. An agent that was started lately has none of its own yet;
// what the guard holds since an earlier one is in trouble until it has.
func (a *Agent) trouble() bool {
	if s := a.current(); s != nil {
		return s.Failing()
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.inherits
}

// keepVMs runs the failsafe. An agent that was started while etcd is out of reach begins with it.
func (a *Agent) keepVMs(ctx context.Context) error {
	if a.keeper == nil {
		return nil
	}
	if _, ok := a.book.Known(); ok && a.e.Guard != nil {
		gctx, cancel := a.e.Clock.WithTimeout(ctx, a.timing().RenewTimeout)
		st, err := a.e.Guard.Status(gctx)
		cancel()
		a.mu.Lock()
		a.inherits = err != nil || len(st.Held) > 0
		a.mu.Unlock()
	}
	return a.keeper.Run(ctx)
}

// lookForEtcd looks again and again while the session is not renewed, so that those who ask are answered at once.
func (a *Agent) lookForEtcd(ctx context.Context) error {
	for ctx.Err() == nil {
		if !a.trouble() {
			a.look.Wait(ctx, -1)
			continue
		}
		a.promises.Look(ctx)
		if a.e.Clock.Sleep(ctx, a.timing().Renew/4) != nil {
			break
		}
	}
	return nil
}

// renewalFailed makes the failsafe look.
func (a *Agent) renewalFailed() {
	a.look.Set()
	if a.keeper != nil {
		a.keeper.Wake().Set()
	}
}

// learnRoster takes note of the roster that snap shows.
func (a *Agent) learnRoster(snap *pool.Snapshot, session pool.Session) {
	if err := a.book.Learn(snap, session); err != nil {
		a.e.Log.Warn("the roster is not acknowledged", "revision", snap.Roster.Revision, "err", err)
	}
}

// Failsafe tells whether VMs here run on while etcd is out of reach.
func (a *Agent) Failsafe() failsafe.State {
	if a.keeper == nil {
		return failsafe.State{}
	}
	return a.keeper.State()
}

// failsafeView is Failsafe in the API's words.
func (a *Agent) failsafeView() (pb.Failsafe, string) {
	st := a.Failsafe()
	return pb.Failsafe(st.Word), st.Text //nolint:gosec // the numbers are the API's
}

// Promise is another server's question whether this agent will not act as leader for hold. why says why not.
func (a *Agent) Promise(ctx context.Context, incarnation string, hold time.Duration) (promised bool, why string) {
	if slices.Contains(a.cfg.Left, incarnation) {
		// It asks for VMs of a life that this server has left: here nobody leads that, for ever. docs/safety.md, "Rebuild".
		return true, ""
	}
	mine := a.Snapshot().Config.Incarnation
	if mine == "" {
		mine = a.cfg.Incarnation
	}
	if mine != "" && incarnation != "" && mine != incarnation {
		return false, "it belongs to another life of the pool"
	}
	return a.promises.Ask(ctx, hold)
}

// waits reports until when this agent, started lately, may not lead: it may have forgotten what it promised. If there
// was no roster after it had started, an earlier life was never asked.
func (a *Agent) waits() (until pool.Instant, waits bool) {
	a.mu.Lock()
	unasked := a.unasked
	a.mu.Unlock()
	if unasked {
		return 0, false
	}
	known, _ := a.book.Known()
	return a.promises.Waits(a.timing(), known.Watchdog)
}

// standWhenWaited has the candidate look again once the wait after the start is over.
func (a *Agent) standWhenWaited(ctx context.Context, c *lease.Candidate) error {
	for ctx.Err() == nil {
		until, waits := a.waits()
		if !waits {
			break
		}
		if a.e.Clock.Sleep(ctx, until.Sub(a.e.Clock.Now())) != nil {
			return nil
		}
	}
	c.Recheck()
	return nil
}

// acknowledged settles what the guard said to a renewal: if promises that were asked for later let VMs run longer, the
// guard knows what matters.
func (a *Agent) acknowledged(info lease.Info, err error) error {
	if errors.Is(err, guard.ErrOutdated) && a.keeper != nil && a.keeper.Prolonged(info.KillAt-1) {
		return nil
	}
	return err
}

// Directory returns what this agent knows of the other servers: the pool's snapshot or, before there is one, what an
// earlier agent kept.
func (a *Agent) Directory() *pool.Snapshot {
	snap := a.Snapshot()
	known, ok := a.book.Known()
	if snap.Revision != 0 || !ok {
		return snap
	}
	servers := map[pool.ServerID]pool.Server{}
	for id, address := range known.Addresses {
		servers[id] = pool.Server{ID: id, Address: address}
	}
	return &pool.Snapshot{Config: pool.Config{Name: a.cfg.Pool, Incarnation: known.Incarnation, LeaseTTL: known.TTL}, Servers: pool.NewTable(servers)}
}
