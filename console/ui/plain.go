package ui

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/holdfast-ha/holdfast/console/feed"
)

// Typed is a line typed in the plain console: a command, an answer, or the number of a choice.
type Typed string

// Plain shows the same Model line by line, for screen readers and slow lines: a line for each change, numbered
// choices for each dialog, and the palette's commands as input.
type Plain struct {
	m      *Model
	out    []string
	status string
	event  string
	notice string
	told   dialog
	step   int
	// awaits is the dialog whose answer from the pool is on its way; decided the one whose option was chosen.
	awaits, decided dialog
}

// NewPlain wraps a model.
func NewPlain(m *Model) *Plain {
	m.look.ASCII = true
	m.setLook(m.look)
	m.w, m.h = 120, 40
	return &Plain{m: m}
}

func (p *Plain) say(format string, args ...any) {
	p.out = append(p.out, cleanLine(fmt.Sprintf(format, args...)))
}

// cleanLine replaces what must not reach a terminal.
func cleanLine(s string) string {
	return strings.Map(func(c rune) rune {
		switch {
		case c == '\t' || c == '\n':
			return ' '
		case harmful(c):
			return placeholder
		}
		return c
	}, s)
}

// Lines returns what is to be printed since the last call.
func (p *Plain) Lines() []string {
	out := p.out
	p.out = nil
	return out
}

// Take takes one message and finds out what is new.
func (p *Plain) Take(msg any) {
	if line, ok := msg.(Typed); ok {
		p.typed(strings.TrimSpace(string(line)))
	} else {
		p.m.Reduce(msg)
	}
	p.news()
}

// news says what has changed since the last message.
func (p *Plain) news() {
	m := p.m
	var parts []string
	for i, f := range m.headerFacts() {
		text := f.text
		if i == 0 {
			text = m.freshness().String() // not its age: that changes all the time
		}
		parts = append(parts, text)
	}
	if s := strings.Join(parts, ", "); s != p.status {
		p.status = s
		p.say("%s: %s", m.poolName(), s)
	}
	if v := m.view; v != nil {
		p.events(v)
	}
	if m.notice != "" && m.notice != p.notice {
		p.notice = m.notice
		p.say("%s", m.notice)
	}
	if d := m.top(); d != p.told {
		if awaitsAnswer(d) {
			if p.awaits != d {
				p.awaits = d
				p.say("asking the pool's planner ...")
			}
			return
		}
		p.told, p.step, p.awaits = d, 0, nil
		if d != nil {
			p.present(d)
		}
	}
}

// awaitsAnswer reports whether what a dialog has to tell is still asked for.
func awaitsAnswer(d dialog) bool {
	switch d := d.(type) {
	case *confirm:
		return d.plan != nil && d.planned.err == nil && (!d.planned.ready || d.planned.asked)
	case *loss:
		return d.reply == nil && d.err == nil
	case *incidentPage:
		return d.reply == nil && d.err == nil
	}
	return false
}

// events says each event once; of what was there at the beginning only the last.
func (p *Plain) events(v *feed.View) {
	last := p.event
	if e := v.LastEvent(); e != nil {
		p.event = e.GetId()
	}
	for i, e := range v.Events {
		if e.GetId() > last && (last != "" || i == len(v.Events)-1) {
			p.say("%s %s", clockTime(p.m.now, e.GetAt()), e.GetText())
		}
	}
}

// present reads a dialog out.
func (p *Plain) present(d dialog) {
	p.say("-- %s", d.heading(p.m))
	switch d := d.(type) {
	case *confirm:
		p.text(d.text(p.m))
		p.ask(d)
	case *menu:
		for i, c := range d.choices(p.m) {
			text := c.text
			if c.why != "" {
				text = "no: " + c.why
			}
			p.say("%d %s: %s", i+1, c.name, text)
		}
		p.say("number, or 0 to leave:")
	case interface{ content(m *Model) lines }:
		p.text(d.content(p.m))
		p.say("(an empty line leaves)")
	}
}

func (p *Plain) text(l lines) {
	for line := range strings.SplitSeq(strings.TrimRight(plainText(l), "\n"), "\n") {
		p.say("%s", line)
	}
}

// ask asks for the next field of a confirmation, or for the choice at its end.
func (p *Plain) ask(d *confirm) {
	if p.decided == dialog(d) && d.stops()[p.step] == "option" {
		p.step++
	}
	switch d.stops()[p.step] {
	case "option":
		p.say("%s? 1 no, 2 yes:", d.plan.choice())
	case "why":
		p.say("reason:")
	case "typed":
		p.say("type %s to enable it:", d.nameToType(p.m))
	default:
		if why := d.missing(p.m); why != "" {
			p.say("not possible: %s. 1 leave", why)
		} else {
			p.say("1 leave, 2 %s", strings.Trim(d.buttonText(), "[]"))
		}
	}
}

// typed takes a line: an answer to the dialog on top, or a command.
func (p *Plain) typed(line string) {
	m := p.m
	m.lastKey = m.now
	if d := m.top(); d != nil && d != p.told {
		if line == "" || line == "0" {
			m.close()
			return
		}
		p.say("the answer is on its way (an empty line leaves)")
		return
	}
	switch d := m.top().(type) {
	case nil:
		if line == "" {
			return
		}
		if why := m.command(line); why != "" {
			p.say("%s", why)
		}
		m.refresh()
	case *confirm:
		p.answer(d, line)
	case *menu:
		n, err := strconv.Atoi(line)
		if all := d.choices(m); err == nil && n >= 1 && n <= len(all) {
			d.at = n - 1
			d.key(m, Key{Name: "enter"})
			return
		}
		m.close()
	default:
		m.close()
	}
}

func (p *Plain) answer(d *confirm, line string) {
	switch d.stops()[p.step] {
	case "option":
		p.decided = d
		if line == "2" { // another plan, which is read out when it has come
			p.told = nil
			d.choose(p.m, true)
			return
		}
	case "why":
		d.why.set(line)
	case "typed":
		d.typed.set(line)
	default:
		if line == "2" {
			d.focus = len(d.stops()) - 1
			d.key(p.m, Key{Name: "enter"})
			if p.m.top() == dialog(d) {
				p.say("not done: %s", dashIf(d.missing(p.m), dashIf(d.refusal, "it has changed; read it again")))
				p.m.close()
			}
			if _, live := p.m.top().(*leavingPage); live {
				p.m.close() // its events are said one by one
			}
			return
		}
		p.m.close()
		return
	}
	p.step++
	p.ask(d)
}
