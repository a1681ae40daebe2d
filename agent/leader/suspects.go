package leader

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/holdfast-ha/holdfast/pkg/clock"
	"github.com/holdfast-ha/holdfast/pkg/plan"
	"github.com/holdfast-ha/holdfast/pkg/pool"
)

// Hearing is how this agent hears the others, and what they hear. agent/reach listens; agent/mesh asks.
type Hearing interface {
	// Listen has a server probed every so often for some time.
	Listen(server pool.ServerID, every time.Duration)
	// Silence is how long a server that is listened to has given no sign of life.
	Silence(server pool.ServerID) time.Duration
	// AskSilence asks another member how long it has listened to subject in vain; it begins when asked first.
	AskSilence(ctx context.Context, witness, subject pool.ServerID) (time.Duration, error)
}

// mostAsked bounds about how many silent servers the others are asked at once. Where more are silent, nobody's power is
// cut for it anyway, but in the largest pools.
const mostAsked = 8

// lookout finds suspects while this agent leads. It runs beside the leader's loop, which it wakes.
type lookout struct {
	cfg Config
	// changed is set when the suspects are others than before; begun when a leadership began.
	changed, begun clock.Signal

	// Of its own loop: the snapshot that watched was made from.
	seen      *pool.Snapshot
	watched   []pool.ServerID
	fenceable map[pool.ServerID]bool

	mu       sync.Mutex
	suspects map[pool.ServerID]plan.Suspicion
	reports  map[pair]report
}

// pair is a question: what does witness hear of subject?
type pair struct{ witness, subject pool.ServerID }

// report is the answer.
type report struct {
	silent time.Duration
	at     pool.Instant
	asking bool
}

func newLookout(cfg Config, changed clock.Signal) *lookout {
	return &lookout{cfg: cfg, changed: changed, begun: cfg.Clock.NewSignal(), reports: map[pair]report{}}
}

// found returns the present suspects. Do not change the map.
func (l *lookout) found() map[pool.ServerID]plan.Suspicion {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.suspects
}

// run looks out until ctx ends.
func (l *lookout) run(ctx context.Context) {
	if l.cfg.Hearing == nil {
		return
	}
	asking := clock.NewGroup(l.cfg.Clock)
	for ctx.Err() == nil {
		l.begun.Wait(ctx, l.look(ctx, asking))
	}
	asking.Wait()
}

// look takes one look and returns how long until the next.
func (l *lookout) look(ctx context.Context, asking *clock.Group) time.Duration {
	office, leads := l.cfg.Office.Leading()
	if !leads {
		l.set(nil)
		return idle
	}
	snap := l.cfg.Pool.Snapshot()
	if snap != l.seen {
		l.seen = snap
		l.watched, l.fenceable = plan.Watched(snap, office.Server)
	}
	if len(l.watched) == 0 {
		l.set(nil)
		return idle
	}
	after := snap.Config.SuspectAfter
	silent := map[pool.ServerID]plan.Silence{}
	look := after / 2
	for _, id := range l.watched {
		every := after // it would only be told of
		if l.fenceable[id] {
			every, look = after/4, after/8
		}
		l.cfg.Hearing.Listen(id, every)
		if s := l.cfg.Hearing.Silence(id); s >= every+after/8 {
			silent[id] = plan.Silence{Own: s}
		}
	}
	if len(silent) == 0 {
		l.set(nil)
		return look
	}
	l.ask(ctx, asking, snap, office.Server, silent)
	l.set(plan.Suspects(snap, office.Server, l.heardBy(silent, after)))
	return after / 16
}

// ask asks every other member about the silent ones, where that is not under way. If most of the servers are silent,
// the trouble is this agent's own, and nobody is asked.
func (l *lookout) ask(ctx context.Context, asking *clock.Group, snap *pool.Snapshot, self pool.ServerID, silent map[pool.ServerID]plan.Silence) {
	if 2*len(silent) >= snap.Members.Len() {
		return
	}
	subjects := slices.Sorted(maps.Keys(silent))
	for _, subject := range subjects[:min(len(subjects), mostAsked)] {
		for witness := range snap.Members.All() {
			if _, mute := silent[witness]; mute || witness == self {
				continue
			}
			q := pair{witness, subject}
			if !l.begin(q) {
				continue
			}
			asking.Go("ask "+string(witness), func() {
				ctx, cancel := l.cfg.Clock.WithTimeout(ctx, snap.Config.SuspectAfter/2)
				defer cancel()
				heard, err := l.cfg.Hearing.AskSilence(ctx, q.witness, q.subject)
				l.end(q, heard, err)
			})
		}
	}
}

func (l *lookout) begin(q pair) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	r := l.reports[q]
	if r.asking {
		return false
	}
	r.asking = true
	l.reports[q] = r
	return true
}

func (l *lookout) end(q pair, silent time.Duration, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err != nil {
		delete(l.reports, q)
		return
	}
	l.reports[q] = report{silent: silent, at: l.cfg.Clock.Now()}
}

// heardBy adds what the others said lately.
func (l *lookout) heardBy(silent map[pool.ServerID]plan.Silence, after time.Duration) map[pool.ServerID]plan.Silence {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.cfg.Clock.Now()
	for q, r := range l.reports {
		s, asked := silent[q.subject]
		switch {
		case r.asking:
		case !asked || now.Sub(r.at) > after/2:
			delete(l.reports, q)
			continue
		}
		if !asked || r.at == 0 || now.Sub(r.at) > after/2 {
			continue
		}
		if s.Others == nil {
			s.Others = map[pool.ServerID]time.Duration{}
		}
		s.Others[q.witness] = r.silent
		silent[q.subject] = s
	}
	return silent
}

// set notes the suspects, and wakes the leader's loop if they are others than before.
func (l *lookout) set(suspects map[pool.ServerID]plan.Suspicion) {
	l.mu.Lock()
	same := maps.EqualFunc(l.suspects, suspects, func(a, b plan.Suspicion) bool {
		return a.Session == b.Session && a.Long == b.Long && slices.Equal(a.Witnesses, b.Witnesses)
	})
	if !same {
		l.suspects = suspects
	}
	l.mu.Unlock()
	if !same {
		l.changed.Set()
	}
}
