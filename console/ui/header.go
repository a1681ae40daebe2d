package ui

import (
	"fmt"
	"strings"
	"time"

	"github.com/holdfast-ha/holdfast/console/feed"
	pb "github.com/holdfast-ha/holdfast/proto/holdfast/v1"
)

// fact is one part of the header.
type fact struct {
	text string
	tone tone
	// drop: higher ones go first when the line is short; 0 stays.
	drop int
}

// headerFacts are the answers that are always on the screen: which pool, how fresh, HA, N+1, leader, what changes,
// what is wrong.
func (m *Model) headerFacts() []fact {
	v := m.shown()
	out := []fact{m.freshFact()}
	if v.Pool == nil {
		return out
	}
	out = append(out, m.haFact(), m.capacityFact(), m.leaderFact())
	if m.w >= 120 {
		up, all := voters(v)
		if all > 0 {
			out = append(out, fact{fmt.Sprintf("etcd %d/%d", up, all), dimUnless(up < all, bad), 2})
		}
	}
	ops := len(v.Running())
	out = append(out, fact{fmt.Sprintf("ops %d", ops), dimUnless(ops > 0, busy), 3})
	if n := m.index.problems.count(); n > 0 {
		out = append(out, fact{fmt.Sprintf("!%d", n), bad, 0})
	} else {
		out = append(out, fact{"!0", dim, 0})
	}
	if m.stale() {
		for i := range out[1:] {
			if !strings.HasSuffix(out[i+1].text, "unknown") {
				out[i+1].text += "?"
			}
		}
	}
	return out
}

func (m *Model) freshFact() fact {
	f := m.freshness()
	ago := m.now.Sub(m.link.Heard)
	switch f {
	case feed.Live:
		if m.still != nil {
			return fact{"! display frozen", bad, 0}
		}
		return fact{fmt.Sprintf("%s live %.1fs", m.glyphs.live, ago.Seconds()), good, 0}
	case feed.Delayed:
		return fact{fmt.Sprintf("%s delayed %s", m.glyphs.delayed, span(ago)), busy, 0}
	case feed.Stale:
		return fact{m.glyphs.halted + " STALE " + span(ago), bad, 0}
	case feed.NoLeader:
		return fact{m.glyphs.halted + " NO LEADER " + span(m.now.Sub(m.link.NoLeader)), bad, 0}
	case feed.EtcdLost:
		return fact{m.glyphs.halted + " ETCD LOST " + span(m.now.Sub(m.link.EtcdLost)), bad, 0}
	}
	return fact{m.glyphs.delayed + " " + f.String(), busy, 0}
}

func (m *Model) haFact() fact {
	c := m.shown().Config()
	switch {
	case !c.GetHa():
		return fact{"HA OFF", alarm, 0}
	case c.GetFrozen():
		return fact{"HA FROZEN", alarm, 0}
	}
	return fact{"HA ON", good, 0}
}

// capacityFact is the pool's own verdict about losing a server; unknown while it is stale.
func (m *Model) capacityFact() fact {
	c := m.capacity.value
	if conf := m.shown().Config(); !conf.GetHa() || conf.GetFrozen() {
		return fact{"N+1 n/a", dim, 0}
	}
	if c == nil || m.stale() || m.freshness() == feed.EtcdLost {
		return fact{"N+1 unknown", busy, 0} // never a verdict from the past
	}
	switch c.GetVerdict() {
	case pb.CapacityVerdict_CAPACITY_VERDICT_OK:
		return fact{"N+1 OK", good, 0}
	case pb.CapacityVerdict_CAPACITY_VERDICT_AT_RISK:
		risk := c.GetServersAtRisk()
		s := "N+1 AT RISK"
		if len(risk) > 0 {
			s += ": " + risk[0]
		}
		if len(risk) > 1 {
			s += fmt.Sprintf(" +%d", len(risk)-1)
		}
		return fact{s, bad, 0}
	case pb.CapacityVerdict_CAPACITY_VERDICT_OVERCOMMITTED:
		return fact{"N+1 OVERCOMMITTED", bad, 0}
	}
	return fact{"N+1 n/a", dim, 0}
}

func (m *Model) leaderFact() fact {
	l := m.shown().Leader()
	if l == "" {
		return fact{"leader none", bad, 1}
	}
	if m.leaderChanged() {
		return fact{"leader " + m.leaderWas + " -> " + l, accent, 1}
	}
	return fact{"leader " + l, plain, 1}
}

// leaderChanged reports whether another server has begun to lead a moment ago.
func (m *Model) leaderChanged() bool {
	l := m.shown().Leader()
	return l != "" && m.leaderWas != "" && m.leaderWas != l && m.now.Sub(m.leaderSince) < 10*time.Second
}

func voters(v *feed.View) (up, all int) {
	for _, s := range v.Servers {
		if s.GetMember().GetEtcdVoter() {
			all++
			if serverIs(s, pb.ServerState_SERVER_STATE_UP) {
				up++
			}
		}
	}
	return up, all
}

func (m *Model) drawHeader(r region) {
	x := r.put(1, 0, title, m.poolName())
	if m.pool.Label != "" {
		x = r.put(x+1, 0, label, " "+m.pool.Label+" ")
	}
	x++
	facts := m.headerFacts()
	room := r.w - x
	if m.w >= 100 {
		room -= 10
	}
	for drop := 3; drop > 0 && factsWidth(facts) > room; drop-- {
		if drop == 1 && m.leaderChanged() { // who leads now is news: it stays, and who is at risk goes
			break
		}
		kept := facts[:0:0]
		for _, f := range facts {
			if f.drop != drop {
				kept = append(kept, f)
			}
		}
		facts = kept
	}
	if factsWidth(facts) > room {
		for i := range facts { // the verdict is what must stay, not who is at risk
			facts[i].text, _, _ = strings.Cut(facts[i].text, ": ")
		}
	}
	for i, f := range facts {
		if i > 0 {
			x = r.put(x, 0, dim, " | ")
		}
		x = r.put(x, 0, f.tone, f.text)
	}
	if m.w >= 100 {
		r.right(r.w, 0, dim, m.now.Format(time.TimeOnly))
	}
}

func factsWidth(all []fact) int {
	n := 0
	for _, f := range all {
		n += cells(f.text) + 3
	}
	return n - 3
}

func (m *Model) drawTabs(r region) {
	x := 1
	wide := m.w >= 100
	who := "rw"
	readOnly := m.pool.ReadOnly || m.me.GetReadOnly()
	if readOnly {
		who = "READ-ONLY"
	}
	if wide {
		who = map[bool]string{true: "READ-ONLY", false: "read-write"}[readOnly]
		if n := m.me.GetName(); n != "" {
			who = n + " " + who
		}
	}
	room := r.w - cells(who) - 1 // that stands at the right
	names := m.tabNames(true)
	for _, s := range screens {
		x += cells(names[s]) + 3
	}
	bare := m.w < 72
	if x > room+1 {
		names, x = m.tabNames(false), 1
		for _, s := range screens {
			x += cells(names[s]) + 3
		}
		bare = bare || x > room+1
	}
	x = 1
	for _, s := range screens {
		name := names[s]
		if bare && s != m.screen {
			name, _, _ = strings.Cut(name, " ") // the number alone, so that the present one is seen
		}
		if x+cells(name)+2 > room && s != m.screen {
			continue
		}
		if s == m.screen {
			x = r.put(x, 0, title, "["+name+"]") + 1
		} else {
			x = r.put(x, 0, dim, " "+name+" ") + 1
		}
	}
	r.right(r.w-1, 0, dimUnless(readOnly, busy), who)
}

// tabNames are the screens as the tabs name them, in long or in short.
func (m *Model) tabNames(long bool) map[screen]string {
	v := m.shown()
	name := func(long1, short string) string { return map[bool]string{true: long1, false: short}[long] }
	return map[screen]string{
		overview: name("1 Overview", "1 Over"), servers: fmt.Sprintf("2 Servers %d", len(v.Servers)), vms: fmt.Sprintf("3 VMs %d", len(v.VMs)),
		operations: fmt.Sprintf(name("4 Operations %d", "4 Ops %d"), len(v.Running())), events: "5 Events",
		incidents: name("6 Incidents", "6 Inc"), capacity: "7 Capacity",
	}
}
