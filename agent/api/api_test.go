package api

import (
	"errors"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/holdfast-ha/holdfast/pkg/pool"
	pb "github.com/holdfast-ha/holdfast/proto/holdfast/v1"
)

func TestStartWantsTheVMRunningAndTellsWhoAsked(t *testing.T) {
	b := newBench(t)
	r, err := b.StartVM(as(t), &pb.StartVMRequest{Vm: "web", Why: "release day"})
	if err != nil {
		t.Fatal(err)
	}
	vm, _ := b.pool.Snapshot().VMs.Get("web")
	if vm.Desired != pool.DesiredRunning || vm.DesiredMark.By != "kim" || vm.DesiredMark.Why != "release day" {
		t.Errorf("registration says %v by %+v", vm.Desired, vm.DesiredMark)
	}
	if op := r.GetOperation(); op.GetKind() != pb.OperationKind_OPERATION_KIND_START || op.GetOutcome() != pb.OperationOutcome_OPERATION_OUTCOME_RUNNING {
		t.Errorf("operation = %v", op)
	}
	id, _ := b.pool.Snapshot().Events.Last()
	if e, _ := b.pool.Snapshot().Events.Get(id); e.Actor != "kim" || e.VM != "web" || !strings.Contains(e.Text, "release day") {
		t.Errorf("the audit says %+v", e)
	}
}

func TestTheSameRequestIDGivesTheSameOperation(t *testing.T) {
	b := newBench(t)
	first, err := b.StopVM(as(t), &pb.StopVMRequest{Vm: "web", RequestId: "r-1"})
	if err != nil {
		t.Fatal(err)
	}
	rev := b.pool.Snapshot().Revision
	again, err := b.StopVM(as(t), &pb.StopVMRequest{Vm: "web", RequestId: "r-1"})
	if err != nil {
		t.Fatal(err)
	}
	if first.GetOperation().GetId() != again.GetOperation().GetId() || b.pool.Snapshot().Revision != rev {
		t.Errorf("operations %s and %s, revision %d then %d", first.GetOperation().GetId(), again.GetOperation().GetId(), rev, b.pool.Snapshot().Revision)
	}
	other, err := b.StopVM(as(t), &pb.StopVMRequest{Vm: "web", RequestId: "r-2"})
	if err != nil || other.GetOperation().GetId() == first.GetOperation().GetId() {
		t.Errorf("another request ID gave %v, %v", other, err)
	}
	if _, err := b.StopVM(as(t), &pb.StopVMRequest{Vm: "db", RequestId: "r-1"}); !errors.Is(err, pool.ErrExists) {
		t.Errorf("the ID of another VM's request: %v, want that it is taken", err)
	}
}

func TestARaceIsDecidedAnew(t *testing.T) {
	b := newBench(t)
	b.pool.before = func() {
		b.pool.change(func(s *pool.Snapshot) {
			v, _ := s.VMs.Get("web")
			v.Apart, v.Revision = "group", s.Revision
			s.VMs = s.VMs.With("web", v)
		})
	}
	if _, err := b.SetVMHA(as(t), &pb.SetVMHARequest{Vms: []string{"web"}, On: true}); err != nil {
		t.Fatal(err)
	}
	if v, _ := b.pool.Snapshot().VMs.Get("web"); !v.HA || v.Apart != "group" {
		t.Errorf("registration = %+v: one of the two changes is lost", v)
	}
}

func TestPoolHAIsRefusedWhereItCouldNotWork(t *testing.T) {
	on := &pb.SetPoolHARequest{On: true}
	t.Run("one server", func(t *testing.T) {
		b := newBench(t)
		b.pool.change(func(s *pool.Snapshot) { s.Servers = s.Servers.Without("srv-2").Without("srv-3") })
		before := b.pool.Snapshot()
		_, err := b.SetPoolHA(as(t), on)
		b.wantRefusal(t, before, err, "TOO_FEW_SERVERS")
	})
	t.Run("an agent that is too old, by name", func(t *testing.T) {
		b := newBench(t)
		b.pool.change(func(s *pool.Snapshot) {
			m, _ := s.Members.Get("srv-2")
			m.Version = "0.0.9"
			s.Members = s.Members.With("srv-2", m)
		})
		before := b.pool.Snapshot()
		_, err := b.SetPoolHA(as(t), on)
		b.wantRefusal(t, before, err, "AGENT_TOO_OLD")
		if !strings.Contains(err.Error(), "srv-2") {
			t.Errorf("%q does not name the server", err)
		}
	})
	t.Run("an etcd that cannot lose a server", func(t *testing.T) {
		b := newBench(t)
		b.oneVote = true
		before := b.pool.Snapshot()
		_, err := b.SetPoolHA(as(t), on)
		b.wantRefusal(t, before, err, "ETCD_TOO_FEW_VOTES")
	})
	t.Run("else it goes on", func(t *testing.T) {
		b := newBench(t)
		if r, err := b.SetPoolHA(as(t), on); err != nil || !r.GetConfig().GetHa() || r.GetConfig().GetHaMark().GetBy() != "kim" {
			t.Errorf("SetPoolHA = %v, %v", r, err)
		}
	})
}

func TestHAOfAVMIsRefusedWithoutASecondServer(t *testing.T) {
	b := newBench(t)
	b.pool.change(func(s *pool.Snapshot) {
		for _, id := range []pool.ServerID{"srv-2", "srv-3"} {
			m, _ := s.Members.Get(id)
			m.Lacks = map[pool.VMID][]string{"web": {"bridge br5"}}
			s.Members = s.Members.With(id, m)
		}
	})
	before := b.pool.Snapshot()
	_, err := b.SetVMHA(as(t), &pb.SetVMHARequest{Vms: []string{"db", "web"}, On: true})
	b.wantRefusal(t, before, err, "NO_SECOND_SERVER")
	if !strings.Contains(err.Error(), "srv-2 lacks bridge br5") {
		t.Errorf("%q does not say what is missing where", err)
	}
}

func TestConfirmFencedNeedsALostServerAndItsTypedName(t *testing.T) {
	b := newBench(t)
	before := b.pool.Snapshot()
	_, err := b.ConfirmFenced(as(t), &pb.ConfirmFencedRequest{Server: "srv-2", TypedName: "srv-2"})
	b.wantRefusal(t, before, err, "SERVER_LIVES")

	b.pool.change(func(s *pool.Snapshot) { s.Members = s.Members.Without("srv-2") })
	before = b.pool.Snapshot()
	_, err = b.ConfirmFenced(as(t), &pb.ConfirmFencedRequest{Server: "srv-2", TypedName: "srv-3"})
	b.wantRefusal(t, before, err, "NAME_NOT_TYPED")

	if _, err := b.ConfirmFenced(as(t), &pb.ConfirmFencedRequest{Server: "srv-2", TypedName: "srv-2"}); err != nil {
		t.Fatal(err)
	}
	f, _ := b.pool.Snapshot().Fences.Get("srv-2")
	if f.Proof != pool.ProofConfirmed || f.By != "kim" || !f.Covers(21) || f.Covers(pool.Session(b.pool.Snapshot().Revision+1)) {
		t.Errorf("fence = %+v: want a confirmation by kim that covers the old session and no later one", f)
	}
}

func TestConfirmFencedLosesAgainstAServerThatComesBack(t *testing.T) {
	b := newBench(t)
	member, _ := b.pool.Snapshot().Members.Get("srv-2")
	b.pool.change(func(s *pool.Snapshot) { s.Members = s.Members.Without("srv-2") })
	b.pool.before = func() {
		b.pool.change(func(s *pool.Snapshot) { s.Members = s.Members.With("srv-2", member) })
	}
	_, err := b.ConfirmFenced(as(t), &pb.ConfirmFencedRequest{Server: "srv-2", TypedName: "srv-2"})
	if !errors.Is(err, pool.ErrRefused) {
		t.Errorf("error = %v, want a refusal: the server is a member again", err)
	}
}

func TestOnlyAStoppedVMIsRemoved(t *testing.T) {
	b := newBench(t)
	b.hold("web", "srv-2")
	before := b.pool.Snapshot()
	_, err := b.RemoveVM(as(t), &pb.RemoveVMRequest{Vm: "web"})
	b.wantRefusal(t, before, err, "VM_RUNS")
	if _, err := b.RemoveVM(as(t), &pb.RemoveVMRequest{Vm: "db"}); err != nil {
		t.Fatal(err)
	}
	if s := b.pool.Snapshot(); s.VMs.Has("db") || s.Claims.Has("db") {
		t.Error("something of the removed VM is left")
	}
}

func TestAServerThatHoldsVMsIsNotRemoved(t *testing.T) {
	b := newBench(t)
	b.hold("web", "srv-2")
	before := b.pool.Snapshot()
	_, err := b.RemoveServer(as(t), &pb.RemoveServerRequest{Server: "srv-2"})
	b.wantRefusal(t, before, err, "SERVER_HOLDS_VMS")
	if !strings.Contains(err.Error(), "web") {
		t.Errorf("%q does not list the VMs", err)
	}
}

func TestTheLastServerStays(t *testing.T) {
	b := newBench(t)
	for _, id := range []string{"srv-2", "srv-3"} {
		if _, err := b.RemoveServer(as(t), &pb.RemoveServerRequest{Server: id}); err != nil {
			t.Fatal(err)
		}
	}
	before := b.pool.Snapshot()
	_, err := b.RemoveServer(as(t), &pb.RemoveServerRequest{Server: "srv-1"})
	b.wantRefusal(t, before, err, "LAST_SERVER")
}

func TestAFailedVMIsStartedOnlyAfterItWasCleared(t *testing.T) {
	b := newBench(t)
	b.pool.change(func(s *pool.Snapshot) {
		s.Config.HA = true
		vm, _ := s.VMs.Get("web")
		vm.HA = true
		s.VMs = s.VMs.With("web", vm)
		s.Homes = s.Homes.With("web", pool.Home{VM: "web", Failed: true, FailedReason: "crashed 4 times", Revision: s.Revision})
	})
	before := b.pool.Snapshot()
	_, err := b.StartVM(as(t), &pb.StartVMRequest{Vm: "web"})
	b.wantRefusal(t, before, err, "VM_FAILED")
	if _, err := b.ClearVM(as(t), &pb.ClearVMRequest{Vm: "web"}); err != nil {
		t.Fatal(err)
	}
	if _, err := b.StartVM(as(t), &pb.StartVMRequest{Vm: "web"}); err != nil {
		t.Errorf("start after clear: %v", err)
	}
}

func TestAFailedVMWithoutHAIsStartedByStartAlone(t *testing.T) {
	b := newBench(t)
	b.pool.change(func(s *pool.Snapshot) {
		s.Config.HA = false
		s.Homes = s.Homes.With("web", pool.Home{VM: "web", Failed: true, FailedReason: "crashed; HA is off", Revision: s.Revision})
	})
	if _, err := b.StartVM(as(t), &pb.StartVMRequest{Vm: "web"}); err != nil {
		t.Fatal(err)
	}
	if h, _ := b.pool.Snapshot().Homes.Get("web"); h.Failed {
		t.Error("it was asked to start, and still counts as failed")
	}
}

func TestRulesThatCannotHoldAreRefusedWithTheConflict(t *testing.T) {
	b := newBench(t)
	set := func(vm string, kv map[string]string) error {
		_, err := b.UpdateVM(as(t), &pb.UpdateVMRequest{Vm: vm, Set: kv})
		return err
	}
	if err := set("db", map[string]string{"together": "pair", "require": "srv-1"}); err != nil {
		t.Fatal(err)
	}
	before := b.pool.Snapshot()
	b.wantRefusal(t, before, set("web", map[string]string{"together": "pair", "require": "srv-2"}), "RULE_CONFLICT")
	if err := set("web", map[string]string{"require": "srv-9"}); !errors.Is(err, pool.ErrNotFound) {
		t.Errorf("an unknown server: %v", err)
	}
	if err := set("web", map[string]string{"colour": "red"}); !errors.Is(err, pool.ErrInvalid) || !strings.Contains(err.Error(), "priority") {
		t.Errorf("an unknown setting: %v, want the known ones named", err)
	}
	if err := set("web", map[string]string{"priority": "urgent", "restarts": "3"}); !errors.Is(err, pool.ErrInvalid) {
		t.Errorf("a wrong value: %v", err)
	}
	if v, _ := b.pool.Snapshot().VMs.Get("web"); v.Restarts != 1 {
		t.Error("half of a wrong request was applied")
	}
}

func TestNamesFromOutsideAreCheckedAndPrintable(t *testing.T) {
	b := newBench(t)
	for _, name := range []string{"", "no such\x1b[2J", "../x", strings.Repeat("x", 64)} {
		_, err := b.StartVM(as(t), &pb.StartVMRequest{Vm: name})
		if !errors.Is(err, pool.ErrInvalid) {
			t.Errorf("StartVM(%q) = %v, want invalid", name, err)
		}
		if err != nil && strings.ContainsRune(err.Error(), '\x1b') {
			t.Errorf("the error repeats an escape sequence: %q", err)
		}
	}
	_, err := b.StartVM(as(t), &pb.StartVMRequest{Vm: "nosuch"})
	if !errors.Is(err, pool.ErrNotFound) || !strings.Contains(err.Error(), "db, web") {
		t.Errorf("unknown VM: %v, want those there are", err)
	}
}

func TestALeaseLifetimeIsNotChangedUnderHA(t *testing.T) {
	b := newBench(t)
	if _, err := b.SetPoolHA(as(t), &pb.SetPoolHARequest{On: true}); err != nil {
		t.Fatal(err)
	}
	before := b.pool.Snapshot()
	_, err := b.UpdatePool(as(t), &pb.UpdatePoolRequest{Set: map[string]string{"ttl": "10s"}})
	b.wantRefusal(t, before, err, "HA_IS_ON")
	for key, value := range map[string]string{"ttl": "1s", "tolerate": "-1", "stop-limit": "soon"} {
		if _, err := b.UpdatePool(as(t), &pb.UpdatePoolRequest{Set: map[string]string{key: value}}); err == nil {
			t.Errorf("%s=%s was accepted", key, value)
		}
	}
}

func TestSettingWhatIsSetChangesNothing(t *testing.T) {
	b := newBench(t)
	if _, err := b.SetInboundLock(as(t), &pb.SetInboundLockRequest{Server: "srv-1", On: true, Why: "SAN work"}); err != nil {
		t.Fatal(err)
	}
	before := b.pool.Snapshot()
	r, err := b.SetInboundLock(as(t), &pb.SetInboundLockRequest{Server: "srv-1", On: true})
	if err != nil || b.pool.Snapshot() != before {
		t.Errorf("second time: %v, changed %v", err, b.pool.Snapshot() != before)
	}
	if mark := r.GetServer().GetServer().GetInboundLockMark(); mark.GetWhy() != "SAN work" {
		t.Errorf("mark = %v", mark)
	}
}

func TestPowerSwitchesThatCannotWorkAreRefusedAndChangeNothing(t *testing.T) {
	b := newBench(t)
	set := func(d ...*pb.FenceDevice) error {
		_, err := b.UpdateServer(as(t), &pb.UpdateServerRequest{Server: "srv-2", SetFence: true, Fence: d})
		return err
	}
	good := &pb.FenceDevice{Agent: "fence_ipmilan", Params: map[string]string{"ip": "10.0.9.1", "username": "admin"},
		SecretFiles: map[string]string{"password": "/etc/holdfast/ipmi-password"}, Timeout: durationpb.New(20 * time.Second)}
	if err := set(good); err != nil {
		t.Fatal(err)
	}
	before := b.pool.Snapshot()
	if s, _ := before.Servers.Get("srv-2"); len(s.Fence) != 1 || s.Fence[0].Agent != "fence_ipmilan" {
		t.Fatalf("fence devices = %+v", s.Fence)
	}
	for _, c := range []struct {
		bad  *pb.FenceDevice
		says string
	}{
		{&pb.FenceDevice{}, "such as fence_ipmilan"},
		{&pb.FenceDevice{Agent: "ipmilan"}, "such as fence_ipmilan"},
		{&pb.FenceDevice{Agent: "/usr/sbin/fence_ipmilan"}, "without a path"},
		{&pb.FenceDevice{Agent: "fence_../../bin/sh"}, "without a path"},
		{&pb.FenceDevice{Agent: "fence_dummy"}, "only pretends"},
		{&pb.FenceDevice{Agent: "fence_a", Timeout: durationpb.New(time.Hour)}, "at most 1m0s"},
		{&pb.FenceDevice{Agent: "fence_a", Params: map[string]string{"action": "on"}}, "leave it out"},
		{&pb.FenceDevice{Agent: "fence_a", Params: map[string]string{"ip": "1\naction=on"}}, "one line"},
		{&pb.FenceDevice{Agent: "fence_a", Params: map[string]string{"password_script": "/bin/sh"}}, "leave it out"},
		{&pb.FenceDevice{Agent: "fence_a", SecretFiles: map[string]string{"password": "secret"}}, "absolute path"},
		{&pb.FenceDevice{Agent: "fence_a", Params: map[string]string{"password": "x"}, SecretFiles: map[string]string{"password": "/x"}}, "one of them"},
	} {
		err := set(good, c.bad)
		if !errors.Is(err, pool.ErrInvalid) || !strings.Contains(err.Error(), "srv-2: power switch 2") || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%v: error %v, want one about switch 2 of srv-2 that says %q", c.bad, err, c.says)
		}
	}
	if b.pool.Snapshot() != before {
		t.Error("a refused request changed the pool")
	}
	if err := set(); err != nil {
		t.Fatal(err)
	}
	if s, _ := b.pool.Snapshot().Servers.Get("srv-2"); len(s.Fence) != 0 {
		t.Errorf("fence devices = %+v, want none left", s.Fence)
	}
}
