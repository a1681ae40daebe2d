package e2e

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-ha/holdfast/test/lab"

	pb "github.com/holdfast-ha/holdfast/proto/holdfast/v1"
)

func TestVMsWithHAOfADeadServerRunElsewhereOnceAndTheOthersWaitForIt(t *testing.T) {
	b := prepare(t)
	leader := b.leader()
	victim := b.other(leader)
	first, second := b.launch("ha-1", victim, "ha=on"), b.launch("ha-2", victim, "ha=on")
	plain, bystander := b.launch("plain", victim), b.launch("bystander", leader, "ha=on")
	b.settle(first, second, plain, bystander)

	b.survives(victim, []string{first, second}, plain)
	b.startedTimes(bystander, 1)
}

func TestPowerLossOfTheLeaderIsSurvivedLikeAnyOther(t *testing.T) {
	b := prepare(t)
	victim := b.leader()
	first, second := b.launch("ha-1", victim, "ha=on"), b.launch("ha-2", victim, "ha=on")
	plain, bystander := b.launch("plain", victim), b.launch("bystander", b.other(victim), "ha=on")
	b.settle(first, second, plain, bystander)

	b.survives(victim, []string{first, second}, plain)
	if now := b.leader(); now == victim {
		t.Errorf("%s leads again at once after it came back", victim)
	}
	b.startedTimes(bystander, 1)
}

// survives pulls a server's plug, sees its HA VMs run elsewhere and the one without HA nowhere, and brings it back.
func (b *bed) survives(victim string, protected []string, plain string) {
	b.t.Helper()
	at := b.off(victim)
	var where []string
	for _, vm := range protected {
		life := b.restarted(vm, at)
		if life.Server == victim {
			b.t.Errorf("%s runs on %s, which has no power", vm, victim)
		}
		b.t.Logf("%s: power lost %s, executes on %s %v later", vm, clock(at), life.Server, life.Spans[0].From.Sub(at).Round(time.Millisecond))
		where = append(where, life.Server)
	}
	b.rising(protected...)
	v, err := b.p.UntilStatus(within(b.t, 10*time.Second), plain, pb.VMStatus_VM_STATUS_LOST)
	b.must(err)
	if !strings.Contains(v.GetReason(), "HA") || !strings.Contains(v.GetReason(), victim) {
		b.t.Errorf("%s is lost, and the reason says %q; want it to name %s and HA", plain, v.GetReason(), victim)
	}
	if on := b.w.Executing(plain); len(on) > 0 {
		b.t.Errorf("%s has no HA and runs on %v", plain, on)
	}

	b.on(victim)
	b.must(b.p.UntilUp(within(b.t, 30*time.Second)))
	b.noDomain(victim, protected...)
	b.quiet(3*time.Second, protected...)
	for i, vm := range protected {
		b.startedTimes(vm, 2)
		b.booted(vm, 2)
		if on := b.w.Executing(vm); !slices.Equal(on, []string{where[i]}) {
			b.t.Errorf("%s runs on %v after %s came back; want it left on %s", vm, on, victim, where[i])
		}
	}
}

func TestTwoOfFourServersLosePowerAtOnceAndTheirVMsRunOnTheOthers(t *testing.T) {
	b := prepare(t)
	voters := b.voters()
	outsider := b.without(voters)
	voter := b.other(b.leader(), outsider)
	one, two := b.launch("one", voter, "ha=on"), b.launch("two", outsider, "ha=on")
	b.settle(one, two)

	at := b.off(voter)
	b.off(outsider)
	for _, vm := range []string{one, two} {
		if life := b.restarted(vm, at); life.Server == voter || life.Server == outsider {
			t.Errorf("%s runs on %s, which has no power", vm, life.Server)
		}
	}
	b.rising(one, two)
	b.on(voter)
	b.on(outsider)
	b.must(b.p.UntilUp(within(t, 40*time.Second)))
	b.quiet(2*time.Second, one, two)
	for _, vm := range []string{one, two} {
		b.startedTimes(vm, 2)
		b.booted(vm, 2)
	}
}

func TestLossOfMostVotersStartsNothingTwiceAndHealsWhenOneIsBack(t *testing.T) {
	b := prepare(t)
	voters := b.voters()
	outsider := b.without(voters)
	lost, back, left := voters[0], voters[1], voters[2]
	onLost, onBack := b.launch("lost", lost, "ha=on"), b.launch("back", back, "ha=on")
	onLeft, onOutsider := b.launch("left", left, "ha=on"), b.launch("outsider", outsider, "ha=on")
	all := []string{onLost, onBack, onLeft, onOutsider}
	b.settle(all...)

	at := b.off(lost)
	b.off(back)
	t.Logf("etcd lost its majority %s", clock(at))
	// Nobody can take anything over; the survivors stop their VMs, or keep them, but start none.
	_ = b.w.Until(lasting(t, 9*time.Second), func([]lab.Life) bool { return false })
	for _, vm := range all {
		b.startedTimes(vm, 1)
	}

	b.on(back)
	b.must(b.p.UntilMembers(within(t, 40*time.Second), 3))
	for _, vm := range all {
		if _, err := b.p.UntilStatus(within(t, 40*time.Second), vm, pb.VMStatus_VM_STATUS_RUNNING); err != nil {
			t.Fatal(err)
		}
	}
	b.rising(all...)
	for _, vm := range all {
		if on := b.w.Executing(vm); len(on) != 1 || on[0] == lost {
			t.Errorf("%s executes on %v, want one server with power", vm, on)
		}
	}
}

func TestVMWaitsWithAReasonUntilAServerThatCanTakeItReturns(t *testing.T) {
	b := prepare(t)
	leader := b.leader()
	outsider := b.without(b.voters())
	last := b.other(leader, outsider)
	if outsider == leader {
		outsider = b.other(leader, last)
	}
	vm := b.launch("vm", outsider, "ha=on")
	b.set(vm, "require="+outsider+","+last)
	b.settle(vm)
	at := b.off(outsider)
	if life := b.restarted(vm, at); life.Server != last {
		t.Fatalf("%s runs on %s, want the only server left to it, %s", vm, life.Server, last)
	}
	b.rising(vm)
	b.protected(vm)
	b.must(b.p.UntilVoters(within(t, 20*time.Second), 3)) // the next one to fail may carry a vote

	b.off(last)
	v, err := b.p.UntilVM(within(t, recovery), vm, "waits for a server", func(v *pb.VMView) bool {
		return v.GetStatus() == pb.VMStatus_VM_STATUS_WAITING && v.GetClaim().GetPhase() == pb.ClaimPhase_CLAIM_PHASE_UNASSIGNED
	})
	b.must(err)
	t.Logf("the pool says: %s", v.GetReason())
	if !strings.Contains(v.GetReason(), last) || !strings.Contains(v.GetReason(), outsider) {
		t.Errorf("the reason %q does not name the servers %s and %s", v.GetReason(), outsider, last)
	}
	if on := b.w.Executing(vm); len(on) > 0 {
		t.Errorf("%s runs on %v", vm, on)
	}
	b.on(outsider)
	if life := b.restarted(vm, time.Now()); life.Server != outsider {
		t.Errorf("%s runs on %s, want %s", vm, life.Server, outsider)
	}
	b.rising(vm)
	b.startedTimes(vm, 3)
}

func (b *bed) leader() string {
	b.t.Helper()
	name, err := b.p.Leader(within(b.t, 5*time.Second))
	b.must(err)
	if name == "" {
		b.t.Fatal("nobody leads the pool")
	}
	return name
}

// voters names the servers with a vote in etcd.
func (b *bed) voters() []string {
	b.t.Helper()
	b.must(b.p.UntilVoters(within(b.t, 30*time.Second), 3))
	list, err := b.p.Voters(within(b.t, 5*time.Second))
	b.must(err)
	var names []string
	for _, v := range list {
		names = append(names, v.Server)
	}
	if len(names) != 3 {
		b.t.Fatalf("etcd's voters are %v, want three", names)
	}
	return names
}

// other is the first server that is none of those.
func (b *bed) other(not ...string) string {
	b.t.Helper()
	for _, s := range b.l.Servers() {
		if !slices.Contains(not, s.Name()) {
			return s.Name()
		}
	}
	b.t.Fatalf("no server but %v", not)
	return ""
}

func (b *bed) without(list []string) string {
	b.t.Helper()
	return b.other(list...)
}
