package lab

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/holdfast-ha/holdfast/test/lab/guest/record"
)

// CounterWatch follows the counter on a guest's disk, closely: it tells how long the guest stood still by its own
// trail, and whether a count was lost. Safe for concurrent use.
type CounterWatch struct {
	disk string
	end  context.CancelFunc
	done chan struct{}

	mu      sync.Mutex
	last    record.Record
	changed time.Time // when last was read for the first time
	seen    time.Time // when it was read for the last time
	gap     Gap
	err     error
}

// Gap is the longest time for which a counter was seen to stand still: between the first and the last time that one value
// was read. A time in which nobody looked, as where the watcher itself had to wait for a processor, is none.
type Gap struct {
	From time.Time
	For  time.Duration
	// At is the counter's value meanwhile.
	At uint64
}

// counterEvery is how often a counter is read.
const counterEvery = 2 * time.Millisecond

// WatchCounter begins to follow a disk's counter; Stop ends it.
func WatchCounter(ctx context.Context, disk string) *CounterWatch {
	ctx, end := context.WithCancel(ctx)
	w := &CounterWatch{disk: disk, end: end, done: make(chan struct{})}
	go w.run(ctx)
	return w
}

func (w *CounterWatch) run(ctx context.Context) {
	defer close(w.done)
	tick := time.NewTicker(counterEvery)
	defer tick.Stop()
	for {
		if r, err := ReadRecord(w.disk); err == nil {
			w.note(r, time.Now())
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func (w *CounterWatch) note(r record.Record, now time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	before := w.last
	if w.changed.IsZero() {
		w.last, w.changed, w.seen = r, now, now
		return
	}
	switch {
	case r.Boot != before.Boot:
		w.err = errors.Join(w.err, fmt.Errorf("the guest booted again after count %d", before.Counter))
	case r.Counter < before.Counter:
		w.err = errors.Join(w.err, fmt.Errorf("the counter went back from %d to %d", before.Counter, r.Counter))
	case r.Foreign > before.Foreign:
		w.err = errors.Join(w.err, fmt.Errorf("the guest found a write that it had not made, at count %d", r.Counter))
	}
	if r.Counter == before.Counter && r.Boot == before.Boot {
		w.seen = now
		return
	}
	if d := w.stood(); d > w.gap.For {
		w.gap = Gap{From: w.changed, For: d, At: before.Counter}
	}
	w.last, w.changed, w.seen = r, now, now
}

// Reset forgets the gaps so far.
func (w *CounterWatch) Reset() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.gap, w.changed, w.seen = Gap{}, time.Time{}, time.Time{}
}

// stood is for how long the present value was seen, and half the time to the next look: somewhere in it the value changes.
func (w *CounterWatch) stood() time.Duration { return w.seen.Sub(w.changed) + counterEvery/2 }

// Longest returns the longest gap so far; one that lasts counts.
func (w *CounterWatch) Longest() Gap {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.changed.IsZero() {
		return w.gap
	}
	if d := w.stood(); d > w.gap.For {
		return Gap{From: w.changed, For: d, At: w.last.Counter}
	}
	return w.gap
}

// Stop ends the watch, and returns what was wrong with the counts: a boot, a step back, a write of somebody else.
func (w *CounterWatch) Stop() error {
	w.end()
	<-w.done
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.err
}
