package e2e

import (
	"testing"
	"time"

	"github.com/holdfast-ha/holdfast/test/lab"
)

func TestVMsOfAServerThatIsCutOffAreDeadBeforeTheyStartElsewhere(t *testing.T) {
	b := prepare(t)
	leader := b.leader()
	for _, victim := range []string{b.other(leader), leader} {
		role := "member"
		if victim == leader {
			role = "leader"
		}
		vm, plain := b.launch(role+"-ha", victim, "ha=on"), b.launch(role+"-plain", victim)
		b.settle(vm, plain)
		at := time.Now()
		b.must(b.server(victim).Cut(within(t, 5*time.Second), lab.CutAll))
		next := b.restarted(vm, at)
		old := b.lives(vm)[0]
		t.Logf("the %s, %s, cut off at %s; killed %v later", role, victim, clock(at), old.Died.Sub(at).Round(time.Millisecond))
		b.diedBefore(vm, old, next)
		b.rising(vm, plain) // the one without HA runs on, cut off
		b.must(b.server(victim).Heal(within(t, 5*time.Second)))
		b.must(b.p.UntilUp(within(t, 30*time.Second)))
		b.quiet(2*time.Second, vm, plain)
		b.startedTimes(vm, 2)
		b.startedTimes(plain, 1)
		b.noDomain(victim, vm)
	}
}

func TestVMsOfAServerThatReachesItsPeersButNotEtcdAreDeadBeforeTheyStartElsewhere(t *testing.T) {
	b := prepare(t)
	outsider := b.without(b.voters())
	vm := b.launch("ha", outsider, "ha=on")
	b.settle(vm)
	at := time.Now()
	b.must(b.server(outsider).Cut(within(t, 5*time.Second), lab.CutEtcd))
	next := b.restarted(vm, at)
	b.diedBefore(vm, b.lives(vm)[0], next)
	b.rising(vm)
	b.must(b.server(outsider).Heal(within(t, 5*time.Second)))
	b.must(b.p.UntilUp(within(t, 30*time.Second)))
	b.startedTimes(vm, 2)
}
