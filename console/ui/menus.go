package ui

import (
	"fmt"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"

	"github.com/holdfast-ha/holdfast/pkg/pool"
	pb "github.com/holdfast-ha/holdfast/proto/holdfast/v1"
)

// choice is one line of a menu.
type choice struct {
	name, text string
	// why it cannot be chosen now; empty: it can.
	why string
	do  func(m *Model)
}

// menu is a dialog in which one of several things is chosen. Those that cannot be chosen stay, with the reason.
type menu struct {
	title   string
	choices func(m *Model) []choice
	at      int
	top     int
}

func (d *menu) heading(*Model) string { return d.title }

func (d *menu) want(m *Model) (int, int) { return 92, len(d.choices(m)) + 1 }

func (d *menu) draw(m *Model, r region) {
	all := d.choices(m)
	names := 0
	for _, c := range all {
		names = max(names, cells(c.name))
	}
	names = min(names, r.w/2)
	d.top = max(min(d.top, d.at), d.at-r.h+1)
	for i := 0; i < r.h && d.top+i < len(all); i++ {
		c := all[d.top+i]
		t, text := plain, c.text
		if c.why != "" {
			t, text = dim, "no: "+c.why
		}
		r.cut(2, i, names, t, c.name)
		r.cut(names+4, i, r.w-names-4, dimUnless(c.why != "", bad), text)
		if d.top+i == d.at {
			r.put(0, i, accent, m.glyphs.cursor)
			r.highlight(i)
		}
	}
}

func (d *menu) key(m *Model, k Key) {
	all := d.choices(m)
	switch k.Name {
	case "j", "down", "tab":
		d.at++
	case "k", "up", "shift+tab":
		d.at--
	case "g", "home":
		d.at = 0
	case "G", "end":
		d.at = len(all) - 1
	case "esc", "q":
		m.close()
		return
	case "enter":
		if d.at < len(all) {
			c := all[d.at]
			if c.why != "" {
				m.open(newRefusal(c.name, c.why, ""))
				return
			}
			m.close()
			c.do(m)
		}
		return
	}
	d.at = min(max(d.at, 0), max(len(all)-1, 0))
}

func (d *menu) hints(*Model) string { return "j k choose   Enter do it   Esc back" }

// openMenu lists every action that concerns what the cursor is on, and the pool.
func (m *Model) openMenu() {
	l := m.list()
	k, ids := l.kind, l.targets()
	if k == capacityKind {
		k = serverKind
	}
	subject := someOf(ids, 3)
	m.open(&menu{title: "ACTIONS for " + dashIf(subject, thePool) + " in " + m.poolName(), choices: func(m *Model) []choice {
		var out []choice
		if len(ids) > 0 {
			for _, a := range actionsFor(k) {
				out = append(out, m.choiceOf(a, ids))
			}
		}
		for _, a := range actionsFor(nil) {
			c := m.choiceOf(a, []string{thePool})
			c.name = "pool: " + c.name
			out = append(out, c)
		}
		return out
	}})
}

func (m *Model) choiceOf(a *action, ids []string) choice {
	why := ""
	for i, id := range ids {
		w := m.whyNot(a, id)
		if w == "" {
			why = ""
			break
		}
		if i == 0 {
			why = w
		}
	}
	text := ""
	if why == "" && a.about != nil {
		text = firstSentence(plainText(a.about(m, ids)))
	}
	if a.key != "" {
		text = strings.TrimSpace("[" + a.key + "] " + text)
	}
	return choice{name: a.name, text: text, why: why, do: func(m *Model) { m.begin(a, ids) }}
}

func firstSentence(s string) string {
	s, _, _ = strings.Cut(strings.TrimSpace(s), "\n")
	return s
}

// openProblems lists what is wrong; Enter opens what a problem is about.
func (m *Model) openProblems() {
	m.open(&menu{title: "PROBLEMS in " + m.poolName(), choices: func(m *Model) []choice {
		var out []choice
		for _, p := range m.index.problems.first(m.index.problems.count()) {
			out = append(out, choice{name: dashIf(p.vm, dashIf(p.server, "etcd")), text: p.text, do: func(m *Model) {
				switch {
				case p.vm != "":
					m.openDetail(vmKind, p.vm)
				case p.server != "":
					m.openDetail(serverKind, p.server)
				}
			}})
		}
		if len(out) == 0 {
			out = append(out, choice{name: "none", text: "nothing is wrong", do: func(*Model) {}})
		}
		return out
	}})
}

func (m *Model) contexts() []string {
	if m.ports.Contexts == nil {
		return nil
	}
	return m.ports.Contexts()
}

// choosePool lists the pools of the configuration file.
func (m *Model) choosePool() {
	names := m.contexts()
	m.open(&menu{title: "POOLS", choices: func(m *Model) []choice {
		var out []choice
		for _, n := range names {
			text := ""
			if n == m.pool.Name {
				text = "shown now"
			}
			out = append(out, choice{name: n, text: text, do: func(m *Model) { m.do(Open{n}) }})
		}
		if len(out) == 0 {
			out = append(out, choice{name: "no others", text: "~/.config/holdfast/config.yaml has no contexts", do: func(*Model) {}})
		}
		return out
	}})
}

// openHelp shows the key map as it is, the filter language and the palette.
func (m *Model) openHelp() {
	m.open(&pager{title: "HELP", w: 96, make: func(m *Model) lines {
		var l lines
		groups := []string{}
		for _, c := range keyMap {
			if !slices.Contains(groups, c.group) {
				groups = append(groups, c.group)
			}
		}
		for _, g := range groups {
			l.head(g)
			for _, c := range keyMap {
				if c.group != g {
					continue
				}
				t := plain
				desc := c.Help().Desc
				if c.here != nil && !c.here(m) {
					t, desc = dim, desc+" (on another screen)"
				}
				l.toned("  "+c.Help().Key, desc, t)
			}
			l.gap()
		}
		l.head("Filter")
		l.toned("  web", "rows with this word; several words: all of them", plain)
		l.toned("  key:value", "such as state:running; also key!=value, key>n, key<n", plain)
		l.toned("  -word", "rows without it", plain)
		l.toned("  /regex/", "a regular expression", plain)
		l.toned("  keys here", strings.Join(m.list().kind.keys(), ", "), plain)
		l.gap()
		l.head("Commands (after :), the same as on the command line")
		for _, n := range commandNames() {
			l.add(plain, "  "+n)
		}
		return l
	}})
}

// explain says why a thing is as it is: why here, why not protected, why it waits, what it lacks.
func (m *Model) explain() {
	l := m.list()
	if l.cursor == "" {
		return
	}
	id := l.cursor
	if l.kind != vmKind {
		m.enter()
		return
	}
	m.askPlaces(id)
	m.open(&pager{title: "WHY: " + id, w: 92, make: func(m *Model) lines { return m.explanation(id) }})
}

func (m *Model) explanation(id string) lines {
	var l lines
	v := m.shown().VM(id)
	if v == nil {
		l.add(bad, "it is not there any more")
		return l
	}
	l.toned("state", withReason(word(v.GetStatus()), v.GetReason()), vmTone(v.GetStatus()))
	if v.GetStatus() == pb.VMStatus_VM_STATUS_FAILED {
		l.toned("next step", "mend the cause, then clear it: A on it, clear", accent)
	}
	l.fact("where", joinParts(dash(vmServer(v)), prefixed("home is ", v.GetHome().GetServer())))
	l.gap()
	c := m.shown().Config()
	switch {
	case v.GetProtected():
		l.toned("protected", "yes: pool HA and its own HA are on"+map[bool]string{true: ", its server's guard holds it", false: ""}[v.GetClaim().GetArmed()], good)
	case !v.GetVm().GetHa():
		l.toned("protected", "NO: its own HA is off"+byWhom(m.now, v.GetVm().GetHaMark()), bad)
		l.toned("next step", "H on it switches its HA on", accent)
	case c.GetFrozen():
		l.toned("protected", "NO: HA is frozen"+byWhom(m.now, c.GetFrozenMark()), bad)
		l.toned("next step", ":unfreeze", accent)
	case !c.GetHa():
		l.toned("protected", "NO: HA of the pool is off"+byWhom(m.now, c.GetHaMark()), bad)
		l.toned("next step", "H on Overview switches it on", accent)
	default:
		l.toned("protected", "NO: "+dashIf(v.GetReason(), "the pool gives no reason"), bad)
	}
	l.gap()
	l.fact("moves live", map[bool]string{true: "yes", false: "NO: it can only be stopped and started elsewhere"}[v.GetVm().GetMovable()])
	for _, lack := range m.lacksOf(id) {
		l.toned("not on", lack, bad)
	}
	l = append(l, m.placesOf(id)...)
	return append(l, m.history(func(e *pb.Event) bool { return e.GetVm() == id })...)
}

// setCommand opens the preview of `set VM|pool KEY=VALUE...`.
func (m *Model) setCommand(name string, args []string) string {
	if name == "pool set" {
		args = append([]string{"pool"}, args...)
	}
	if len(args) < 2 {
		return "set VM|pool KEY=VALUE..."
	}
	set := map[string]string{}
	for _, w := range args[1:] {
		k, v, ok := strings.Cut(w, "=")
		if !ok {
			return w + ": write KEY=VALUE"
		}
		set[k] = v
	}
	a := setAction(args[0], set, args[1:])
	if args[0] != "pool" || name == "vm set" {
		if m.shown().VM(args[0]) == nil {
			return "no VM " + args[0]
		}
	}
	m.begin(a, []string{map[bool]string{true: thePool, false: args[0]}[a.kind == nil]})
	return ""
}

func setAction(target string, set map[string]string, words []string) *action {
	a := &action{
		name: "set", title: "Set " + strings.Join(words, " ") + " on", kind: vmKind, weigh: always(light),
		request: func(_ *Model, id string, _ inputs, _ string) proto.Message {
			return &pb.UpdateVMRequest{Vm: id, Set: set}
		},
		about: func(_ *Model, _ []string) lines { return settingLines(pool.VMSettings(), set, words) },
		command: func(ids []string, _ inputs) string {
			return "holdfast set " + strings.Join(append(ids, words...), " ")
		},
	}
	if target == "pool" {
		a.kind = nil
		a.title = "Set " + strings.Join(words, " ") + ":"
		a.request = func(_ *Model, _ string, in inputs, _ string) proto.Message {
			return &pb.UpdatePoolRequest{Set: set, Why: in.why}
		}
		a.about = func(_ *Model, _ []string) lines { return settingLines(pool.PoolSettings(), set, words) }
		a.command = func(_ []string, in inputs) string {
			return commandWhy("holdfast set pool "+strings.Join(words, " "), in)
		}
	}
	return a
}

func settingLines(all [][2]string, set map[string]string, words []string) lines {
	var l lines
	for _, w := range words {
		k, _, _ := strings.Cut(w, "=")
		help := "not a setting that this console knows; the pool will say"
		for _, s := range all {
			if s[0] == k {
				help = s[1]
			}
		}
		l.fact(fmt.Sprintf("%s=%s", k, set[k]), help)
	}
	return l
}
