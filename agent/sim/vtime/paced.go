package vtime

import (
	"context"
	"sync"
	"time"

	"github.com/holdfast-ha/holdfast/pkg/clock"
	"github.com/holdfast-ha/holdfast/pkg/pool"
)

// Paced runs a scheduler at the speed of real time and lets other goroutines in. Run owns the scheduler: nothing
// else may touch it, or anything that belongs to it, but functions given to Do and Call.
type Paced struct {
	s     *Scheduler
	real  clock.Clock
	start pool.Instant
	wake  clock.Signal

	mu    sync.Mutex
	queue []func()
	ended bool
}

// Pace returns a driver for s, whose virtual time 0 is now. It does nothing until Run.
func Pace(s *Scheduler) *Paced {
	r := clock.Real()
	return &Paced{s: s, real: r, start: r.Now(), wake: r.NewSignal()}
}

// Timepiece makes processes read the same CLOCK_BOOTTIME and wall clock as the machine.
func (p *Paced) Timepiece() Timepiece {
	return Timepiece{Boot: time.Duration(p.start), Wall: p.real.Wall().Add(-p.real.Now().Sub(p.start))}
}

// Run lets events happen when their time has come, until ctx ends or a coroutine panics. It may be called once.
func (p *Paced) Run(ctx context.Context) error {
	defer p.end()
	for ctx.Err() == nil {
		queued := p.take()
		now := p.real.Now().Sub(p.start)
		if err := p.s.Run(now); err != nil { // a caller's time is never ahead of the virtual clock
			return err
		}
		for _, f := range queued {
			f()
		}
		if err := p.s.Run(now); err != nil {
			return err
		}
		wait := time.Second
		if next, ok := p.s.Next(); ok {
			wait = max(0, min(wait, next-now))
		}
		p.wake.Wait(ctx, wait)
	}
	return ctx.Err()
}

// Do runs f with the scheduler to itself and returns once it has ended. f must not park. Without a running Run it
// returns false.
func (p *Paced) Do(f func()) bool {
	done := p.real.NewSignal()
	if !p.put(func() { f(); done.Set() }) {
		return false
	}
	done.Wait(context.Background(), -1)
	return true
}

// unwind is how long a call whose context has ended may take to return.
const unwind = time.Second

// Call runs f as a coroutine of proc and returns once it has ended. The context that f gets ends with ctx. It returns
// pool.ErrUnavailable if the process was killed before f ended, nothing runs, or the process hangs when ctx ends: f may
// then still run later, so what it writes must not be read after an error.
func (p *Paced) Call(ctx context.Context, proc *Proc, f func(ctx context.Context)) error {
	done := p.real.NewSignal()
	finished := false
	var cancel context.CancelCauseFunc
	ok := p.put(func() {
		if !proc.Alive() {
			done.Set()
			return
		}
		var inner context.Context
		inner, cancel = proc.WithCancel(context.Background())
		proc.Go("outside call", func() {
			defer done.Set()
			defer cancel(nil)
			f(inner)
			finished = true
		})
	})
	if !ok {
		return pool.ErrUnavailable
	}
	if !done.Wait(ctx, -1) {
		p.put(func() {
			if cancel != nil {
				cancel(ctx.Err())
			}
		})
		if !done.Wait(context.Background(), unwind) {
			return pool.ErrUnavailable // the process hangs; f may still run later
		}
	}
	if !finished {
		return pool.ErrUnavailable
	}
	return nil
}

// put hands f to Run; false if that has ended.
func (p *Paced) put(f func()) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ended {
		return false
	}
	p.queue = append(p.queue, f)
	p.wake.Set()
	return true
}

func (p *Paced) take() []func() {
	p.mu.Lock()
	defer p.mu.Unlock()
	q := p.queue
	p.queue = nil
	return q
}

// end carries out what still waits, and refuses the rest: nobody may wait for ever.
func (p *Paced) end() {
	p.mu.Lock()
	p.ended = true
	p.mu.Unlock()
	for _, f := range p.take() {
		f()
	}
	p.s.Close()
}
