package e2e

import (
	"slices"
	"strings"
	"time"

	"github.com/holdfast-ha/holdfast/test/lab"

	pb "github.com/holdfast-ha/holdfast/proto/holdfast/v1"
)

// boot bounds the start of a few guests, emulated on a busy machine.
const boot = 90 * time.Second

// recovery bounds a failover: far above the figures that the benchmark holds it to, since these tests are not about
// speed and several guests boot at once.
const recovery = 30 * time.Second

// name makes a VM's name unique among the tests.
func (b *bed) name(short string) string { return b.tag + "-" + short }

// define makes a VM's disk and returns its XML.
func (b *bed) define(vm lab.VM) string {
	b.t.Helper()
	xml, err := b.l.Create(within(b.t, time.Minute), vm)
	b.must(err)
	b.vms = append(b.vms, vm.Name)
	return xml
}

// register registers a VM from XML with settings such as "ha=on".
func (b *bed) register(vm lab.VM, settings ...string) string {
	b.t.Helper()
	_, err := b.p.VMs.RegisterVM(within(b.t, 30*time.Second), &pb.RegisterVMRequest{Xml: b.define(vm), Set: pairs(settings)})
	b.must(err)
	return vm.Name
}

func pairs(settings []string) map[string]string {
	set := map[string]string{}
	for _, s := range settings {
		key, value, _ := strings.Cut(s, "=")
		set[key] = value
	}
	return set
}

// launch registers a VM and has it started on a server, without tying it to that server for later. It waits for
// nothing: see settle.
func (b *bed) launch(short, server string, settings ...string) string {
	b.t.Helper()
	vm := b.register(lab.VM{Name: b.name(short)}, append(settings, "prefer="+server)...)
	b.must(b.p.UntilTakes(within(b.t, 30*time.Second), server, vm))
	b.start(vm)
	b.homes[vm] = server
	return vm
}

// settle waits until the VMs that were launched run where they should, their guests write, those with HA are
// protected, and etcd's votes are where they belong: what a test does next is what it shows.
func (b *bed) settle(vms ...string) {
	b.t.Helper()
	ctx := within(b.t, boot)
	for _, vm := range vms {
		v, err := b.p.UntilStatus(ctx, vm, pb.VMStatus_VM_STATUS_RUNNING)
		b.must(err)
		if got := v.GetClaim().GetServer(); got != b.homes[vm] {
			b.t.Fatalf("%s started on %s, want its preferred server %s", vm, got, b.homes[vm])
		}
		b.set(vm, "prefer=")
		if v.GetVm().GetHa() {
			b.protected(vm)
		}
	}
	b.rising(vms...)
	b.must(b.p.UntilVoters(within(b.t, 30*time.Second), 3))
}

func (b *bed) start(vm string) {
	b.t.Helper()
	_, err := b.p.VMs.StartVM(within(b.t, 10*time.Second), &pb.StartVMRequest{Vm: vm})
	b.must(err)
}

func (b *bed) set(vm string, settings ...string) {
	b.t.Helper()
	_, err := b.p.VMs.UpdateVM(within(b.t, 10*time.Second), &pb.UpdateVMRequest{Vm: vm, Set: pairs(settings)})
	b.must(err)
}

// rising waits until each guest has written to its disk a few times more: it boots, or runs on.
func (b *bed) rising(vms ...string) {
	b.t.Helper()
	ctx := within(b.t, boot)
	for _, vm := range vms {
		if _, err := lab.WaitCounter(ctx, b.l.Disk(vm), 3); err != nil {
			b.t.Fatal(err)
		}
	}
}

// protected waits until HA of the VMs is in force: held by their guards, and written down.
func (b *bed) protected(vms ...string) {
	b.t.Helper()
	ctx := within(b.t, 10*time.Second)
	for _, vm := range vms {
		_, err := b.p.UntilVM(ctx, vm, "is protected", func(v *pb.VMView) bool { return v.GetProtected() && v.GetClaim().GetArmed() })
		b.must(err)
	}
}

// restarted waits until a VM executes elsewhere than before a fault, and returns the process.
func (b *bed) restarted(vm string, after time.Time) lab.Life {
	b.t.Helper()
	life, err := b.w.UntilExecuting(within(b.t, recovery), vm, after)
	b.must(err)
	return life
}

// lives returns the processes of a VM that ever executed it, in order of appearance.
func (b *bed) lives(vm string) []lab.Life {
	return slices.DeleteFunc(b.w.Lives(), func(l lab.Life) bool { return l.VM != vm || len(l.Spans) == 0 })
}

// startedTimes checks how often a VM was started since the test began.
func (b *bed) startedTimes(vm string, want int) {
	b.t.Helper()
	if got := len(b.lives(vm)); got != want {
		b.t.Errorf("%s was started %d times, want %d", vm, got, want)
	}
}

// booted checks how often the guest itself says that it booted.
func (b *bed) booted(vm string, want uint64) {
	b.t.Helper()
	r, err := lab.ReadRecord(b.l.Disk(vm))
	b.must(err)
	if r.Boots != want {
		b.t.Errorf("%s booted %d times by its own account, want %d", vm, r.Boots, want)
	}
}

// noDomain waits until a server's libvirt knows no VM of that name, running or defined: it forgets one a moment after the
// process has ended.
func (b *bed) noDomain(server string, vms ...string) {
	b.t.Helper()
	for end := time.Now().Add(patience); ; linger(b.t, 100*time.Millisecond) {
		out, err := b.server(server).Virsh(within(b.t, patience), "list", "--all", "--name")
		b.must(err)
		known := strings.Fields(out)
		known = slices.DeleteFunc(known, func(name string) bool { return !slices.Contains(vms, name) })
		if len(known) == 0 {
			return
		}
		if time.Now().After(end) {
			b.t.Fatalf("libvirt on %s still has %v", server, known)
		}
	}
}

// diedBefore checks that one process was dead before the other was even started, and tells by how much.
func (b *bed) diedBefore(vm string, old, next lab.Life) {
	b.t.Helper()
	if old.Died.IsZero() || next.Seen.Before(old.Died) {
		b.t.Errorf("%s: its process on %s died %s, the one on %s was started %s", vm, old.Server, clock(old.Died), next.Server, clock(next.Seen))
		return
	}
	b.t.Logf("%s: dead on %s at %s, started on %s at %s, %v later", vm, old.Server, clock(old.Died), next.Server, clock(next.Seen), next.Seen.Sub(old.Died).Round(time.Millisecond))
}

func clock(t time.Time) string {
	if t.IsZero() {
		return "never"
	}
	return t.Format("15:04:05.000")
}

// quiet lets time pass in which nothing may happen: it fails if one of the VMs stops executing or moves.
func (b *bed) quiet(d time.Duration, vms ...string) {
	b.t.Helper()
	before := map[string]int{}
	for _, vm := range vms {
		before[vm] = len(b.lives(vm))
	}
	ctx := lasting(b.t, d)
	_ = b.w.Until(ctx, func([]lab.Life) bool {
		for _, vm := range vms {
			if len(b.lives(vm)) != before[vm] || len(b.w.Executing(vm)) != 1 {
				b.t.Errorf("%s does not simply run on: executing on %v, started %d times, was %d", vm, b.w.Executing(vm), len(b.lives(vm)), before[vm])
				return true
			}
		}
		return false
	})
}
