package lease

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/holdfast-ha/holdfast/pkg/clock"
	"github.com/holdfast-ha/holdfast/pkg/kv"
	"github.com/holdfast-ha/holdfast/pkg/pool"
)

// Info is a session as this server knows it. Instants are this server's CLOCK_BOOTTIME.
type Info struct {
	// Session is the member key's create revision.
	Session pool.Session
	// LeaseID is the lease that the member key hangs on.
	LeaseID kv.LeaseID
	// Sent is when the newest request that succeeded was sent. Of two Infos of one session the one with the later
	// Sent counts, also where its deadlines are earlier.
	Sent pool.Instant
	// KillAt is Sent + P: without a newer renewal protected VMs are killed then.
	KillAt pool.Instant
	// Deadline is Sent + T: the member key cannot be gone before.
	Deadline pool.Instant
}

// Config is what a Session needs. All fields but Incarnation, Failed and Former are required.
type Config struct {
	Server pool.ServerID
	// MemberKey is the full key of this server's member record.
	MemberKey string
	// Incarnation of the etcd data; a session kept from another one is ignored.
	Incarnation string
	Timing      pool.Timing
	// Value builds the member record; it must not block.
	Value func(lease kv.LeaseID) []byte
	// Extend tells the guard how long the session's VMs may run. It is bounded by the caller's context; nil means
	// that the guard acknowledged. It is called beside the renewals, never in their way.
	Extend func(ctx context.Context, info Info) error
	// Failed is called after each attempt that did not reach etcd, a renewal or whatever else keeps the session; it
	// must not block. nil: nobody wants to know.
	Failed func()
	Store  kv.Store
	Leases kv.Leases
	Clock  clock.Clock
	State  StateStore
	// Former keeps the session that a planned stop handed over on a disk that outlives the boot, and gives it back to a
	// later boot of the same machine alone; nil: nobody does, and the end of its lease is waited for. See FormerState.
	Former StateStore
	Log    *slog.Logger
}

// Session acquires, renews and, once lost, replaces this server's session. Its methods are safe for concurrent use.
type Session struct {
	cfg     Config
	log     *slog.Logger
	wake    clock.Signal // for the renewal loop
	toGuard clock.Signal // for the loop that talks to the guard
	ended   clock.Signal // Run has returned

	mu     sync.Mutex
	info   Info // zero Session: none
	timing pool.Timing
	// leaseTTL is the life-time that the present lease was granted with.
	leaseTTL time.Duration
	value    func(kv.LeaseID) []byte
	// allowed is the newest KillAt that the guard has acknowledged, acked the Sent it belongs to.
	allowed, acked pool.Instant
	subscribers    []clock.Signal
	recheck, stop  bool
	running, over  bool
	failing        bool // the latest attempt failed
	// cutShort says how the latest session that was lost ended, if that was before its time.
	cutShort string

	// What follows belongs to the renewal loop alone, and after its end to Handover or Release.
	state   State
	former  State // handed over by an earlier boot of this machine; zero: none
	loaded  bool
	attempt int
	waiting bool         // a foreign member key is in the way; said once
	next    pool.Instant // of the next renewal
	move    *move        // a move to another lease whose outcome is open
}

// New returns a session that does nothing until Run.
func New(cfg Config) *Session {
	return &Session{
		cfg: cfg, log: cfg.Log, timing: cfg.Timing, value: cfg.Value,
		wake: cfg.Clock.NewSignal(), toGuard: cfg.Clock.NewSignal(), ended: cfg.Clock.NewSignal(),
	}
}

// Current returns the session; ok is false while there is none.
func (s *Session) Current() (info Info, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.info, s.info.Session != 0 && !s.over
}

// Allows reports whether a protected VM may be started or resumed at now: the session lives, and the guard has
// acknowledged a stop time that is still ahead.
func (s *Session) Allows(now pool.Instant) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.info.Session != 0 && !s.over && now.Before(s.allowed)
}

// Temporary reports whether the session still hangs on a lease that is longer than the pool's policy says, as it does
// for a moment after a planned restart. What must not outlive its server by that much, such as an election key,
// should wait: the next renewal moves the session.
func (s *Session) Temporary() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.info.Session != 0 && s.leaseTTL > s.timing.TTL
}

// Failing reports whether the latest attempt to renew the session, or to get one, did not reach etcd.
func (s *Session) Failing() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.failing
}

// fails notes an attempt that did not reach etcd, and reports whether it is the first since one that did.
func (s *Session) fails() (first bool) {
	s.mu.Lock()
	first, s.failing = !s.failing, true
	s.mu.Unlock()
	if s.cfg.Failed != nil {
		s.cfg.Failed()
	}
	return first
}

// works notes an attempt that reached etcd, and reports whether those before it did not.
func (s *Session) works() (again bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	again, s.failing = s.failing, false
	return again
}

// Subscribe has sig set whenever a session begins or ends, and whenever Allows becomes true again.
func (s *Session) Subscribe(sig clock.Signal) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.subscribers = append(s.subscribers, sig)
}

// SetTiming changes the lease lifetime. The member key moves to a lease of the new length after the next renewal.
func (s *Session) SetTiming(t pool.Timing) {
	s.mu.Lock()
	s.timing = t
	s.mu.Unlock()
	s.wake.Set()
}

// Recheck makes the session look whether its member key is still there. Call it when a watch shows it gone.
func (s *Session) Recheck() {
	s.mu.Lock()
	s.recheck = true
	s.mu.Unlock()
	s.wake.Set()
}

// Run keeps a session until ctx ends, or Handover or Release takes it over; it returns nil in these two cases. It
// may be called once.
func (s *Session) Run(ctx context.Context) error {
	s.mu.Lock()
	if s.running || s.over {
		s.mu.Unlock()
		return fmt.Errorf("session of %s runs or has run already: %w", s.cfg.Server, pool.ErrInvalid)
	}
	s.running = true
	s.mu.Unlock()
	inner, cancel := s.cfg.Clock.WithCancel(ctx)
	g := clock.NewGroup(s.cfg.Clock)
	g.Go("lease guard", func() { s.guardLoop(inner) })
	for inner.Err() == nil && !s.stopping() {
		s.wake.Wait(inner, s.Step(inner))
	}
	cancel(nil)
	g.Wait()
	s.end()
	if s.stopping() {
		return nil
	}
	return ctx.Err()
}

// Step does what is due now and returns how long to wait before the next one.
func (s *Session) Step(ctx context.Context) time.Duration {
	info, timing, recheck := s.due()
	switch {
	case info.Session == 0:
		return s.acquire(ctx, timing)
	case s.move != nil:
		return s.finishMove(ctx, info)
	case recheck && !s.verify(ctx, info):
		return s.pause()
	}
	if d := s.next.Sub(s.cfg.Clock.Now()); d > 0 {
		return d
	}
	return s.renew(ctx, info)
}

// due returns what Step decides by.
func (s *Session) due() (Info, pool.Timing, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	recheck := s.recheck
	s.recheck = false
	return s.info, s.timing, recheck
}

// begin makes a session current. sent is when the request that its lease lives by was sent.
func (s *Session) begin(session pool.Session, lease kv.LeaseID, sent pool.Instant) {
	s.mu.Lock()
	s.info = Info{Session: session, LeaseID: lease}
	s.leaseTTL = s.state.TTL
	s.allowed, s.acked = 0, 0
	s.mu.Unlock()
	s.waiting, s.move = false, nil
	s.works()
	s.renewed(sent)
	s.save()
	s.log.Info("session begins", "server", s.cfg.Server, "session", session, "lease", lease)
	s.notify()
}

// CutShort says how the session before the present one ended, if its lease could not have expired yet and this Session did
// not end it: somebody else deleted its key or revoked its lease. (Or the clock stood still with the whole server, as when a
// virtual one is paused.) Empty if not, or if there was none.
func (s *Session) CutShort() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.cutShort
}

// lose ends the session because of why, which etcd told.
func (s *Session) lose(info Info, why string) {
	s.mu.Lock()
	s.cutShort = ""
	if left := s.info.Deadline.Sub(s.cfg.Clock.Now()); left > 0 && s.info.Session == info.Session {
		s.cutShort = fmt.Sprintf("session %d ended %v before its lease could expire: its key was deleted or its lease revoked, unless the clock stood still (%s)",
			info.Session, max(left.Round(100*time.Millisecond), 100*time.Millisecond), why)
	}
	s.info, s.allowed, s.acked, s.failing = Info{}, 0, 0, false
	s.mu.Unlock()
	s.move = nil
	s.log.Warn("session lost", "server", s.cfg.Server, "session", info.Session, "reason", why)
	s.notify()
}

func (s *Session) stopping() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stop
}

// end marks Run as returned; from here on there is no current session.
func (s *Session) end() {
	s.mu.Lock()
	s.over = true
	s.mu.Unlock()
	s.ended.Set()
	s.notify()
}

func (s *Session) notify() {
	s.mu.Lock()
	subs := append([]clock.Signal(nil), s.subscribers...)
	s.mu.Unlock()
	for _, sig := range subs {
		sig.Set()
	}
}

// call bounds one request to etcd or to the guard.
func (s *Session) call(ctx context.Context) (context.Context, context.CancelFunc) {
	return s.cfg.Clock.WithTimeout(ctx, s.renewTimeout())
}

func (s *Session) renewTimeout() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.timing.RenewTimeout
}

// pause is how long to wait after a failure: a tenth of the renewal interval, so that a refused connection costs
// less than a request that times out, and a dead etcd costs little work.
func (s *Session) pause() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.timing.Renew / 10
}
