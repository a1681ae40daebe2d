package ui

import (
	"slices"
	"sort"
	"strings"

	"github.com/holdfast-ha/holdfast/pkg/pool"
)

// prompt is the line at the bottom while a filter or a command is typed.
type prompt struct {
	sign   string
	line   input
	error  string
	before filter
	// done carries the line out; it returns what is wrong with it.
	done    func(m *Model, line string) string
	changed func(m *Model, line string) string
	cancel  func(m *Model)
	// complete lists what the last word may be.
	complete func(m *Model, words []string, last string) []string
	offers   []string
	chosen   int
}

func (p *prompt) key(m *Model, k Key) {
	switch k.Name {
	case "esc":
		m.prompt = nil
		p.cancel(m)
		return
	case "enter":
		if p.error = p.done(m, p.line.String()); p.error == "" && m.prompt == p {
			m.prompt = nil
		}
		return
	case "tab", "shift+tab":
		p.offer(m, k.Name == "tab")
		return
	}
	if p.line.key(k) {
		p.error, p.offers, p.chosen = "", nil, -1
		if p.changed != nil {
			p.error = p.changed(m, p.line.String())
		}
		p.offers = p.suggest(m)
	}
}

// suggest lists the completions of the word being typed.
func (p *prompt) suggest(m *Model) []string {
	if p.complete == nil {
		return nil
	}
	words := strings.Fields(p.line.String())
	last := ""
	if n := len(words); n > 0 && !strings.HasSuffix(p.line.String(), " ") {
		last, words = words[n-1], words[:n-1]
	}
	var out []string
	for _, w := range p.complete(m, words, last) {
		if strings.HasPrefix(w, last) {
			out = append(out, w)
		}
	}
	return out
}

// offer puts the next completion into the line.
func (p *prompt) offer(m *Model, forward bool) {
	if p.offers == nil {
		p.offers, p.chosen = p.suggest(m), -1
	}
	if len(p.offers) == 0 {
		return
	}
	if forward {
		p.chosen = (p.chosen + 1) % len(p.offers)
	} else {
		p.chosen = (p.chosen - 1 + len(p.offers)) % len(p.offers)
	}
	s := p.line.String()
	head := ""
	if i := strings.LastIndexByte(s, ' '); i >= 0 {
		head = s[:i+1]
	}
	w := p.offers[p.chosen]
	if len(p.offers) == 1 {
		if !strings.HasSuffix(w, "=") {
			w += " "
		}
		p.line.set(head + w)
		p.offers = p.suggest(m)
		p.chosen = -1
		return
	}
	p.line.set(head + w)
}

func (m *Model) openFilter() {
	l := m.list()
	before := l.filter
	p := &prompt{sign: "/", before: before, chosen: -1}
	apply := func(m *Model, line string) string {
		f, err := parseFilter(l.kind, line)
		if err != nil {
			return err.Error()
		}
		l.filter, l.dirty = f, true
		return ""
	}
	p.changed, p.done = apply, apply
	p.cancel = func(*Model) { l.filter, l.dirty = before, true }
	p.complete = func(m *Model, _ []string, last string) []string { return l.filterWords(m, last) }
	p.line.set(before.line)
	m.prompt = p
}

// filterWords completes keys and, behind a sign, the values that there are.
func (l *list) filterWords(m *Model, last string) []string {
	key, _, found := strings.Cut(last, ":")
	if !found {
		var out []string
		for _, k := range l.kind.keys() {
			out = append(out, k+":")
		}
		return out
	}
	c, ok := l.kind.field(key)
	if !ok {
		return nil
	}
	seen := map[string]bool{}
	v := m.shown()
	for i, id := range l.kind.ids(m, v) {
		if i == 2000 {
			break
		}
		s, _ := c.cell(m, l.kind.row(m, v, id))
		if s, _, _ = strings.Cut(strings.ToLower(s), " "); s != "" && s != "-" {
			seen[key+":"+s] = true
		}
	}
	var out []string
	for s := range seen {
		out = append(out, s)
	}
	sort.Strings(out)
	return out
}

func (m *Model) openPalette(line string) {
	p := &prompt{sign: ":", chosen: -1, done: func(m *Model, line string) string { return m.command(line) }, cancel: func(*Model) {}}
	p.complete = func(m *Model, words []string, last string) []string { return m.completions(words, last) }
	p.line.set(line)
	m.prompt = p
	p.offers = p.suggest(m)
}

// own are the palette's commands that change nothing in the pool.
var own map[string]func(m *Model, args []string) string

func init() {
	own = map[string]func(m *Model, args []string) string{
		"quit": func(m *Model, _ []string) string { m.do(Quit{}); return "" },
		"help": func(m *Model, _ []string) string { m.openHelp(); return "" },
		"use":  switchPool,
		"pool": switchPool,
		"theme": func(m *Model, args []string) string {
			if len(args) != 1 {
				return "which theme? there are " + strings.Join(ThemeNames(), ", ")
			}
			if err := CheckTheme(args[0]); err != nil {
				return err.Error()
			}
			l := m.look
			l.Theme = args[0]
			m.setLook(l)
			return ""
		},
		"plan lose": func(m *Model, args []string) string {
			if len(args) == 0 {
				return "lose which server?"
			}
			for _, id := range args {
				if m.shown().Server(id) == nil {
					return "no server " + id
				}
			}
			m.openLoss(args)
			return ""
		},
		"plan maintenance": func(m *Model, args []string) string {
			return m.command("maintenance enter " + strings.Join(args, " "))
		},
		"plan return": func(m *Model, args []string) string {
			return m.command("maintenance exit " + strings.Join(args, " "))
		},
		"plan migrate":  func(m *Model, args []string) string { return m.command("migrate " + strings.Join(args, " ")) },
		"status":        goTo(overview),
		"servers":       goTo(servers),
		"vms":           goTo(vms),
		"operations":    goTo(operations),
		"events":        goTo(events),
		"alerts":        func(m *Model, _ []string) string { m.openProblems(); return "" },
		"capacity":      goTo(capacity),
		"incident list": goTo(incidents),
		"incident show": func(m *Model, args []string) string {
			m.openIncident(dashIf(strings.Join(args, " "), "last"))
			return ""
		},
		"vm show":        open(vmKind),
		"server show":    open(serverKind),
		"operation show": open(operationKind),
	}
}

// switchPool opens the pool of a context.
func switchPool(m *Model, args []string) string {
	if len(args) != 1 {
		return "which pool? there are " + strings.Join(m.contexts(), ", ")
	}
	m.do(Open{args[0]})
	return ""
}

func goTo(s screen) func(*Model, []string) string {
	return func(m *Model, _ []string) string { m.show(s); return "" }
}

func open(k *kind) func(*Model, []string) string {
	return func(m *Model, args []string) string {
		if len(args) != 1 {
			return "name one " + k.one
		}
		if k.row(m, m.shown(), args[0]) == nil {
			return "no " + k.one + " " + args[0]
		}
		m.openDetail(k, args[0])
		return ""
	}
}

// command carries out a line of the palette: the command line's own words, which open the same dialogs as the keys.
// It returns what is wrong with the line.
func (m *Model) command(line string) string {
	words := strings.Fields(strings.TrimPrefix(strings.TrimSpace(line), "holdfast "))
	if len(words) == 0 {
		return ""
	}
	for n := min(2, len(words)); n > 0; n-- {
		name := strings.Join(words[:n], " ")
		args := words[n:]
		if f, ok := own[name]; ok {
			return f(m, args)
		}
		if name == "set" || name == "vm set" || name == "pool set" {
			return m.setCommand(name, args)
		}
		if a := m.actionFor(name, args); a != nil {
			return m.actCommand(a, args)
		}
	}
	return "no command " + words[0] + "; Tab lists them"
}

// actionFor finds the action that a line means: with names the one for things, without the one for the pool.
func (m *Model) actionFor(name string, args []string) *action {
	var found *action
	for _, a := range allActions {
		if a.name == name && (a.kind == nil) == (len(args) == 0) {
			found = a
		}
	}
	if found == nil {
		for _, a := range allActions {
			if a.name == name {
				return a
			}
		}
	}
	return found
}

func (m *Model) actCommand(a *action, args []string) string {
	if a.kind == nil {
		if len(args) > 0 {
			return a.name + " takes no names"
		}
		m.begin(a, []string{thePool})
		return ""
	}
	ids := args
	if len(ids) == 0 && m.list().kind == a.kind {
		ids = m.list().targets()
	}
	if len(ids) == 0 {
		return a.name + ": which " + a.kind.one + "?"
	}
	if a.targets != nil {
		return a.targets(m, ids)
	}
	for _, id := range ids {
		if a.kind.row(m, m.shown(), id) == nil {
			return "no " + a.kind.one + " " + id
		}
	}
	m.begin(a, ids)
	return ""
}

// completions are what the next word of a command may be.
func (m *Model) completions(words []string, last string) []string {
	names := commandNames()
	line := strings.Join(words, " ")
	seen := map[string]bool{}
	var out []string
	add := func(w string) {
		if w != "" && !seen[w] {
			seen[w] = true
			out = append(out, w)
		}
	}
	for _, n := range names {
		rest, ok := strings.CutPrefix(n+" ", line+" ")
		if line == "" {
			rest, ok = n, true
		}
		if ok {
			w, _, _ := strings.Cut(strings.TrimSpace(rest), " ")
			add(w)
		}
	}
	for _, w := range m.arguments(words, last) {
		add(w)
	}
	return out
}

// commandNames are all commands of the palette, in order.
func commandNames() []string {
	var out []string
	for _, a := range allActions {
		out = append(out, a.name)
	}
	for n := range own {
		out = append(out, n)
	}
	out = append(out, "set")
	slices.Sort(out)
	return slices.Compact(out)
}

// arguments completes names behind a command.
func (m *Model) arguments(words []string, last string) []string {
	v := m.shown()
	for n := min(2, len(words)); n > 0; n-- {
		name := strings.Join(words[:n], " ")
		args := words[n:]
		switch name {
		case "use", "pool":
			return m.contexts()
		case "theme":
			return ThemeNames()
		case "plan lose", "server show", "plan maintenance", "plan return":
			return serverKind.ids(m, v)
		case "incident show":
			return append(incidentKind.ids(m, v), "last")
		case "vm show", "plan migrate":
			return vmKind.ids(m, v)
		case "set":
			return m.settingWords(args, last)
		}
		for _, a := range allActions {
			if a.name != name || a.kind == nil {
				continue
			}
			if a.second != nil && len(args) > 0 {
				return a.second.ids(m, v)
			}
			var out []string
			for _, id := range a.kind.ids(m, v) {
				if !slices.Contains(args, id) {
					out = append(out, id)
				}
			}
			return out
		}
	}
	return nil
}

// settingWords completes `set VM|pool KEY=VALUE`.
func (m *Model) settingWords(args []string, last string) []string {
	if len(args) == 0 {
		return append([]string{"pool"}, vmKind.ids(m, m.shown())...)
	}
	all := pool.VMSettings()
	if args[0] == "pool" {
		all = pool.PoolSettings()
	}
	key, _, found := strings.Cut(last, "=")
	var out []string
	for _, s := range all {
		switch {
		case !found:
			out = append(out, s[0]+"=")
		case s[0] == key:
			head, _, _ := strings.Cut(s[1], ":")
			if strings.Contains(head, "|") && !strings.Contains(head, " ") {
				for _, v := range strings.Split(head, "|") {
					out = append(out, key+"="+v)
				}
			}
		}
	}
	return out
}
