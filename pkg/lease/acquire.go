package lease

import (
	"context"
	"errors"
	"time"

	"github.com/holdfast-ha/holdfast/pkg/kv"
	"github.com/holdfast-ha/holdfast/pkg/pool"
)

// acquire makes one attempt at a session and returns how long to wait before the next. Each attempt starts from
// what a linearizable read shows, so that it does not matter where an earlier one, or an earlier agent, was cut off.
func (s *Session) acquire(ctx context.Context, timing pool.Timing) time.Duration {
	s.load()
	rctx, cancel := s.call(ctx)
	found, ok, err := s.cfg.Store.Get(rctx, s.cfg.MemberKey)
	cancel()
	switch {
	case err != nil:
		s.sayFailing("member key not read", err)
		return s.pause()
	case !ok:
		return s.create(ctx, timing)
	case s.state.owns(found):
		return s.takeOver(ctx, found)
	case s.former.owns(found) && s.former.Session != 0:
		return s.bury(ctx, found)
	}
	if !s.waiting {
		s.waiting = true
		s.log.Warn("another life of this server still has a session; waiting for it to end", "server", s.cfg.Server,
			"session", found.CreateRevision, "lease", found.Lease)
	}
	return s.pause()
}

// create grants a lease and creates the member key on it, only if it is absent. A lost reply is read back by the
// next attempt: the key then hangs on the lease that was saved before it was created.
func (s *Session) create(ctx context.Context, timing pool.Timing) time.Duration {
	lease, sent, err := s.grant(ctx, timing.TTL)
	if err != nil {
		s.sayFailing("lease not granted", err)
		return s.pause()
	}
	tctx, cancel := s.call(ctx)
	defer cancel()
	res, err := s.cfg.Store.Txn(tctx, kv.Txn{
		If:   []kv.Compare{kv.Absent(s.cfg.MemberKey)},
		Then: []kv.Op{kv.PutLeased(s.cfg.MemberKey, s.record(lease), lease)},
	})
	switch {
	case err != nil:
		s.sayFailing("member key not created", err)
	case res.Applied:
		s.begin(pool.Session(res.Revision), lease, sent)
		return max(0, s.next.Sub(s.cfg.Clock.Now()))
	}
	return s.pause()
}

// grant returns a lease for a new member key, and the instant from which it is counted. A lease from an attempt that
// was not answered is used again: the key may still appear on it.
func (s *Session) grant(ctx context.Context, ttl time.Duration) (kv.LeaseID, pool.Instant, error) {
	sent := s.cfg.Clock.Now()
	if s.state.Session == 0 && s.state.Lease != 0 && s.state.TTL == ttl {
		err := s.keepAlive(ctx, s.state.Lease)
		if !errors.Is(err, kv.ErrLeaseNotFound) {
			return s.state.Lease, sent, err
		}
		sent = s.cfg.Clock.Now()
	}
	rctx, cancel := s.call(ctx)
	defer cancel()
	lease, err := s.cfg.Leases.Grant(rctx, ttl)
	if err != nil {
		return 0, 0, err
	}
	s.state = State{MemberKey: s.cfg.MemberKey, Incarnation: s.cfg.Incarnation, Lease: lease, TTL: ttl}
	s.save()
	return lease, sent, nil
}

// takeOver continues a session of an earlier agent, or one whose creation was not answered. The key is rewritten on
// its lease by an acknowledged write: it brings the record up to date, and after it no write of an earlier life (a
// move to another lease, say) can land any more.
func (s *Session) takeOver(ctx context.Context, found kv.KeyValue) time.Duration {
	sent := s.cfg.Clock.Now()
	if err := s.keepAlive(ctx, found.Lease); err != nil {
		if !errors.Is(err, kv.ErrLeaseNotFound) {
			s.sayFailing("session not taken over", err)
		}
		return s.pause()
	}
	rctx, cancel := s.call(ctx)
	defer cancel()
	res, err := s.cfg.Store.Txn(rctx, kv.Txn{
		If:   []kv.Compare{kv.ModIs(s.cfg.MemberKey, found.ModRevision)},
		Then: []kv.Op{kv.PutLeased(s.cfg.MemberKey, s.record(found.Lease), found.Lease)},
	})
	if err != nil || !res.Applied {
		s.sayFailing("session not taken over", err)
		return s.pause()
	}
	s.state.settle(found.Lease)
	s.begin(pool.Session(found.CreateRevision), found.Lease, sent)
	s.log.Info("session taken over", "server", s.cfg.Server, "session", found.CreateRevision)
	return s.next.Sub(s.cfg.Clock.Now())
}

// bury ends a session that an earlier boot of this machine handed over for longer than a lease: that boot is over, and
// with it every process that ran under the session. The key must still be the one that was read.
func (s *Session) bury(ctx context.Context, found kv.KeyValue) time.Duration {
	rctx, cancel := s.call(ctx)
	defer cancel()
	res, err := s.cfg.Store.Txn(rctx, kv.Txn{
		If:   []kv.Compare{kv.ModIs(s.cfg.MemberKey, found.ModRevision)},
		Then: []kv.Op{kv.Delete(s.cfg.MemberKey)},
	})
	if err != nil || !res.Applied {
		s.sayFailing("session of an earlier boot not ended", err)
		return s.pause()
	}
	s.log.Info("session of an earlier boot of this machine ended; nothing of it can run any more", "server", s.cfg.Server, "session", found.CreateRevision)
	s.former = State{}
	_ = s.cfg.Leases.Revoke(rctx, found.Lease) // nothing hangs on it any more; it ends by itself
	return 0
}

// load reads what an earlier agent left, once.
func (s *Session) load() {
	if s.loaded {
		return
	}
	s.loaded = true
	s.loadFormer()
	state, ok, err := s.cfg.State.Load()
	if err != nil {
		s.log.Warn("kept session not read; waiting for its end instead of taking it over", "server", s.cfg.Server, "err", err)
		return
	}
	if ok && state.usable(s.cfg.MemberKey, s.cfg.Incarnation) {
		s.state = state
	}
}

// loadFormer reads what an earlier boot left.
func (s *Session) loadFormer() {
	if s.cfg.Former == nil {
		return
	}
	former, ok, err := s.cfg.Former.Load()
	if err != nil {
		s.log.Warn("what an earlier boot handed over was not read; waiting for its end", "server", s.cfg.Server, "err", err)
	}
	if ok && former.usable(s.cfg.MemberKey, s.cfg.Incarnation) {
		s.former = former
	}
}

// save keeps the state for the next agent. A failure costs only the take-over.
func (s *Session) save() {
	s.mu.Lock()
	s.state.Session = s.info.Session
	s.mu.Unlock()
	if err := s.cfg.State.Save(s.state); err != nil {
		s.log.Warn("session not kept; a restarted agent will not be able to take it over", "server", s.cfg.Server, "err", err)
	}
}

func (s *Session) sayFailing(what string, err error) {
	if s.fails() {
		s.log.Warn(what, "server", s.cfg.Server, "err", err)
	}
}
