package lab

import (
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
	look(2*time.Second+2*time.Millisecond, 301)
	look(2*time.Second+900*time.Millisecond, 301)
	look(2*time.Second+910*time.Millisecond, 302)
	if gap := w.Longest(); gap.For < 890*time.Millisecond || gap.For > 910*time.Millisecond || gap.At != 301 {
		t.Errorf("stood still for %v at %d; want 0.9 s at 301", gap.For, gap.At)
	}
	look(3*time.Second, 303)
	look(4*time.Second, 303)
	if gap := w.Longest(); gap.For < 990*time.Millisecond || gap.At != 303 {
		t.Errorf("one that lasts: %v at %d; want 1 s at 303", gap.For, gap.At)
	}
	if w.err != nil {
		t.Error(w.err)
	}
	w.note(record.Record{Counter: 302}, began.Add(5*time.Second))
	if w.err == nil {
		t.Error("a counter that goes back is no error")
	}
}
