package e2e

import (
	"testing"
	"time"

	"github.com/holdfast-ha/holdfast/test/lab"

	pb "github.com/holdfast-ha/holdfast/proto/holdfast/v1"
)

// busy is a guest that changes its memory as fast as a small server does, and counts a hundred times a second.
func (b *bed) busy(short, server string, settings ...string) string {
	b.t.Helper()
	vm := b.register(lab.VM{Name: b.name(short), DirtyMiB: 4, DirtySetMiB: 8, KernelArgs: "hf.every=10"}, append(settings, "prefer="+server)...)
	b.start(vm)
	b.homes[vm] = server
	return vm
}

// move asks for a live migration; an empty server leaves the choice to the pool.
func (b *bed) move(vm, server string) *pb.Operation {
	b.t.Helper()
	r, err := b.p.VMs.MigrateVM(within(b.t, 10*time.Second), &pb.MigrateVMRequest{Vm: vm, Server: server, Why: "test"})
	b.must(err)
	return r.GetOperation()
}

// outcome waits until an operation has ended.
func (b *bed) outcome(op *pb.Operation, limit time.Duration) *pb.Operation {
	b.t.Helper()
	o, err := b.p.UntilEnded(within(b.t, limit), op.GetId())
	b.must(err)
	return o
}

// isAt waits until a VM runs on a server under a settled claim.
func (b *bed) isAt(vm, server string) *pb.VMView {
	b.t.Helper()
	v, err := b.p.UntilVM(within(b.t, recovery), vm, "runs on "+server, func(v *pb.VMView) bool {
		c := v.GetClaim()
		return c.GetServer() == server && c.GetPhase() == pb.ClaimPhase_CLAIM_PHASE_HELD && v.GetStatus() == pb.VMStatus_VM_STATUS_RUNNING
	})
	b.must(err)
	return v
}

func TestBusyGuestMovesLiveWithoutLosingACount(t *testing.T) {
	b := prepare(t)
	home := b.other(b.leader())
	ha, plain := b.busy("ha", home, "ha=on"), b.busy("plain", home)
	b.settle(ha, plain)
	for vm, targets := range map[string][]string{ha: {b.other(home), ""}, plain: {""}} {
		from := home
		for _, target := range targets {
			counter := lab.WatchCounter(t.Context(), b.l.Disk(vm))
			b.rising(vm)
			counter.Reset()
			op := b.move(vm, target)
			done := b.outcome(op, recovery)
			if done.GetOutcome() != pb.OperationOutcome_OPERATION_OUTCOME_DONE {
				t.Fatalf("%s to %q: %v: %s", vm, target, done.GetOutcome(), done.GetError())
			}
			v, err := b.p.VM(within(t, 5*time.Second), vm)
			b.must(err)
			to := v.GetClaim().GetServer()
			if to == from || target != "" && to != target {
				t.Errorf("%s is on %s, was on %s, asked for %q", vm, to, from, target)
			}
			b.isAt(vm, to)
			b.rising(vm)
			gap := counter.Longest()
			b.must(counter.Stop())
			lives := b.lives(vm)
			old, now := lives[len(lives)-2], lives[len(lives)-1]
			t.Logf("%s from %s to %s: its counter stood still for %v; its CPUs for %v", vm, from, to, gap.For.Round(time.Millisecond),
				now.Spans[0].From.Sub(old.Spans[len(old.Spans)-1].To).Round(time.Millisecond))
			if gap.For > 5*time.Second {
				t.Errorf("%s stood still for %v", vm, gap.For)
			}
			b.noDomain(from, vm)
			from = to
		}
		b.booted(vm, 1)
	}
	b.protected(ha)
}

func TestVMIsRelocatedByStoppingItHereAndStartingItThere(t *testing.T) {
	b := prepare(t)
	home := b.other(b.leader())
	vm := b.launch("ha", home, "ha=on")
	b.settle(vm)
	to := b.other(home)
	r, err := b.p.VMs.RelocateVM(within(t, 10*time.Second), &pb.RelocateVMRequest{Vm: vm, Server: to, Why: "test"})
	b.must(err)
	if done := b.outcome(r.GetOperation(), boot); done.GetOutcome() != pb.OperationOutcome_OPERATION_OUTCOME_DONE {
		t.Fatalf("%v: %s", done.GetOutcome(), done.GetError())
	}
	b.isAt(vm, to)
	b.rising(vm)
	b.booted(vm, 2)
	b.startedTimes(vm, 2)
	b.noDomain(home, vm)
}
