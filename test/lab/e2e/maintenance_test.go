package e2e

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-ha/holdfast/test/lab"

	pb "github.com/holdfast-ha/holdfast/proto/holdfast/v1"
)

// A server with a VM with HA, one without, and one whose disk nobody else has, is put into maintenance and taken out of
// it again.
func TestMaintenanceMovesEveryVMLiveSaysWhichOneCannotAndBringsThemHome(t *testing.T) {
	b := prepare(t)
	home := b.other(b.leader())
	b.must(b.p.SetPool(within(t, 5*time.Second), "return", "on"))
	ha, plain := b.busy("ha", home, "ha=on"), b.busy("plain", home)
	stuck, disk := b.rooted("stuck", home)
	b.settle(ha, plain)
	b.waitRising(disk)
	movers := []string{ha, plain}
	trails := map[string]*lab.CounterWatch{}
	for _, vm := range movers {
		trails[vm] = lab.WatchCounter(t.Context(), b.l.Disk(vm))
	}
	b.planned(home, movers, stuck)

	t.Cleanup(func() { // a test that fails half-way leaves no server in maintenance
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 10*time.Second)
		defer cancel()
		if _, err := b.p.Servers.ExitMaintenance(ctx, &pb.ExitMaintenanceRequest{Server: home}); err != nil {
			t.Errorf("end the maintenance: %v", err)
		}
	})
	began := time.Now()
	r, err := b.p.Servers.EnterMaintenance(within(t, 10*time.Second), &pb.EnterMaintenanceRequest{Server: home, Why: "test"})
	b.must(err)
	for _, vm := range movers {
		b.leaves(vm, home)
	}
	t.Logf("%v have left %v after the request", movers, time.Since(began).Round(time.Millisecond))
	blocked, err := b.p.UntilServer(within(t, recovery), home, pb.ServerState_SERVER_STATE_BLOCKED)
	b.must(err)
	t.Logf("the pool says: %s", blocked.GetReason())
	if why := blocked.GetReason(); !strings.Contains(why, stuck) || !strings.Contains(why, "missing") {
		t.Errorf("maintenance is blocked, and the reason %q does not name %s and what is in its way", why, stuck)
	}
	b.waitRising(disk)
	if on := b.w.Executing(stuck); len(on) != 1 || on[0] != home {
		t.Errorf("%s cannot leave and executes on %v, want %s", stuck, on, home)
	}

	_, err = b.p.VMs.StopVM(within(t, 10*time.Second), &pb.StopVMRequest{Vm: stuck})
	b.must(err)
	if done := b.outcome(r.GetOperation(), recovery); done.GetOutcome() != pb.OperationOutcome_OPERATION_OUTCOME_DONE {
		t.Fatalf("evacuation: %v: %s", done.GetOutcome(), done.GetError())
	}
	_, err = b.p.UntilServer(within(t, 5*time.Second), home, pb.ServerState_SERVER_STATE_MAINTENANCE)
	b.must(err)
	b.emptyOf(home, ha, plain, stuck)

	out, err := b.p.Servers.ExitMaintenance(within(t, 10*time.Second), &pb.ExitMaintenanceRequest{Server: home, Why: "test"})
	b.must(err)
	if back := out.GetComingBack(); len(back) != len(movers) {
		t.Errorf("coming back are %v, want %v", back, movers)
	}
	for _, vm := range movers {
		b.isAt(vm, home)
		b.rising(vm)
		if on := b.w.Executing(vm); len(on) != 1 || on[0] != home {
			t.Errorf("%s executes on %v after the maintenance, want %s", vm, on, home)
		}
		gap := trails[vm].Longest()
		b.must(trails[vm].Stop())
		t.Logf("%s moved out and back; the longest that its counter stood still: %v", vm, gap.For.Round(time.Millisecond))
		b.startedTimes(vm, 3) // three processes, and one boot
		b.booted(vm, 1)
	}
	b.protected(ha)
	if got := len(b.lives(stuck)); got != 1 || len(b.w.Executing(stuck)) != 0 {
		t.Errorf("%s was stopped by hand; it was started %d times and executes on %v", stuck, got, b.w.Executing(stuck))
	}
}

// rooted starts a VM on the one server that has its disk, and says where the disk is seen from here.
func (b *bed) rooted(short, server string) (vm, disk string) {
	b.t.Helper()
	v := lab.VM{Name: b.name(short), Disk: "/var/lib/libvirt/images/private-" + b.tag + ".img"}
	disk = b.server(server).Path(v.Disk)
	b.must(b.l.CreateDisk(disk))
	b.t.Cleanup(func() { _ = os.Remove(disk) }) // the server's directory goes with the lab anyway
	xml, err := b.l.DomainXML(within(b.t, time.Minute), v)
	b.must(err)
	_, err = b.p.VMs.RegisterVM(within(b.t, 10*time.Second), &pb.RegisterVMRequest{Xml: xml})
	b.must(err)
	b.vms = append(b.vms, v.Name)
	// A server that has just come back from the test before may still be out of its peers' reach for a moment.
	ctx := within(b.t, 20*time.Second)
	for {
		_, err := b.p.VMs.StartVM(ctx, &pb.StartVMRequest{Vm: v.Name})
		if err == nil {
			return v.Name, disk
		}
		if ctx.Err() != nil || !strings.Contains(err.Error(), "could not be asked") {
			b.t.Fatal(err)
		}
		linger(b.t, 200*time.Millisecond)
	}
}

// waitRising waits until the guest whose disk lies there has written a few times more.
func (b *bed) waitRising(disk string) {
	b.t.Helper()
	_, err := lab.WaitCounter(within(b.t, boot), disk, 3)
	b.must(err)
}

// planned checks that the plan of a maintenance tells beforehand what leaves live and what does not.
func (b *bed) planned(server string, movers []string, stuck string) {
	b.t.Helper()
	plan, err := b.p.Servers.PlanMaintenance(within(b.t, 5*time.Second), &pb.PlanMaintenanceRequest{Server: server})
	b.must(err)
	how := map[string]*pb.PlannedMove{}
	for _, m := range plan.GetMoves() {
		how[m.GetVm()] = m
	}
	for _, vm := range movers {
		if m := how[vm]; m.GetHow() != pb.LeaveBy_LEAVE_BY_LIVE || m.GetTarget() == "" || m.GetTarget() == server {
			b.t.Errorf("the plan has %s leave like this: %v; want live, to another server", vm, m)
		}
	}
	m := how[stuck]
	if m.GetHow() == pb.LeaveBy_LEAVE_BY_LIVE || m.GetTarget() != "" || len(m.GetRefusals()) != servers-1 {
		b.t.Fatalf("the plan has %s leave like this: %v; want it to say of each other server why not", stuck, m)
	}
	for _, v := range m.GetRefusals() {
		if text := fmt.Sprint(v.GetReasons()); !strings.Contains(text, "private-"+b.tag) {
			b.t.Errorf("why %s cannot go to %s: %s; want it to name its disk", stuck, v.GetServer(), text)
		}
	}
}

// leaves waits until a VM runs under a settled claim of another server, and checks that it executes there alone.
func (b *bed) leaves(vm, home string) {
	b.t.Helper()
	v, err := b.p.UntilVM(within(b.t, recovery), vm, "has left "+home, func(v *pb.VMView) bool {
		c := v.GetClaim()
		return c.GetServer() != home && c.GetPhase() == pb.ClaimPhase_CLAIM_PHASE_HELD && v.GetStatus() == pb.VMStatus_VM_STATUS_RUNNING
	})
	b.must(err)
	b.rising(vm)
	if on := b.w.Executing(vm); len(on) != 1 || on[0] != v.GetClaim().GetServer() {
		b.t.Errorf("%s executes on %v, its claim says %s", vm, on, v.GetClaim().GetServer())
	}
}

// emptyOf checks that nothing of the VMs is left on a server: no process, no domain.
func (b *bed) emptyOf(server string, vms ...string) {
	b.t.Helper()
	qemus, err := b.server(server).QEMUs()
	b.must(err)
	if len(qemus) > 0 {
		b.t.Errorf("%s is in maintenance and still has %v", server, qemus)
	}
	b.noDomain(server, vms...)
}
