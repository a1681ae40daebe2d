package ui

import (
	"fmt"
	"slices"
	"strings"

	pb "github.com/holdfast-ha/holdfast/proto/holdfast/v1"
)

// drawOverview answers at a glance whether the pool is healthy, can lose a server, and what is changing.
func (m *Model) drawOverview(r region) {
	if m.class() < classM || m.zoom {
		n := min(len(m.lists[overview].ids)+1, max(r.h/2, 4))
		m.drawList(r.rows(0, n), m.lists[overview], true)
		m.overviewText(false, r.w-2).draw(r.sub(1, n+1, r.w-2, r.h-n-1), panel)
		return
	}
	below := max(r.h/3, 6)
	side := min(max(r.w*36/100, 42), 80) - 1
	top := r.rows(0, r.h-below)
	left := top.sub(0, 0, r.w-side-1, top.h)
	n := min(len(m.lists[overview].ids)+2, left.h-4)
	m.drawList(left.sub(0, 0, left.w-1, n), m.lists[overview], true) // a cell stays free before the panel
	m.counts(left.w-1).draw(left.sub(1, n+1, left.w-1, left.h-n-1), panel)
	right := top.sub(r.w-side-1, 0, side+1, top.h)
	for y := range right.h {
		right.put(0, y, dim, m.glyphs.vertical)
	}
	m.overviewText(true, right.w-2).draw(right.sub(2, 0, right.w-2, right.h), panel)
	events := r.rows(top.h, below)
	for x := range events.w {
		events.put(x, 0, dim, m.glyphs.horizontal)
	}
	events.put(2, 0, title, " EVENTS ")
	m.drawList(events.sub(0, 1, events.w, events.h-1), m.lists[eventsScreen], false)
}

const eventsScreen = events

// counts says how many VMs are in each state, in lines of w cells.
func (m *Model) counts(w int) lines {
	parts := []piece{{title, fmt.Sprintf("VMS %d  ", len(m.shown().VMs))}}
	states := make([]pb.VMStatus, 0, len(m.index.counts))
	for s := range m.index.counts {
		states = append(states, s)
	}
	slices.Sort(states)
	for _, s := range states {
		text := fmt.Sprintf("%s %d", word(s), m.index.counts[s])
		if m.stale() {
			text += "?"
		}
		parts = append(parts, piece{vmTone(s), text + "  "})
	}
	if n := m.index.unprotected; n > 0 {
		parts = append(parts, piece{busy, fmt.Sprintf("without protection %d", n)})
	}
	var l lines
	used := 0
	for i, p := range parts {
		if n := cells(p.text); i == 0 || used+n > w {
			l.row(p)
			used = n
		} else {
			l[len(l)-1] = append(l[len(l)-1], p)
			used += n
		}
	}
	return append(l, m.poolTrend(w)...)
}

// overviewText is what is wrong, what changes, and whether a server may be lost.
func (m *Model) overviewText(wide bool, w int) lines {
	var l lines
	if !wide {
		l = append(l, m.counts(w)...)
	}
	all, most := m.index.problems.count(), m.atMost(wide)
	l.head(fmt.Sprintf("PROBLEMS %d", all))
	for _, p := range m.index.problems.first(most) {
		l.row(piece{bad, "! "}, piece{plain, p.text})
	}
	if all > most {
		l.add(dim, fmt.Sprintf("... and %d more: !", all-most))
	}
	ops := m.shown().Running()
	if wide {
		l.gap()
	}
	l.head(fmt.Sprintf("OPERATIONS %d", len(ops)))
	for i, o := range ops {
		if i == m.atMost(wide) {
			l.add(dim, fmt.Sprintf("... and %d more: 4", len(ops)-i))
			break
		}
		name := strings.TrimSpace(word(o.GetKind()) + " " + subject(o))
		l.row(piece{plain, name + "  "}, piece{bar, m.bar(o, 10) + " "}, piece{dim, stopwatch(m.took(o)) + "  "},
			piece{dim, person(o.GetRequested().GetBy())}, piece{})
		if o.GetError() != "" {
			l.row(piece{dim, "  "}, piece{dim, o.GetError()})
		}
	}
	if wide {
		l.gap()
	}
	l = append(l, m.capacityLines()...)
	return l
}

func (m *Model) atMost(wide bool) int {
	if wide {
		return max((m.h-18)/3, 3)
	}
	return 3
}

// capacityLines is the pool's verdict about losing a server.
func (m *Model) capacityLines() lines {
	var l lines
	f := m.capacityFact()
	l.row(piece{title, "N+1 "}, piece{f.tone, strings.TrimPrefix(f.text, "N+1 ")})
	if c := m.capacity.value; c != nil && c.GetText() != "" && f.tone != dim && !m.stale() {
		l.add(plain, c.GetText())
	}
	return l
}
