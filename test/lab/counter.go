package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
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
	// waits tells for how long each thread of the guest's process has waited for a processor; nil: that is not asked.
	waits func() map[int]time.Duration

	mu      sync.Mutex
	last    record.Record
	changed time.Time             // when last was read for the first time
	seen    time.Time             // when it was read for the last time
	stood   time.Duration         // for how long it was seen
	waited  map[int]time.Duration // what waits told when last was read for the first time
	gap     Gap
	err     error
}

// Gap is the longest time for which a counter was seen to stand still: while one value was read again and again. A time in
// which nobody looked, as where the watcher itself had to wait for a processor or the whole machine stood still, is none.
type Gap struct {
	From time.Time
	For  time.Duration
	// At is the counter's value meanwhile.
	At uint64
}

// counterEvery is how often a counter is read. Of a pause between two looks that is longer than unseenAfter the rest is a
// time in which nobody looked.
const (
	counterEvery = 2 * time.Millisecond
	unseenAfter  = 10 * counterEvery
)

// WatchCounter begins to follow a disk's counter; Stop ends it.
func WatchCounter(ctx context.Context, disk string) *CounterWatch {
	return watchCounter(ctx, disk, nil)
}

// WatchGuest is WatchCounter, but for how long the threads of the guest's process waited for a processor, which others had,
// does not count as standing still.
func WatchGuest(ctx context.Context, disk string, pid int) *CounterWatch {
	return watchCounter(ctx, disk, func() map[int]time.Duration { return processorWaits(pid) })
}

func watchCounter(ctx context.Context, disk string, waits func() map[int]time.Duration) *CounterWatch {
	ctx, end := context.WithCancel(ctx)
	w := &CounterWatch{disk: disk, end: end, done: make(chan struct{}), waits: waits}
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
		w.begin(r, now)
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
		w.stood += min(now.Sub(w.seen), unseenAfter)
		w.seen = now
		return
	}
	w.gap = w.longest()
	w.begin(r, now)
}

func (w *CounterWatch) begin(r record.Record, now time.Time) {
	w.last, w.changed, w.seen, w.stood = r, now, now, 0
	if w.waits != nil {
		w.waited = w.waits()
	}
}

// Reset forgets the gaps so far.
func (w *CounterWatch) Reset() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.gap, w.changed, w.seen, w.stood = Gap{}, time.Time{}, time.Time{}, 0
}

// longest is the longest gap so far, the present value's included.
func (w *CounterWatch) longest() Gap {
	// Half the time to the next look is added: somewhere in it the value changes.
	d := w.stood + counterEvery/2
	if d <= w.gap.For || w.changed.IsZero() {
		return w.gap
	}
	if d -= w.waitedSince(); d <= w.gap.For {
		return w.gap
	}
	return Gap{From: w.changed, For: d, At: w.last.Counter}
}

// waitedSince is for how long the thread that waited longest waited for a processor under the present value.
func (w *CounterWatch) waitedSince() time.Duration {
	if w.waits == nil {
		return 0
	}
	var most time.Duration
	for thread, d := range w.waits() {
		if before, ok := w.waited[thread]; ok {
			most = max(most, d-before)
		}
	}
	return most
}

// processorWaits reads for how long each thread of a process has waited for a processor so far: the second number of
// /proc/PID/task/TID/schedstat. Where the kernel does not tell, the answer is empty.
func processorWaits(pid int) map[int]time.Duration {
	waits := map[int]time.Duration{}
	files, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			continue
		}
		var thread int
		var ran, waited int64
		if _, err := fmt.Sscanf(filepath.Base(filepath.Dir(file)), "%d", &thread); err != nil {
			continue
		}
		if _, err := fmt.Sscanf(string(text), "%d %d", &ran, &waited); err == nil {
			waits[thread] = time.Duration(waited)
		}
	}
	return waits
}

// Longest returns the longest gap so far; one that lasts counts.
func (w *CounterWatch) Longest() Gap {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.longest()
}

// Stop ends the watch, and returns what was wrong with the counts: a boot, a step back, a write of somebody else.
func (w *CounterWatch) Stop() error {
	w.end()
	<-w.done
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.err
}
