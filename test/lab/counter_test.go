package lab

import (
	"maps"
	"os"
	"testing"
	"time"

	"github.com/holdfast-ha/holdfast/test/lab/guest/record"
)

func TestAGapIsWhatWasSeenAndNotATimeInWhichNobodyLooked(t *testing.T) {
	var w CounterWatch
	began := time.Now()
	look := func(at time.Duration, counter uint64) {
		w.note(record.Record{Counter: counter}, began.Add(at))
	}
	look(0, 1)
	look(2*time.Millisecond, 2)
	look(2*time.Second, 300) // the watcher slept, the guest did not
	if gap := w.Longest(); gap.For > 10*time.Millisecond {
		t.Errorf("a gap of %v where nobody looked", gap.For)
	}
	stare := func(from, to time.Duration, counter uint64) {
		for at := from; at <= to; at += counterEvery {
			look(at, counter)
		}
	}
	stare(2*time.Second+2*time.Millisecond, 2*time.Second+902*time.Millisecond, 301)
	look(2*time.Second+910*time.Millisecond, 302)
	if gap := w.Longest(); gap.For < 890*time.Millisecond || gap.For > 910*time.Millisecond || gap.At != 301 {
		t.Errorf("stood still for %v at %d; want 0.9 s at 301", gap.For, gap.At)
	}
	look(2*time.Second+912*time.Millisecond, 303)
	look(6*time.Second, 303) // the whole machine stood still
	if gap := w.Longest(); gap.At != 301 {
		t.Errorf("stood still for %v at %d; nobody looked then", gap.For, gap.At)
	}
	stare(6*time.Second, 7*time.Second, 303)
	if gap := w.Longest(); gap.For < 990*time.Millisecond || gap.At != 303 {
		t.Errorf("one that lasts: %v at %d; want 1 s at 303", gap.For, gap.At)
	}
	if w.err != nil {
		t.Error(w.err)
	}
	w.note(record.Record{Counter: 302}, began.Add(8*time.Second))
	if w.err == nil {
		t.Error("a counter that goes back is no error")
	}
}

func TestWhatAGuestWaitedForAProcessorIsNoGap(t *testing.T) {
	waits := map[int]time.Duration{1: time.Minute, 2: time.Minute}
	w := CounterWatch{waits: func() map[int]time.Duration { return maps.Clone(waits) }}
	began := time.Now()
	for at := time.Duration(0); at <= time.Second; at += counterEvery {
		w.note(record.Record{Counter: 1}, began.Add(at))
	}
	waits[1] += 300 * time.Millisecond
	waits[2] += 700 * time.Millisecond
	waits[3] = time.Hour // a thread that is new: what it waited before is unknown
	if gap := w.Longest(); gap.For < 290*time.Millisecond || gap.For > 310*time.Millisecond {
		t.Errorf("stood still for %v, want the 0.3 s in which it had a processor", gap.For)
	}
}

func TestAThreadsWaitForAProcessorIsRead(t *testing.T) {
	if _, err := os.Stat("/proc/self/schedstat"); err != nil {
		t.Skipf("this kernel does not tell how long threads wait: %v", err)
	}
	if waits := processorWaits(os.Getpid()); len(waits) == 0 {
		t.Error("nothing is known of this process's threads")
	}
	if waits := processorWaits(-1); len(waits) != 0 {
		t.Errorf("of no process: %v", waits)
	}
}
