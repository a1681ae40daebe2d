package vtime

import (
	"fmt"
	"iter"
	"runtime/debug"
)

// killed unwinds the coroutines of a killed process. Only the coroutine's own top recovers it.
type killed struct{}

// why says what ended a park.
type why int

const (
	whyTimeout why = iota
	whySet
	whyContext
)

// coro is one coroutine of a process.
type coro struct {
	p    *Proc
	name string
	next func() (struct{}, bool)
	stop func()
	// yield is set while the coroutine exists.
	yield func(struct{}) bool
	// gen numbers the parks; a wake-up for an older one is stale.
	gen    uint64
	parked bool
	woken  bool
	why    why
	// index in p.coros.
	index int
}

func newCoro(p *Proc, name string, f func()) *coro {
	c := &coro{p: p, name: name, index: len(p.coros)}
	c.next, c.stop = iter.Pull(func(yield func(struct{}) bool) {
		c.yield = yield
		defer c.top()
		f()
	})
	p.coros = append(p.coros, c)
	c.parked, c.woken, c.gen = true, true, 1
	return c
}

// top is the coroutine's outermost deferred call: it swallows the unwinding panic and turns any other into the
// run's failure.
func (c *coro) top() {
	r := recover()
	if r == nil {
		return
	}
	if _, ok := r.(killed); ok {
		return
	}
	c.p.s.Fail(fmt.Errorf("%s: %s panicked at %v: %v\n%s", c.p.name, c.name, c.p.s.Now(), r, debug.Stack()))
}

// resume lets the coroutine run until it parks or ends. A hung process keeps the wake-up for later.
func (c *coro) resume() {
	if c.p.hung {
		c.p.held = append(c.p.held, c)
		return
	}
	c.parked, c.woken = false, false
	s := c.p.s
	before := s.current
	s.current = c
	_, alive := c.next()
	s.current = before
	if !alive {
		c.p.forget(c)
	}
}

// due reports whether the event still concerns the coroutine's present park, and ends that park.
func (c *coro) due(e event) bool {
	if c.gen != e.gen || !c.parked || c.p.dead {
		return false
	}
	if e.woken {
		return true
	}
	if c.woken {
		return false
	}
	c.woken, c.why = true, whyTimeout
	return true
}

// park gives control back until a wake-up for this park comes; the caller has arranged for one.
func (c *coro) park() why {
	if c.p.dead || !c.yield(struct{}{}) || c.p.dead {
		panic(killed{}) //nolint:forbidigo // unwinds a killed process; recovered at the coroutine's top
	}
	return c.why
}

// begin opens a new park and returns its number.
func (c *coro) begin() uint64 {
	c.gen++
	c.parked, c.woken = true, false
	return c.gen
}

// wake ends park gen, if it is still going on.
func (c *coro) wake(gen uint64, w why) {
	if c.gen != gen || !c.parked || c.woken || c.p.dead {
		return
	}
	c.woken, c.why = true, w
	c.p.s.push(event{at: c.p.s.now, c: c, gen: gen, woken: true})
}

// end unwinds the coroutine of a killed process.
func (c *coro) end() {
	s := c.p.s
	before := s.current
	s.current = c
	c.stop()
	s.current = before
}
