package ui

import (
	"fmt"
	"slices"
	"strings"

	"github.com/holdfast-ha/holdfast/console/feed"
)

// confirm is the preview and confirmation of one action. Its first focus is never on the button that acts, and the
// keys that open it do nothing in it.
type confirm struct {
	act    *action
	ids    []string
	hidden int
	weight weight
	why    input
	typed  input
	focus  int
	top    int    // of the preview
	seen   string // what the preview said when it was last read
	// before are the lines of the preview that was read, while it has changed since.
	before  map[string]bool
	changed bool
	refusal string
	// plan is what the pool's planner says about it; nil for actions that need none.
	plan      planning
	planned   planState
	everReady bool
	option    bool
}

func newConfirm(m *Model, a *action, ids []string) *confirm {
	c := &confirm{act: a, ids: ids, weight: a.weigh(m, ids)}
	if l := m.list(); l.kind == a.kind && len(l.marks) > 0 {
		c.hidden = l.hidden()
	}
	c.seen = withoutFigures(a.about(m, ids))
	if a.plan != nil {
		c.plan = a.plan(ids)
		c.askPlan(m)
		c.focus = len(c.stops()) - 2
	}
	return c
}

// stops are what Tab goes through.
func (c *confirm) stops() []string {
	var out []string
	if c.plan != nil && c.plan.choice() != "" {
		out = append(out, "option")
	}
	if c.weight >= reasoned {
		out = append(out, "why")
	}
	if c.weight == named {
		out = append(out, "typed")
	}
	return append(out, "cancel", "go")
}

func (c *confirm) stop() string { return c.stops()[min(c.focus, len(c.stops())-1)] }

// nameToType is what a heavy confirmation demands.
func (c *confirm) nameToType(m *Model) string {
	if c.act.kind == nil {
		return m.poolName()
	}
	if len(c.ids) > 1 {
		return fmt.Sprint(len(c.ids)) + " " + c.act.kind.name
	}
	return c.ids[0]
}

// able are the things for which the action may be asked now.
func (c *confirm) able(m *Model) []string {
	return slices.DeleteFunc(slices.Clone(c.ids), func(id string) bool {
		return m.whyNot(c.act, id) != "" || c.plan != nil && c.planned.ready && c.plan.excludes(id) != ""
	})
}

// missing says what keeps the button from acting; empty: nothing does.
func (c *confirm) missing(m *Model) string {
	switch {
	case len(c.able(m)) == 0:
		if why := m.whyNot(c.act, c.ids[0]); why != "" {
			return why
		}
		return c.plan.excludes(c.ids[0])
	case c.plan != nil && c.planTrouble() != "":
		return c.planTrouble()
	case c.weight == reasoned && len(c.why.text) == 0:
		return "give a reason"
	case c.weight == named && c.typed.String() != c.nameToType(m):
		return "type " + c.nameToType(m)
	}
	return ""
}

func (c *confirm) heading(m *Model) string {
	s := c.act.title + " " + someOf(c.ids, 3) + " in " + m.poolName()
	if c.act.kind == nil {
		s = c.act.title + " " + m.poolName()
	}
	if m.pool.Label != "" {
		s += " (" + m.pool.Label + ")"
	}
	return s
}

func (c *confirm) text(m *Model) lines {
	var out lines
	if c.plan != nil {
		out = c.planLines(m)
	} else {
		out = c.act.about(m, c.ids)
	}
	if c.hidden > 0 {
		out.toned("hidden", fmt.Sprintf("%s marked that the filter does not show", plural(c.hidden, c.act.kind.one)), bad)
	}
	for _, id := range c.ids {
		if why := m.whyNot(c.act, id); why != "" && len(c.ids) > 1 {
			out.toned(id, "left out: "+why, bad)
		}
	}
	if m.freshness() == feed.Delayed {
		out.add(bad, "! the agent is late: what is shown is "+span(m.now.Sub(m.link.Heard))+" old")
	}
	if c.changed {
		out.add(bad, "! this has changed since you opened it: read it again")
	}
	return out
}

func (c *confirm) want(m *Model) (int, int) {
	w := 78
	if c.plan != nil {
		w = 108
	}
	return w, len(c.text(m).wrapped(min(w, m.w-6))) + len(c.stops()) + 4
}

func (c *confirm) draw(m *Model, r region) {
	fields := len(c.stops()) - 2
	text := r.rows(0, max(r.h-fields-3, 1))
	c.text(m).draw(text, c.top)
	y := r.h - fields - 2
	if c.plan != nil && c.plan.choice() != "" {
		box := map[bool]string{true: "[x] ", false: "[ ] "}[c.option]
		r.put(0, y, dimUnless(c.stop() == "option", accent), box+c.plan.choice()+" (Space)")
		y++
	}
	if c.weight >= reasoned {
		label := "Reason:"
		if c.weight == named {
			label = "Reason (if you like):"
		}
		x := r.put(0, y, dimUnless(c.stop() == "why", accent), label) + 1
		c.why.draw(r, x, y, r.w-x, c.stop() == "why")
		y++
	}
	if c.weight == named {
		x := r.put(0, y, dimUnless(c.stop() == "typed", accent), "Type "+c.nameToType(m)+" to enable:") + 1
		c.typed.draw(r, x, y, r.w-x, c.stop() == "typed")
	}
	missing := c.missing(m)
	c.buttons(m, r, r.h-1, missing)
	if c.refusal != "" {
		missing = c.refusal
	}
	r.cut(0, r.h-1, r.w-cells(c.buttonText())-14, dimUnless(missing != "", bad), missing)
}

// buttonText is the action's title without the word that leads over to its subject, or its first word if that is long.
func (c *confirm) buttonText() string {
	const most = 20
	s := strings.TrimSuffix(strings.TrimSuffix(strings.TrimSuffix(c.act.title, " for"), " of"), ":")
	if cells(s) > most {
		s = firstWord(s)
	}
	return "[" + s + "]"
}

func (c *confirm) buttons(_ *Model, r region, y int, missing string) {
	act := c.buttonText()
	x := r.w - cells(act)
	tone := bad
	if missing != "" {
		tone = dim
	}
	drawButton(r, x, y, act, tone, c.stop() == "go")
	drawButton(r, x-11, y, "[Cancel]", plain, c.stop() == "cancel")
}

// drawButton writes a button; the one with the focus is reversed and has a mark for terminals that cannot.
func drawButton(r region, x, y int, text string, t tone, focused bool) {
	r.put(x, y, t, text)
	if focused {
		r.put(x-1, y, accent, ">")
		r.sub(x, y, cells(text), 1).highlight(0)
	}
}

func firstWord(s string) string {
	for i, c := range s {
		if c == ' ' || c == ':' {
			return s[:i]
		}
	}
	return s
}

func (c *confirm) refresh(m *Model) {
	if c.plan != nil {
		c.followPlan(m)
		return
	}
	if c.preview(m) != c.seen {
		c.changed = true
	}
}

// preview is the part of the dialog that must not change unnoticed.
func (c *confirm) preview(m *Model) string {
	if c.plan != nil {
		return withoutFigures(c.plan.lines(m))
	}
	return withoutFigures(c.act.about(m, c.ids))
}

// withoutFigures is what lines say, live figures apart: those change all the time and decide nothing.
func withoutFigures(l lines) string {
	out := make(lines, len(l))
	for i, line := range l {
		for _, p := range line {
			if p.tone != bar {
				out[i] = append(out[i], p)
			}
		}
	}
	return plainText(out)
}

func (c *confirm) key(m *Model, k Key) {
	stops := c.stops()
	switch k.Name {
	case "esc":
		m.close()
		return
	case "tab", "down":
		c.focus = (c.focus + 1) % len(stops)
		return
	case "shift+tab", "up":
		c.focus = (c.focus + len(stops) - 1) % len(stops)
		return
	case "enter":
		c.enter(m)
		return
	case "pgdown":
		c.top += 5
		return
	case "pgup":
		c.top = max(c.top-5, 0)
		return
	}
	if c.plan != nil && c.stop() != "why" && c.stop() != "typed" && c.plan.key(m, k) {
		return
	}
	switch c.stop() {
	case "option":
		if k.Name == " " {
			c.choose(m, !c.option)
		}
	case "why":
		c.why.key(k)
	case "typed":
		c.typed.key(k)
	default:
		switch k.Name {
		case "left", "right":
			c.focus = len(stops) - 2 + (c.focus-(len(stops)-2)+1)%2
		case "j":
			c.top += 5
		case "k":
			c.top = max(c.top-5, 0)
		case "Y":
			m.do(Copy{plainText(c.text(m))})
			m.say(accent, "copied: the preview")
		case "y":
			s := c.act.commandLine(c.able(m), c.inputsFor(c.ids[0]))
			m.do(Copy{s})
			m.say(accent, "copied: %s", s)
		}
	}
}

// enter goes on from a field, leaves by Cancel, or acts. What changed since the dialog was opened has to be read
// before it can be confirmed: the first Enter only takes note of it.
func (c *confirm) enter(m *Model) {
	switch c.stop() {
	case "cancel":
		m.close()
	case "go":
		if c.changed {
			c.changed, c.before, c.seen = false, nil, c.preview(m)
			c.refusal = "it had changed; Enter again if it is still right"
			return
		}
		c.act1(m)
	default:
		c.focus++
	}
}

// inputs are what was typed and chosen.
func (c *confirm) inputs() inputs {
	return inputs{why: c.why.String(), typed: c.typed.String(), option: c.option}
}

// inputsFor adds what the plan says about one of several things.
func (c *confirm) inputsFor(id string) inputs {
	in := c.inputs()
	if c.plan != nil {
		in.to, in.plan = c.plan.choose(id)
	}
	return in
}

func (c *confirm) act1(m *Model) {
	if c.missing(m) != "" {
		return
	}
	n := 0
	for _, id := range c.able(m) {
		if why := m.send(c.act, id, c.inputsFor(id)); why != "" {
			c.refusal = why
			return
		}
		n++
	}
	m.close()
	if p, ok := c.plan.(*evacuation); ok && n == 1 {
		m.open(newLeavingPage(m, c.heading(m), p))
	}
	if l := m.list(); l.kind == c.act.kind {
		clear(l.marks)
	}
	what := someOf(c.ids, 3)
	if n != len(c.ids) {
		what = fmt.Sprintf("%d of %d", n, len(c.ids))
	}
	m.say(accent, "requested: %s %s", c.act.name, what)
}

func (c *confirm) hints(*Model) string {
	if p, ok := c.plan.(interface{ explains() bool }); ok && p.explains() && c.stop() != "why" && c.stop() != "typed" {
		return "Tab field  Enter choose  Esc leave  e reasons  PgDn scroll  y copy  Y copy all"
	}
	return "Tab field  Enter choose  Esc leave  PgDn scroll  y copy command  Y copy all"
}
