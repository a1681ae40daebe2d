package ui

import (
	"fmt"
	"strings"
)

// View draws the whole screen: exactly as many lines as the terminal has, none wider than all but its last column,
// where a character of mistaken width could wrap the line.
func (m *Model) View() string {
	m.grid.reset(m.w-1, m.h)
	if m.w < 2 || m.h < 1 {
		return ""
	}
	m.frameInto(m.grid.all())
	return m.grid.render(&m.seq)
}

// Text is the screen without colours, for tests and documentation.
func (m *Model) Text() string {
	m.grid.reset(m.w-1, m.h)
	m.frameInto(m.grid.all())
	var none [tones][2]string
	return m.grid.render(&none)
}

func (m *Model) frameInto(r region) {
	if m.class() == classLine {
		m.drawLine(r)
		return
	}
	m.drawHeader(r.rows(0, 1))
	m.drawTabs(r.rows(1, 1))
	top := 2
	for _, b := range m.banners() {
		top += m.drawBanner(r.rows(top, 2), b)
	}
	body := r.rows(top, r.h-top-2)
	m.grid.dimmed = m.stale()
	if m.shown().Pool == nil {
		m.drawWaiting(body)
	} else {
		m.drawBody(body)
	}
	m.drawLast(r.rows(r.h-2, 1))
	m.drawDialog(body) // also what a dialog tells is as old as the rest
	m.grid.dimmed = false
	m.drawPrompt(r)
	m.drawFooter(r.rows(r.h-1, 1))
}

// drawLine is all that fits a very small terminal.
func (m *Model) drawLine(r region) {
	x := r.put(0, 0, title, m.poolName()) + 1
	for i, f := range m.headerFacts() {
		if f.drop > 0 {
			continue
		}
		if i > 0 {
			x = r.put(x, 0, dim, " | ")
		}
		x = r.put(x, 0, f.tone, f.text)
	}
	if r.h > 1 {
		r.put(0, 1, dim, "too small: 60x16 or more")
	}
}

// drawWaiting is shown until the pool has been heard.
func (m *Model) drawWaiting(r region) {
	m.grid.dimmed = false
	var l lines
	l.gap()
	l.head("Connecting to " + m.poolName())
	l.gap()
	if m.link.Err != nil {
		l.toned("trouble", m.link.Err.Error(), bad)
		l.gap()
	}
	switch {
	case m.link.Denied:
		l.add(accent, "The pool does not accept this identity. It is not tried again by itself: r tries once more, p chooses another pool.")
	case !m.link.NextTry.IsZero():
		l.add(plain, fmt.Sprintf("Try %d; the next in %s. r tries now, p chooses another pool, q leaves.", m.link.Try, span(m.link.NextTry.Sub(m.now))))
	}
	l.draw(r.sub(2, 0, r.w-4, r.h), 0)
}

// drawBody draws what the screen and the size class ask for.
func (m *Model) drawBody(r region) {
	switch {
	case m.wide():
		m.drawWide(r)
	case m.screen == overview:
		m.drawOverview(r)
	case m.class() >= classM && !m.zoom && (m.screen == servers || m.screen == vms || m.screen == operations):
		side := min(max(r.w/3, 40), 60)
		m.drawList(r.sub(0, 0, r.w-side-1, r.h), m.list(), true)
		m.drawSide(r.sub(r.w-side-1, 0, side+1, r.h), m.list())
	case m.screen == incidents:
		m.drawIncidents(r)
	case m.screen == capacity:
		m.drawCapacity(r)
	default:
		m.drawList(r, m.list(), true)
	}
}

// drawSide shows the thing under the cursor beside its list.
func (m *Model) drawSide(r region, l *list) {
	for y := range r.h {
		r.put(0, y, dim, m.glyphs.vertical)
	}
	if l.cursor == "" {
		return
	}
	m.detail(l.kind, l.cursor).draw(r.sub(2, 0, r.w-2, r.h), panel)
}

// drawWide is the layout of the widest terminals: servers, VMs, details, and below them operations and events.
func (m *Model) drawWide(r region) {
	below := max(r.h/4, 8)
	top := r.rows(0, r.h-below)
	w1, w3 := r.w*28/100, r.w*27/100
	a, b, c := top.sub(0, 0, w1, top.h), top.sub(w1+1, 0, r.w-w1-w3-2, top.h), top.sub(r.w-w3-1, 0, w3+1, top.h)
	m.drawServersAndRoom(a)
	m.drawList(b, m.lists[vms], m.screen == vms)
	m.drawSide(c, m.list())
	for y := range top.h {
		top.put(w1, y, dim, m.glyphs.vertical)
	}
	for x := range r.w {
		r.put(x, top.h, dim, m.glyphs.horizontal)
	}
	low := r.rows(top.h, below)
	half := r.w / 2
	low.put(2, 0, title, " OPERATIONS ")
	low.put(half+2, 0, title, " EVENTS ")
	m.drawList(low.sub(0, 1, half, below-1), m.lists[operations], false)
	m.drawList(low.sub(half+1, 1, r.w-half-1, below-1), m.lists[events], false)
	for y := 1; y < below; y++ {
		low.put(half, y, dim, m.glyphs.vertical)
	}
}

// drawServersAndRoom draws the servers and, where there is room, what the loss of each would mean.
func (m *Model) drawServersAndRoom(r region) {
	rows, room := len(m.lists[servers].ids)+2, len(m.lists[capacity].ids)+2
	if len(m.lists[capacity].ids) == 0 || rows+room > r.h {
		m.drawList(r, m.lists[servers], m.screen == servers)
		return
	}
	m.drawList(r.rows(0, r.h-room), m.lists[servers], m.screen == servers)
	for x := range r.w {
		r.put(x, r.h-room, dim, m.glyphs.horizontal)
	}
	f := m.capacityFact()
	r.put(2, r.h-room, title, " CAPACITY ")
	r.put(12, r.h-room, f.tone, f.text+" ")
	m.drawList(r.rows(r.h-room+1, room-1), m.lists[capacity], false)
}

// drawList draws a list's visible rows, and above them its filter and columns.
func (m *Model) drawList(r region, l *list, focused bool) {
	y := 0
	if focused {
		y = m.drawListHead(r, l)
	}
	cols := l.kind.layout(m, r.w-3)
	for _, c := range cols {
		name := c.name
		if c.key == l.sort && l.sort != "" {
			name += map[bool]string{false: "^", true: "v"}[l.reverse]
		}
		if c.right {
			r.right(3+c.x+c.w, y, dim, name)
		} else {
			r.sub(3+c.x, y, c.w, 1).put(0, 0, dim, name)
		}
	}
	rows := r.sub(0, y+1, r.w, r.h-y-1)
	if focused {
		l.scroll(rows.h)
	} else if l.kind == eventKind || l.kind == operationKind {
		l.top = 0
	}
	v := m.shown()
	stale := m.stale()
	for i := 0; i < rows.h && l.top+i < len(l.ids); i++ {
		id := l.ids[l.top+i]
		row := l.kind.row(m, v, id)
		if row == nil {
			continue
		}
		for _, c := range cols {
			text, t := c.cell(m, row)
			if stale && c.live && text != "" && text != "-" {
				text = strings.TrimRight(text, " ") + "?"
			}
			if c.right {
				rows.cut(3+c.x+max(c.w-cells(text), 0), i, c.w, t, text)
			} else {
				rows.cut(3+c.x, i, c.w, t, text)
			}
		}
		if l.marks[id] {
			rows.put(1, i, accent, m.glyphs.mark)
		}
		if id == l.cursor && focused {
			if !l.marks[id] {
				rows.put(1, i, accent, m.glyphs.cursor)
			} else {
				rows.put(0, i, accent, m.glyphs.cursor)
			}
			rows.highlight(i)
		}
	}
	if len(l.ids) == 0 {
		rows.put(3, 0, dim, m.emptyText(l))
	}
}

func (m *Model) emptyText(l *list) string {
	switch {
	case l.filter.line != "":
		return "no " + l.kind.name + " match the filter; Esc clears it"
	case l.troubled:
		return "no problems among the " + l.kind.name + "; Esc shows all"
	case l.of != "":
		return "no " + l.kind.name + " on " + l.of
	}
	return "no " + l.kind.name
}

// drawListHead says what the list shows; it returns how many lines that took.
func (m *Model) drawListHead(r region, l *list) int {
	var parts []string
	if l.filter.line != "" {
		parts = append(parts, "filter: "+l.filter.line)
	}
	if l.troubled {
		parts = append(parts, "problems only")
	}
	if l.of != "" {
		parts = append(parts, "on "+l.of)
	}
	left := strings.Join(parts, ", ")
	right := fmt.Sprintf("%d of %d", len(l.ids), l.all)
	if n := len(l.marks); n > 0 {
		right += fmt.Sprintf(" | %d marked", n)
	}
	if l.sort != "" || l.reverse {
		right += " | " + strings.ToUpper(dashIf(l.sort, "name")) + " " + map[bool]string{false: "up", true: "down"}[l.reverse]
	}
	if left == "" && len(l.marks) == 0 && l.sort == "" && !l.reverse {
		return 0
	}
	r.cut(1, 0, r.w-cells(right)-3, accent, left)
	r.right(r.w, 0, dim, right)
	return 1
}

// drawLast shows a notice or the newest event.
func (m *Model) drawLast(r region) {
	if m.notice != "" && m.now.Before(m.noticeUntil) {
		m.grid.dimmed = false
		r.cut(1, 0, r.w-1, m.noticeTone, m.notice)
		return
	}
	if e := m.shown().LastEvent(); e != nil {
		r.cut(1, 0, r.w-1, eventTone(e), clockTime(m.now, e.GetAt())+" "+e.GetText())
	}
}

// drawFooter lists the keys that work here and now.
func (m *Model) drawFooter(r region) {
	if m.prompt != nil {
		return
	}
	if d := m.top(); d != nil {
		r.cut(1, 0, r.w-1, accent, d.hints(m))
		return
	}
	x := 1
	for n := 1; n <= 10; n++ {
		for _, c := range keyMap {
			if c.foot != n || c.here != nil && !c.here(m) {
				continue
			}
			help := c.Help()
			words := c.brief
			if x+cells(help.Key)+cells(words)+1 > r.w {
				continue
			}
			x = r.put(x, 0, accent, help.Key)
			x = r.put(x+1, 0, dim, words) + 2
		}
	}
}

// drawPrompt shows the line being typed in place of the footer, and completions above it.
func (m *Model) drawPrompt(r region) {
	p := m.prompt
	if p == nil {
		return
	}
	y := r.h - 1
	r.rows(y, 1).clear()
	x := r.put(0, y, accent, p.sign)
	p.line.draw(r, x, y, r.w-x, true)
	above := r.rows(y-1, 1)
	switch {
	case p.error != "":
		above.clear()
		above.cut(1, 0, r.w-1, bad, p.error)
	case len(p.offers) > 0:
		above.clear()
		x := 1
		for i, w := range p.offers {
			if x+cells(w) > r.w-3 {
				above.put(x, 0, dim, "..")
				break
			}
			end := above.put(x, 0, accent, w)
			if i == p.chosen {
				above.sub(x, 0, end-x, 1).highlight(0)
			}
			x = end + 2
		}
	}
}
