package failsafe

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/holdfast-ha/holdfast/pkg/clock"
	"github.com/holdfast-ha/holdfast/pkg/pool"
)

// MaxHold bounds a promise: nobody needs a longer one with the longest lease and a watchdog of a minute.
const MaxHold = 4 * pool.MaxTTL

// PromisesConfig is what Promises need. All fields are required but Rules.
type PromisesConfig struct {
	Clock clock.Clock
	// Reach asks etcd something that only a quorum can answer. It returns nil if it did.
	Reach func(ctx context.Context) error
	// Contact is when etcd last gave a sign of life; zero: it never did.
	Contact func() pool.Instant
	// Timing of the pool, as far as it is known.
	Timing func() pool.Timing
	Rules  Rules
}

// Promises is what this agent has promised to others. Create it with NewPromises when the agent starts: from then on
// counts how long it waits for what an earlier life may have promised.
type Promises struct {
	cfg     PromisesConfig
	rules   Rules
	started pool.Instant

	mu sync.Mutex
	p  Promise
	// failed and seen are when the newest look for etcd that found none began and ended.
	failed, seen pool.Instant
}

// NewPromises returns the promises of an agent that starts now.
func NewPromises(cfg PromisesConfig) *Promises {
	return &Promises{cfg: cfg, rules: cfg.Rules.Real(), started: cfg.Clock.Now()}
}

// Ask asks for the promise not to act as leader for hold, from now on. It is given only if etcd is out of reach from
// here as well; why says what stands against it.
func (p *Promises) Ask(ctx context.Context, hold time.Duration) (promised bool, why string) {
	switch {
	case hold <= 0 || hold > MaxHold:
		return false, fmt.Sprintf("a promise for %v cannot be given, at most for %v", hold, MaxHold)
	case p.reaches(ctx):
		return false, "it reaches etcd"
	case ctx.Err() != nil:
		return false, "it was asked for too short"
	}
	now := p.cfg.Clock.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.p.Given, p.p.Until = now, max(p.p.Until, now.Add(hold))
	return true, ""
}

// reaches looks for etcd, unless that was done lately in vain and nothing was heard since.
func (p *Promises) reaches(ctx context.Context) bool {
	p.mu.Lock()
	failed, seen := p.failed, p.seen
	p.mu.Unlock()
	if failed != 0 && p.cfg.Clock.Now().Sub(seen) < p.cfg.Timing().Renew && p.cfg.Contact() < failed {
		return false
	}
	return p.Look(ctx)
}

// Look looks for etcd and reports whether it answered. An agent whose session is not renewed looks again and again, so
// that it can answer others at once.
func (p *Promises) Look(ctx context.Context) bool {
	began := p.cfg.Clock.Now()
	rctx, cancel := p.cfg.Clock.WithTimeout(ctx, p.cfg.Timing().RenewTimeout)
	defer cancel()
	if p.cfg.Reach(rctx) == nil {
		return true
	}
	if ctx.Err() == nil {
		p.mu.Lock()
		p.failed, p.seen = max(p.failed, began), p.cfg.Clock.Now()
		p.mu.Unlock()
	}
	return false
}

// Bound reports whether a promise forbids to act as leader at now, and until when.
func (p *Promises) Bound(now pool.Instant) (until pool.Instant, bound bool) {
	contact := p.cfg.Contact()
	p.mu.Lock()
	defer p.mu.Unlock()
	q := p.p
	q.Contact = contact
	return q.Until, p.rules.Bound(q, now)
}

// Waits reports until when an agent that has started lately may not act as leader, since it may have forgotten a
// promise. watchdog is the longest time-out of an armed watchdog in the pool, timing the pool's.
func (p *Promises) Waits(timing pool.Timing, watchdog time.Duration) (until pool.Instant, waits bool) {
	until = p.started.Add(p.rules.Wait(p.Lasts(timing, watchdog)))
	return until, p.cfg.Clock.Now().Before(until)
}

// Lasts returns for how long promises are asked for: T + L.
func (p *Promises) Lasts(timing pool.Timing, watchdog time.Duration) time.Duration {
	return p.rules.Hold(timing.TTL, settle(timing, watchdog))
}

// settle is L: what a leader waits after it saw a member key gone.
func settle(t pool.Timing, watchdog time.Duration) time.Duration {
	if watchdog > 0 {
		return t.WatchdogSettle(watchdog)
	}
	return t.Settle
}
