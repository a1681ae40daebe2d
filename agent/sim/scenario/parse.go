package scenario

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/holdfast-ha/holdfast/pkg/pool"
)

// parser reads one file.
type parser struct {
	file    *File
	servers map[string]bool
	vms     map[string]bool
	setUp   map[pool.VMID]bool
	// listed are the servers that a servers line names.
	listed map[string]bool
	line   int
	// votersAt and leaderAt are the lines that set up voters and the leader.
	votersAt, leaderAt int
	// timeline: the first statement of the time line was seen.
	timeline bool
	// latest is the largest TIME so far. atLeast is the earliest moment at which the next statement can come, and
	// afterHold the same with the length of holds.
	latest, atLeast, afterHold time.Duration
}

// source is one line's tokens.
type source struct {
	line   int
	tokens []token
}

// Parse reads a scenario. name appears in errors, which are *Error.
func Parse(name, text string) (*File, error) {
	p := &parser{file: &File{Name: name, Pool: defaultPool()}, servers: map[string]bool{}, vms: map[string]bool{}, setUp: map[pool.VMID]bool{}, listed: map[string]bool{}}
	if err := p.parse(text); err != nil {
		var e *Error
		if !errors.As(err, &e) {
			e = &Error{name, p.line, err.Error()}
		}
		e.Msg = p.file.AsWritten(e.Msg)
		return nil, e
	}
	return p.file, nil
}

func (p *parser) parse(text string) error {
	var lines []source
	text = strings.TrimPrefix(text, "\ufeff") // some editors begin a file with this mark
	for i, l := range strings.Split(text, "\n") {
		p.line = i + 1
		tokens, err := lex(l)
		if err != nil {
			return err
		}
		if len(tokens) > 0 {
			lines = append(lines, source{i + 1, tokens})
		}
	}
	p.aliases(text, lines)
	// Names first: conditions and rules may mention what is set up, or added, further down.
	for _, l := range lines {
		p.names(l.tokens)
	}
	for _, l := range lines {
		p.line = l.line
		if err := p.statement(l.tokens); err != nil {
			return err
		}
	}
	return p.finish()
}

// names notes every server and VM that a line introduces.
func (p *parser) names(t []token) {
	introduces(t, func(kind, name string) {
		if kind == "server" {
			p.servers[name] = true
		} else {
			p.vms[name] = true
		}
	})
}

// introduces calls f with the kind and name of everything that a line introduces.
func introduces(t []token, f func(kind, name string)) {
	switch {
	case t[0].text == "servers":
		for _, n := range t[1:] {
			f("server", n.text)
		}
	case (t[0].text == "server" || t[0].text == "vm") && len(t) > 1:
		f(t[0].text, t[1].text)
	case (t[0].text == "at" || t[0].text == "after") && len(t) > 3 && t[2].text == "add":
		f("vm", t[3].text)
	}
}

func (p *parser) statement(t []token) error {
	if t[0].quoted {
		return fmt.Errorf("expected a statement, found the text %q", shorten(t[0].text))
	}
	switch word := t[0].text; word {
	case "pool", "servers", "server", "vm":
		return p.setup(word, t[1:])
	case "leader":
		return p.leaderLine(t[1:])
	case "at", "after":
		return p.timed(word, t[1:])
	case "by":
		return p.by(t[1:])
	case "expect", "hold", "never":
		return p.expectation(Statement{Line: p.line}, t)
	}
	st := &Statement{Line: p.line}
	if err := p.action(st, t); err != nil {
		return err
	}
	return fmt.Errorf("understood %q, but it needs a time; give it at TIME or after DURATION", shorten(joined(t)))
}

func (p *parser) setup(word string, t []token) error {
	if p.timeline {
		return fmt.Errorf("%s: set-up comes before the time line", word)
	}
	switch word {
	case "pool":
		return p.poolLine(t)
	case "servers":
		return p.serversLine(t)
	}
	if len(t) == 0 {
		return fmt.Errorf("%s: expected a name", word)
	}
	set, err := settingsOf(t[1:])
	if err != nil {
		return fmt.Errorf("%s %s: %w", word, shorten(t[0].text), err)
	}
	if err := p.newName(word, t[0]); err != nil {
		return err
	}
	if word == "server" {
		return p.serverLine(t[0].text, set)
	}
	v, err := p.newVM(t[0].text, set, p.line)
	if err != nil {
		return err
	}
	if p.setUp[v.ID] {
		return fmt.Errorf("vm %s is set up twice", v.ID)
	}
	p.setUp[v.ID] = true
	p.file.VMs = append(p.file.VMs, *v)
	return nil
}

func (p *parser) poolLine(t []token) error {
	set, err := settingsOf(t)
	if err != nil {
		return fmt.Errorf("pool: %w", err)
	}
	for _, s := range set {
		if slices.ContainsFunc(p.file.Pool.settings, func(o Setting) bool { return o.Key == s.Key }) {
			return fmt.Errorf("pool: %s is given twice", s.Key)
		}
	}
	if err := apply(poolOptions, &p.file.Pool, set); err != nil {
		return fmt.Errorf("pool: %w", err)
	}
	p.file.Pool.settings = append(p.file.Pool.settings, set...)
	if slices.ContainsFunc(set, func(s Setting) bool { return s.Key == "voters" }) {
		p.votersAt = p.line
	}
	if err := p.file.Pool.Validate(); err != nil {
		return fmt.Errorf("pool: %w", err)
	}
	return nil
}

func (p *parser) serversLine(t []token) error {
	if len(t) == 0 {
		return fmt.Errorf("servers: expected names")
	}
	for _, n := range t {
		if err := p.newName("server", n); err != nil {
			return err
		}
		if p.listed[n.text] {
			return fmt.Errorf("server %s is set up twice", n.text)
		}
		p.listed[n.text] = true
		if p.server(n.text) != nil {
			continue // a line of its own has described it already
		}
		s := defaultServer(n.text)
		s.line = p.line
		p.file.Servers = append(p.file.Servers, s)
	}
	return nil
}

func (p *parser) serverLine(name string, set []Setting) error {
	s := p.server(name)
	if s == nil {
		p.file.Servers = append(p.file.Servers, defaultServer(name))
		s = &p.file.Servers[len(p.file.Servers)-1]
	}
	if s.detailed {
		return fmt.Errorf("server %s is set up twice", name)
	}
	s.line, s.settings, s.detailed = p.line, set, true
	if err := apply(serverOptions, s, set); err != nil {
		return fmt.Errorf("server %s: %w", name, err)
	}
	if s.CPUs == 0 {
		return fmt.Errorf("server %s: cpus: must be at least 1", name)
	}
	if s.Watchdog < time.Second {
		return fmt.Errorf("server %s: watchdog: must be at least 1s", name)
	}
	return nil
}

func (p *parser) server(name string) *Server {
	for i := range p.file.Servers {
		if p.file.Servers[i].Name == name {
			return &p.file.Servers[i]
		}
	}
	return nil
}

func (p *parser) newVM(name string, set []Setting, line int) (*VM, error) {
	v := defaultVM(name)
	v.line, v.settings = line, set
	if err := apply(vmOptions, &v, set); err != nil {
		return nil, fmt.Errorf("vm %s: %w", name, err)
	}
	v.finish()
	if err := v.Validate(); err != nil {
		return nil, err
	}
	named := []string{v.On, v.Sim.StartFailsOn}
	for _, s := range append(slices.Clone(v.Prefer), v.Require...) {
		named = append(named, string(s))
	}
	for _, n := range named {
		if n != "" && !p.servers[n] {
			return nil, fmt.Errorf("vm %s: %q is not a server of this scenario", name, shorten(n))
		}
	}
	return &v, nil
}

func (p *parser) leaderLine(t []token) error {
	switch {
	case p.timeline:
		return fmt.Errorf("leader: set-up comes before the time line; expect leader ... asks who leads")
	case len(t) != 1 || t[0].quoted:
		return fmt.Errorf("leader: expected one server")
	case p.file.Leader != "":
		return fmt.Errorf("leader is set up twice")
	}
	p.file.Leader, p.leaderAt = t[0].text, p.line
	return p.knownServer(t[0])
}

func (p *parser) newName(kind string, t token) error {
	if t.quoted || !isName(t.text) {
		return fmt.Errorf("%s: %q is not a name; use letters, digits, dots, dashes and underscores", kind, shorten(t.text))
	}
	if err := pool.CheckName(kind, t.text); err != nil {
		return err
	}
	if kind == "server" && (t.text == "leader" || t.text == "all") {
		return fmt.Errorf("server: the name %s has a meaning of its own", t.text)
	}
	return nil
}

func (p *parser) knownServer(t token) error {
	if t.quoted || !p.servers[t.text] {
		return fmt.Errorf("%q is not a server of this scenario", shorten(t.text))
	}
	return nil
}

func (p *parser) knownVM(t token) error {
	if t.quoted || !p.vms[t.text] {
		return fmt.Errorf("%q is not a VM of this scenario", shorten(t.text))
	}
	return nil
}
