package lease

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/holdfast-ha/holdfast/pkg/kv"
	"github.com/holdfast-ha/holdfast/pkg/pool"
)

// record builds the member key's value.
func (s *Session) record(lease kv.LeaseID) []byte {
	s.mu.Lock()
	value := s.value
	s.mu.Unlock()
	return value(lease)
}

// UpdateMember rewrites the member record, with value in place of the earlier builder if value is not nil. It writes
// nothing if the record is the same already. It fails with pool.ErrLostSession if the session has ended; after any
// other error the record may or may not have changed, and calling again is safe.
func (s *Session) UpdateMember(ctx context.Context, value func(kv.LeaseID) []byte) error {
	if value != nil {
		s.mu.Lock()
		s.value = value
		s.mu.Unlock()
	}
	info, ok := s.Current()
	if !ok {
		return fmt.Errorf("update member %s: %w", s.cfg.Server, pool.ErrLostSession)
	}
	for {
		found, ok, err := s.cfg.Store.Get(ctx, s.cfg.MemberKey)
		if err != nil {
			return fmt.Errorf("update member %s: %w", s.cfg.Server, err)
		}
		if !ok || pool.Session(found.CreateRevision) != info.Session {
			s.Recheck()
			return fmt.Errorf("update member %s: %w", s.cfg.Server, pool.ErrLostSession)
		}
		// The lease stays the one that the key has at this revision, not the one that this agent believes in.
		b := s.record(found.Lease)
		if bytes.Equal(b, found.Value) {
			return nil
		}
		res, err := s.cfg.Store.Txn(ctx, kv.Txn{
			If:   []kv.Compare{kv.ModIs(s.cfg.MemberKey, found.ModRevision)},
			Then: []kv.Op{kv.PutLeased(s.cfg.MemberKey, b, found.Lease)},
		})
		if err != nil {
			return fmt.Errorf("update member %s: %w", s.cfg.Server, err)
		}
		if res.Applied {
			return nil
		}
	}
}

// move is a change of the lease under the member key. Until it is settled the key may hang on either lease.
type move struct {
	lease kv.LeaseID
}

// moveIfNeeded starts a move when the member key's lease is not as long as the pool's policy says: after a planned
// restart, or after a change of lease_ttl. It runs just after a good renewal. Any failure before the key is written
// leaves things as they are, for the next renewal to try again.
func (s *Session) moveIfNeeded(ctx context.Context) {
	info, timing := s.peek()
	if s.state.TTL == timing.TTL || !s.Allows(s.cfg.Clock.Now()) {
		return
	}
	rctx, cancel := s.call(ctx) // one limit for both calls: the next renewal must not wait long
	defer cancel()
	sent := s.cfg.Clock.Now()
	lease, err := s.cfg.Leases.Grant(rctx, timing.TTL)
	if err != nil {
		s.log.Debug("no lease to move to", "server", s.cfg.Server, "err", err)
		return
	}
	// From the moment the key moves it may go at sent + T of the new lease. So the guard hears of that first, and as
	// sent is the newest instant, nothing that is still on its way to the guard can undo it. The later end of the
	// old lease counts no more; the earlier one still does.
	cut := info
	cut.Sent, cut.KillAt, cut.Deadline = sent, min(info.KillAt, sent.Add(timing.Stop)), min(info.Deadline, sent.Add(timing.TTL))
	s.cut(cut)
	if err := s.cfg.Extend(rctx, cut); err != nil {
		s.log.Debug("guard did not acknowledge the move", "server", s.cfg.Server, "err", err)
		return
	}
	s.state.NextLease, s.state.NextTTL = lease, timing.TTL
	s.save()
	s.move = &move{lease: lease}
	s.next = sent
}

// cut brings the deadlines down to those of info and lets no earlier answer of the guard raise them again.
func (s *Session) cut(info Info) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.info = info
	s.acked, s.allowed = info.Sent, min(s.allowed, info.KillAt)
}

// finishMove writes the member key onto the new lease, until that is settled, and returns how long to wait.
func (s *Session) finishMove(ctx context.Context, info Info) time.Duration {
	rctx, cancel := s.call(ctx)
	defer cancel()
	err := s.attach(rctx, info.Session, s.move.lease)
	switch {
	case err == nil:
		s.state.settle(s.move.lease)
		s.mu.Lock()
		s.info.LeaseID, s.leaseTTL = s.state.Lease, s.state.TTL
		s.mu.Unlock()
		s.move = nil
		s.save()
		s.log.Info("session has its lease", "server", s.cfg.Server, "session", info.Session, "lease", s.state.Lease, "ttl", s.state.TTL)
		return 0
	case errors.Is(err, pool.ErrLostSession):
		s.lose(info, "its member key is gone")
		return 0
	case errors.Is(err, kv.ErrLeaseNotFound):
		// The new lease ended before the key was seen on it. If the key had reached it, it is gone, and the next
		// attempt finds that out; else it stays where it was, which an acknowledged write must settle as well.
		s.move = &move{lease: info.LeaseID}
	default:
		s.fails()
	}
	return s.pause()
}

// attach makes one attempt to put the member key of session onto lease. Only nil says that it hangs there now;
// pool.ErrLostSession says that the key is gone.
func (s *Session) attach(ctx context.Context, session pool.Session, lease kv.LeaseID) error {
	found, ok, err := s.cfg.Store.Get(ctx, s.cfg.MemberKey)
	if err != nil {
		return fmt.Errorf("read member key: %w", err)
	}
	if !ok || pool.Session(found.CreateRevision) != session {
		return fmt.Errorf("member key: %w", pool.ErrLostSession)
	}
	res, err := s.cfg.Store.Txn(ctx, kv.Txn{
		If:   []kv.Compare{kv.ModIs(s.cfg.MemberKey, found.ModRevision)},
		Then: []kv.Op{kv.PutLeased(s.cfg.MemberKey, s.record(lease), lease)},
	})
	if err != nil {
		return fmt.Errorf("move member key: %w", err)
	}
	if !res.Applied {
		return fmt.Errorf("move member key: %w", pool.ErrStale)
	}
	return nil
}

// peek returns the session and the pool's timing.
func (s *Session) peek() (Info, pool.Timing) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.info, s.timing
}
