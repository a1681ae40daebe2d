package leader

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/holdfast-ha/holdfast/pkg/clock"
	"github.com/holdfast-ha/holdfast/pkg/plan"
	"github.com/holdfast-ha/holdfast/pkg/pool"
)

// Limits of power fencing.
const (
	// powerLimit bounds one power-off or power-on with all its devices and retries.
	powerLimit = 2 * time.Minute
	// powerRetry is the pause after one that failed; it doubles up to powerPatience.
	powerRetry    = 2 * time.Second
	powerPatience = 15 * time.Second
	// powerTold is how many failures in a row the history tells of; later ones only if the error is another.
	powerTold = 5
	// freshEnough is how long etcd's word that the snapshot is not an old one counts before a suspect's power is cut.
	freshEnough = 500 * time.Millisecond
)

// attempt is the latest power command to one server under this leadership.
type attempt struct {
	result  plan.Power
	running bool
	began   pool.Instant
	again   pool.Instant
	// pause is how long to wait after this one, should it fail; number counts them.
	pause  time.Duration
	number int
}

// forgetPower drops what is known of servers that are neither lost nor suspect any more: of an earlier incident
// nothing holds. A power-off that worked is a proof as long as the session that it covers is the latest.
func (l *Leader) forgetPower(snap *pool.Snapshot, suspects map[pool.ServerID]plan.Suspicion) {
	l.mu.Lock()
	defer l.mu.Unlock()
	over := func(id pool.ServerID, a *attempt) bool {
		_, lost := l.seen[id]
		_, suspect := suspects[id]
		m, up := snap.Members.Get(id)
		proof := a.result.Off && up && m.Session <= a.result.Session
		return !lost && !suspect && !a.running && !proof
	}
	for id, a := range l.power {
		if over(id, a) {
			delete(l.power, id)
		}
	}
	for id, a := range l.powerOn {
		if _, lost := l.seen[id]; !lost && !a.running {
			delete(l.powerOn, id)
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

// powerOnResults returns what is known of power-on commands.
func (l *Leader) powerOnResults() map[pool.ServerID]plan.PowerOn {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := make(map[pool.ServerID]plan.PowerOn, len(l.powerOn))
	for id, a := range l.powerOn {
		out[id] = plan.PowerOn{Done: !a.running && a.result.Err == "", Err: a.result.Err}
	}
	return out
}

// urgent reports whether a power-off is due that rests on a snapshot alone, and etcd has not confirmed lately that the
// snapshot is not an old one.
func (l *Leader) urgent(res plan.Result) bool {
	if l.cfg.Clock.Now().Sub(l.confirmed) <= freshEnough {
		return false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, id := range res.Urgent {
		if a := l.power[id]; a == nil || !a.running && !l.cfg.Clock.Now().Before(a.again) {
			return true
		}
	}
	return false
}

// switchOff begins the power-off commands that the plan asks for and that are not under way, all at once.
func (l *Leader) switchOff(ctx context.Context, fencing *clock.Group, snap *pool.Snapshot, servers []pool.ServerID) {
	office := l.office
	for _, id := range servers {
		server, ok := snap.Servers.Get(id)
		if !ok {
			continue
		}
		a := l.begin(&l.power, id, snap.Revision)
		if a == nil {
			continue
		}
		if l.cfg.Fencer == nil {
			l.finish(id, a, plan.Power{Session: pool.Session(snap.Revision), Err: "this agent can run no fence devices"})
			continue
		}
		bound := a.result.Session
		l.cfg.Log.Info("power off", "server", id, "revision", snap.Revision, "attempt", a.number)
		if a.number == 1 {
			l.remember("SERVER_FENCING", id, office, "the power of %s is being cut by %s", id, devicesOf(server))
		}
		fencing.Go("fence "+string(id), func() {
			ctx, cancel := l.cfg.Clock.WithTimeout(ctx, powerLimit)
			defer cancel()
			evidence, err := l.cfg.Fencer.PowerOff(ctx, server)
			took := seconds(l.cfg.Clock.Now().Sub(a.began))
			p := plan.Power{Session: bound, Off: err == nil, Evidence: fmt.Sprintf("%s (%s, attempt %d)", evidence, took, a.number)}
			if err != nil {
				p.Evidence, p.Err = "", err.Error()
				l.failed("SERVER_FENCING_FAILED", "cutting the power", id, office, a, took, p.Err)
			}
			l.finish(id, a, p)
		})
	}
}

// switchOn begins the power-on commands that the plan asks for and that are not under way.
func (l *Leader) switchOn(ctx context.Context, fencing *clock.Group, snap *pool.Snapshot, servers []pool.ServerID) {
	office := l.office
	for _, id := range servers {
		server, ok := snap.Servers.Get(id)
		if !ok || l.cfg.Fencer == nil {
			continue
		}
		a := l.begin(&l.powerOn, id, snap.Revision)
		if a == nil {
			continue
		}
		l.cfg.Log.Info("power on", "server", id, "attempt", a.number)
		fencing.Go("power on "+string(id), func() {
			ctx, cancel := l.cfg.Clock.WithTimeout(ctx, powerLimit)
			defer cancel()
			p := plan.Power{}
			if err := l.cfg.Fencer.PowerOn(ctx, server); err != nil {
				p.Err = err.Error()
				l.failed("SERVER_SWITCH_ON_FAILED", "switching it on", id, office, a, seconds(l.cfg.Clock.Now().Sub(a.began)), p.Err)
			}
			l.finish(id, a, p)
		})
	}
}

// failed has the history tell of a failed attempt, with what comes next. a.result still holds the error before.
func (l *Leader) failed(kind, what string, id pool.ServerID, office pool.Leader, a *attempt, took, err string) {
	if a.number > powerTold && a.result.Err == err {
		return
	}
	l.remember(kind, id, office, "%s: %s failed after %s, attempt %d; the next in %v: %s", id, what, took, a.number, a.pause, err)
}

// begin notes a new attempt, bound to the sessions that existed at revision; nil if one is under way or too recent.
func (l *Leader) begin(all *map[pool.ServerID]*attempt, id pool.ServerID, revision pool.Revision) *attempt {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.cfg.Clock.Now()
	old := (*all)[id]
	if old != nil && (old.running || now.Before(old.again)) {
		return nil
	}
	a := &attempt{running: true, result: plan.Power{Session: pool.Session(revision)}, began: now, pause: powerRetry, number: 1}
	if old != nil {
		a.result.Err, a.pause, a.number = old.result.Err, min(2*old.pause, powerPatience), old.number+1
	}
	if *all == nil {
		*all = map[pool.ServerID]*attempt{}
	}
	(*all)[id] = a
	return a
}

// finish records how an attempt went, if its leadership still lasts.
func (l *Leader) finish(id pool.ServerID, a *attempt, p plan.Power) {
	l.mu.Lock()
	a.result, a.running, a.again = p, false, l.cfg.Clock.Now().Add(a.pause)
	l.mu.Unlock()
	if p.Err != "" {
		l.cfg.Log.Warn("power command failed", "server", id, "attempt", a.number, "err", p.Err)
	}
	l.wake.Set()
}

// devicesOf names a server's fence programs.
func devicesOf(s pool.Server) string {
	names := make([]string, 0, len(s.Fence))
	for _, d := range s.Fence {
		names = append(names, d.Agent)
	}
	return strings.Join(names, " and ")
}

// seconds words a duration for people.
func seconds(d time.Duration) string { return fmt.Sprintf("%.1f s", d.Seconds()) }
