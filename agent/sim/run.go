package sim

import (
	"fmt"
	"time"

	"github.com/holdfast-ha/holdfast/agent/sim/scenario"
)

// Options of one run.
type Options struct {
	Seed uint64
	// Sink gets the time line; nil for none.
	Sink func(Line)
	// Logs puts what agents and guards log into the time line.
	Logs bool
	// Hire makes the crew; nil for real agents and guards.
	Hire func(*Pool) Crew
	// Tamper switches defences off.
	Tamper Tamper
	// Lenient skips faults that cannot happen, such as the crash of a VM that does not run, instead of failing.
	Lenient bool
	// Begin is called at time 0, before the time line.
	Begin func(*Pool)
}

// Result is how one run went.
type Result struct {
	File string
	Seed uint64
	// Err is a *Failure, or trouble in the simulation; nil if everything held.
	Err error
	// Virtual is how much time the pool lived, Events how many events that were, set-up included.
	Virtual time.Duration
	Events  uint64
	// Unsettled: the set-up did not come true, so that nothing was played.
	Unsettled bool
	// Skipped are the lines of faults that could not happen, in a lenient run.
	Skipped []int
}

// Run plays one scenario once.
func Run(f *scenario.File, o Options) Result {
	r := Result{File: f.Name, Seed: o.Seed}
	hire := o.Hire
	if hire == nil {
		hire = Agents
	}
	p, err := NewPool(f, o.Seed, o.Sink, hire)
	if err != nil {
		r.Err = err
		return r
	}
	defer p.Close()
	p.Logs, p.tamper, p.lenient = o.Logs, o.Tamper, o.Lenient
	p.World.IgnoreLocks(o.Tamper.NoLocks)
	if err := p.Settle(); err != nil {
		r.Err, r.Unsettled = fmt.Errorf("%s: %w", f.Name, err), true
	} else {
		if o.Begin != nil {
			o.Begin(p)
		}
		r.Err = p.Play(NewChecker(p))
		if r.Err != nil && !IsFailure(r.Err) {
			r.Err = fmt.Errorf("%s: at %.3fs: %w", f.Name, p.Now().Seconds(), r.Err)
		}
	}
	r.Virtual, r.Events, r.Skipped = p.Sched.Now(), p.Sched.Events(), p.skipped
	return r
}
