package ui

import (
	"strings"
)

// dialog is something on top of the screen that takes all keys.
type dialog interface {
	heading(m *Model) string
	// want is how many columns and rows it would like inside its frame.
	want(m *Model) (w, h int)
	draw(m *Model, r region)
	key(m *Model, k Key)
	// hints is the footer while it is on top.
	hints(m *Model) string
}

// refresher is a dialog that follows the pool.
type refresher interface{ refresh(m *Model) }

// listener is a dialog that awaits an answer.
type listener interface {
	topic() string
	answer(m *Model, a Answer)
}

// drawDialog frames the top dialog and draws it over the body.
func (m *Model) drawDialog(body region) {
	d := m.top()
	if d == nil {
		return
	}
	w, h := d.want(m)
	w, h = min(w+4, body.w), min(h+2, body.h)
	x, y := (body.w-w)/2, 0
	if m.class() >= classM {
		y = min((body.h-h)/3, 4)
	}
	box := body.sub(x, y, w, h)
	box.clear()
	m.frame(box, d.heading(m))
	d.draw(m, box.sub(2, 1, box.w-4, box.h-2))
}

// frame draws a border with a title.
func (m *Model) frame(r region, heading string) {
	g := m.glyphs
	for x := 1; x < r.w-1; x++ {
		r.put(x, 0, dim, g.horizontal)
		r.put(x, r.h-1, dim, g.horizontal)
	}
	for y := 1; y < r.h-1; y++ {
		r.put(0, y, dim, g.vertical)
		r.put(r.w-1, y, dim, g.vertical)
	}
	r.put(0, 0, dim, g.cornerTL)
	r.put(r.w-1, 0, dim, g.cornerTR)
	r.put(0, r.h-1, dim, g.cornerBL)
	r.put(r.w-1, r.h-1, dim, g.cornerBR)
	if heading != "" {
		r.cut(2, 0, r.w-4, title, " "+heading+" ")
	}
}

// piece is a part of a line in one tone.
type piece struct {
	tone tone
	text string
}

// lines is text that is shown and scrolled as a whole.
type lines [][]piece

func (l *lines) add(t tone, s string)   { *l = append(*l, []piece{{t, s}}) }
func (l *lines) row(pieces ...piece)    { *l = append(*l, pieces) }
func (l *lines) gap()                   { *l = append(*l, nil) }
func (l *lines) head(s string)          { l.add(title, s) }
func (l *lines) fact(name, text string) { l.toned(name, text, plain) }
func (l *lines) toned(name, text string, t tone) {
	if text == "" {
		return
	}
	*l = append(*l, []piece{{dim, factName(name)}, {t, text}})
}

// factName is what stands before a fact.
func factName(name string) string {
	const w = 13
	return name + strings.Repeat(" ", max(w-cells(name), 1))
}

// wrapped breaks lines that are wider than w, indenting what follows under the last piece. Where that has no room beside
// what stands before it, it goes below. A line whose last piece is empty is not broken: what has no room is cut.
func (l lines) wrapped(w int) lines {
	var out lines
	for _, line := range l {
		used := 0
		for _, p := range line {
			used += cells(p.text)
		}
		if used <= w || len(line) == 0 || line[len(line)-1].text == "" {
			out = append(out, line)
			continue
		}
		last := line[len(line)-1]
		indent := used - cells(last.text)
		if indent > w-12 {
			const below = 2
			if len(line) > 1 {
				out = append(out, line[:len(line)-1])
			}
			for _, part := range wrap(last.text, w-below) {
				out = append(out, []piece{{plain, strings.Repeat(" ", below)}, {last.tone, part}})
			}
			continue
		}
		for i, part := range wrap(last.text, w-indent) {
			if i == 0 {
				out = append(out, append(append([]piece{}, line[:len(line)-1]...), piece{last.tone, part}))
			} else {
				out = append(out, []piece{{plain, strings.Repeat(" ", indent)}, {last.tone, part}})
			}
		}
	}
	return out
}

// panel as top: the lines are part of a screen and do not scroll.
const panel = -1

// draw shows lines from top on and returns how many there are.
func (l lines) draw(r region, top int) int {
	scrolls := top != panel
	all := l.wrapped(r.w)
	top = min(max(top, 0), max(len(all)-r.h, 0))
	for y := 0; y < r.h && top+y < len(all); y++ {
		x := 0
		for _, p := range all[top+y] {
			if cells(p.text) > r.w-x && r.w-x < 4 { // too little for a word
				r.put(max(r.w-2, 0), y, p.tone, "..")
				break
			}
			x = r.cut(x, y, r.w-x, p.tone, p.text)
		}
	}
	if more := len(all) - top - r.h; more > 0 && r.h > 1 {
		r.sub(0, r.h-1, r.w, 1).clear()
		text := "... " + plural(more+1, "more line")
		if scrolls {
			text += ", j k PgDn scroll"
		}
		r.put(0, r.h-1, dim, text)
	}
	return len(all)
}

// pager is a dialog that shows text: help, explanations, refusals, details.
type pager struct {
	title string
	make  func(m *Model) lines
	top   int
	rows  int
	w     int
}

func (p *pager) heading(*Model) string { return p.title }

func (p *pager) want(m *Model) (int, int) {
	w := dashInt(p.w, 92)
	return w, len(p.make(m).wrapped(min(w, m.w-6))) + 1
}

func (p *pager) draw(m *Model, r region) { p.rows = p.make(m).draw(r, p.top) }

func (p *pager) key(m *Model, k Key) {
	switch k.Name {
	case "j", "down":
		p.top++
	case "k", "up":
		p.top--
	case "pgdown", " ", "ctrl+d":
		p.top += 10
	case "pgup", "ctrl+u":
		p.top -= 10
	case "g", "home":
		p.top = 0
	case "G", "end":
		p.top = p.rows
	case "y":
		m.do(Copy{plainText(p.make(m))})
		m.say(accent, "copied")
	case "esc", "q", "enter":
		m.close()
	}
	p.top = min(max(p.top, 0), max(p.rows-1, 0))
}

func (p *pager) hints(*Model) string { return "j k scroll   y copy   Esc back" }

// plainText is what lines say, for the clipboard.
func plainText(l lines) string {
	var b strings.Builder
	for _, line := range l {
		for _, p := range line {
			b.WriteString(p.text)
		}
		b.WriteByte('\n')
	}
	return b.String()
}

func dashInt(n, otherwise int) int {
	if n == 0 {
		return otherwise
	}
	return n
}

// newRefusal shows a no with its reason and the next step.
func newRefusal(what, reason, remedy string) dialog {
	return &pager{title: "REFUSED: " + what, w: 76, make: func(*Model) lines {
		var l lines
		l.gap()
		l.toned("reason", reason, bad)
		if remedy != "" {
			l.gap()
			l.toned("next step", remedy, accent)
		}
		l.gap()
		l.add(dim, "Nothing was changed.")
		return l
	}}
}

// content is all that the pager shows.
func (p *pager) content(m *Model) lines { return p.make(m) }
