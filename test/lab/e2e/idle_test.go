package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-ha/holdfast/test/lab"
)

func TestIdlePoolWritesNothingToEtcd(t *testing.T) {
	b := prepare(t)
	vm := b.launch("ha", b.leader(), "ha=on")
	b.settle(vm)
	var changed string
	for range 3 {
		before := b.rest()
		b.quiet(15*time.Second, vm)
		after := b.revision()
		if after == before {
			return
		}
		changed = fmt.Sprintf("etcd's revision rose from %d to %d in 15 s of an idle pool:\n%s", before, after, b.changes(before))
		// A server says so when its own guard answers too late, as on a machine that stands still: once, not each time.
		if !onlyMembers(b.changes(before)) {
			break
		}
		t.Log(changed)
	}
	t.Error(changed)
}

func onlyMembers(changes string) bool {
	for line := range strings.Lines(changes) {
		if !strings.HasPrefix(line, "/holdfast/v1/lab/members/") {
			return false
		}
	}
	return changes != ""
}

// rest waits until nothing has been written to etcd for a while, and returns its revision: what was set in motion by a
// start, above all the history, comes to rest.
func (b *bed) rest() int64 {
	b.t.Helper()
	from := time.Now()
	before, settled := b.revision(), from
	for time.Since(settled) < 3*time.Second {
		_ = b.w.Until(lasting(b.t, time.Second), func([]lab.Life) bool { return false })
		if now := b.revision(); now != before {
			before, settled = now, time.Now()
		}
		if time.Since(from) > time.Minute {
			b.t.Fatal("etcd's revision does not come to rest in a pool where nothing happens")
		}
	}
	return before
}

func (b *bed) revision() int64 {
	b.t.Helper()
	voters, err := b.p.Voters(within(b.t, 5*time.Second))
	b.must(err)
	var highest int64
	for _, v := range voters {
		highest = max(highest, v.Revision)
	}
	return highest
}

func (b *bed) changes(since int64) string {
	keys, err := b.p.ChangedSince(within(b.t, 5*time.Second), since)
	if err != nil {
		return err.Error()
	}
	return strings.Join(keys, "\n")
}

func TestLeaseTimeChangedInARunningPoolMovesEverySessionAndStopsNoVM(t *testing.T) {
	b := prepare(t)
	leader := b.leader()
	member := b.other(leader)
	ha, led := b.launch("ha", member, "ha=on"), b.launch("led", leader, "ha=on")
	b.settle(ha, led)
	session := b.session(member)
	for _, next := range []time.Duration{3 * time.Second, ttl} {
		// With HA on it is refused.
		if err := b.p.SetPool(within(t, 5*time.Second), "ttl", next.String()); err == nil {
			t.Errorf("ttl=%v is accepted while HA is on", next)
		}
		b.must(b.p.SwitchHA(within(t, 5*time.Second), false))
		b.must(b.p.SetPool(within(t, 5*time.Second), "ttl", next.String()))
		b.must(b.p.UntilLeases(within(t, 15*time.Second), next))
		b.must(b.p.SwitchHA(within(t, 5*time.Second), true))
		b.protected(ha, led)
	}
	b.quiet(2*time.Second, ha, led)
	if now := b.session(member); now != session {
		t.Errorf("%s has session %d, had %d before the change", member, now, session)
	}
	b.booted(ha, 1)
	b.booted(led, 1)
	b.startedTimes(ha, 1)
	b.startedTimes(led, 1)
}
