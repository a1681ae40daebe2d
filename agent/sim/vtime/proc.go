package vtime

import (
	"context"
	"time"

	"github.com/holdfast-ha/holdfast/pkg/clock"
	"github.com/holdfast-ha/holdfast/pkg/pool"
)

var _ clock.Clock = (*Proc)(nil)

// Timepiece says how a process reads time.
type Timepiece struct {
	// Boot is what CLOCK_BOOTTIME showed at virtual time 0 (negative for a machine that boots later).
	Boot time.Duration
	// Wall is what the wall clock showed at virtual time 0.
	Wall time.Time
	// PPM is the rate error of both in parts per million: 100 runs 0.1 ms a second fast.
	PPM int64
}

// Proc is one simulated process and its clock. Build it with Scheduler.NewProc.
type Proc struct {
	s     *Scheduler
	name  string
	time  Timepiece
	dead  bool
	hung  bool
	coros []*coro
	// held are woken coroutines of a hung process.
	held []*coro
}

// NewProc returns a live process without coroutines. name appears in diagnostics.
func (s *Scheduler) NewProc(name string, t Timepiece) *Proc {
	p := &Proc{s: s, name: name, time: t}
	s.procs = append(s.procs, p)
	return p
}

// Name returns the process's name.
func (p *Proc) Name() string { return p.name }

// Scheduler returns the scheduler that the process belongs to.
func (p *Proc) Scheduler() *Scheduler { return p.s }

// Alive reports whether the process was not killed.
func (p *Proc) Alive() bool { return !p.dead }

// Hung reports whether the process is stopped.
func (p *Proc) Hung() bool { return p.hung }

// Kill ends the process. A coroutine of it that is running now ends at its next call to a clock or edge.
func (p *Proc) Kill() {
	if p.dead {
		return
	}
	p.dead = true
	p.held = nil
	for _, c := range p.coros {
		if c != p.s.current {
			p.s.reap = append(p.s.reap, c)
		}
	}
	p.coros = nil
	p.s.dropProc(p)
}

// Hang stops the process, as SIGSTOP does.
func (p *Proc) Hang() { p.hung = true }

// Resume continues a hung process: everything that happened meanwhile reaches it now.
func (p *Proc) Resume() {
	if !p.hung {
		return
	}
	p.hung = false
	for _, c := range p.held {
		p.s.push(event{at: p.s.now, c: c, gen: c.gen, woken: true})
	}
	p.held = nil
}

// Check unwinds the calling coroutine if its process was killed. Every simulated edge calls it first.
func (p *Proc) Check() {
	if p.dead {
		panic(killed{}) //nolint:forbidigo // unwinds a killed process; recovered at the coroutine's top
	}
}

// Now returns CLOCK_BOOTTIME as this process reads it.
func (p *Proc) Now() pool.Instant {
	return pool.Instant(int64(p.time.Boot) + p.s.now + p.s.now/1_000_000*p.time.PPM)
}

// Wall returns the wall clock as this process reads it.
func (p *Proc) Wall() time.Time { return p.time.Wall.Add(p.s.Now()) }

// Sleep parks for d.
func (p *Proc) Sleep(ctx context.Context, d time.Duration) error {
	p.Check()
	if err := ctx.Err(); err != nil {
		return err
	}
	c := p.running("Sleep")
	gen := c.begin()
	p.s.push(event{at: p.s.now + p.stretch(d), c: c, gen: gen})
	v := watch(ctx, c, gen)
	w := c.park()
	unwatch(v, c)
	if w == whyContext {
		return ctx.Err()
	}
	return nil
}

// Go starts f as a coroutine of this process. In a killed process it does nothing.
func (p *Proc) Go(name string, f func()) {
	if p.dead {
		return
	}
	c := newCoro(p, name, f)
	p.s.push(event{at: p.s.now, c: c, gen: c.gen, woken: true})
}

// NewSignal returns a lowered signal.
func (p *Proc) NewSignal() clock.Signal { return &signal{p: p} }

// stretch converts a duration of this clock into virtual time.
func (p *Proc) stretch(d time.Duration) int64 {
	if p.time.PPM == 0 {
		return max(0, int64(d))
	}
	return max(0, int64(d)-int64(d)/1_000_000*p.time.PPM)
}

// running returns the coroutine that calls.
func (p *Proc) running(what string) *coro {
	if p.s.current == nil {
		panic("vtime: " + what + " called outside a coroutine") //nolint:forbidigo // a bug in the simulator itself
	}
	return p.s.current
}

func (p *Proc) forget(c *coro) {
	if p.dead {
		return
	}
	last := p.coros[len(p.coros)-1]
	p.coros[c.index] = last
	last.index = c.index
	p.coros[len(p.coros)-1] = nil
	p.coros = p.coros[:len(p.coros)-1]
}

func (s *Scheduler) dropProc(p *Proc) {
	for i, q := range s.procs {
		if q == p {
			s.procs = append(s.procs[:i:i], s.procs[i+1:]...)
			return
		}
	}
}
