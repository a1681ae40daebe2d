package e2e

import (
	"context"
	"testing"
	"time"

	"github.com/holdfast-ha/holdfast/test/lab"
)

// outage is how long the switch is away; VMs stay paused for 30 s by default.
const outage = 20 * time.Second

// A switch reboots, and every server is alone for a while. With on-isolation=pause that pauses the pool's VMs, and none
// of them is started again.
func TestPoolWhoseServersAreAllCutOffPausesItsVMsAndRunsThemOn(t *testing.T) {
	b := prepare(t)
	b.must(b.p.SetPool(within(t, 10*time.Second), "on-isolation", "pause"))
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		for _, s := range b.l.Servers() {
			_ = s.Heal(ctx) // restore tells, should that fail
		}
		if err := b.p.UntilUp(ctx); err != nil {
			t.Error(err)
		}
		if err := b.p.SetPool(ctx, "on-isolation", "stop"); err != nil {
			t.Error(err)
		}
	})
	var vms []string
	for _, s := range b.l.Servers() {
		vms = append(vms, b.launch("on-"+s.Name(), s.Name(), "ha=on"))
	}
	b.settle(vms...)
	cut := time.Now()
	for _, s := range b.l.Servers() {
		b.must(s.Cut(within(t, 5*time.Second), lab.CutAll))
	}
	b.must(b.w.Until(within(t, 15*time.Second), func([]lab.Life) bool {
		for _, vm := range vms {
			if len(b.w.Executing(vm)) > 0 {
				return false
			}
		}
		return true
	}))
	t.Logf("all VMs paused %v after the cut", time.Since(cut).Round(time.Millisecond))
	paused := map[string]uint64{}
	for _, vm := range vms {
		r, err := lab.ReadRecord(b.l.Disk(vm))
		b.must(err)
		paused[vm] = r.Counter
	}
	_ = b.w.Until(lasting(t, time.Until(cut.Add(outage))), func([]lab.Life) bool { return false })
	for _, vm := range vms {
		if r, err := lab.ReadRecord(b.l.Disk(vm)); err != nil || r.Counter != paused[vm] {
			t.Errorf("%s wrote while it was paused: counter %d, was %d, %v", vm, r.Counter, paused[vm], err)
		}
	}
	healed := time.Now()
	for _, s := range b.l.Servers() {
		b.must(s.Heal(within(t, 5*time.Second)))
	}
	b.rising(vms...)
	t.Logf("all VMs run on %v after the heal", time.Since(healed).Round(time.Millisecond))
	b.must(b.p.UntilUp(within(t, 30*time.Second)))
	b.protected(vms...)
	b.quiet(2*time.Second, vms...)
	for _, vm := range vms {
		b.startedTimes(vm, 1)
		b.booted(vm, 1)
	}
}
