package leader

import (
	"context"
	"time"

	"github.com/holdfast-ha/holdfast/pkg/clock"
	"github.com/holdfast-ha/holdfast/pkg/plan"
	"github.com/holdfast-ha/holdfast/pkg/pool"
)

// Limits of power fencing.
const (
	// powerLimit bounds one power-off with all its devices and retries.
	powerLimit = 2 * time.Minute
	// powerRetry is the pause after one that failed; it doubles up to powerPatience.
	powerRetry    = 2 * time.Second
	powerPatience = time.Minute
)

// attempt is the latest power-off command to one server under this leadership.
type attempt struct {
	result  plan.Power
	running bool
	again   pool.Instant
	// pause is how long to wait after this one, should it fail.
	pause time.Duration
}

// forgetPower drops what is known of servers that are not lost any more: of an earlier incident nothing holds.
func (l *Leader) forgetPower() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for id, a := range l.power {
		if _, lost := l.seen[id]; !lost && !a.running {
			delete(l.power, id)
		}
	}
}

// powerResults returns what is known of power-off commands; those under way as "not off yet".
func (l *Leader) powerResults() map[pool.ServerID]plan.Power {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := make(map[pool.ServerID]plan.Power, len(l.power))
	for id, a := range l.power {
		out[id] = a.result
	}
	return out
}

// switchOff begins the power-off commands that the plan asks for and that are not under way.
func (l *Leader) switchOff(ctx context.Context, fencing *clock.Group, snap *pool.Snapshot, servers []pool.ServerID) {
	for _, id := range servers {
		server, ok := snap.Servers.Get(id)
		if !ok {
			continue
		}
		if l.cfg.Fencer == nil {
			l.finish(id, l.begin(id, snap.Revision), plan.Power{Session: pool.Session(snap.Revision), Err: "this agent can run no fence devices"})
			continue
		}
		a := l.begin(id, snap.Revision)
		if a == nil {
			continue
		}
		bound := a.result.Session
		l.cfg.Log.Info("power off", "server", id, "revision", snap.Revision)
		fencing.Go("fence "+string(id), func() {
			ctx, cancel := l.cfg.Clock.WithTimeout(ctx, powerLimit)
			defer cancel()
			evidence, err := l.cfg.Fencer.PowerOff(ctx, server)
			p := plan.Power{Session: bound, Off: err == nil, Evidence: evidence}
			if err != nil {
				p.Evidence, p.Err = "", err.Error()
			}
			l.finish(id, a, p)
		})
	}
}

// begin notes a new attempt, bound to the sessions that existed at revision; nil if one is under way or too recent.
func (l *Leader) begin(id pool.ServerID, revision pool.Revision) *attempt {
	l.mu.Lock()
	defer l.mu.Unlock()
	old := l.power[id]
	if old != nil && (old.running || l.cfg.Clock.Now().Before(old.again)) {
		return nil
	}
	a := &attempt{running: true, result: plan.Power{Session: pool.Session(revision)}, pause: powerRetry}
	if old != nil {
		a.result.Err, a.pause = old.result.Err, min(2*old.pause, powerPatience)
	}
	if l.power == nil {
		l.power = map[pool.ServerID]*attempt{}
	}
	l.power[id] = a
	return a
}

// finish records how an attempt went, if its leadership still lasts.
func (l *Leader) finish(id pool.ServerID, a *attempt, p plan.Power) {
	if a == nil {
		return
	}
	l.mu.Lock()
	a.result, a.running, a.again = p, false, l.cfg.Clock.Now().Add(a.pause)
	l.mu.Unlock()
	if p.Err != "" {
		l.cfg.Log.Warn("power off failed", "server", id, "err", p.Err)
	}
	l.wake.Set()
}
