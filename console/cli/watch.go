package cli

import (
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/holdfast-ha/holdfast/console/cli/text"
	pb "github.com/holdfast-ha/holdfast/proto/holdfast/v1"
)

// watcher shows what a followed pool says.
type watcher interface {
	// show is called once for each update, in order.
	show(st *state, u update) error
}

// watch follows the pool and shows one kind of thing until ctx ends.
func (a *app) watch(ctx context.Context, s *session, l *list, f *filter, out format) error {
	w := a.watcherFor(s, l, f, out)
	st := newState()
	return s.follow(ctx, func(u update) error {
		if u.message != nil {
			st.fold(u.message)
		}
		return w.show(st, u)
	})
}

func (a *app) watcherFor(s *session, l *list, f *filter, out format) watcher {
	switch {
	case out.forScripts():
		return &messages{out: a.env.Out, err: a.env.Err, format: out, list: l, filter: f, sieve: &sieve{passed: map[string]bool{}}}
	case l == eventList:
		return &log{app: a, session: s, filter: f, wide: out == formatWide}
	case a.env.OutTerminal != nil:
		return &screen{app: a, list: l, filter: f, wide: out == formatWide}
	}
	return &changes{app: a, list: l, filter: f, wide: out == formatWide}
}

// messages passes the stream on to a program, cut down to what the list is about.
type messages struct {
	out, err io.Writer
	format   format
	list     *list
	filter   *filter
	sieve    *sieve
}

func (w *messages) show(_ *state, u update) error {
	if u.broken != nil {
		_, err := fmt.Fprintln(w.err, "holdfast: "+text.Clean(u.broken.Error())+"; asking again")
		return err
	}
	m := u.message
	if m == nil || m.GetHeartbeat() != nil {
		return nil
	}
	snap, delta := w.list.reduce(w.sieve, w.filter, m.GetSnapshot(), m.GetDelta())
	out := &pb.WatchPoolResponse{Revision: m.GetRevision(), ServerTime: m.GetServerTime(), ServedBy: m.GetServedBy()}
	if snap != nil {
		out.Change = &pb.WatchPoolResponse_Snapshot{Snapshot: snap}
	} else {
		if proto.Size(delta) == 0 {
			return nil
		}
		out.Change = &pb.WatchPoolResponse_Delta{Delta: delta}
	}
	return writeChange(w.out, w.format, out)
}

// screen draws the list in place, without leaving the terminal's normal screen.
type screen struct {
	app    *app
	list   *list
	filter *filter
	wide   bool
	// drawn is how many rows the last frame took, at when.
	drawn int
	at    time.Time
}

// frameEvery bounds how often a screen is drawn; what comes faster is seen with the next message, at most a second
// later.
const frameEvery = 200 * time.Millisecond

func (w *screen) show(st *state, u update) error {
	if u.message.GetDelta() != nil && time.Since(w.at) < frameEvery {
		return nil
	}
	w.at = time.Now()
	env := w.app.env
	p := w.app.page(w.wide)
	lines := append([]string{freshness(p, st, u)}, w.list.lay(p, st, w.filter)...)
	width, height := env.OutTerminal.Size()
	lines = fitScreen(lines, width, height)
	var b strings.Builder
	if w.drawn > 0 {
		// Up to the first line drawn, and everything below it erased.
		fmt.Fprintf(&b, "\x1b[%dA\r\x1b[J", w.drawn)
	}
	for _, l := range lines {
		b.WriteString(l + "\n")
	}
	w.drawn = 0
	for _, l := range lines {
		w.drawn += rows(l, width)
	}
	_, err := io.WriteString(env.Out, b.String())
	return err
}

// fitScreen keeps as many lines as the terminal shows above the cursor's own, and says what it left out.
func fitScreen(lines []string, width, height int) []string {
	if height < 3 {
		return lines
	}
	used := 0
	for i, l := range lines {
		used += rows(l, width)
		if used > height-2 && i < len(lines)-1 {
			more := fmt.Sprintf("... %d more lines: make the window higher, or filter", len(lines)-i)
			return append(slices.Clone(lines[:i]), text.Cut(more, width-1))
		}
	}
	return lines
}

// rows is how many rows of a terminal a line takes.
func rows(line string, width int) int {
	if width <= 0 {
		return 1
	}
	return max(1, (text.Width(unpainted(line))+width-1)/width)
}

// unpainted takes the codes of painter out of a line.
func unpainted(line string) string {
	var b strings.Builder
	for {
		start := strings.Index(line, "\x1b[")
		if start < 0 {
			return b.String() + line
		}
		b.WriteString(line[:start])
		end := strings.IndexByte(line[start:], 'm')
		if end < 0 {
			return b.String()
		}
		line = line[start+end+1:]
	}
}

// freshness says how old the picture is. What is not fresh does not look fresh.
func freshness(p page, st *state, u update) string {
	head := fmt.Sprintf("pool %s, %s", text.Clean(dash(st.pool.GetConfig().GetName())), p.now.Format(time.TimeOnly))
	switch {
	case u.broken != nil:
		return p.paint(text.Bad, text.Cut(head+", STALE for "+span(u.since)+": "+text.Clean(u.broken.Error())+"; asking again", max(p.width, 40)))
	case u.since >= quiet:
		return p.paint(text.Bad, head+", delayed "+span(u.since)+": "+text.Clean(servedBy(st))+" says nothing")
	case st.etcdLost:
		return p.paint(text.Bad, head+", OLD: "+text.Clean(servedBy(st))+" cannot reach etcd")
	}
	return p.paint(text.Dim, head+", live from "+text.Clean(servedBy(st))+", revision "+fmt.Sprint(st.revision))
}

// changes prints the list once and then a line for each thing that changed: for pipes, logs and screen readers.
type changes struct {
	app    *app
	list   *list
	filter *filter
	wide   bool
	before map[string]string
	stale  bool
}

func (w *changes) show(st *state, u update) error {
	out := w.app.env.Out
	now := w.app.env.Now().Format(time.TimeOnly)
	if u.broken != nil {
		if w.stale {
			return nil
		}
		w.stale = true
		_, err := fmt.Fprintf(out, "%s STALE: %s; asking again\n", now, text.Clean(u.broken.Error()))
		return err
	}
	if u.message == nil {
		return nil
	}
	after := w.list.lines(st, w.filter)
	if w.before == nil {
		w.before = after
		_, err := fmt.Fprintln(out, strings.Join(w.list.lay(w.app.page(w.wide), st, w.filter), "\n"))
		return err
	}
	var b strings.Builder
	if w.stale {
		w.stale = false
		fmt.Fprintf(&b, "%s live again, from %s\n", now, text.Clean(servedBy(st)))
	}
	for _, key := range slices.Sorted(maps.Keys(after)) {
		if w.before[key] != after[key] {
			fmt.Fprintf(&b, "%s %s: %s\n", now, text.Clean(lineName(key)), text.Clean(after[key]))
		}
	}
	for _, key := range slices.Sorted(maps.Keys(w.before)) {
		if _, still := after[key]; !still {
			fmt.Fprintf(&b, "%s %s: gone\n", now, text.Clean(lineName(key)))
		}
	}
	w.before = after
	_, err := io.WriteString(out, b.String())
	return err
}

// lineName is the part of a line's key that people want to see.
func lineName(key string) string {
	name, _, _ := strings.Cut(key, "\x00")
	return name
}

// log prints events as they come, like tail -f, on a terminal too.
type log struct {
	app     *app
	session *session
	filter  *filter
	wide    bool
	last    string
	stale   bool
	begun   bool
}

func (w *log) show(st *state, u update) error {
	switch {
	case u.broken != nil && !w.stale:
		w.stale = true
		_, err := fmt.Fprintf(w.app.env.Err, "holdfast: %s; asking again\n", text.Clean(u.broken.Error()))
		return err
	case u.message == nil || u.message.GetHeartbeat() != nil:
		return nil
	case u.message.GetSnapshot() == nil:
		return w.print(u.message.GetDelta().GetEvents())
	}
	w.stale = false
	events := u.message.GetSnapshot().GetEvents()
	if w.begun || w.filter.limit == 0 || w.filter.limit > len(events) {
		// More is wanted than a snapshot carries, or the stream was away for longer than that.
		if more, err := w.history(); err == nil {
			events = more
		} else {
			fmt.Fprintln(w.app.env.Err, "holdfast: some events may be missing: "+text.Clean(err.Error()))
		}
	}
	if !w.begun {
		w.begun = true
		events = latest(keep(events, w.filter.keepEvent), w.filter.limit)
	}
	return w.print(events)
}

func (w *log) history() ([]*pb.Event, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	resp, err := w.session.events.ListEvents(ctx, &pb.ListEventsRequest{Server: w.filter.server, Vm: w.filter.vm, Kind: w.filter.kind})
	if err != nil {
		return nil, fmt.Errorf("read the events before: %w", err)
	}
	return resp.GetEvents(), nil
}

// print writes the events after the last one written; IDs sort by time.
func (w *log) print(events []*pb.Event) error {
	p := w.app.page(w.wide)
	for _, e := range events {
		if e.GetId() <= w.last {
			continue
		}
		w.last = e.GetId()
		if !w.filter.keepEvent(e) {
			continue
		}
		line := clockTime(p.now, e.GetAt()) + " " + text.Clean(eventLine(e))
		if w.wide {
			line += text.Clean(fmt.Sprintf(" [%s, by %s]", e.GetKind(), dash(e.GetActor())))
		}
		if _, err := fmt.Fprintln(w.app.env.Out, line); err != nil {
			return err
		}
	}
	return nil
}
