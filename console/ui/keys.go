package ui

import (
	"slices"
	"strings"
	"time"

	"github.com/charmbracelet/bubbles/key"

	"github.com/holdfast-ha/holdfast/console/feed"
)

// command is one entry of the key map: what a key does, where, and what help says about it. The help screen and the
// footer are made from these, so that they cannot lie.
type command struct {
	key.Binding
	group string
	// here reports whether it works on the present screen; nil: everywhere.
	here func(m *Model) bool
	// foot is its place in the footer, 0: not there; brief is what it is called there.
	foot  int
	brief string
	do    func(m *Model)
}

func bind(group string, keys []string, help string, do func(m *Model)) command {
	label := keys[0]
	if label == " " {
		label = "Space"
	}
	return command{Binding: key.NewBinding(key.WithKeys(keys...), key.WithHelp(label, help)), group: group, do: do}
}

func (c command) shown(label string) command {
	c.SetHelp(label, c.Help().Desc)
	return c
}

func (c command) footer(n int, brief string) command    { c.foot, c.brief = n, brief; return c }
func (c command) only(here func(m *Model) bool) command { c.here = here; return c }

func onVMs(m *Model) bool { return m.screen == vms }
func onServers(m *Model) bool {
	return m.screen == servers || m.screen == overview || m.screen == capacity
}
func onOps(m *Model) bool     { return m.screen == operations }
func marksWork(m *Model) bool { return m.screen == vms || m.screen == servers }
func onHA(m *Model) bool      { return m.screen == vms || m.screen == overview }

var keyMap []command

func init() {
	keyMap = []command{
		bind("Screens", []string{"1", "2", "3", "4", "5", "6", "7"}, "choose a screen", nil).shown("1-7"),
		bind("Screens", []string{"tab"}, "next screen", func(m *Model) { m.turn(1) }).shown("Tab"),
		bind("Screens", []string{"shift+tab"}, "screen before", func(m *Model) { m.turn(-1) }).shown("S-Tab"),
		bind("Move", []string{"j", "down"}, "down", func(m *Model) { m.list().move(1) }).shown("j down"),
		bind("Move", []string{"k", "up"}, "up", func(m *Model) { m.list().move(-1) }).shown("k up"),
		bind("Move", []string{"pgdown", "ctrl+d"}, "a page down", func(m *Model) { m.list().move(m.page()) }).shown("PgDn"),
		bind("Move", []string{"pgup", "ctrl+u"}, "a page up", func(m *Model) { m.list().move(-m.page()) }).shown("PgUp"),
		bind("Move", []string{"g", "home"}, "first row", func(m *Model) { m.list().move(-1 << 30) }),
		bind("Move", []string{"G", "end"}, "last row", func(m *Model) { m.list().move(1 << 30) }),
		bind("Look", []string{"enter"}, "open what the cursor is on", (*Model).enter).shown("Enter").footer(9, "open"),
		bind("Look", []string{"esc"}, "back; clear filter and marks", (*Model).escape).shown("Esc"),
		bind("Look", []string{"/"}, "filter", func(m *Model) { m.openFilter() }).footer(2, "filter"),
		bind("Look", []string{":"}, "command, completed with Tab", func(m *Model) { m.openPalette("") }).footer(3, "command"),
		bind("Look", []string{"s"}, "sort by the next column", func(m *Model) { m.list().sortNext(m) }),
		bind("Look", []string{"S"}, "reverse the order", func(m *Model) { m.list().turnOrder() }),
		bind("Look", []string{"!"}, "problems only", (*Model).toggleProblems).footer(8, "problems"),
		bind("Look", []string{"e"}, "explain: why so, why there, why not elsewhere", (*Model).explain).footer(7, "why"),
		bind("Look", []string{"z"}, "zoom a pane", func(m *Model) { m.zoom = !m.zoom }),
		bind("Look", []string{"f"}, "freeze the display, or let it go on", (*Model).freezeDisplay),
		bind("Mark", []string{" "}, "mark, and go on", func(m *Model) { m.list().toggle() }).only(marksWork).footer(4, "mark"),
		bind("Mark", []string{"*"}, "mark all visible", func(m *Model) { m.list().markAll() }).only(marksWork),
		bind("Mark", []string{"\\"}, "clear marks", func(m *Model) { clear(m.list().marks) }).only(marksWork),
		bind("Change", []string{"m"}, "migrate VMs", func(m *Model) { m.act("m") }).only(onVMs).footer(5, "migrate"),
		bind("Change", []string{"M"}, "maintenance on or off", func(m *Model) { m.act("M") }).only(onServers).footer(5, "maintenance"),
		bind("Change", []string{"L"}, "inbound lock on or off", func(m *Model) { m.act("L") }).only(onServers),
		bind("Change", []string{"H"}, "HA on or off: VMs in their list, the pool on Overview", func(m *Model) { m.act("H") }).only(onHA).footer(5, "HA"),
		bind("Change", []string{"X"}, "cancel the operation", func(m *Model) { m.act("X") }).only(onOps).footer(5, "cancel"),
		bind("Change", []string{"A"}, "all actions here, refused ones with the reason", (*Model).openMenu).footer(6, "actions"),
		bind("Look", []string{"W"}, "what if this server is lost", (*Model).whatIf).only(onServers).footer(6, "what if"),
		bind("Console", []string{"p"}, "switch to another pool", (*Model).choosePool),
		bind("Console", []string{"r"}, "reconnect, to another agent", func(m *Model) { m.do(Reconnect{}); m.say(accent, "reconnecting") }),
		bind("Console", []string{"y"}, "copy the name", (*Model).copyName),
		bind("Console", []string{"Y"}, "copy as a command", (*Model).copyCommand),
		bind("Console", []string{"?", "f1"}, "help", (*Model).openHelp).footer(1, "help"),
		bind("Console", []string{"ctrl+z"}, "suspend", func(m *Model) { m.do(Suspend{}) }).shown("^Z"),
		bind("Console", []string{"q", "ctrl+c"}, "quit: operations go on", func(m *Model) { m.do(Quit{}) }).footer(10, "quit"),
	}
}

// key takes one key press.
func (m *Model) key(k Key) {
	m.digestAfterAbsence()
	m.lastKey = m.now
	if k.Name == "ctrl+c" && (m.prompt != nil || m.top() != nil) {
		m.prompt = nil
		m.dialogs = nil
		return
	}
	switch {
	case m.prompt != nil:
		m.prompt.key(m, k)
		return
	case m.top() != nil:
		if k.Name == "ctrl+z" {
			m.do(Suspend{})
			return
		}
		m.top().key(m, k)
		return
	}
	if n := screenOf(k.Name); n > 0 {
		m.show(n)
		return
	}
	for _, c := range keyMap {
		if c.do != nil && slices.Contains(c.Keys(), k.Name) && (c.here == nil || c.here(m)) {
			c.do(m)
			return
		}
	}
}

func screenOf(name string) screen {
	if len(name) != 1 {
		return 0
	}
	for _, s := range screens {
		if name[0] == byte('0'+s) {
			return s
		}
	}
	return 0
}

// show goes to a screen.
func (m *Model) show(s screen) {
	m.screen = s
	if s == incidents {
		m.housekeeping()
	}
	if s == capacity && m.capacity.value == nil && !m.capacity.asked {
		m.capacity.revision = -1
		m.housekeeping()
	}
}

// turn goes to the next screen.
func (m *Model) turn(n int) {
	i := slices.Index(screens, m.screen)
	m.show(screens[(i+n+len(screens))%len(screens)])
}

// page is how far PgDn goes.
func (m *Model) page() int { return max(m.h-8, 1) }

// escape goes back one step: filter, marks, freeze, zoom, in that order.
func (m *Model) escape() {
	l := m.list()
	switch {
	case l.filter.line != "" || l.troubled:
		l.filter, l.troubled, l.dirty = filter{}, false, true
	case len(l.marks) > 0:
		clear(l.marks)
	case m.zoom:
		m.zoom = false
	case m.still != nil:
		m.freezeDisplay()
	default:
		m.sendAway()
	}
}

func (m *Model) toggleProblems() {
	if m.screen == overview {
		m.openProblems()
		return
	}
	l := m.list()
	l.troubled, l.dirty = !l.troubled, true
}

func (m *Model) freezeDisplay() {
	if m.still != nil {
		d := feed.Digest(m.still, m.view)
		m.still = nil
		m.say(accent, "the display goes on%s", prefixed(": ", d))
		return
	}
	m.still, m.stillSince = m.view, m.now
}

func prefixed(prefix, s string) string {
	if s == "" {
		return ""
	}
	return prefix + s
}

// digestAfterAbsence tells what happened while nobody pressed a key for five minutes.
func (m *Model) digestAfterAbsence() {
	if away := m.now.Sub(m.lastKey); away >= awayAfter && m.seenUntil != nil {
		if d := feed.Digest(m.seenUntil, m.view); d != "" {
			m.say(accent, "since you looked, %s ago: %s", span(away), d)
		}
	}
	m.seenUntil = m.view
}

// awayAfter is when somebody who presses a key again is told what has happened meanwhile.
const awayAfter = 5 * time.Minute

// sortNext sorts by the column after the present one; after the last comes the natural order.
func (l *list) sortNext(*Model) {
	keys := []string{""}
	for _, c := range l.kind.cols {
		if c.key != "note" && c.key != "" {
			keys = append(keys, c.key)
		}
	}
	i := slices.Index(keys, l.sort)
	l.sort, l.dirty = keys[(i+1)%len(keys)], true
}

func (l *list) turnOrder() { l.reverse, l.dirty = !l.reverse, true }

func (l *list) markAll() {
	for _, id := range l.ids {
		l.marks[id] = true
	}
}

// act opens the action that a key stands for: of two that undo each other the one that is of use now.
func (m *Model) act(name string) {
	ids := m.list().targets()
	k := m.list().kind
	if m.screen == overview && name == "H" {
		k, ids = nil, []string{thePool}
	}
	if k == capacityKind {
		k = serverKind
	}
	var first *action
	for _, a := range allActions {
		if a.key != name || a.kind != k {
			continue
		}
		if first == nil {
			first = a
		}
		if len(ids) > 0 && (a.refuse == nil || a.refuse(m, ids[0]) == "") {
			m.begin(a, ids)
			return
		}
	}
	if first != nil {
		m.begin(first, ids)
	}
}

func (m *Model) copyName() {
	if l := m.list(); l.cursor != "" {
		s := strings.Join(l.targets(), " ")
		m.do(Copy{s})
		m.say(accent, "copied: %s", s)
	}
}

func (m *Model) copyCommand() {
	l := m.list()
	verb := map[*kind]string{serverKind: "server show", vmKind: "vm show", operationKind: "operation show", capacityKind: "server show", incidentKind: "incident show"}[l.kind]
	if l.cursor == "" || verb == "" {
		return
	}
	s := "holdfast " + verb + " " + l.cursor
	m.do(Copy{s})
	m.say(accent, "copied: %s", s)
}
