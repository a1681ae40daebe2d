package clock

import (
	"context"
	"sync"
)

// Group runs functions beside each other and waits for all of them, in any Clock's time. The zero value is not
// usable; call NewGroup. Safe for concurrent use.
type Group struct {
	clock Clock
	done  Signal

	mu      sync.Mutex
	running int
}

// NewGroup returns an empty group whose functions run under c.
func NewGroup(c Clock) *Group { return &Group{clock: c, done: c.NewSignal()} }

// Go starts f.
func (g *Group) Go(name string, f func()) {
	g.mu.Lock()
	g.running++
	g.mu.Unlock()
	g.clock.Go(name, func() {
		defer g.finish()
		f()
	})
}

// Running returns how many functions have not returned.
func (g *Group) Running() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.running
}

// Wait returns once every function has returned. Only one caller may wait at a time.
func (g *Group) Wait() {
	for g.Running() > 0 {
		g.done.Wait(context.Background(), -1)
	}
}

func (g *Group) finish() {
	g.mu.Lock()
	g.running--
	g.mu.Unlock()
	g.done.Set()
}
