package e2e

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-ha/holdfast/pkg/pool"
	"github.com/holdfast-ha/holdfast/pkg/saved"
	"github.com/holdfast-ha/holdfast/test/lab"

	pb "github.com/holdfast-ha/holdfast/proto/holdfast/v1"
)

// etcdData is where the embedded etcd has its data on a server.
const etcdData = "/var/lib/holdfast/etcd/data"

// copied waits until every server's copy of the pool's state says where a VM runs, and who has the votes of etcd.
func (b *bed) copied(vm, server string) {
	b.t.Helper()
	ctx := within(b.t, 30*time.Second)
	for _, s := range b.l.Servers() {
		for {
			st, err := saved.Read(s.Path("/var/lib/holdfast/pool-state.json"))
			c, _ := st.Claims.Get(pool.VMID(vm))
			if err == nil && c.Phase == pool.PhaseHeld && string(c.Server) == server && len(st.Voters) == 3 {
				break
			}
			linger(b.t, 50*time.Millisecond)
			if ctx.Err() != nil {
				b.t.Fatalf("the copy on %s does not say that %s runs on %s: it is of revision %d, %v", s.Name(), vm, server, st.Revision, err)
			}
		}
	}
}

// All data of etcd is destroyed on all servers while VMs run. One command on one server makes the pool anew from what the
// servers hold, here one that had no vote; the VMs' processes are the same before and after, and what the pool is for works
// again: a VM moves, and one whose QEMU is killed is started again.
func TestPoolIsRebuiltFromItsServersAfterEtcdLostEverythingWhileVMsRunOn(t *testing.T) {
	b := prepare(t)
	maker := b.server(b.without(b.voters()))
	home := b.other(b.leader())
	ha, plain := b.launch("ha", home, "ha=on"), b.launch("plain", b.leader())
	b.settle(ha, plain)
	b.protected(ha)
	before, err := b.p.VM(within(t, 5*time.Second), ha)
	b.must(err)
	b.copied(ha, home)
	began := time.Now()
	for _, s := range b.l.Servers() {
		b.must(s.Kill(within(t, 5*time.Second), lab.Etcd))
		b.must(os.RemoveAll(s.Path(etcdData)))
	}
	b.must(holdsOut(b, within(t, 20*time.Second).Done()))
	for _, s := range b.l.Servers() {
		b.must(s.Start(lab.Etcd))
	}
	out, err := maker.Exec(within(t, time.Minute), "holdfast-agent", "rebuild", "--yes")
	t.Logf("after %v:\n%s", time.Since(began).Round(time.Millisecond), out)
	b.must(err)
	b.must(b.p.UntilUp(within(t, 40*time.Second)))
	for _, vm := range []string{ha, plain} {
		b.startedTimes(vm, 1)
		b.booted(vm, 1)
		if !strings.Contains(out, vm) {
			t.Errorf("the plan does not say what becomes of %s", vm)
		}
	}
	b.protected(ha)
	after := b.isAt(ha, home)
	if was, is := before.GetClaim(), after.GetClaim(); is.GetEpoch() < was.GetEpoch() || is.GetIncarnation() == was.GetIncarnation() || is.GetSession() <= was.GetSession() {
		t.Errorf("claim before %v, after %v", was, is)
	}
	b.must(b.p.UntilVoters(within(t, 40*time.Second), 3))
	target := b.other(home)
	if op := b.outcome(b.move(ha, target), recovery); op.GetOutcome() != pb.OperationOutcome_OPERATION_OUTCOME_DONE {
		t.Fatalf("it does not move in the rebuilt pool: %v", op)
	}
	b.isAt(ha, target)
	b.booted(ha, 1)
	killed := time.Now()
	b.killQEMU(ha, target)
	b.restarted(ha, killed)
	b.protected(ha)
}

// One server's agent is dead while the pool is restored, on a server that had a vote, from a backup that does not know of the
// move of a VM to that server. The VM is started nowhere, though etcd knows nothing of it any more; when the agent is back
// it finds the new life of the pool by itself, and the VM goes on there.
func TestServerThatWasAwayWhileThePoolWasRebuiltFollowsAndItsVMRunsOn(t *testing.T) {
	b := prepare(t)
	voters := b.voters()
	away := b.l.Servers()[3].Name()
	maker := b.server(voters[0])
	if maker.Name() == away {
		maker = b.server(voters[1])
	}
	far, near := b.launch("far", b.other(away)), b.launch("near", b.other(away))
	b.settle(far, near)
	const backup = "/root/pool.json"
	out, err := maker.Exec(within(t, time.Minute), "holdfast-agent", "backup", backup)
	t.Logf("%s", out)
	b.must(err)
	if op := b.outcome(b.move(far, away), recovery); op.GetOutcome() != pb.OperationOutcome_OPERATION_OUTCOME_DONE {
		t.Fatalf("it does not move: %v", op)
	}
	b.copied(far, away)
	b.must(b.server(away).Kill(within(t, 5*time.Second), lab.Agent))
	for _, s := range b.l.Servers() {
		b.must(s.Kill(within(t, 5*time.Second), lab.Etcd))
		b.must(os.RemoveAll(s.Path(etcdData)))
		b.must(s.Start(lab.Etcd))
	}
	out, err = maker.Exec(within(t, time.Minute), "holdfast-agent", "restore", backup, "--yes", "--old-etcd-lost")
	t.Logf("%s", out)
	b.must(err)
	if !strings.Contains(out, "OLDER than the copy of") {
		t.Error("the plan does not say that the backup is old")
	}
	_, err = b.p.UntilStatus(within(t, 20*time.Second), far, pb.VMStatus_VM_STATUS_LOST)
	b.must(err)
	b.isAt(near, b.other(away))
	b.must(b.server(away).Start(lab.Agent))
	b.isAt(far, away)
	b.quiet(2*time.Second, far, near)
	for _, vm := range []string{far, near} {
		b.booted(vm, 1)
	}
	b.startedTimes(near, 1)
	b.startedTimes(far, 2) // a process on each side of its move
}
