package sim

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/holdfast-ha/holdfast/agent/sim/scenario"
)

// tail is how long a run goes on after its last statement.
const tail = 60 * time.Second

// answerTime is how long what agents report may take to follow what has happened: a question asked over the API is answered
// that much later at most.
const answerTime = 100 * time.Millisecond

// lookEvery bounds how long a change of what agents report can go unnoticed by those who wait for it.
const lookEvery = 5 * time.Millisecond

// Failure is an expectation or invariant that did not hold.
type Failure struct {
	File string
	// Line of the statement; of an invariant, the statement that was played last before it, 0 if there was none.
	Line int
	// Invariant is the number of the invariant that was broken; 0 for an expectation.
	Invariant int
	// At is the virtual time since time 0.
	At       time.Duration
	Expected string
	Seen     string
}

// Error names file, line, virtual time, what was expected and what was seen.
func (f *Failure) Error() string {
	where := f.File
	if f.Line > 0 {
		where = fmt.Sprintf("%s:%d", f.File, f.Line)
	}
	return fmt.Sprintf("%s: at %.3fs: expected %s; seen: %s", where, f.At.Seconds(), strings.TrimPrefix(f.Expected, "expect "), f.Seen)
}

// watch is a condition that must hold while the run goes on.
type watch struct {
	st    scenario.Statement
	until time.Duration
	// never: it must not hold.
	never bool
}

// player runs one scenario's time line on a settled pool.
type player struct {
	*Pool
	check   *Checker
	watches []watch
	// cursor is where the next bare or relative statement counts from.
	cursor time.Duration
	looked uint64
	at     time.Duration
	// next is when the next statement comes, if it has a time of its own.
	next time.Duration
}

// Play runs the time line and its tail. The error is a *Failure, or trouble in the simulation itself.
func (p *Pool) Play(check *Checker) error {
	pl := &player{Pool: p, check: check}
	for _, st := range p.File.Never {
		pl.watches = append(pl.watches, watch{st: st, until: 1 << 62, never: true})
	}
	p.onStep = pl.look
	defer func() { p.onStep = nil }()
	if err := pl.look(); err != nil {
		return err
	}
	for i, st := range p.File.Lines {
		pl.next = 1 << 62
		if i+1 < len(p.File.Lines) && p.File.Lines[i+1].When == scenario.At {
			pl.next = p.File.Lines[i+1].Time
		}
		if err := pl.statement(st); err != nil {
			return err
		}
	}
	if err := pl.advance(max(pl.cursor, p.Now()) + tail); err != nil {
		return err
	}
	return check.End()
}

func (pl *player) statement(st scenario.Statement) error {
	start := pl.cursor
	switch st.When {
	case scenario.At:
		start = st.Time
	case scenario.After:
		start += st.Time
	}
	if err := pl.advance(start); err != nil {
		return err
	}
	pl.cursor = max(start, pl.Now())
	pl.check.line = st.Line
	switch st.Kind {
	case scenario.Fault:
		pl.check.Fault(st)
		var none errNothing
		switch err := pl.fault(st); {
		case errors.As(err, &none):
			pl.trace.add("nothing happens: %v", err)
			pl.skipped = append(pl.skipped, st.Line)
		case err != nil && pl.lenient:
			pl.skipped = append(pl.skipped, st.Line)
		case err != nil:
			return pl.fail(st, st.Text, err.Error())
		}
		return pl.advance(pl.Now())
	case scenario.Command:
		pl.check.Command(st)
		err := pl.command(st)
		pl.check.Answered(st, pl.answered)
		return err
	case scenario.By:
		return pl.by(st)
	case scenario.Hold:
		if err := pl.answer(st.Cond); err != nil {
			return err
		}
		pl.watches = append(pl.watches, watch{st: st, until: pl.Now() + st.Length})
		pl.cursor = max(pl.cursor, pl.Now()) + st.Length
		pl.looked = 0
		return pl.look()
	case scenario.Never:
		return nil // it is watched from the beginning; its time is where the next statement counts from
	}
	if err := pl.answer(st.Cond); err != nil {
		return err
	}
	if !pl.holds(st.Cond) {
		return pl.fail(st, st.Text, pl.seen(st.Cond))
	}
	return nil
}

// answer gives agents the time that an answer over the API takes to report what has happened at this moment; what is seen in
// the simulated world itself is true or not at once.
func (pl *player) answer(c scenario.Condition) error {
	if pl.holds(c) || !slices.ContainsFunc(c, func(t scenario.Term) bool { return t.Test.Reported() }) {
		return nil
	}
	limit := min(pl.Now()+answerTime, pl.next)
	for !pl.holds(c) {
		next, ok := pl.Sched.Next()
		if !ok || next-pl.trace.zero > limit {
			return nil
		}
		if err := pl.step(); err != nil {
			return err
		}
	}
	return nil
}

// by waits until its condition is true.
func (pl *player) by(st scenario.Statement) error {
	seen := uint64(0)
	at := time.Duration(-1)
	for {
		if v := pl.version; v != seen || pl.Now()-at >= lookEvery {
			seen, at = v, pl.Now()
			if pl.holds(st.Cond) {
				pl.cursor = pl.Now()
				return nil
			}
		}
		next, ok := pl.Sched.Next()
		if !ok || next-pl.trace.zero > st.Until {
			break
		}
		if err := pl.step(); err != nil {
			return err
		}
	}
	if err := pl.advance(st.Until); err != nil {
		return err
	}
	if pl.holds(st.Cond) {
		return nil
	}
	return pl.fail(st, st.Text, pl.seen(st.Cond))
}

// advance runs to virtual time t since time 0.
func (pl *player) advance(t time.Duration) error {
	limit := pl.trace.zero + t
	for {
		next, ok := pl.Sched.Next()
		if !ok || next > limit {
			break
		}
		if err := pl.step(); err != nil {
			return err
		}
	}
	return pl.Sched.Run(limit)
}

// look checks what must hold all the time: after every change of the world or of etcd, and every few milliseconds.
func (pl *player) look() error {
	if f := pl.check.Violation(); f != nil {
		return f
	}
	if pl.version == pl.looked && pl.Now()-pl.at < lookEvery {
		return nil
	}
	pl.looked, pl.at = pl.version, pl.Now()
	kept := pl.watches[:0]
	for _, w := range pl.watches {
		if pl.Now() > w.until {
			continue
		}
		if pl.holds(w.st.Cond) == w.never {
			return pl.fail(w.st, w.st.Text, pl.seen(w.st.Cond))
		}
		kept = append(kept, w)
	}
	pl.watches = kept
	return nil
}

func (pl *player) fail(st scenario.Statement, expected, seen string) error {
	f := &Failure{File: pl.File.Name, Line: st.Line, At: pl.Now(), Expected: pl.File.AsWritten(expected), Seen: pl.File.AsWritten(seen)}
	pl.trace.add("FAILED, line %d: expected %s; seen: %s", st.Line, strings.TrimPrefix(expected, "expect "), seen)
	return f
}

// step lets one event happen and checks what must hold after it.
func (p *Pool) step() error {
	if _, err := p.Sched.Step(); err != nil {
		return err
	}
	if p.truth.err != nil {
		return fmt.Errorf("observe etcd: %w", p.truth.err)
	}
	if p.onStep != nil {
		return p.onStep()
	}
	return nil
}

// IsFailure reports whether err says that the pool did not do what was expected, and is not trouble of the
// simulator's own.
func IsFailure(err error) bool {
	var f *Failure
	return errors.As(err, &f)
}
