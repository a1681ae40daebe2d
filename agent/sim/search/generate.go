package search

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"
)

// aim narrows what is made up, so that a search looks where a certain defence matters. The zero value narrows nothing.
type aim struct {
	// fencing is what every server has; empty for a mixture.
	fencing string
	// pool and vm hold options added to the pool's line and to each VM's.
	pool, vm string
	// guarded: nothing happens to guards but what incident does.
	guarded bool
	// incident, if not nil, makes most of the statements.
	incident func(*maker)
}

// maker makes up one scenario.
type maker struct {
	*rand.Rand
	aim      aim
	d        draft
	servers  []string
	up       []string
	vms      []string
	embedded bool
	at       time.Duration
	// repairs undo what was done, by kind and subject.
	repairs []string
}

// Generate makes up the scenario of a seed. The same seed gives the same text.
func Generate(seed uint64) string { return generate(seed, aim{}).text() }

func generate(seed uint64, a aim) draft {
	for round := uint64(0); ; round++ {
		m := &maker{Rand: rand.New(rand.NewPCG(seed, round)), aim: a}
		m.make()
		if f, err := m.d.parse("generated"); err == nil && Honest(f) || round > 1000 {
			return m.d
		}
	}
}

func (m *maker) make() {
	m.pool()
	m.serverLines()
	for i := range 1 + min(m.IntN(8), m.IntN(12)) {
		m.vm(fmt.Sprintf("v%d", i+1))
	}
	if m.chance(30) {
		m.d.leader = pick(m, m.up)
	}
	for range 1 + min(m.IntN(10), m.IntN(10)) {
		m.wait()
		switch {
		case m.aim.incident != nil && m.chance(75):
			m.aim.incident(m)
		case m.chance(68):
			m.fault()
		default:
			m.command()
		}
	}
	if m.chance(88) {
		m.repairAll()
	}
}

func (m *maker) chance(percent int) bool { return m.IntN(100) < percent }

func pick[T any](m *maker, from []T) T { return from[m.IntN(len(from))] }

// option adds KEY=VALUE with a chance, one of the values at random.
func (m *maker) option(to []string, percent int, key string, values ...string) []string {
	if !m.chance(percent) {
		return to
	}
	return append(to, key+"="+pick(m, values))
}

func (m *maker) pool() {
	o := m.option(nil, 40, "ttl", "3s", "4s", "10s")
	o = m.option(o, 25, "on-isolation", "pause")
	o = m.option(o, 15, "isolation-grace", "5s", "10s")
	o = m.option(o, 15, "trust-guard-alone", "on")
	o = m.option(o, 10, "lock-bars-failover", "off")
	o = m.option(o, 10, "suspect-after", "1s", "4s")
	o = m.option(o, 20, "start-delay", "50ms", "2s", "6s")
	o = m.option(o, 10, "stop-limit", "5s")
	o = m.option(o, 5, "ha", "off")
	o = append(o, strings.Fields(m.aim.pool)...)
	if m.chance(35) {
		m.embedded = true
		o = append(o, "etcd=embedded")
	}
	m.d.pool = o
}

func (m *maker) serverLines() {
	usual := pick(m, []string{"", "", "", "power", "watchdog"})
	if m.aim.fencing != "" {
		usual = m.aim.fencing
	}
	for i := range 2 + m.IntN(5) {
		name := fmt.Sprintf("s%d", i+1)
		m.servers = append(m.servers, name)
		line := []string{name}
		switch {
		case m.aim.fencing == "" && m.chance(20):
			line = m.option(line, 100, "fencing", "guard", "watchdog", "power", "none")
		case usual != "":
			line = append(line, "fencing="+usual)
		}
		line = m.option(line, 10, "fence-delay", "10ms", "8s")
		line = m.option(line, 15, "boot-delay", "100ms", "10s", "30s")
		if i > 0 && !m.embedded && m.chance(6) {
			line = append(line, "up=no")
		} else {
			m.up = append(m.up, name)
			line = m.option(line, 4, "inbound-lock", "on")
			line = m.option(line, 10, "memory", "16G", "32G")
		}
		m.d.servers = append(m.d.servers, line)
	}
}

// vm sets up one VM.
func (m *maker) vm(name string) {
	line := []string{name}
	if m.chance(12) {
		line = append(line, "state=stopped")
	}
	line = append(line, "on="+pick(m, m.up))
	line = m.vmOptions(line)
	line = m.option(line, 6, "start-fails", "1", "2", "always", "1@"+pick(m, m.servers))
	line = m.option(line, 4, "stop-fails", "1", "2")
	line = append(line, strings.Fields(m.aim.vm)...)
	m.d.vms = append(m.d.vms, line)
	m.vms = append(m.vms, name)
}

// vmOptions are those that any VM may have.
func (m *maker) vmOptions(line []string) []string {
	line = m.option(line, 10, "ha", "off")
	line = m.option(line, 15, "priority", "high", "low")
	line = m.option(line, 25, "memory", "64M", "512M", "1G", "4G")
	line = m.option(line, 10, "migrate-fails", "1", "always")
	line = m.option(line, 12, "prefer", pick(m, m.servers))
	if m.chance(8) {
		line = append(line, "require="+strings.Join(m.some(m.servers), ","))
	}
	line = m.option(line, 8, "apart", "a", "b")
	line = m.option(line, 6, "together", "t")
	line = m.option(line, 10, "restarts", "0", "2")
	line = m.option(line, 10, "relocations", "0", "2")
	line = m.option(line, 8, "window", "10s", "30s")
	return m.option(line, 20, "disks", "block")
}

// some returns at least one of all, in order.
func (m *maker) some(all []string) []string {
	var out []string
	for _, s := range all {
		if m.chance(50) {
			out = append(out, s)
		}
	}
	if len(out) == 0 {
		out = append(out, pick(m, all))
	}
	return out
}

// wait lets time pass before the next statement: often next to none, for races, seldom so much that all settles.
func (m *maker) wait() {
	unit := pick(m, []time.Duration{0, 10 * time.Millisecond, 200 * time.Millisecond, time.Second, time.Second, 3 * time.Second, 10 * time.Second, 30 * time.Second})
	m.at += unit/2 + time.Duration(m.Int64N(int64(unit)+1))
	m.at = m.at.Round(time.Millisecond)
	if len(m.d.steps) == 0 {
		m.at += time.Second
	}
}

func (m *maker) say(format string, args ...any) {
	m.d.steps = append(m.d.steps, step{m.at, fmt.Sprintf(format, args...)})
}

// repairAll undoes whatever may be broken, so that every VM must come to rest.
func (m *maker) repairAll() {
	m.wait()
	m.at += time.Second
	m.say("heal all")
	m.say("etcd up")
	slices.Sort(m.repairs)
	for _, r := range slices.Compact(m.repairs) {
		m.say("%s", r)
	}
	for _, s := range m.servers {
		m.say("power on %s", s)
	}
}
