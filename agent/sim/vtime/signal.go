package vtime

import (
	"context"
	"time"
)

// signal is a clock.Signal. Any number of coroutines may wait; one Set wakes one of them.
type signal struct {
	p       *Proc
	up      bool
	waiters []waiter
}

type waiter struct {
	c   *coro
	gen uint64
}

// Set raises the flag and wakes the coroutine that has waited longest.
func (g *signal) Set() {
	g.up = true
	for len(g.waiters) > 0 {
		w := g.waiters[0]
		g.waiters = g.waiters[:copy(g.waiters, g.waiters[1:])]
		if w.c.gen == w.gen && w.c.parked && !w.c.woken {
			w.c.wake(w.gen, whySet)
			return
		}
	}
}

// Wait parks until the flag is up, d has passed or ctx has ended.
func (g *signal) Wait(ctx context.Context, d time.Duration) bool {
	p := g.p
	p.Check()
	var deadline int64
	if d >= 0 {
		deadline = p.s.now + p.stretch(d)
	}
	for {
		if g.up {
			g.up = false
			return true
		}
		if ctx.Err() != nil {
			return false
		}
		c := p.running("Wait")
		gen := c.begin()
		if d >= 0 {
			p.s.push(event{at: deadline, c: c, gen: gen})
		}
		g.waiters = append(g.waiters, waiter{c, gen})
		v := watch(ctx, c, gen)
		w := c.park()
		unwatch(v, c)
		if w != whySet {
			g.drop(c)
			if g.up {
				g.up = false
				return true
			}
			return false
		}
	}
}

func (g *signal) drop(c *coro) {
	for i, w := range g.waiters {
		if w.c == c {
			g.waiters = append(g.waiters[:i], g.waiters[i+1:]...)
			return
		}
	}
}
