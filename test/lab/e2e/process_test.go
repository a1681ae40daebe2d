package e2e

import (
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/holdfast-ha/holdfast/test/lab"

	pb "github.com/holdfast-ha/holdfast/proto/holdfast/v1"
)

// ttl is the shared pool's lease time: the default.
const ttl = 5 * time.Second

func TestAgentKilledAndStartedAgainInTimeStopsNoVM(t *testing.T) {
	b := prepare(t)
	leader := b.leader()
	member := b.other(leader)
	ha, plain, led := b.launch("ha", member, "ha=on"), b.launch("plain", member), b.launch("led", leader, "ha=on")
	b.settle(ha, plain, led)
	before := map[string]int64{member: b.session(member), leader: b.session(leader)}
	for server := range before {
		b.must(b.server(server).Kill(within(t, 5*time.Second), lab.Agent))
	}
	for server := range before {
		b.must(b.server(server).Start(lab.Agent))
	}
	b.quiet(ttl+3*time.Second, ha, plain, led)
	b.must(b.p.UntilUp(within(t, 10*time.Second)))
	for server, session := range before {
		if now := b.session(server); now != session {
			t.Errorf("%s has session %d, had %d before its agent was killed", server, now, session)
		}
	}
	b.protected(ha, led)
	for _, vm := range []string{ha, plain, led} {
		b.booted(vm, 1)
	}
}

func TestPlannedRestartOfAnAgentStopsNothing(t *testing.T) {
	b := prepare(t)
	victim := b.leader()
	s := b.server(victim)
	vm, plain := b.launch("ha", victim, "ha=on"), b.launch("plain", victim)
	b.settle(vm, plain)
	before := b.session(victim)
	b.must(s.Stop(within(t, 10*time.Second), lab.Agent))
	// Longer than the lease: the grace of a planned restart carries the VMs over.
	b.quiet(ttl+4*time.Second, vm, plain)
	b.must(s.Start(lab.Agent))
	b.quiet(4*time.Second, vm, plain)
	b.must(b.p.UntilUp(within(t, 10*time.Second)))
	if after := b.session(victim); after != before {
		t.Errorf("%s has session %d, had %d before its agent was restarted", victim, after, before)
	}
	b.protected(vm)
	b.booted(vm, 1)
	b.booted(plain, 1)
}

func TestVMsOfAHungAgentAreDeadBeforeTheyStartElsewhere(t *testing.T) {
	b := prepare(t)
	victim := b.other(b.leader())
	s := b.server(victim)
	vm, plain := b.launch("ha", victim, "ha=on"), b.launch("plain", victim)
	b.settle(vm, plain)
	hung := time.Now()
	b.must(s.Hang(lab.Agent))
	next := b.restarted(vm, hung)
	old := b.lives(vm)[0]
	if next.Server == victim {
		t.Errorf("%s was started on %s, whose agent hangs", vm, victim)
	}
	t.Logf("agent hung at %s; killed %v later", clock(hung), old.Died.Sub(hung).Round(time.Millisecond))
	b.diedBefore(vm, old, next)
	if on := b.w.Executing(plain); len(on) != 1 || on[0] != victim {
		t.Errorf("%s, which has no HA, executes on %v; want it left alone on %s", plain, on, victim)
	}
	b.rising(vm)
	b.must(s.Resume(lab.Agent))
	b.must(b.p.UntilUp(within(t, 20*time.Second)))
	b.quiet(2*time.Second, vm, plain)
	b.startedTimes(vm, 2)
	b.startedTimes(plain, 1)
}

// Agent and guard of two servers die, and their VMs run on. One server comes back, the other is switched off.
func TestDiskLockHoldsBackEveryStartWhileAServerWithoutAgentAndGuardRunsTheVM(t *testing.T) {
	b := prepare(t)
	leader := b.leader()
	returns := b.other(leader)
	fenced := b.other(leader, returns)
	one, two := b.launch("back", returns, "ha=on"), b.launch("fenced", fenced, "ha=on")
	b.settle(one, two)
	at := time.Now()
	for _, name := range []string{returns, fenced} {
		b.must(b.server(name).Kill(within(t, 5*time.Second), lab.Guard))
		b.must(b.server(name).Kill(within(t, 5*time.Second), lab.Agent))
	}
	for vm, home := range map[string]string{one: returns, two: fenced} {
		v, err := b.p.UntilVM(within(t, recovery), vm, "is refused by its disk lock", func(v *pb.VMView) bool {
			return v.GetClaim().GetServer() != home && v.GetStatus() == pb.VMStatus_VM_STATUS_STARTING && strings.Contains(v.GetReason(), "lock")
		})
		b.must(err)
		t.Logf("the pool says, %v after both died: %s", time.Since(at).Round(time.Millisecond), v.GetReason())
	}
	b.quiet(4*time.Second, one, two)
	for _, vm := range []string{one, two} {
		b.startedTimes(vm, 1)
		v, err := b.p.VM(within(t, 5*time.Second), vm)
		b.must(err)
		if h := v.GetHome(); len(h.GetFailures()) > 0 || h.GetFailed() {
			t.Errorf("a refusal by the disk lock counts as a failure of %s: %v", vm, h)
		}
	}
	freed := time.Now()
	b.must(b.server(returns).Start(lab.Guard))
	b.must(b.server(returns).Start(lab.Agent))
	b.off(fenced)
	for _, vm := range []string{one, two} {
		next, old := b.restarted(vm, freed), b.lives(vm)[0]
		if old.Died.IsZero() || next.Spans[0].From.Before(old.Died) {
			t.Errorf("%s executes on %s at %s; its old process died %s", vm, next.Server, clock(next.Spans[0].From), clock(old.Died))
		}
	}
	b.rising(one, two)
	b.startedTimes(one, 2)
	b.startedTimes(two, 2)
	b.on(fenced)
	b.must(b.p.UntilUp(within(t, 30*time.Second)))
}

func TestVMsOutliveAKilledLibvirtdAndAreAdopted(t *testing.T) {
	b := prepare(t)
	victim := b.other(b.leader())
	s := b.server(victim)
	vm, plain := b.launch("ha", victim, "ha=on"), b.launch("plain", victim)
	b.settle(vm, plain)
	b.must(s.Kill(within(t, 5*time.Second), lab.Libvirtd))
	b.quiet(2*time.Second, vm, plain)
	b.must(s.Start(lab.Libvirtd))
	b.quiet(ttl, vm, plain)
	b.must(b.p.UntilUp(within(t, 10*time.Second)))
	for _, name := range []string{vm, plain} {
		v, err := b.p.UntilStatus(within(t, 10*time.Second), name, pb.VMStatus_VM_STATUS_RUNNING)
		b.must(err)
		if got := v.GetClaim().GetServer(); got != victim {
			t.Errorf("%s is claimed by %s, want %s", name, got, victim)
		}
	}
	b.booted(vm, 1)
	// It is still in the agent's hands: a stop reaches the guest.
	_, err := b.p.VMs.StopVM(within(t, 5*time.Second), &pb.StopVMRequest{Vm: vm})
	b.must(err)
	_, err = b.w.UntilStopped(within(t, 15*time.Second), vm)
	b.must(err)
	_, err = b.p.UntilStatus(within(t, 10*time.Second), vm, pb.VMStatus_VM_STATUS_STOPPED)
	b.must(err)
}

func TestVMWhoseQEMUDiesIsStartedAgainWhereItWas(t *testing.T) {
	b := prepare(t)
	home := b.other(b.leader())
	vm, plain := b.launch("ha", home, "ha=on"), b.launch("plain", home)
	b.settle(vm, plain)
	at := time.Now()
	for _, name := range []string{vm, plain} {
		b.must(syscall.Kill(b.lives(name)[0].PID, syscall.SIGKILL))
	}
	if life := b.restarted(vm, at); life.Server != home {
		t.Errorf("%s was started on %s, want %s where it was", vm, life.Server, home)
	}
	v, err := b.p.UntilStatus(within(t, 10*time.Second), plain, pb.VMStatus_VM_STATUS_FAILED)
	b.must(err)
	t.Logf("the pool says: %s", v.GetReason())
	b.rising(vm)
	b.startedTimes(vm, 2)
	b.startedTimes(plain, 1)
}

// session is the server's session as the pool has it.
func (b *bed) session(server string) int64 {
	b.t.Helper()
	v, err := b.p.Server(within(b.t, 5*time.Second), server)
	b.must(err)
	return v.GetSession()
}
