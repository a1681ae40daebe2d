package search

import (
	"fmt"
	"strings"
	"time"
)

// faults of one server: what happens, and what undoes it. The weights follow from repetition.
var serverFaults = [][2]string{
	{"power off", "power on"}, {"power off", "power on"}, {"power off", "power on"},
	{"cut", "heal"}, {"cut", "heal"}, {"cut", "heal"}, {"cut etcd", "heal"}, {"cut peers", "heal"}, {"cut from", "heal"},
	{"etcd freeze", "etcd thaw"}, {"etcd freeze", "etcd thaw"},
	{"agent kill", "agent start"}, {"agent kill", "agent start"}, {"agent hang", "agent resume"}, {"agent hang", "agent resume"},
	{"agent stop", "agent start"}, {"agent restart", ""}, {"agent restart", ""},
	{"guard kill", "guard start"}, {"guard hang", "guard start"},
	{"libvirtd kill", "libvirtd start"}, {"libvirtd kill", "libvirtd start"},
	{"storage off", "storage on"}, {"fence fails", "fence works"}, {"slow", "heal"},
}

// fault lets something break, and often mends it a little later.
func (m *maker) fault() {
	switch n := m.IntN(100); {
	case n < 12:
		m.say("%s %s", pick(m, []string{"vm crash", "guest shutdown", "guest panic"}), pick(m, m.vms))
	case n < 19:
		if m.at/time.Millisecond%3 == 0 {
			m.allCut()
			break
		}
		m.say("etcd down")
		m.later(60, "etcd up")
	case n < 24 && len(m.servers) > 2:
		m.split()
	case n < 28:
		m.say("heal all")
	default:
		m.serverFault()
	}
}

// allCut takes every server's way to etcd, which goes on: sessions end there while VMs run on by promises.
func (m *maker) allCut() {
	for _, s := range m.servers {
		m.say("cut %s etcd", s)
	}
	if m.chance(40) {
		m.later(80, "heal "+pick(m, m.servers))
	}
	m.later(60, "heal all")
}

func (m *maker) serverFault() {
	f := pick(m, serverFaults)
	if m.aim.guarded && strings.HasPrefix(f[0], "guard") {
		return
	}
	server := pick(m, m.servers)
	named := server
	if m.chance(20) && f[0] != "cut from" {
		named = "leader"
	}
	switch f[0] {
	case "cut etcd":
		m.say(m.oneWay("cut %[1]s etcd", "cut %[1]s to etcd", "cut etcd to %[1]s"), named)
	case "cut peers":
		m.say("cut %s peers", named)
	case "cut from":
		other := pick(m, m.servers)
		if other == server {
			return
		}
		m.say(m.oneWay("cut %s from %s", "cut %s to %s", "cut %s from %s"), server, other)
	case "slow":
		m.say("slow %s %v", named, pick(m, []time.Duration{20 * time.Millisecond, 200 * time.Millisecond, 600 * time.Millisecond, 2 * time.Second}))
	default:
		m.say("%s %s", f[0], named)
	}
	if f[1] == "" {
		return
	}
	if named != "leader" {
		m.later(40, f[1]+" "+server)
	}
	if f[1] == "heal" || f[1] == "power on" {
		return // the end repairs them for all
	}
	if named != "leader" {
		m.repairs = append(m.repairs, f[1]+" "+server)
		return
	}
	for _, s := range m.servers {
		m.repairs = append(m.repairs, f[1]+" "+s)
	}
}

// oneWay chooses between a cut in both directions and cuts in one, by the moment.
func (m *maker) oneWay(both, first, second string) string {
	switch m.at / time.Millisecond % 4 {
	case 0:
		return first
	case 1:
		return second
	}
	return both
}

// later says words after a while, with a chance.
func (m *maker) later(percent int, words string) {
	if m.chance(percent) {
		m.wait()
		m.say("%s", words)
	}
}

// split makes a partition of two groups, one of them the larger.
func (m *maker) split() {
	order := m.Perm(len(m.servers))
	small := 1 + m.IntN((len(order)-1)/2)
	var groups [2][]string
	for i, j := range order {
		side := 0
		if i < small {
			side = 1
		}
		groups[side] = append(groups[side], m.servers[j])
	}
	m.say("split %s / %s", strings.Join(groups[0], ","), strings.Join(groups[1], ","))
	m.later(40, "heal all")
}

// command is something that an operator asks for.
func (m *maker) command() {
	vm, server := pick(m, m.vms), pick(m, m.servers)
	switch m.IntN(24) {
	case 0, 1:
		m.say("start %s", vm)
	case 2, 3:
		m.say("stop %s", vm)
		m.later(60, "start "+vm)
	case 4:
		m.say("kill %s", vm)
		m.later(50, "start "+vm)
	case 5, 6:
		m.say("restart %s", vm)
	case 7:
		m.say("clear %s", vm)
	case 8:
		m.say("stop %s", vm)
		m.wait()
		m.say("remove %s", vm)
	case 9:
		m.add()
	case 10:
		m.say("ha off %s", vm)
		m.later(60, "ha on "+vm)
	case 11:
		m.say("ha off")
		m.later(70, "ha on")
	case 12:
		m.say("freeze")
		m.repairs = append(m.repairs, "unfreeze")
		m.later(50, "unfreeze")
	case 13:
		m.say("inbound-lock on %s", server)
		m.later(60, "inbound-lock off "+server)
	case 14:
		m.gone(server)
	case 15, 16, 17, 18:
		m.move(vm, server)
	case 19, 20, 21:
		m.say("maintenance enter %s", server)
		m.later(60, "maintenance exit "+server)
	case 22:
		m.say("%s %s", pick(m, []string{"shutdown", "reboot"}), server)
	default:
		m.set(vm)
	}
}

// move sends a VM elsewhere, mostly live, and lets something break while it is on its way.
func (m *maker) move(vm, server string) {
	switch n := m.IntN(10); {
	case n < 5:
		m.say("migrate %s %s", vm, server)
	case n < 8:
		m.say("migrate %s", vm)
	default:
		m.say("relocate %s %s", vm, server)
	}
	if m.chance(70) {
		m.wait()
		m.fault()
	}
}

// gone takes a server's power and says so, or removes it.
func (m *maker) gone(server string) {
	if m.chance(60) {
		m.say("power off %s", server)
		m.wait()
		m.say("confirm-fenced %s", server)
		return
	}
	m.say("remove-server %s", server)
}

func (m *maker) add() {
	name := fmt.Sprintf("n%d", len(m.vms)+1)
	line := m.vmOptions([]string{name})
	line = m.option(line, 30, "state", "stopped")
	m.say("add %s", strings.Join(line, " "))
	m.vms = append(m.vms, name)
}

// set changes policy, of a VM or the pool.
func (m *maker) set(vm string) {
	if m.chance(60) {
		m.say("set %s %s", vm, pick(m, []string{"priority=high", "priority=low", "restarts=0", "restarts=3", "relocations=0", "window=20s",
			"prefer=" + pick(m, m.servers), "apart=a", "together=t", "ha=off", "ha=on", "require=" + strings.Join(m.some(m.servers), ","),
			"start-fails=1", "start-fails=0", "stop-fails=1"}))
		return
	}
	m.say("set pool %s", pick(m, []string{"ttl=3s", "ttl=8s", "ttl=5s", "on-isolation=pause", "on-isolation=stop", "lock-bars-failover=off",
		"isolation-grace=5s", "suspect-after=1s", "migrate-rate=1G", "auto-converge=off", "start-delay=3s", "stop-limit=5s", "tolerate=1"}))
}
