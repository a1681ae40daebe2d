package ui

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"
)

// planning is the part of a preview that the pool's own planner writes.
type planning interface {
	// request asks for the plan with the dialog's option on or off.
	request(option bool) proto.Message
	// take takes the answer; false: it is none of its own.
	take(reply proto.Message) bool
	lines(m *Model) lines
	// weigh says how heavy the confirmation must be, by what the plan does.
	weigh() weight
	// choice is the text of the option, empty if the API offers none here.
	choice() string
	// excludes says why a thing cannot be done after all; empty: it can.
	excludes(id string) string
	// choose is the target and the plan's revision for one thing.
	choose(id string) (to string, revision int64)
	// key takes a key that moves about in the plan.
	key(m *Model, k Key) bool
}

// planState is how the question for a plan stands.
type planState struct {
	asked, ready bool
	revision     int64
	at           time.Time
	err          error
}

// planEvery bounds how often a plan is asked for anew while the pool changes.
const planEvery = time.Second

func (c *confirm) topic() string { return "plan " + c.act.name + " " + fmt.Sprint(c.ids) }

func (c *confirm) askPlan(m *Model) {
	c.planned = planState{asked: true, revision: m.shown().Revision, at: m.now}
	m.ask(c.topic(), c.plan.request(c.option))
}

// choose switches the dialog's option, which makes another plan: to be read, but no change behind anybody's back.
func (c *confirm) choose(m *Model, on bool) {
	c.option, c.everReady, c.changed, c.before = on, false, false, nil
	c.askPlan(m)
}

// answer takes the plan. What it demands may make the confirmation heavier.
func (c *confirm) answer(m *Model, a Answer) {
	c.planned.asked, c.planned.err = false, a.Err
	if a.Err != nil || !c.plan.take(a.Message) {
		return
	}
	c.planned.ready = true
	stop := c.stop()
	c.weight = max(c.act.weigh(m, c.ids), c.plan.weigh())
	c.focus = max(slices.Index(c.stops(), stop), 0)
	if !c.everReady {
		c.focus = 0 // the first field, or Cancel if there is none
	}
	c.notice(m)
}

// notice sees whether the plan has changed under the reader's eyes.
func (c *confirm) notice(m *Model) {
	text := withoutFigures(c.plan.lines(m))
	if c.everReady && c.seen != text {
		if c.before == nil {
			c.before = map[string]bool{}
			for line := range strings.SplitSeq(c.seen, "\n") {
				c.before[line] = true
			}
		}
		c.changed = true
	}
	c.seen, c.everReady = text, true
}

// followPlan asks again when the pool has changed since.
func (c *confirm) followPlan(m *Model) {
	if !c.planned.asked && c.planned.revision != m.shown().Revision && m.now.Sub(c.planned.at) >= planEvery && m.link.Changeable(m.now) {
		ready := c.planned.ready
		c.askPlan(m)
		c.planned.ready = ready
	}
}

// planTrouble says why there is nothing to confirm yet; empty: there is.
func (c *confirm) planTrouble() string {
	switch {
	case c.planned.err != nil:
		reason, _ := explainError(c.planned.err)
		return reason
	case !c.planned.ready:
		return "waiting for the plan"
	case c.planned.asked:
		return "the pool has changed: being checked again"
	}
	return ""
}

func (c *confirm) planLines(m *Model) lines {
	var l lines
	switch {
	case c.planned.err != nil:
		reason, remedy := explainError(c.planned.err)
		l.toned("refused", reason, bad)
		if remedy != "" {
			l.toned("next step", remedy, accent)
		}
		return l
	case !c.planned.ready:
		l.add(dim, "asking the pool's planner ...")
		return l
	}
	l = c.marked(c.plan.lines(m))
	state := "checked " + seconds(m.now.Sub(c.planned.at)) + " ago"
	if c.planned.asked || c.planned.revision != m.shown().Revision {
		state = "the pool has changed; being checked again"
	}
	l.gap()
	_, revision := c.plan.choose(c.ids[0])
	l.add(dim, fmt.Sprintf("PREVIEW, nothing has started. plan r%d, %s", revision, state))
	return l
}

// marked marks the lines that were others when they were read.
func (c *confirm) marked(l lines) lines {
	if c.before == nil {
		return l
	}
	out := make(lines, 0, len(l))
	for _, line := range l {
		text := strings.TrimSuffix(withoutFigures(lines{line}), "\n")
		if len(line) > 0 && !c.before[text] {
			line = append([]piece{{bad, "! "}}, line...)
		}
		out = append(out, line)
	}
	return out
}
