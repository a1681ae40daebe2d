package lease

import (
	"context"
	"errors"
	"time"

	"github.com/holdfast-ha/holdfast/pkg/kv"
	"github.com/holdfast-ha/holdfast/pkg/pool"
)

// renew sends one renewal and returns how long to wait. After an error the next attempt goes to the next etcd
// member: one that hangs must not cost the session (docs/facts.md, "etcd leases").
func (s *Session) renew(ctx context.Context, info Info) time.Duration {
	sent := s.cfg.Clock.Now()
	err := s.keepAlive(ctx, info.LeaseID)
	switch {
	case err == nil:
		s.renewed(sent)
		s.moveIfNeeded(ctx)
		return max(0, s.next.Sub(s.cfg.Clock.Now()))
	case errors.Is(err, kv.ErrLeaseNotFound):
		s.lose(info, "its lease has ended in etcd")
		return 0
	case ctx.Err() != nil:
		return 0
	}
	if s.fails() {
		s.log.Warn("session not renewed", "server", s.cfg.Server, "session", info.Session, "left", info.KillAt.Sub(sent), "err", err)
	}
	return s.pause()
}

// keepAlive renews a lease once, within the limit, and moves on to the next etcd member after an error.
func (s *Session) keepAlive(ctx context.Context, lease kv.LeaseID) error {
	rctx, cancel := s.call(ctx)
	defer cancel()
	err := s.cfg.Leases.KeepAlive(rctx, lease, s.attempt)
	if err != nil && !errors.Is(err, kv.ErrLeaseNotFound) {
		s.attempt++
	}
	return err
}

// renewed takes note of a good request that was sent at sent.
func (s *Session) renewed(sent pool.Instant) {
	s.mu.Lock()
	timing := s.effective()
	s.info.Sent = max(s.info.Sent, sent)
	s.info.KillAt = max(s.info.KillAt, sent.Add(timing.Stop))
	s.info.Deadline = max(s.info.Deadline, sent.Add(timing.TTL))
	s.next = sent.Add(timing.Renew)
	info := s.info
	s.mu.Unlock()
	if s.works() {
		s.log.Info("session renewed again", "server", s.cfg.Server, "session", info.Session)
	}
	s.toGuard.Set()
}

// effective returns the timing that deadlines are counted by: the pool's, or that of the lease if it is shorter. A
// longer lease (restart grace, or one from before a change of lease_ttl) earns no later deadline.
func (s *Session) effective() pool.Timing {
	if s.state.TTL >= s.timing.TTL {
		return s.timing
	}
	t, err := pool.NewTiming(s.state.TTL)
	if err != nil {
		return s.timing // State.usable keeps such a lease from being taken over
	}
	return t
}

// verify reads the member key and reports whether the session may go on.
func (s *Session) verify(ctx context.Context, info Info) bool {
	rctx, cancel := s.call(ctx)
	defer cancel()
	found, ok, err := s.cfg.Store.Get(rctx, s.cfg.MemberKey)
	switch {
	case err != nil:
		s.mu.Lock()
		s.recheck = true // at the next renewal
		s.mu.Unlock()
		return true
	case !ok:
		s.lose(info, "its member key is gone")
	case pool.Session(found.CreateRevision) != info.Session:
		s.lose(info, "another session has the member key")
	case found.Lease != info.LeaseID:
		s.lose(info, "the member key hangs on another lease")
	default:
		return true
	}
	return false
}

// guardLoop tells the guard of each renewal. It is a loop of its own, so that a guard that is slow or gone never
// holds up a renewal; each call is bounded, and the next one carries the newest deadlines.
func (s *Session) guardLoop(ctx context.Context) {
	wait, failing := time.Duration(-1), false
	for ctx.Err() == nil {
		s.toGuard.Wait(ctx, wait)
		wait = -1
		info, news := s.unacknowledged()
		if !news || ctx.Err() != nil {
			continue
		}
		err := s.tellGuard(ctx, info)
		if err == nil {
			s.acknowledged(info)
		} else {
			wait = s.pause()
		}
		if (err != nil) != failing && ctx.Err() == nil {
			failing = err != nil
			if failing {
				s.log.Warn("guard does not acknowledge the session; no protected VM is started", "server", s.cfg.Server, "session", info.Session, "err", err)
			} else {
				s.log.Info("guard acknowledges the session again", "server", s.cfg.Server, "session", info.Session)
			}
		}
	}
}

func (s *Session) tellGuard(ctx context.Context, info Info) error {
	gctx, cancel := s.call(ctx)
	defer cancel()
	return s.cfg.Extend(gctx, info)
}

// unacknowledged returns the newest deadlines, if the guard has not acknowledged them.
func (s *Session) unacknowledged() (Info, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.info, s.info.Session != 0 && s.info.Sent > s.acked
}

// acknowledged makes deadlines usable for starts. An answer that was overtaken by a newer one changes nothing.
func (s *Session) acknowledged(info Info) {
	s.mu.Lock()
	if s.info.Session != info.Session || info.Sent < s.acked {
		s.mu.Unlock()
		return
	}
	now := s.cfg.Clock.Now()
	was := now.Before(s.allowed)
	if info.Sent == s.acked { // a move to a shorter lease began at the instant of the renewal
		info.KillAt = min(info.KillAt, s.allowed)
	}
	s.acked, s.allowed = info.Sent, info.KillAt
	is := now.Before(s.allowed)
	s.mu.Unlock()
	if is && !was {
		s.notify()
	}
}
