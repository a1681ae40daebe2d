package host

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/holdfast-ha/holdfast/pkg/clock"
	"github.com/holdfast-ha/holdfast/pkg/pool"
)

// Bounded runs functions that may hang, at most one at a time for each key. Safe for concurrent use.
type Bounded struct {
	clock clock.Clock
	limit time.Duration

	mu      sync.Mutex
	running map[string]*flight
}

type flight struct {
	done chan struct{}
	err  error
}

// NewBounded returns a Bounded whose callers wait no longer than limit.
func NewBounded(c clock.Clock, limit time.Duration) *Bounded {
	return &Bounded{clock: c, limit: limit, running: map[string]*flight{}}
}

// Do runs f and returns its error. If f of this key runs already, Do waits for that one instead. After the limit
// it returns an error that is pool.ErrUnavailable; f goes on by itself.
func (b *Bounded) Do(ctx context.Context, key string, f func() error) error {
	b.mu.Lock()
	fl, ok := b.running[key]
	if !ok {
		fl = &flight{done: make(chan struct{})}
		b.running[key] = fl
		b.clock.Go("bounded "+key, func() {
			fl.err = f()
			b.mu.Lock()
			delete(b.running, key)
			b.mu.Unlock()
			close(fl.done)
		})
	}
	b.mu.Unlock()
	ctx, cancel := b.clock.WithTimeout(ctx, b.limit)
	defer cancel()
	select {
	case <-fl.done:
		return fl.err
	case <-ctx.Done():
		return fmt.Errorf("%s does not answer: %w", key, pool.ErrUnavailable)
	}
}

// Running lists the keys whose functions have not come back, sorted: what hangs, if it stays.
func (b *Bounded) Running() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	keys := make([]string, 0, len(b.running))
	for k := range b.running {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
