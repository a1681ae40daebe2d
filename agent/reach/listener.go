package reach

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/holdfast-ha/holdfast/pkg/clock"
	"github.com/holdfast-ha/holdfast/pkg/pool"
)

const (
	// outstanding is how many probes of one server may wait for an answer at once. With a probe every quarter of the
	// time that makes a server suspect, answers may take that long and still count.
	outstanding = 4
	// keep is for how many intervals a server is listened to after the last request.
	keep = 6
	// idle bounds how long the loop sleeps.
	idle = time.Minute
)

// Probe asks a server's host for a sign of life.
type Probe interface {
	// Alive returns nil as soon as the host answers anything at all, and an error if it does not before ctx ends.
	Alive(ctx context.Context, server pool.ServerID) error
}

// Listener keeps track of what is heard. Create it with New.
type Listener struct {
	clock clock.Clock
	probe Probe
	wake  clock.Signal

	mu   sync.Mutex
	ears map[pool.ServerID]*ear
}

// ear is what is heard of one server.
type ear struct {
	every       time.Duration
	until, next pool.Instant
	// life is the latest sign of life, or when listening began.
	life pool.Instant
	// unanswered is when the oldest probe after life was sent; zero: none was.
	unanswered pool.Instant
	waiting    int
}

// New returns a Listener that sends nothing until Run.
func New(c clock.Clock, probe Probe) *Listener {
	return &Listener{clock: c, probe: probe, wake: c.NewSignal(), ears: map[pool.ServerID]*ear{}}
}

// Listen has a server probed every so often. The request holds for some intervals; make it again and again.
func (l *Listener) Listen(server pool.ServerID, every time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.clock.Now()
	e := l.ears[server]
	if e == nil {
		e = &ear{every: every}
		l.ears[server] = e
	}
	if e.until.Before(now) {
		e.anew(now)
		l.wake.Set()
	}
	if every < e.every {
		e.next = min(e.next, now.Add(every))
		l.wake.Set()
	}
	e.every, e.until = every, now.Add(keep*every)
}

// anew begins to listen: what was before says nothing about what would have been heard meanwhile.
func (e *ear) anew(now pool.Instant) { e.life, e.next, e.unanswered = now, now, 0 }

// Silence is how long ago a server that is listened to gave its latest sign of life; zero if no probe since then lacks
// its answer.
func (l *Listener) Silence(server pool.ServerID) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	e, now := l.ears[server], l.clock.Now()
	if e == nil || e.unanswered == 0 || e.until.Before(now) || e.late(now) {
		return 0
	}
	return now.Sub(max(e.life, e.unanswered.Add(-e.every)))
}

// late reports whether a probe is long overdue: this agent itself was held up, and must listen anew.
func (e *ear) late(now pool.Instant) bool { return now.Sub(e.next) > e.every }

// Run probes until ctx ends.
func (l *Listener) Run(ctx context.Context) error {
	g := clock.NewGroup(l.clock)
	for ctx.Err() == nil {
		due, wait := l.due()
		for _, server := range due {
			g.Go("probe "+string(server), func() { l.ask(ctx, server) })
		}
		l.wake.Wait(ctx, wait)
	}
	g.Wait()
	return nil
}

// due notes which servers are to be probed now, by name, and how long until the next.
func (l *Listener) due() (due []pool.ServerID, wait time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.clock.Now()
	wait = idle
	for _, server := range slices.Sorted(maps.Keys(l.ears)) {
		e := l.ears[server]
		if e.until.Before(now) {
			if e.waiting == 0 {
				delete(l.ears, server)
			}
			continue
		}
		if e.late(now) {
			e.anew(now)
		}
		if !now.Before(e.next) {
			e.next = now.Add(e.every)
			if e.waiting < outstanding {
				due = append(due, server)
				e.waiting++
			}
			if e.unanswered == 0 {
				e.unanswered = now
			}
		}
		wait = min(wait, e.next.Sub(now))
	}
	return due, wait
}

// ask sends one probe and takes note of its answer.
func (l *Listener) ask(ctx context.Context, server pool.ServerID) {
	l.mu.Lock()
	limit := outstanding * l.ears[server].every
	l.mu.Unlock()
	ctx, cancel := l.clock.WithTimeout(ctx, limit)
	defer cancel()
	err := l.probe.Alive(ctx, server)
	l.mu.Lock()
	defer l.mu.Unlock()
	e := l.ears[server]
	e.waiting--
	if err == nil {
		e.life, e.unanswered = l.clock.Now(), 0
	}
}
