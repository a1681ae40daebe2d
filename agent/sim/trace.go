package sim

import (
	"fmt"
	"strings"
	"time"
)

// Line is one line of the time line.
type Line struct {
	// At is the virtual time since time 0.
	At   time.Duration
	Text string
}

// String is the line as -v prints it.
func (l Line) String() string { return fmt.Sprintf("%s  %s", stamp(l.At), l.Text) }

// stamp prints a virtual time to the millisecond, aligned.
func stamp(d time.Duration) string { return fmt.Sprintf("%9.3fs", d.Seconds()) }

// trace collects the time line; lines before time 0 are dropped.
type trace struct {
	now   func() time.Duration
	begun bool
	zero  time.Duration
	sink  func(Line)
	// words gives names back as the scenario writes them.
	words func(string) string
}

func (t *trace) begin() { t.begun, t.zero = true, t.now() }

// since returns the virtual time since time 0.
func (t *trace) since() time.Duration { return t.now() - t.zero }

func (t *trace) add(format string, args ...any) {
	if !t.begun || t.sink == nil {
		return
	}
	text := strings.ReplaceAll(fmt.Sprintf(format, args...), "\n", " ")
	t.sink(Line{t.since(), t.words(text)})
}

// log adds a line of a program's log, before time 0 as well.
func (t *trace) log(text string) {
	if t.sink != nil {
		t.sink(Line{t.since(), t.words(text)})
	}
}
