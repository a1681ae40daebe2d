package lease

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"sync"
	"time"

	"github.com/holdfast-ha/holdfast/pkg/clock"
	"github.com/holdfast-ha/holdfast/pkg/kv"
	"github.com/holdfast-ha/holdfast/pkg/pool"
)

// CandidateConfig is what a Candidate needs. All fields but Confirm and Bound are required.
type CandidateConfig struct {
	Server pool.ServerID
	// Prefix of the election keys, with its final slash.
	Prefix    string
	MemberKey string
	Session   *Session
	// MayLead is asked before standing and again before leading. False: not now.
	MayLead func(ctx context.Context) bool
	// Confirm is asked once an election is won, before this server leads, and looks at etcd itself. False: it gives the
	// office up. nil: nothing else has to be looked at.
	Confirm func(ctx context.Context) (bool, error)
	// Bound reports whether a promise to others forbids to act as leader at now. nil: none ever does.
	Bound  func(now pool.Instant) bool
	Store  kv.Store
	Clock  clock.Clock
	Timing pool.Timing
	Log    *slog.Logger
}

// Candidate stands for election on the session's lease. Its key is Prefix + the lease in hex, its value the server's
// name; the key with the lowest create revision leads, as in etcd's own concurrency.Election. Its methods are safe
// for concurrent use.
type Candidate struct {
	cfg  CandidateConfig
	log  *slog.Logger
	wake clock.Signal

	mu          sync.Mutex
	leader      pool.Leader // zero Revision: not leading
	by          Info        // the session it leads by
	retired     bool
	subscribers []clock.Signal
	// own is the election key as last seen; zero: not seen.
	own kv.KeyValue
	// withdrawn is the create revision of the newest key that this candidate asked to delete. The request may still
	// be under way, so it never leads by that key again.
	withdrawn pool.Revision
	// resigned counts calls of Resign: what was read before one must not make it leader after it.
	resigned int

	// Of Run's loop alone: shy is until when it does not stand after a victory that was not confirmed.
	failing bool
	shy     pool.Instant
}

// NewCandidate returns a candidate that does nothing until Run.
func NewCandidate(cfg CandidateConfig) *Candidate {
	return &Candidate{cfg: cfg, log: cfg.Log, wake: cfg.Clock.NewSignal()}
}

// Leading returns this server's leadership while it has one, and its session cannot have ended: past the session's
// KillAt the answer is no, without anybody having been asked, and so it is while a promise binds it.
func (c *Candidate) Leading() (pool.Leader, bool) {
	info, ok := c.cfg.Session.Current()
	now := c.cfg.Clock.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	ok = ok && c.leader.Revision != 0 && !c.retired && info.Session == c.by.Session && info.LeaseID == c.by.LeaseID
	if !ok || !now.Before(info.KillAt) || c.cfg.Bound != nil && c.cfg.Bound(now) {
		return pool.Leader{}, false
	}
	return c.leader, true
}

// Subscribe has sig set whenever this server begins or ceases to lead. That time has passed KillAt sets nothing.
func (c *Candidate) Subscribe(sig clock.Signal) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.subscribers = append(c.subscribers, sig)
}

// Resign gives the leadership up and does not stand again until Stand. It has effect here at once, whatever it
// returns; an error says that others may learn of it only when Run gets through, or the lease ends.
func (c *Candidate) Resign(ctx context.Context) error {
	c.mu.Lock()
	c.retired = true
	c.resigned++
	own := c.own
	c.mu.Unlock()
	c.follow()
	c.wake.Set()
	if _, ok := c.cfg.Session.Current(); !ok || own.CreateRevision == 0 {
		return nil
	}
	if err := c.withdraw(ctx, own); err != nil {
		return fmt.Errorf("resign: %w", err)
	}
	return nil
}

// Recheck makes the candidate look at once whether it may stand now. Call it when MayLead may answer otherwise.
func (c *Candidate) Recheck() { c.wake.Set() }

// Stand makes a candidate that resigned stand again.
func (c *Candidate) Stand() {
	c.mu.Lock()
	c.retired = false
	c.mu.Unlock()
	c.wake.Set()
}

// Run stands for election whenever there is a session, until ctx ends. It may be called once.
func (c *Candidate) Run(ctx context.Context) error {
	c.cfg.Session.Subscribe(c.wake)
	g := clock.NewGroup(c.cfg.Clock)
	g.Go("election watch", func() { c.watch(ctx) })
	for ctx.Err() == nil {
		c.wake.Wait(ctx, c.Step(ctx))
	}
	g.Wait()
	c.follow()
	return ctx.Err()
}

// Step looks at the election once, does what is due, and returns when to look again if nothing changes before.
func (c *Candidate) Step(ctx context.Context) time.Duration {
	info, ok := c.cfg.Session.Current()
	if !ok {
		c.follow()
		return c.cfg.Timing.TTL
	}
	rctx, cancel := c.cfg.Clock.WithTimeout(ctx, c.cfg.Timing.RenewTimeout)
	defer cancel()
	err := c.elect(rctx, info)
	if err == nil || ctx.Err() != nil {
		c.failing = false
		if left := c.shy.Sub(c.cfg.Clock.Now()); left > 0 {
			return min(left, c.cfg.Timing.TTL)
		}
		return c.cfg.Timing.TTL
	}
	if !c.failing && !errors.Is(err, pool.ErrStale) {
		c.failing = true
		c.log.Warn("election not followed", "server", c.cfg.Server, "err", err)
	}
	return c.cfg.Timing.Renew / 5
}

// elect brings this server's election key to what it should be, and finds out who leads by a linearizable list.
func (c *Candidate) elect(ctx context.Context, info Info) error {
	resigned, retired := c.resignations()
	key := c.keyOf(info)
	found, _, err := c.cfg.Store.List(ctx, c.cfg.Prefix)
	if err != nil {
		return err
	}
	own, first := find(found, key)
	old := c.seen(own)
	switch {
	case old.Key != "" && old.Key != key:
		// The session has another lease: a key on the old one must not stand for this server.
		c.follow()
		if err := c.withdraw(ctx, old); err != nil {
			return err
		}
	case own.CreateRevision != 0 && own.CreateRevision == c.tainted():
		c.follow()
		return c.withdraw(ctx, own)
	}
	if retired || c.cfg.Clock.Now().Before(c.shy) || !c.cfg.MayLead(ctx) {
		c.follow()
		return c.withdraw(ctx, own)
	}
	if own.CreateRevision == 0 {
		c.follow()
		return c.stand(ctx, info, key)
	}
	if first.Key != key {
		c.follow()
		return nil
	}
	return c.win(ctx, info, own, resigned)
}

// win takes the leadership up, unless the gate says no now that it is certain who asks.
func (c *Candidate) win(ctx context.Context, info Info, own kv.KeyValue, resigned int) error {
	leader := pool.Leader{Server: c.cfg.Server, Revision: own.CreateRevision, Key: own.Key}
	if c.leads(leader, info) {
		return nil
	}
	if !c.cfg.MayLead(ctx) {
		return c.withdraw(ctx, own)
	}
	if c.cfg.Confirm != nil {
		ok, err := c.cfg.Confirm(ctx)
		if err != nil {
			return err
		}
		if !ok {
			c.shy = c.cfg.Clock.Now().Add(c.cfg.Timing.Renew)
			return c.withdraw(ctx, own)
		}
	}
	c.lead(leader, info, resigned)
	return nil
}

// stand creates the election key. The outcome does not matter here: the next look lists again.
func (c *Candidate) stand(ctx context.Context, info Info, key string) error {
	res, err := c.cfg.Store.Txn(ctx, kv.Txn{
		If: []kv.Compare{
			kv.Absent(key),
			kv.CreatedAt(c.cfg.MemberKey, pool.Revision(info.Session)),
		},
		Then: []kv.Op{kv.PutLeased(key, []byte(c.cfg.Server), info.LeaseID)},
	})
	switch {
	case err == nil && res.Applied:
		c.wake.Set()
		return nil
	case err == nil:
		err = fmt.Errorf("stand for election: %w", pool.ErrStale)
	case !errors.Is(err, kv.ErrLeaseNotFound):
		return err
	}
	c.cfg.Session.Recheck()
	return err
}

// withdraw deletes an election key of ours, that very one: the request may land when another has its name.
func (c *Candidate) withdraw(ctx context.Context, own kv.KeyValue) error {
	if own.CreateRevision == 0 {
		return nil
	}
	c.mu.Lock()
	c.withdrawn = max(c.withdrawn, own.CreateRevision)
	c.mu.Unlock()
	_, err := c.cfg.Store.Txn(ctx, kv.Txn{
		If:   []kv.Compare{kv.CreatedAt(own.Key, own.CreateRevision)},
		Then: []kv.Op{kv.Delete(own.Key)},
	})
	return err
}

// watch wakes the loop at each change below the prefix. What changed does not matter.
func (c *Candidate) watch(ctx context.Context) {
	for ctx.Err() == nil {
		if err := c.watchOnce(ctx); err != nil && ctx.Err() == nil {
			c.log.Debug("election watch ended", "server", c.cfg.Server, "err", err)
			if c.cfg.Clock.Sleep(ctx, c.cfg.Timing.Renew/5) != nil {
				return
			}
		}
	}
}

func (c *Candidate) watchOnce(ctx context.Context) error {
	rctx, cancel := c.cfg.Clock.WithTimeout(ctx, c.cfg.Timing.RenewTimeout)
	_, rev, err := c.cfg.Store.List(rctx, c.cfg.Prefix)
	cancel()
	if err != nil {
		return err
	}
	w, err := c.cfg.Store.Watch(ctx, c.cfg.Prefix, rev+1)
	if err != nil {
		return err
	}
	defer w.Close()
	c.wake.Set()
	for {
		b, err := w.Next(ctx)
		if err != nil {
			return err
		}
		if len(b.Events) > 0 {
			c.wake.Set()
		}
	}
}

func (c *Candidate) leads(l pool.Leader, by Info) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.leader == l && c.by.Session == by.Session && c.by.LeaseID == by.LeaseID
}

// seen notes the own election key as found, and returns what it was before.
func (c *Candidate) seen(own kv.KeyValue) (old kv.KeyValue) {
	c.mu.Lock()
	defer c.mu.Unlock()
	old, c.own = c.own, own
	return old
}

func (c *Candidate) tainted() pool.Revision {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.withdrawn
}

func (c *Candidate) resignations() (count int, retired bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.resigned, c.retired
}

// lead begins to lead, unless a resignation came after what was read.
func (c *Candidate) lead(l pool.Leader, by Info, resigned int) {
	c.mu.Lock()
	if c.resigned != resigned || c.leader == l {
		c.mu.Unlock()
		return
	}
	c.leader, c.by = l, by
	c.mu.Unlock()
	c.log.Info("leadership begins", "server", c.cfg.Server, "leader_revision", l.Revision)
	c.notify()
}

// follow ceases to lead.
func (c *Candidate) follow() {
	c.mu.Lock()
	was := c.leader
	c.leader, c.by = pool.Leader{}, Info{}
	c.mu.Unlock()
	if was.Revision != 0 {
		c.log.Info("leadership ends", "server", c.cfg.Server, "leader_revision", was.Revision)
		c.notify()
	}
}

func (c *Candidate) notify() {
	c.mu.Lock()
	subs := append([]clock.Signal(nil), c.subscribers...)
	c.mu.Unlock()
	for _, sig := range subs {
		sig.Set()
	}
}

func (c *Candidate) keyOf(info Info) string {
	return c.cfg.Prefix + strconv.FormatInt(int64(info.LeaseID), 16)
}

// find returns the key named own, and the one that was created first.
func find(all []kv.KeyValue, own string) (mine, first kv.KeyValue) {
	for _, e := range all {
		if e.Key == own {
			mine = e
		}
		if first.CreateRevision == 0 || e.CreateRevision < first.CreateRevision {
			first = e
		}
	}
	return mine, first
}
