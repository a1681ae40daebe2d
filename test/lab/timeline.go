package lab

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Span is a stretch of time in which a guest executed; To is zero while it lasts.
type Span struct{ From, To time.Time }

// Life is what a Watcher saw of one QEMU process.
type Life struct {
	QEMU
	// Seen is when the process was first seen, at most one sample after its start.
	Seen time.Time
	// Died is when it was seen dead; zero while it lives.
	Died time.Time
	// Spans are the times at which the guest's CPUs ran, in order.
	Spans []Span
}

// executing says whether the guest executes now.
func (l *Life) executing() bool {
	return len(l.Spans) > 0 && l.Spans[len(l.Spans)-1].To.IsZero()
}

// set notes that the guest executes, or does not, from a time on. Times that go
// back before the last note are moved up to it.
func (l *Life) set(executing bool, at time.Time) {
	if executing == l.executing() {
		return
	}
	if !executing {
		last := &l.Spans[len(l.Spans)-1]
		last.To = later(at, last.From)
		return
	}
	if n := len(l.Spans); n > 0 {
		at = later(at, l.Spans[n-1].To)
	}
	l.Spans = append(l.Spans, Span{From: at})
}

func later(a, b time.Time) time.Time {
	if a.Before(b) {
		return b
	}
	return a
}

// Overlap is the one thing that must never happen: one VM executing twice.
type Overlap struct {
	VM            string
	First, Second QEMU
	From          time.Time
	For           time.Duration // up to now, if both go on
}

// String tells the overlap in a sentence.
func (o Overlap) String() string {
	return fmt.Sprintf("VM %s executed on %s (pid %d) and %s (pid %d) at once, from %s for %s", o.VM,
		o.First.Server, o.First.PID, o.Second.Server, o.Second.PID, clockTime(o.From), o.For.Round(time.Microsecond))
}

// overlaps finds every stretch in which two processes of one VM executed. VMs
// are told apart by UUID, as libvirt does.
func overlaps(lives []*Life, now time.Time) []Overlap {
	var found []Overlap
	for i, a := range lives {
		for _, b := range lives[i+1:] {
			if a.UUID == b.UUID {
				found = append(found, overlapsOf(a, b, now)...)
			}
		}
	}
	return found
}

func overlapsOf(a, b *Life, now time.Time) []Overlap {
	var found []Overlap
	for _, x := range a.Spans {
		for _, y := range b.Spans {
			from, to := later(x.From, y.From), earlier(end(x, now), end(y, now))
			if from.Before(to) {
				found = append(found, Overlap{VM: a.VM, First: a.QEMU, Second: b.QEMU, From: from, For: to.Sub(from)})
			}
		}
	}
	return found
}

func end(s Span, now time.Time) time.Time {
	if s.To.IsZero() {
		return now
	}
	return s.To
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

// renderTimeline prints one line per process and span, by VM and time.
func renderTimeline(lives []Life) string {
	slices.SortStableFunc(lives, func(a, b Life) int {
		if c := strings.Compare(a.VM, b.VM); c != 0 {
			return c
		}
		return a.Seen.Compare(b.Seen)
	})
	var b strings.Builder
	for _, l := range lives {
		fmt.Fprintf(&b, "%-12s %-7s pid %-7d started %s", l.VM, l.Server, l.PID, clockTime(l.Seen))
		if l.Incoming {
			b.WriteString(" (incoming)")
		}
		for _, s := range l.Spans {
			fmt.Fprintf(&b, "  executed %s-%s", clockTime(s.From), clockTime(s.To))
		}
		if !l.Died.IsZero() {
			fmt.Fprintf(&b, "  died %s", clockTime(l.Died))
		}
		b.WriteByte('\n')
	}
	return b.String()
}

func clockTime(t time.Time) string {
	if t.IsZero() {
		return "now"
	}
	return t.Format("15:04:05.000")
}
