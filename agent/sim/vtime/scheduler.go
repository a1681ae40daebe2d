package vtime

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"time"
)

// ErrStuck means that a very large number of events happened without virtual time advancing.
var ErrStuck = errors.New("virtual time stands still")

// stuckAfter bounds the events at one instant. A pool of 10,000 VMs settles with far fewer.
const stuckAfter = 20_000_000

// Scheduler is the queue of events and the virtual clock. Build it with New.
type Scheduler struct {
	now     int64
	seq     uint64
	queue   queue
	rand    *rand.Rand
	current *coro
	reap    []*coro
	procs   []*Proc
	failure error
	// ran counts events, sameTime those since the clock last advanced.
	ran, sameTime uint64
	// afterEach is called after every event.
	afterEach func()
}

// New returns a scheduler at time 0 whose random numbers follow from seed.
func New(seed uint64) *Scheduler {
	return &Scheduler{rand: rand.New(rand.NewPCG(seed, 0x9e3779b97f4a7c15))}
}

// Now returns the virtual time since the start of the run.
func (s *Scheduler) Now() time.Duration { return time.Duration(s.now) }

// Rand returns the run's only source of randomness.
func (s *Scheduler) Rand() *rand.Rand { return s.rand }

// Between returns a random duration from lo up to, not including, hi; lo if hi is not larger.
func (s *Scheduler) Between(lo, hi time.Duration) time.Duration {
	if hi <= lo {
		return lo
	}
	return lo + time.Duration(s.rand.Int64N(int64(hi-lo)))
}

// Events returns how many events have happened.
func (s *Scheduler) Events() uint64 { return s.ran }

// AfterEach makes f run after every event, outside any coroutine. It must not schedule anything at once forever.
func (s *Scheduler) AfterEach(f func()) { s.afterEach = f }

// After runs f once, d from now, outside any coroutine: f must not park. A negative d counts as 0.
func (s *Scheduler) After(d time.Duration, f func()) {
	s.push(event{at: s.now + max(0, int64(d)), run: f})
}

// At runs f at virtual time t, or now if that has passed.
func (s *Scheduler) At(t time.Duration, f func()) { s.After(t-s.Now(), f) }

// Run lets events happen up to and including virtual time until, and leaves the clock there. It returns early
// with an error if a coroutine panicked or time stopped advancing.
func (s *Scheduler) Run(until time.Duration) error {
	for s.failure == nil && len(s.queue) > 0 && s.queue[0].at <= int64(until) {
		s.step()
	}
	if s.failure == nil && s.now < int64(until) {
		s.now = int64(until)
	}
	return s.failure
}

// Step lets one event happen. It returns false if there is none.
func (s *Scheduler) Step() (bool, error) {
	if s.failure != nil || len(s.queue) == 0 {
		return false, s.failure
	}
	s.step()
	return true, s.failure
}

// Next returns the virtual time of the next event; ok is false when the simulation is idle.
func (s *Scheduler) Next() (t time.Duration, ok bool) {
	if len(s.queue) == 0 {
		return 0, false
	}
	return time.Duration(s.queue[0].at), true
}

// Fail ends the run with err; the first one wins.
func (s *Scheduler) Fail(err error) {
	if s.failure == nil {
		s.failure = err
	}
}

// Close kills every process, which frees their coroutines. The scheduler must not be used afterwards.
func (s *Scheduler) Close() {
	for _, p := range s.procs {
		p.Kill()
	}
	s.unwind()
	s.queue, s.procs = nil, nil
}

// InCoroutine reports whether the caller runs in a coroutine of this scheduler.
func (s *Scheduler) InCoroutine() bool { return s.current != nil }

func (s *Scheduler) push(e event) {
	s.seq++
	e.seq = s.seq
	s.queue.push(e)
}

func (s *Scheduler) step() {
	e := s.queue.pop()
	if e.at > s.now {
		s.now, s.sameTime = e.at, 0
	}
	s.ran++
	if s.sameTime++; s.sameTime > stuckAfter {
		s.Fail(fmt.Errorf("%w at %v", ErrStuck, s.Now()))
		return
	}
	switch {
	case e.run != nil:
		e.run()
	case e.c.due(e):
		e.c.resume()
	default:
		return // overtaken by another wake-up
	}
	if len(s.reap) > 0 {
		s.unwind()
	}
	if s.afterEach != nil {
		s.afterEach()
	}
}

// unwind ends the coroutines of killed processes.
func (s *Scheduler) unwind() {
	for len(s.reap) > 0 {
		c := s.reap[0]
		s.reap = s.reap[1:]
		c.end()
	}
}
