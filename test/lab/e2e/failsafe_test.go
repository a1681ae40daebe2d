package e2e

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/holdfast-ha/holdfast/test/lab"

	pb "github.com/holdfast-ha/holdfast/proto/holdfast/v1"
)

// away is how long etcd is dead.
const away = 60 * time.Second

// Every member of etcd is killed. The servers reach each other, so each knows that nobody can lead, and lets its VMs run
// on; the agent of one of them is restarted meanwhile.
func TestNoGuestMissesASecondWhileAllOfEtcdIsDeadForAMinute(t *testing.T) {
	b := prepare(t)
	voters, leader := b.voters(), b.leader()
	outsider := b.without(voters)
	vms := []string{b.launch("led", leader, "ha=on"), b.launch("voter", b.other(leader, outsider), "ha=on")}
	if outsider != leader {
		vms = append(vms, b.launch("outside", outsider, "ha=on"))
	}
	// Nothing may happen to this one whatever Holdfast does: how long it stands still is the machine's doing.
	control := b.launch("control", outsider)
	b.settle(append(vms, control)...)
	still := lab.WatchCounter(t.Context(), b.l.Disk(control))
	counters := map[string]*lab.CounterWatch{}
	for _, vm := range vms {
		lives := b.lives(vm)
		counters[vm] = lab.WatchGuest(t.Context(), b.l.Disk(vm), lives[len(lives)-1].PID)
	}
	began := time.Now()
	for _, s := range voters {
		b.must(b.server(s).Kill(within(t, 5*time.Second), lab.Etcd))
	}
	b.must(holdsOut(b, within(t, 20*time.Second).Done()))
	b.must(b.server(outsider).Kill(within(t, 5*time.Second), lab.Agent))
	b.must(b.server(outsider).Start(lab.Agent))
	linger(t, away-time.Since(began))
	for _, s := range voters {
		b.must(b.server(s).Start(lab.Etcd))
	}
	b.must(b.p.UntilUp(within(t, 40*time.Second)))
	b.quiet(ttl+2*time.Second, vms...)
	limit := max(time.Second, still.Longest().For+300*time.Millisecond)
	b.must(still.Stop())
	for vm, c := range counters {
		gap := c.Longest()
		t.Logf("%s: the counter stood still for %v at most; that of the VM without HA for %v", vm, gap.For.Round(time.Millisecond), still.Longest().For.Round(time.Millisecond))
		if gap.For > limit {
			t.Errorf("%s: the counter stood still for %v from %s on", vm, gap.For, clock(gap.From))
		}
		if err := c.Stop(); err != nil {
			t.Errorf("%s: %v", vm, err)
		}
		b.booted(vm, 1)
	}
	b.protected(vms...)
}

// holdsOut waits until the API says that etcd is lost and VMs keep running.
func holdsOut(b *bed, end <-chan struct{}) error {
	for {
		v, err := b.p.Status(b.t.Context())
		if err == nil && v.GetEtcdLost() && v.GetFailsafe() == pb.Failsafe_FAILSAFE_HOLDS {
			b.t.Logf("the pool says: %s", v.GetFailsafeText())
			return nil
		}
		select {
		case <-end:
			return errors.Join(fmt.Errorf("etcd lost %v, failsafe %v %q", v.GetEtcdLost(), v.GetFailsafe(), v.GetFailsafeText()), err)
		case <-time.After(200 * time.Millisecond):
		}
	}
}
