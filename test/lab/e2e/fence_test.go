package e2e

import (
	"context"
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-ha/holdfast/test/lab"

	pb "github.com/holdfast-ha/holdfast/proto/holdfast/v1"
)

func TestServerWhoseAgentAndGuardDiedIsSwitchedOffBeforeItsVMsStartElsewhere(t *testing.T) {
	b := prepare(t)
	victim := b.other(b.leader())
	b.switchable(victim)
	vm, plain := b.launch("ha", victim, "ha=on"), b.launch("plain", victim)
	b.settle(vm, plain)

	s := b.server(victim)
	at := time.Now()
	b.must(s.Kill(within(t, 5*time.Second), lab.Guard))
	b.must(s.Kill(within(t, 5*time.Second), lab.Agent))
	next, old := b.restarted(vm, at), b.lives(vm)[0]
	if next.Server == victim {
		t.Errorf("%s runs on %s again", vm, victim)
	}
	t.Logf("agent and guard killed %s, power cut %v later, %s executes on %s %v later", clock(at),
		old.Died.Sub(at).Round(time.Millisecond), vm, next.Server, next.Spans[0].From.Sub(at).Round(time.Millisecond))
	b.diedBefore(vm, old, next)
	b.rising(vm)
	b.startedTimes(vm, 2)
	if !strings.Contains(b.report(), "fence_lab reports off, verified twice") {
		t.Errorf("the history does not tell that fence_lab reported off:\n%s", b.report())
	}

	// It is switched on again, and then it takes part again: the VM without HA starts there.
	b.must(b.p.UntilUp(within(t, 40*time.Second)))
	b.noDomain(victim, vm)
	b.startedTimes(vm, 2)
	for _, life := range b.lives(plain) {
		if life.Server != victim {
			t.Errorf("%s has no HA, and was started on %s", plain, life.Server)
		}
	}
}

func TestSilentServerIsSwitchedOffBeforeItsLeaseEndsAndOnAgain(t *testing.T) {
	b := prepare(t)
	victim := b.other(b.leader())
	b.switchable(victim)
	vm := b.launch("ha", victim, "ha=on")
	b.settle(vm)

	session := b.session(victim)
	at := time.Now()
	b.must(b.server(victim).Cut(within(t, 5*time.Second), lab.CutAll))
	next := b.restarted(vm, at)
	old := b.lives(vm)[0]
	took := next.Spans[0].From.Sub(at)
	t.Logf("cut off %s, power cut %v later, %s executes on %s %v later", clock(at), old.Died.Sub(at).Round(time.Millisecond), vm, next.Server, took.Round(time.Millisecond))
	b.diedBefore(vm, old, next)
	b.rising(vm)
	if !strings.Contains(b.report(), victim+" is suspect") {
		t.Errorf("the history does not tell that %s was suspect:\n%s", victim, b.report())
	}
	b.must(b.server(victim).Heal(within(t, 5*time.Second)))
	b.must(b.p.UntilUp(within(t, 60*time.Second)))
	if b.session(victim) == session {
		t.Errorf("%s has the session of before, so its power was not cut", victim)
	}
	b.noDomain(victim, vm)
	b.startedTimes(vm, 2)
}

// switchable gives a server a power switch that the others reach, until the test ends.
func (b *bed) switchable(server string) {
	b.t.Helper()
	bmc, err := b.l.ServeBMC(b.t.Context())
	b.must(err)
	b.t.Cleanup(bmc.Close)
	// The lab's fence program among those that are installed: a folder above the real one, on these servers only.
	programs := filepath.Dir(b.l.FenceAgent())
	for _, s := range b.l.Servers() {
		_, err := s.Exec(within(b.t, 10*time.Second), "mount", "-t", "overlay", "programs", "-o", "lowerdir="+programs+":/usr/sbin", "/usr/sbin")
		b.must(err)
	}
	b.t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second) // the test's own has ended
		defer cancel()
		_, err := b.p.Servers.UpdateServer(ctx, &pb.UpdateServerRequest{Server: server, SetFence: true})
		for _, s := range b.l.Servers() {
			if s.Name() != server { // that one lost it with its power
				_, uerr := s.Exec(ctx, "umount", "--lazy", "/usr/sbin")
				err = errors.Join(err, uerr)
			}
		}
		if err != nil {
			b.t.Errorf("take the power switch of %s away: %v", server, err)
		}
	})
	_, err = b.p.Servers.UpdateServer(within(b.t, 10*time.Second), &pb.UpdateServerRequest{Server: server, SetFence: true,
		Fence: []*pb.FenceDevice{{Agent: "fence_lab", Params: map[string]string{"plug": server}}}})
	b.must(err)
}
