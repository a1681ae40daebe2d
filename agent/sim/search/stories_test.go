package search

import (
	"fmt"
	"time"
)

// after lets a time pass that lies between two bounds.
func (m *maker) after(from, to time.Duration) {
	m.at += (from + time.Duration(m.Int64N(int64(to-from)+1))).Round(time.Millisecond)
}

// lateReply: a renewal's answer comes, and the agent reads it only seconds later, when its server is cut off.
func lateReply(m *maker) {
	s := pick(m, m.up)
	m.say("slow %s %v", s, pick(m, []time.Duration{100 * time.Millisecond, 200 * time.Millisecond}))
	m.after(time.Second, 3*time.Second)
	m.say("agent hang %s", s)
	m.after(100*time.Millisecond, 3*time.Second)
	m.say("cut %s", s)
	m.after(0, time.Second)
	m.say("agent resume %s", s)
}

// frozenGuard: a guard stands still just before its server is cut off.
func frozenGuard(m *maker) {
	s := pick(m, m.up)
	m.say("guard hang %s", s)
	m.after(0, 200*time.Millisecond)
	m.say("cut %s", s)
	m.after(20*time.Second, 30*time.Second)
}

// guardRestart: a guard is restarted while its agent is dead and its server cut off.
func guardRestart(m *maker) {
	s := pick(m, m.up)
	m.say("agent kill %s", s)
	m.say("guard kill %s", s)
	m.say("guard start %s", s)
	m.say("cut %s", s)
	m.after(20*time.Second, 30*time.Second)
}

// switchedOff: HA of a VM goes off and on again while its server is cut off.
func switchedOff(m *maker) {
	s, vm := pick(m, m.up), pick(m, m.vms)
	off, on := "ha off "+vm, "ha on "+vm
	if m.chance(40) {
		off, on = "freeze", "unfreeze"
	}
	m.say("%s", off)
	if m.chance(50) {
		m.after(0, 20*time.Millisecond)
	}
	m.say("cut %s", s)
	m.after(0, 10*time.Millisecond)
	m.say("%s", on)
	m.after(15*time.Second, 20*time.Second)
}

// startAndCut: a server is cut off while it starts a VM.
func startAndCut(m *maker) {
	s, vm := pick(m, m.up), pick(m, m.vms)
	m.say("restart %s", vm)
	m.after(0, 8*time.Second)
	m.say("cut %s", s)
	m.after(15*time.Second, 30*time.Second)
	m.say("heal %s", s)
}

// shortCut: a server is cut off for a little longer than its lease.
func shortCut(m *maker) {
	s := pick(m, m.up)
	m.say("cut %s", s)
	m.after(4*time.Second, 20*time.Second)
	m.say("heal %s", s)
}

// outage: a server is lost, comes back, and is cut off later.
func outage(m *maker) {
	s := pick(m, m.up)
	m.say("cut %s", s)
	m.after(8*time.Second, 20*time.Second)
	m.say("heal %s", s)
	m.say("power on %s", s)
	m.after(time.Second, 10*time.Second)
	m.say("restart %s", pick(m, m.vms))
	m.after(time.Second, 5*time.Second)
	m.say("cut %s", s)
	m.after(10*time.Second, 20*time.Second)
}

// halved: a partition, with etcd in one part of it; a server may have come shortly before.
func halved(m *maker) {
	if m.chance(40) {
		s := pick(m, m.up)
		m.say("power off %s", s)
		m.after(8*time.Second, 15*time.Second)
		m.say("power on %s", s)
		m.after(time.Second, 4*time.Second)
	}
	if len(m.servers) < 3 {
		return
	}
	m.split()
	m.after(8*time.Second, 25*time.Second)
	m.say("heal all")
	m.after(time.Second, 10*time.Second)
}

// regained: all lose their way to etcd, and one finds it again while the others still let their VMs run on its promise; it
// may have been restarted just before.
func regained(restarted bool) func(uint64) string {
	return func(n uint64) string {
		again := 10*time.Second + time.Duration(n)*170*time.Millisecond
		text := "servers s1 s2 s3\nleader s1\nvm a on=s2\nat 3s cut s1 etcd\nat 3s cut s2 etcd\nat 3s cut s3 etcd\n"
		if restarted {
			text += fmt.Sprintf("at %v agent kill s1\nat %v agent start s1\n", again-200*time.Millisecond, again-100*time.Millisecond)
		}
		return text + fmt.Sprintf("at %v heal s1\nat 60s heal all\n", again)
	}
}

// newcomer: a server joins while another can read nothing, and then is the only one that reaches etcd.
func newcomer(n uint64) string {
	cut := 10*time.Second + time.Duration(n)*300*time.Millisecond
	return fmt.Sprintf("servers s1 s2 s3\nserver s4 up=no\nleader s1\nvm a on=s2\nat 3s etcd freeze s2\nat 5s power on s4\n"+
		"at %[1]v cut s1 etcd\nat %[1]v cut s2 etcd\nat %[1]v cut s3 etcd\nat 60s heal all\n", cut)
}

// endedRoster: s4 joins while s2 can read nothing, so that it may not lead yet, and runs a VM on by promises of those three that
// may. They lose power. s5, which had left the roster, comes back, and an operator says truly that the three are off.
func endedRoster(n uint64) string {
	off := 26400*time.Millisecond + time.Duration(n%16)*110*time.Millisecond
	text := "servers s1 s2 s3\nserver s4 up=no boot-delay=100ms\nserver s5 boot-delay=100ms\nleader s1\nvm a on=s1 state=stopped require=s4,s5\n" +
		"at 2s power off s5\nat 14s etcd freeze s2\nat 14200ms power on s4\nat 15500ms start a\n" +
		"at 17s cut s1 etcd\nat 17s cut s2 etcd\nat 17s cut s3 etcd\nat 17s cut s4 etcd\nat 18s power on s5\n"
	for i := range 3 {
		text += fmt.Sprintf("at %v power off s%d\n", off, i+1)
	}
	for i := range 3 {
		text += fmt.Sprintf("at %v confirm-fenced s%d\n", off+time.Duration(100*(i+1))*time.Millisecond, i+1)
	}
	return text
}

// ending is about when the copy of a VM of 256 MB ends that begins at 3 s, moved on a little with each run.
func ending(n uint64) time.Duration {
	return 5500*time.Millisecond + time.Duration(n)*12*time.Millisecond
}

// complete is about when that copy is complete and its end not yet told.
func complete(n uint64) time.Duration { return ending(17 + n%10) }

const twoHomes = "servers s1 s2 s3\nleader s3\nvm a on=s1 memory=256M dirty-rate=1M require=s1,s2\nat 3s migrate a s2\n"

// lateHandOver: the write of the hand-over hangs; meanwhile the source is lost and the VM starts on a third server.
func lateHandOver(n uint64) string {
	at := ending(n % 64)
	return "servers s1 s2 s3 s4\nleader s3\nvm a on=s1 memory=256M dirty-rate=1M\nat 3s migrate a s2\nat 4s inbound-lock on s2\n" +
		fmt.Sprintf("at %v etcd freeze s1\nat %v agent kill s1\nat %v etcd thaw s1\n", at, at+500*time.Millisecond, at+11*time.Second)
}

// breaksAtTheEnd: the source's libvirt dies, or the way between the two ends, around the end of the copy.
func breaksAtTheEnd(n uint64) string {
	what := "libvirtd kill s1"
	if n%2 == 0 {
		what = "cut s1 from s2"
	}
	return twoHomes + fmt.Sprintf("at %v %s\nat 60s heal all\nat 60s libvirtd start s1\n", ending(14+n%40), what)
}

// homeAgain: a server is cut off for so long that its VM, which it has only paused, runs elsewhere when it is back.
func homeAgain(n uint64) string {
	return fmt.Sprintf("pool on-isolation=pause isolation-grace=60s\nservers s1 s2 s3\nleader s3\nvm a on=s1\nat 3s cut s1\nat %v heal s1\n",
		14*time.Second+time.Duration(n)*170*time.Millisecond)
}

// cutAgain: a silent server is switched off, comes back, and is silent again when the answer about the first time comes.
func cutAgain(n uint64) string {
	return powered("") + fmt.Sprintf("leader s3\nvm a on=s1 prefer=s1\nat 3s cut s1\nat 8s heal s1\nat 8s power on s1\nat %v cut s1\n",
		18*time.Second+time.Duration(n)*50*time.Millisecond)
}

// backAtOnce: a silent server is switched off and is back before its lease has ended.
func backAtOnce(n uint64) string {
	back := 4800*time.Millisecond + time.Duration(n)*50*time.Millisecond
	return "pool ttl=10s suspect-after=1s\n" + powered("fence-delay=100ms boot-delay=100ms") + "leader s3\nvm a on=s1 prefer=s1\n" +
		fmt.Sprintf("at 3s cut s1\nat %[1]v heal s1\nat %[1]v power on s1\n", back)
}

// staleCopy: the source's libvirt dies when the copy is complete, and the VM goes on at the source, until that is lost.
// The destination has read nothing of it since.
func staleCopy(n uint64) string {
	at := complete(n)
	return twoHomes + fmt.Sprintf("at %[1]v libvirtd kill s1\nat %[1]v etcd freeze s2\nat %[2]v libvirtd start s1\nat %[3]v cut s1\nat %[4]v etcd thaw s2\n",
		at, at+time.Second, at+6*time.Second, at+14*time.Second)
}

// goesOnAndDies: the destination's libvirt dies when the copy is complete, and the guest goes on at the source and dies
// there, before the source's agent can write anything.
func goesOnAndDies(n uint64) string {
	at := complete(n)
	return twoHomes + fmt.Sprintf("at %[1]v etcd freeze s1\nat %[1]v libvirtd kill s2\nat %[2]v vm crash a\nat %[3]v libvirtd start s2\nat %[4]v etcd thaw s1\n",
		at, at+300*time.Millisecond, at+time.Second, at+6*time.Second)
}

// movedAndCut: a VM has moved, and its new server is cut off.
func movedAndCut(n uint64) string {
	return twoHomes + fmt.Sprintf("at %v cut s2\n", 8*time.Second+time.Duration(n)*100*time.Millisecond)
}

// outlived: all lose their way to etcd; promises let a VM outlive its session; its server is the first to be back, and
// cannot write its claims.
func outlived(n uint64) string {
	back := 12*time.Second + time.Duration(n)*130*time.Millisecond
	return "servers s1 s2 s3\nleader s1\nvm a on=s2\nat 3s cut s1 etcd\nat 3s cut s2 etcd\nat 3s cut s3 etcd\n" +
		fmt.Sprintf("at %v heal s2\nat %v heal s1\nat %v heal s3\n", back, back+time.Second, back+time.Second)
}

// frozenBehind: all lose their way to etcd; one finds it again just when the guard of another, which lets its VM run on
// by promises, stands still.
func frozenBehind(n uint64) string {
	at := 12*time.Second + time.Duration(n)*130*time.Millisecond
	return watched + "leader s1\nvm a on=s2 disks=block\nat 3s cut s1 etcd\nat 3s cut s2 etcd\nat 3s cut s3 etcd\n" +
		fmt.Sprintf("at %[1]v guard hang s2\nat %[1]v cut s2\nat %[1]v heal s1\nat %[1]v heal s3\n", at)
}

// lateCreate: a VM is being made when all lose their way to etcd, and is ready when its server's lease has ended. Others
// find etcd again.
func lateCreate(n uint64) string {
	cut := 3100*time.Millisecond + time.Duration(n)*100*time.Millisecond
	return "pool start-delay=7s\nservers s1 s2 s3\nleader s1\nvm keep on=s2\nvm a on=s2 state=stopped prefer=s2 ha=off\nat 3s start a\n" +
		fmt.Sprintf("at %[1]v cut s1 etcd\nat %[1]v cut s2 etcd\nat %[1]v cut s3 etcd\nat 14s heal s1\nat 14s heal s3\nat 15s ha on a\n", cut)
}

// diesInBetween: the source's libvirt dies when the copy is complete.
func diesInBetween(n uint64) string {
	at := complete(n)
	return twoHomes + fmt.Sprintf("at %v libvirtd kill s1\nat %v libvirtd start s1\n", at, at+500*time.Millisecond)
}

// forged: the leader is dead, so that nobody puts anything right, and somebody tells a server to start a VM, while the server
// that runs it cannot read that.
func forged(n uint64) string {
	at := 3*time.Second + time.Duration(n)*20*time.Millisecond
	return "pool trust-guard-alone=on\nservers s1 s2 s3 s4\nleader s1\nvm a on=s2 disks=block\nat 3s power off s1\nat 3s cut s2 etcd\n" +
		fmt.Sprintf("at %v etcd forge claim a s3\nat 30s heal s2\n", at)
}

// powered are three servers with power switches.
func powered(options string) string {
	return fmt.Sprintf("server s1 fencing=power %[1]s\nserver s2 fencing=power %[1]s\nserver s3 fencing=power %[1]s\n", options)
}

// watched are three servers with watchdogs.
const watched = "server s1 fencing=watchdog\nserver s2 fencing=watchdog\nserver s3 fencing=watchdog\n"
