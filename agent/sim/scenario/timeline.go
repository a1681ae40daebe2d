package scenario

import (
	"fmt"
	"slices"
	"strings"
)

// timed reads at TIME STATEMENT and after DURATION STATEMENT.
func (p *parser) timed(word string, t []token) error {
	if len(t) == 0 {
		return fmt.Errorf("%s: expected a time", word)
	}
	d, err := parseDuration(t[0].text)
	if err != nil {
		return fmt.Errorf("%s: %w", word, err)
	}
	if len(t) == 1 {
		return fmt.Errorf("%s %s: expected a statement", word, t[0].text)
	}
	st := Statement{Line: p.line, Text: joined(t[1:]), When: At, Time: d}
	if word == "after" {
		st.When = After
		p.afterHold += d
		p.atLeast = p.afterHold
	} else {
		if d < p.latest || d < p.atLeast {
			return fmt.Errorf("at %v: time goes back; the statement before it is not earlier than %v", d, max(p.latest, p.atLeast))
		}
		p.latest, p.atLeast, p.afterHold = d, d, d
	}
	p.timeline = true
	switch t[1].text {
	case "expect", "hold", "never":
		return p.expectation(st, t[1:])
	case "by":
		return fmt.Errorf("by stands on a line of its own")
	case "at", "after":
		return fmt.Errorf("%s %s: a statement has one time; found %s as well", word, t[0].text, t[1].text)
	case "pool", "servers", "server", "leader":
		return fmt.Errorf("%s: set-up has no time, and comes before the time line", t[1].text)
	case "vm":
		if len(t) > 3 && strings.Contains(t[3].text, "=") {
			return fmt.Errorf("vm: set-up has no time, and comes before the time line; here it is add %s", t[2].text)
		}
	}
	if err := p.action(&st, t[1:]); err != nil {
		return err
	}
	p.file.Lines = append(p.file.Lines, st)
	return nil
}

// by reads by TIME expect CONDITION.
func (p *parser) by(t []token) error {
	if len(t) < 2 || t[1].text != "expect" {
		return fmt.Errorf("by: expected TIME expect CONDITION")
	}
	d, err := parseDuration(t[0].text)
	if err != nil {
		return fmt.Errorf("by: %w", err)
	}
	if d < p.latest || d < p.afterHold {
		return fmt.Errorf("by %v: time goes back; the statement before it is not earlier than %v", d, max(p.latest, p.afterHold))
	}
	p.latest = d
	st := Statement{Line: p.line, Text: "by " + joined(t), Kind: By, Until: d}
	if st.Cond, err = p.condition(t[2:]); err != nil {
		return fmt.Errorf("expect: %w", err)
	}
	p.timeline = true
	p.file.Lines = append(p.file.Lines, st)
	return nil
}

// expectation reads expect, hold and never.
func (p *parser) expectation(st Statement, t []token) (err error) {
	word, rest := t[0].text, t[1:]
	st.Text = joined(t)
	switch word {
	case "hold":
		st.Kind = Hold
		if len(rest) == 0 {
			return fmt.Errorf("hold: expected a duration")
		}
		if st.Length, err = parseDuration(rest[0].text); err != nil {
			return fmt.Errorf("hold: %w", err)
		}
		p.afterHold += st.Length
		rest = rest[1:]
	case "never":
		st.Kind = Never
	default:
		st.Kind = Expect
	}
	if st.Cond, err = p.condition(rest); err != nil {
		return fmt.Errorf("%s: %w", word, err)
	}
	if st.Kind == Never {
		p.file.Never = append(p.file.Never, st)
		if st.When == Bare {
			return nil
		}
	}
	p.timeline = true
	p.file.Lines = append(p.file.Lines, st)
	return nil
}

// simOnly are keys of a VM that describe its simulated guest, not its registration.
var simOnly = []string{"dirty-rate", "start-fails", "migrate-fails", "stop-fails"}

// SimOnly reports whether a VM's key concerns only how the simulated guest behaves.
func SimOnly(key string) bool { return slices.Contains(simOnly, key) }

// ApplySim changes how a VM's simulated guest behaves, by one of the keys that SimOnly names.
func (v *VM) ApplySim(s Setting) error { return apply(vmOptions, v, []Setting{s}) }

// defined are keys of a VM that stand in its definition.
var defined = []string{"memory", "cpus", "movable", "disks"}

// Defined reports whether a VM's key stands in its definition, and is not a setting of the pool's.
func Defined(key string) bool { return slices.Contains(defined, key) }

// Redefine changes what stands in a VM's definition, by one of the keys that Defined names.
func (v *VM) Redefine(s Setting) error {
	if err := apply(vmOptions, v, []Setting{s}); err != nil {
		return err
	}
	v.Sim.MemoryBytes, v.Sim.CPUs, v.Sim.BlockDisks = v.MemoryBytes, v.CPUs, !v.DiskLocks
	return nil
}

// ApplyPool changes one of the keys of the set-up statement pool.
func (p *Pool) ApplyPool(s Setting) error { return apply(poolOptions, p, []Setting{s}) }

func (p *parser) checkVMSettings(set []Setting) error {
	for _, s := range set {
		if s.Key == "on" || s.Key == "state" {
			return fmt.Errorf("%s can only be set up; use start, stop, migrate or relocate", s.Key)
		}
	}
	known := slices.Clone(vmOptions)
	known = append(known, option[VM]{"restart-on-guest-shutdown", viaVM("restart-on-guest-shutdown")}, option[VM]{"disks-in-doubt", viaVM("disks-in-doubt")})
	v := defaultVM("x")
	return apply(known, &v, set)
}

func (p *parser) checkPoolSettings(set []Setting) error {
	for _, s := range set {
		if s.Key == "etcd" || s.Key == "voters" {
			return fmt.Errorf("%s can only be set up", s.Key)
		}
	}
	q := defaultPool()
	return apply(poolOptions, &q, set)
}

// finish checks the set-up as a whole.
func (p *parser) finish() error {
	f := p.file
	fail := func(line int, format string, args ...any) error {
		return &Error{f.Name, line, fmt.Sprintf(format, args...)}
	}
	if len(f.Servers) == 0 {
		return fail(max(1, p.line), "the scenario has no servers")
	}
	up := 0
	for _, s := range f.Servers {
		if s.Up {
			up++
		}
	}
	for i := range f.VMs {
		v := &f.VMs[i]
		if !v.Running {
			continue
		}
		if on := p.server(v.On); v.On != "" && !on.Up {
			return fail(v.line, "vm %s is to run on %s, which is not up", v.ID, v.On)
		}
		if up == 0 {
			return fail(v.line, "vm %s is to run, but no server is up", v.ID)
		}
	}
	if f.Leader != "" && !p.server(f.Leader).Up {
		return fail(p.leaderAt, "%s is to lead at time 0, but is not up", f.Leader)
	}
	return p.finishVoters(fail)
}

// finishVoters checks or chooses the servers that carry etcd: three of up to four servers, else five.
func (p *parser) finishVoters(fail func(int, string, ...any) error) error {
	f := p.file
	if !f.Pool.Embedded {
		if len(f.Pool.Voters) > 0 {
			return fail(p.votersAt, "pool: voters need etcd=embedded")
		}
		return nil
	}
	for i, v := range f.Pool.Voters {
		if slices.Contains(f.Pool.Voters[:i], v) {
			return fail(p.votersAt, "pool: voters: server %s is listed twice", v)
		}
		if !p.servers[v] {
			return fail(p.votersAt, "pool: voters: %q is not a server of this scenario", shorten(v))
		}
	}
	if len(f.Pool.Voters) > 0 {
		return nil
	}
	n := 3
	if len(f.Servers) >= 5 {
		n = 5
	}
	for _, s := range f.Servers[:min(n, len(f.Servers))] {
		f.Pool.Voters = append(f.Pool.Voters, s.Name)
	}
	return nil
}
