package guard

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/holdfast-ha/holdfast/pkg/clock"
	"github.com/holdfast-ha/holdfast/pkg/pool"
)

// Intervals of the loop.
const (
	// alert is the longest wait while something is held: timers may stand still while the machine is suspended.
	alert = 250 * time.Millisecond
	// idle is the longest wait otherwise.
	idle = 5 * time.Second
	// lookQuick and lookSlow are how often a process that was killed is looked at, in the first second and after it.
	lookQuick = 5 * time.Millisecond
	lookSlow  = 50 * time.Millisecond
	// maxQueue bounds the waiting requests, batch how many of them one Step takes before it looks at time again.
	maxQueue = 4096
	batch    = 64
)

// LoopConfig is what a Loop acts through. Watchdog, Memory and Pauser may be nil: there is none.
type LoopConfig struct {
	Core      *Core
	Processes Processes
	Watchdog  Watchdog
	Memory    Memory
	Pauser    Pauser
	Clock     clock.Clock
	Log       *slog.Logger
}

// Loop carries out what a Core decides. It is a Client itself: requests wait for the loop, and are answered once
// their effect is in Memory too. Client's methods may be called by anyone; Core belongs to the loop.
type Loop struct {
	cfg   LoopConfig
	core  *Core
	clock clock.Clock
	log   *slog.Logger
	wake  clock.Signal
	save  saver
	dog   *dog

	mu     sync.Mutex
	queue  []*request
	paused []confirmation

	waiting []*request // carried out, not answered: Run's own
}

// request is one call of a Client.
type request struct {
	ctx   context.Context
	do    func(now pool.Instant) error
	keep  bool // the effect must be in Memory before the answer
	arm   bool // and the watchdog armed
	done  clock.Signal
	since uint64 // version of the state that holds its effect

	// Guarded by Loop.mu.
	answered bool
	err      error
}

// confirmation is the answer of a Pauser.
type confirmation struct {
	held Held
	ask  int
	err  error
}

var _ Client = (*Loop)(nil)

// NewLoop returns a loop that does nothing until Run.
func NewLoop(cfg LoopConfig) *Loop {
	l := &Loop{cfg: cfg, core: cfg.Core, clock: cfg.Clock, log: cfg.Log, wake: cfg.Clock.NewSignal()}
	l.save = saver{memory: cfg.Memory, clock: cfg.Clock, log: cfg.Log, wake: cfg.Clock.NewSignal(), saved: l.wake}
	l.dog = newDog(cfg.Watchdog, cfg.Clock, cfg.Log, l.wake)
	return l
}

// Run reads back what an earlier life held and then guards until ctx ends. Ending it frees no VM: the watchdog, if
// it is armed for one, stays armed.
func (l *Loop) Run(ctx context.Context) error {
	l.Recover()
	g := clock.NewGroup(l.clock)
	if l.cfg.Memory != nil {
		g.Go("guard memory", func() { l.save.run(ctx) })
	}
	if l.cfg.Watchdog != nil {
		g.Go("guard watchdog", func() { l.dog.run(ctx) })
	}
	for ctx.Err() == nil {
		l.wake.Wait(ctx, l.Step(ctx))
	}
	g.Wait()
	return ctx.Err()
}

// Recover reads back what an earlier life held. Run calls it.
func (l *Loop) Recover() {
	if l.cfg.Memory == nil {
		return
	}
	saved, ok, err := l.cfg.Memory.Load()
	if err != nil {
		l.log.Error("kept state is damaged; killing every process that it names", "held", len(saved.Held), "err", err)
	}
	if !ok && err == nil {
		return
	}
	l.core.Restore(saved, l.clock.Now())
	for _, h := range l.core.Held() {
		if err := l.cfg.Processes.Open(h.Process); errors.Is(err, ErrNoProcess) {
			l.core.Dead(h)
		} else if err != nil {
			l.log.Warn("process not opened; trying again", "vm", h.VM, "pid", h.Process.PID, "err", err)
		}
	}
	l.tellDog()
	l.log.Info("guard took over", "held", len(l.core.Held()), "sessions", len(saved.Leases))
}

// Step does what is due now and returns how long to wait before the next one. It never blocks.
func (l *Loop) Step(ctx context.Context) time.Duration {
	l.takePaused()
	changed := l.takeRequests()
	changed = l.reap() || changed
	if acts := l.core.Tick(l.clock.Now()); len(acts) > 0 {
		changed = l.act(ctx, acts) || changed
	}
	if changed {
		l.save.put(l.core.Saved())
	}
	l.tellDog()
	l.answer()
	return l.wait()
}

func (l *Loop) tellDog() {
	until, limited := l.core.PetUntil()
	l.dog.allow(len(l.core.holds) > 0, until, limited, l.clock.Now())
}

// wait returns how long nothing will be due.
func (l *Loop) wait() time.Duration {
	longest := idle
	if len(l.core.holds) > 0 || l.dog.isArmed() {
		longest = alert
	}
	l.mu.Lock()
	if len(l.queue) > 0 {
		longest = 0
	}
	l.mu.Unlock()
	at, ok := l.core.Next()
	if !ok {
		return longest
	}
	now := l.clock.Now()
	if since, any := l.core.killing(now); any {
		look := lookQuick
		if since > time.Second {
			look = lookSlow
		}
		return min(longest, look)
	}
	return max(0, min(longest, at.Sub(now)))
}

// reap notes processes that have ended.
func (l *Loop) reap() (changed bool) {
	for _, h := range l.core.sorted() {
		dead, err := l.cfg.Processes.Dead(h.Process)
		if err != nil || !dead {
			continue
		}
		changed = true
		l.cfg.Processes.Close(h.Process)
		if killed, due := l.core.Dead(h.Held); killed {
			l.log.Warn("vm is dead", "vm", h.VM, "pid", h.Process.PID, "session", h.Session, "took", l.clock.Now().Sub(due))
		}
	}
	return changed
}

// act carries out what the core demands: all signals first, words about them after. It reports whether anything is
// new.
func (l *Loop) act(ctx context.Context, acts []Act) (news bool) {
	failed := map[identity]error{}
	for _, a := range acts {
		switch a.Kind {
		case ActKill:
			if err := l.cfg.Processes.Kill(a.Held.Process); err != nil {
				failed[a.Held.identity()] = err
			}
		case ActPause:
			l.pause(ctx, a)
		}
	}
	for _, a := range acts {
		news = news || a.First
		if err := failed[a.Held.identity()]; err != nil && a.First {
			l.log.Error("kill failed; trying again", "vm", a.Held.VM, "pid", a.Held.Process.PID, "err", err)
		} else if a.First {
			l.log.Warn("stop time passed", "action", a.Kind, "vm", a.Held.VM, "pid", a.Held.Process.PID,
				"session", a.Held.Session, "late", l.clock.Now().Sub(a.Due))
		}
	}
	return news
}

// pause asks a VM's monitor, beside the loop.
func (l *Loop) pause(ctx context.Context, a Act) {
	l.clock.Go("guard pause", func() {
		err := errors.New("no way to pause")
		if l.cfg.Pauser != nil {
			pctx, cancel := l.clock.WithTimeout(ctx, a.By.Sub(l.clock.Now()))
			err = l.cfg.Pauser.Pause(pctx, a.Held)
			cancel()
		}
		l.mu.Lock()
		l.paused = append(l.paused, confirmation{a.Held, a.Ask, err})
		l.mu.Unlock()
		l.wake.Set()
	})
}

func (l *Loop) takePaused() {
	l.mu.Lock()
	all := l.paused
	l.paused = nil
	l.mu.Unlock()
	for _, p := range all {
		if p.err != nil {
			l.log.Warn("vm not paused", "vm", p.held.VM, "err", p.err)
			continue
		}
		l.core.Paused(p.held, p.ask, l.clock.Now())
		l.save.put(l.core.Saved())
		l.log.Warn("vm is paused", "vm", p.held.VM, "pid", p.held.Process.PID)
	}
}

// takeRequests carries waiting requests out. They come before the deadlines: a renewal that waits here already must
// not come too late because this process was kept from running.
func (l *Loop) takeRequests() (changed bool) {
	l.mu.Lock()
	n := min(batch, len(l.queue))
	all := l.queue[:n:n]
	l.queue = l.queue[n:]
	l.mu.Unlock()
	for _, r := range all {
		if err := r.ctx.Err(); err != nil {
			l.finish(r, fmt.Errorf("guard: not carried out: %w: %w", pool.ErrUnavailable, err)) // its caller has gone on
			continue
		}
		if err := r.do(l.clock.Now()); err != nil || !r.keep {
			l.finish(r, err)
			continue
		}
		changed = true
		r.since = l.save.next()
		l.waiting = append(l.waiting, r)
	}
	return changed
}

// answer finishes the requests whose effect is kept.
func (l *Loop) answer() {
	var later []*request
	for _, r := range l.waiting {
		armed, err := l.dog.ready()
		switch {
		case r.ctx.Err() != nil:
			l.finish(r, fmt.Errorf("guard: no answer: %w: %w", pool.ErrOutcomeUnknown, r.ctx.Err()))
		case !l.save.done(r.since), r.arm && !armed && err == nil:
			later = append(later, r)
		case r.arm && err != nil:
			l.finish(r, err)
		default:
			l.finish(r, nil)
		}
	}
	l.waiting = later
}

func (l *Loop) finish(r *request, err error) {
	l.mu.Lock()
	r.answered, r.err = true, err
	l.mu.Unlock()
	r.done.Set()
}

// request has the loop carry r out and waits for the answer.
func (l *Loop) request(ctx context.Context, r *request) error {
	r.ctx, r.done = ctx, l.clock.NewSignal()
	l.mu.Lock()
	if len(l.queue) >= maxQueue {
		l.mu.Unlock()
		return fmt.Errorf("guard: too many requests wait: %w", pool.ErrUnavailable)
	}
	l.queue = append(l.queue, r)
	l.mu.Unlock()
	l.wake.Set()
	for {
		r.done.Wait(ctx, -1)
		l.mu.Lock()
		answered, err := r.answered, r.err
		l.mu.Unlock()
		if answered {
			return err
		}
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("guard: no answer: %w: %w", pool.ErrOutcomeUnknown, err)
		}
	}
}

// Extend implements Client.
func (l *Loop) Extend(ctx context.Context, lease Lease) error {
	return l.request(ctx, &request{keep: true, do: func(now pool.Instant) error { return l.core.Extend(lease, now) }})
}

// Hold implements Client.
func (l *Loop) Hold(ctx context.Context, held Held) error {
	return l.request(ctx, &request{keep: true, arm: true, do: func(now pool.Instant) error { return l.hold(held, now) }})
}

func (l *Loop) hold(held Held, now pool.Instant) error {
	if err := l.cfg.Processes.Open(held.Process); err != nil {
		return fmt.Errorf("hold %s: %w", held.VM, err)
	}
	err := l.core.Hold(held, now)
	if err != nil && !l.core.knows(held.Process) {
		l.cfg.Processes.Close(held.Process)
	}
	return err
}

// LetGo implements Client.
func (l *Loop) LetGo(ctx context.Context, vm pool.VMID) error {
	return l.request(ctx, &request{keep: true, do: func(now pool.Instant) error {
		before := l.core.Held()
		l.core.LetGo(vm, now)
		for _, h := range before {
			if !l.core.knows(h.Process) {
				l.cfg.Processes.Close(h.Process)
			}
		}
		return nil
	}})
}

// Status implements Client.
func (l *Loop) Status(ctx context.Context) (Status, error) {
	var st Status
	err := l.request(ctx, &request{do: func(pool.Instant) error {
		st = l.core.Status()
		st.Armed, st.Watchdog = true, l.dog.proof()
		return nil
	}})
	if err != nil {
		return Status{}, err // the loop may still write to st
	}
	return st, nil
}
