package lease

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/holdfast-ha/holdfast/pkg/kv"
	"github.com/holdfast-ha/holdfast/pkg/pool"
)

// Handover is the planned stop of an agent: it ends Run, moves the member key to a lease that lives for grace, tells
// the guard the deadline of that lease, and keeps all of it for the next agent, which takes the session over. The
// session and its VMs go on. Resign the leadership first: the election key stays on the old lease.
//
// It tries until ctx ends. After an error the session may still be taken over until its old deadline, at which the
// guard acts.
func (s *Session) Handover(ctx context.Context, grace time.Duration) error {
	info, timing, err := s.halt(ctx)
	if err != nil {
		return fmt.Errorf("hand session over: %w", err)
	}
	if info.Session == 0 {
		return fmt.Errorf("hand session over: %w", pool.ErrLostSession)
	}
	grace = max(grace, timing.TTL).Truncate(time.Second)
	sent := s.cfg.Clock.Now() // before the first attempt: early is safe
	lease, err := s.grantGrace(ctx, grace)
	if err != nil {
		return fmt.Errorf("hand session over: %w", err)
	}
	s.state.NextLease, s.state.NextTTL = lease, grace
	s.save()
	err = s.insist(ctx, func(ctx context.Context) error { return s.attach(ctx, info.Session, lease) })
	if err != nil {
		return fmt.Errorf("hand session over: %w", err)
	}
	s.state.settle(lease)
	s.save()
	if s.cfg.Former != nil {
		if err := s.cfg.Former.Save(s.state); err != nil {
			s.log.Warn("handed-over session not kept on disk; after a power loss its end is waited for", "server", s.cfg.Server, "err", err)
		}
	}
	// Only now, that the key certainly lives by the new lease, may the VMs.
	margin := timing.TTL - timing.Stop
	next := Info{Session: info.Session, LeaseID: lease, Sent: sent, KillAt: sent.Add(grace - margin), Deadline: sent.Add(grace)}
	err = s.insist(ctx, func(ctx context.Context) error { return s.cfg.Extend(ctx, next) })
	if err != nil {
		return fmt.Errorf("hand session over: tell the guard: %w", err)
	}
	s.log.Info("session handed over", "server", s.cfg.Server, "session", info.Session, "for", grace)
	return nil
}

// Release ends Run and the session for good: it deletes the member key and revokes the lease. Only a server that
// runs no protected VM may do that. After an error the key goes when its lease ends.
func (s *Session) Release(ctx context.Context) error {
	info, _, err := s.halt(ctx)
	if err != nil {
		return fmt.Errorf("release session: %w", err)
	}
	if info.Session == 0 {
		return nil
	}
	err = s.insist(ctx, func(ctx context.Context) error {
		_, err := s.cfg.Store.Txn(ctx, kv.Txn{
			If:   []kv.Compare{kv.CreatedAt(s.cfg.MemberKey, pool.Revision(info.Session))},
			Then: []kv.Op{kv.Delete(s.cfg.MemberKey)},
		})
		return err
	})
	if err != nil {
		return fmt.Errorf("release session: %w", err)
	}
	if err := s.cfg.State.Save(State{}); err != nil {
		s.log.Warn("kept session not cleared", "server", s.cfg.Server, "err", err)
	}
	err = s.insist(ctx, func(ctx context.Context) error { return s.cfg.Leases.Revoke(ctx, info.LeaseID) })
	if err != nil && !errors.Is(err, kv.ErrLeaseNotFound) {
		return fmt.Errorf("release session: revoke lease: %w", err)
	}
	s.log.Info("session released", "server", s.cfg.Server, "session", info.Session)
	return nil
}

// halt ends Run, if it runs, and returns the session that it had.
func (s *Session) halt(ctx context.Context) (Info, pool.Timing, error) {
	s.mu.Lock()
	s.stop = true
	wait := s.running && !s.over
	s.over = s.over || !wait
	s.mu.Unlock()
	s.wake.Set()
	for wait {
		s.ended.Wait(ctx, -1)
		if err := ctx.Err(); err != nil {
			return Info{}, pool.Timing{}, err
		}
		s.mu.Lock()
		wait = !s.over
		s.mu.Unlock()
	}
	info, timing := s.peek()
	return info, timing, nil
}

func (s *Session) grantGrace(ctx context.Context, grace time.Duration) (lease kv.LeaseID, err error) {
	err = s.insist(ctx, func(ctx context.Context) error {
		lease, err = s.cfg.Leases.Grant(ctx, grace)
		return err
	})
	return lease, err
}

// insist repeats f, each attempt bounded, until it succeeds, ctx ends, or repeating is of no use.
func (s *Session) insist(ctx context.Context, f func(context.Context) error) error {
	for {
		rctx, cancel := s.call(ctx)
		err := f(rctx)
		cancel()
		if err == nil || errors.Is(err, pool.ErrLostSession) || errors.Is(err, kv.ErrLeaseNotFound) {
			return err
		}
		s.fails() // VMs run on without etcd until the successor goes on
		if s.cfg.Clock.Sleep(ctx, s.pause()) != nil {
			return err
		}
	}
}
