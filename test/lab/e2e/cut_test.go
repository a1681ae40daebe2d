package e2e

import (
	"strings"
	"testing"
	"time"

	"github.com/holdfast-ha/holdfast/test/lab"

	pb "github.com/holdfast-ha/holdfast/proto/holdfast/v1"
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

// One server hears nothing, another is not heard. Both think differently about the other side, and neither may run
// its VM when somebody else does.
func TestVMsOfServersCutOffInOneDirectionAreDeadBeforeTheyStartElsewhere(t *testing.T) {
	b := prepare(t)
	mute := b.without(b.voters())
	deaf := b.other(b.leader(), mute)
	if mute == b.leader() {
		deaf = b.other(mute)
	}
	ofMute, ofDeaf := b.launch("mute", mute, "ha=on"), b.launch("deaf", deaf, "ha=on")
	b.settle(ofMute, ofDeaf)
	at := time.Now()
	b.must(b.server(mute).Cut(within(t, 5*time.Second), lab.CutOut))
	b.must(b.server(deaf).Cut(within(t, 5*time.Second), lab.CutIn))
	for _, vm := range []string{ofMute, ofDeaf} {
		next := b.restarted(vm, at)
		if next.Server == mute || next.Server == deaf {
			t.Errorf("%s was started on %s, which is cut off", vm, next.Server)
		}
		b.diedBefore(vm, b.lives(vm)[0], next)
	}
	b.rising(ofMute, ofDeaf)
	b.must(b.server(mute).Heal(within(t, 5*time.Second)))
	b.must(b.server(deaf).Heal(within(t, 5*time.Second)))
	b.must(b.p.UntilUp(within(t, 30*time.Second)))
	b.startedTimes(ofMute, 2)
	b.startedTimes(ofDeaf, 2)
}

// A machine that hangs as a whole takes its guard with it; the image lock is what stands until it wakes up.
func TestServerThatHangsAsAWholeAndWakesUpLosesItsVMsAndRunsNothingTwice(t *testing.T) {
	b := prepare(t)
	victim := b.other(b.leader())
	s := b.server(victim)
	vm, plain := b.launch("ha", victim, "ha=on"), b.launch("plain", victim)
	b.settle(vm, plain)
	b.must(s.Freeze(within(t, 10*time.Second), true))
	v, err := b.p.UntilVM(within(t, recovery), vm, "is refused by its disk lock", func(v *pb.VMView) bool {
		return v.GetClaim().GetServer() != victim && v.GetStatus() == pb.VMStatus_VM_STATUS_STARTING && strings.Contains(v.GetReason(), "lock")
	})
	b.must(err)
	t.Logf("the pool says: %s", v.GetReason())
	woken := time.Now()
	b.must(s.Freeze(within(t, 10*time.Second), false))
	next := b.restarted(vm, woken)
	if next.Server == victim {
		// The old process ran on for the moment until the guard woke up; the next start is what counts.
		next, err = b.w.UntilExecuting(within(t, recovery), vm, next.Spans[len(next.Spans)-1].From)
		b.must(err)
	}
	if old := b.lives(vm)[0]; old.Died.IsZero() || next.Spans[0].From.Before(old.Died) {
		t.Errorf("%s executes on %s at %s; its old process died %s", vm, next.Server, clock(next.Spans[0].From), clock(old.Died))
	}
	b.rising(vm, plain)
	b.must(b.p.UntilUp(within(t, 30*time.Second)))
	b.quiet(2*time.Second, vm, plain)
	b.startedTimes(vm, 2)
	b.startedTimes(plain, 1)
}
