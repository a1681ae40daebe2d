package feed

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/holdfast-ha/holdfast/pkg/pool"
	"github.com/holdfast-ha/holdfast/pkg/rpc"
	pb "github.com/holdfast-ha/holdfast/proto/holdfast/v1"
)

var t0 = time.Date(2026, 11, 22, 13, 0, 0, 0, time.UTC)

func at(d time.Duration) time.Time { return t0.Add(d) }

func newMachine() *machine { return &machine{random: func() float64 { return 0.5 }} }

func vm(id, server string, st pb.VMStatus) *pb.VMView {
	return &pb.VMView{Vm: &pb.VM{Id: id}, Status: st, Claim: &pb.Claim{Vm: id, Server: server}}
}

func snapshot(rev int64, leader string, vms ...*pb.VMView) *pb.WatchPoolResponse {
	return &pb.WatchPoolResponse{Revision: rev, ServedBy: "srv-1", Change: &pb.WatchPoolResponse_Snapshot{Snapshot: &pb.Snapshot{
		Pool: &pb.PoolView{Config: &pb.PoolConfig{Name: "p", Incarnation: "i1"}, Leader: leader}, Vms: vms,
		Servers: []*pb.ServerView{{Server: &pb.Server{Id: "srv-1"}, States: []pb.ServerState{pb.ServerState_SERVER_STATE_UP}}},
	}}}
}

func delta(rev int64, d *pb.Delta) *pb.WatchPoolResponse {
	return &pb.WatchPoolResponse{Revision: rev, ServedBy: "srv-1", Change: &pb.WatchPoolResponse_Delta{Delta: d}}
}

func heartbeat(rev int64, lost bool) *pb.WatchPoolResponse {
	return &pb.WatchPoolResponse{Revision: rev, ServedBy: "srv-1", Change: &pb.WatchPoolResponse_Heartbeat{Heartbeat: &pb.Heartbeat{EtcdLost: lost}}}
}

const running, stopped = pb.VMStatus_VM_STATUS_RUNNING, pb.VMStatus_VM_STATUS_STOPPED

func expect(t *testing.T, m *machine, now time.Time, want Freshness) {
	t.Helper()
	if got := m.link.Freshness(now); got != want {
		t.Errorf("after %s: %s, want %s", now.Sub(t0), got, want)
	}
}

// hear has a machine take a message that is of use.
func hear(t *testing.T, m *machine, now time.Time, r *pb.WatchPoolResponse) bool {
	t.Helper()
	changed, err := m.message(now, r)
	if err != nil {
		t.Fatal(err)
	}
	return changed
}

func TestSilenceAgesFromLiveOverDelayedToStale(t *testing.T) {
	m := newMachine()
	expect(t, m, t0, Connecting)
	m.opening()
	m.streams(t0)
	hear(t, m, t0, snapshot(10, "srv-1"))
	for _, step := range []struct {
		after time.Duration
		want  Freshness
	}{{0, Live}, {1900 * time.Millisecond, Live}, {2 * time.Second, Delayed}, {4900 * time.Millisecond, Delayed}, {5 * time.Second, Stale}} {
		expect(t, m, at(step.after), step.want)
	}
	if m.silent(at(4 * time.Second)) {
		t.Error("given up after 4 s")
	}
	if !m.silent(at(5 * time.Second)) {
		t.Error("not given up after 5 s of silence")
	}
	hear(t, m, at(3*time.Second), heartbeat(10, false))
	expect(t, m, at(5*time.Second), Delayed)
	if m.link.Changeable(at(9 * time.Second)) {
		t.Error("a stale view allows changes")
	}
}

func TestABrokenStreamIsStaleAtOnceAndComesBackWithADigest(t *testing.T) {
	m := newMachine()
	m.opening()
	m.streams(t0)
	hear(t, m, t0, snapshot(10, "srv-1", vm("a", "srv-1", running), vm("b", "srv-1", running)))
	if wait := m.broken(at(time.Second), errors.New("reset")); wait <= 0 || wait > firstPause {
		t.Errorf("first pause %s, want at most %s", wait, firstPause)
	}
	expect(t, m, at(time.Second), Stale)
	m.opening()
	m.broken(at(2*time.Second), errors.New("refused"))
	m.opening()
	m.streams(at(3 * time.Second))
	expect(t, m, at(3*time.Second), Resync)
	hear(t, m, at(41*time.Second), snapshot(12, "srv-2", vm("a", "srv-2", running), vm("b", "srv-1", stopped), vm("c", "srv-1", running)))
	expect(t, m, at(41*time.Second), Live)
	r := m.takeReturn()
	if r == nil {
		t.Fatal("nothing is told about the time away")
	}
	if got, want := r.Sentence(), "back after 41s: 1 VM moved, 1 VM changed state, 1 VM new, leader srv-1 -> srv-2"; got != want {
		t.Errorf("digest %q, want %q", got, want)
	}
	if m.takeReturn() != nil {
		t.Error("told twice")
	}
}

func TestPausesGrowAndAreBounded(t *testing.T) {
	m := newMachine()
	last := time.Duration(0)
	for i := range 12 {
		m.opening()
		wait := m.broken(at(time.Duration(i)*time.Second), errors.New("refused"))
		if wait < last || wait > lastPause {
			t.Errorf("attempt %d: pause %s after %s", i, wait, last)
		}
		last = wait
	}
	if m.link.Try != 12 {
		t.Errorf("try %d, want 12", m.link.Try)
	}
}

func TestAnAgentThatLagsIsNotShownAsThePresent(t *testing.T) {
	m := newMachine()
	m.streams(t0)
	hear(t, m, t0, snapshot(10, "srv-1", vm("a", "srv-1", running)))
	m.broken(at(time.Second), errors.New("reset"))
	m.streams(at(2 * time.Second))
	hear(t, m, at(2*time.Second), snapshot(8, "srv-1", vm("a", "srv-9", running)))
	expect(t, m, at(2*time.Second), Resync)
	if got := m.view.VM("a").GetClaim().GetServer(); got != "srv-1" {
		t.Errorf("the older state was shown: a on %s", got)
	}
	hear(t, m, at(3*time.Second), delta(11, &pb.Delta{Vms: []*pb.VMView{vm("a", "srv-2", running)}}))
	expect(t, m, at(3*time.Second), Live)
	if got := m.view.VM("a").GetClaim().GetServer(); got != "srv-2" {
		t.Errorf("a on %s, want srv-2", got)
	}
}

func TestAPoolRestoredFromABackupMayHaveSmallerRevisions(t *testing.T) {
	m := newMachine()
	m.streams(t0)
	hear(t, m, t0, snapshot(100, "srv-1"))
	m.broken(at(time.Second), errors.New("reset"))
	m.streams(at(2 * time.Second))
	s := snapshot(5, "srv-1")
	s.GetSnapshot().Pool.Config.Incarnation = "i2"
	hear(t, m, at(2*time.Second), s)
	expect(t, m, at(2*time.Second), Live)
}

func TestEtcdAndLeaderLossAreSeenAndEnd(t *testing.T) {
	m := newMachine()
	m.streams(t0)
	hear(t, m, t0, snapshot(10, "srv-1"))
	if !hear(t, m, at(time.Second), heartbeat(10, true)) {
		t.Error("the loss of etcd wakes nobody")
	}
	expect(t, m, at(time.Second), EtcdLost)
	hear(t, m, at(2*time.Second), heartbeat(10, false))
	expect(t, m, at(2*time.Second), Live)
	hear(t, m, at(3*time.Second), delta(11, &pb.Delta{Pool: &pb.PoolView{Config: &pb.PoolConfig{Name: "p", Incarnation: "i1"}}}))
	expect(t, m, at(3*time.Second), NoLeader)
	if got := m.link.NoLeader; !got.Equal(at(3 * time.Second)) {
		t.Errorf("no leader since %s", got)
	}
	if m.link.Changeable(at(3 * time.Second)) {
		t.Error("changes are allowed without a leader")
	}
}

func TestARefusedIdentityIsNamedAndNotTriedBlindly(t *testing.T) {
	for _, c := range []struct {
		err  error
		want bool
	}{
		{status.Error(codes.PermissionDenied, "role viewer"), true},
		{status.Error(codes.Unavailable, "x"), false},
		{&rpc.Unreachable{Tried: []rpc.Attempt{{Agent: "a", Err: errors.New("authentication handshake failed: x509: unknown authority")}}}, true},
		{&rpc.Unreachable{Tried: []rpc.Attempt{{Agent: "a", Err: errors.New("x509: expired")}, {Agent: "b", Err: errors.New("connection refused")}}}, false},
		{nil, false},
	} {
		if got := Denied(c.err); got != c.want {
			t.Errorf("Denied(%v) = %v", c.err, got)
		}
	}
	m := newMachine()
	if wait := m.broken(t0, status.Error(codes.PermissionDenied, "no")); wait >= 0 || !m.link.Denied {
		t.Errorf("tried again after %s", wait)
	}
}

func TestHeartbeatsWakeNobody(t *testing.T) {
	m := newMachine()
	m.streams(t0)
	hear(t, m, t0, snapshot(10, "srv-1"))
	if hear(t, m, at(time.Second), heartbeat(10, false)) {
		t.Error("a heartbeat without news woke the console")
	}
}

// Records of incidents are asked for when the pool has changed; they are not streamed.
func TestALaterRevisionIsNewsThoughNothingThatIsStreamedChanged(t *testing.T) {
	m := newMachine()
	m.streams(t0)
	hear(t, m, t0, snapshot(10, "srv-1"))
	if !hear(t, m, at(time.Second), heartbeat(11, false)) || m.view.Revision != 11 {
		t.Errorf("a heartbeat of revision 11 leaves the view at %d", m.view.Revision)
	}
	if hear(t, m, at(2*time.Second), heartbeat(11, false)) {
		t.Error("the same revision wakes again")
	}
}

func TestViewsAreNotChangedByLaterMessages(t *testing.T) {
	m := newMachine()
	m.streams(t0)
	s := snapshot(10, "srv-1", vm("b", "srv-1", running), vm("a", "srv-1", running))
	s.GetSnapshot().Events = []*pb.Event{{Id: "1", At: timestamppb.New(t0)}}
	hear(t, m, t0, s)
	old := m.view
	for i := range 2000 {
		hear(t, m, at(time.Second), delta(int64(11+i), &pb.Delta{VmsRemoved: []string{"a"}, Events: []*pb.Event{{Id: fmt.Sprint(2 + i)}}}))
	}
	if len(old.VMs) != 2 || old.VMs[0].GetVm().GetId() != "a" || len(old.Events) != 1 {
		t.Errorf("the old view now has %d VMs and %d events", len(old.VMs), len(old.Events))
	}
	if len(m.view.VMs) != 1 || m.view.VM("a") != nil || m.view.VM("b") == nil {
		t.Errorf("the new view is wrong: %v", m.view.VMs)
	}
	if n := len(m.view.Events); n != eventsKept {
		t.Errorf("%d events kept, want %d", n, eventsKept)
	}
}

func TestARequestIsFoundByItsType(t *testing.T) {
	if got := Method(&pb.StartVMRequest{}); got != "/holdfast.v1.VMService/StartVM" {
		t.Errorf("StartVMRequest belongs to %q", got)
	}
	if got := Method(&pb.SetPoolHARequest{}); got != "/holdfast.v1.PoolService/SetPoolHA" {
		t.Errorf("SetPoolHARequest belongs to %q", got)
	}
	if got := Method(&pb.VM{}); got != "" {
		t.Errorf("a record belongs to %q", got)
	}
}

// again is a machine whose stream, at revision 10, has just broken.
func again(t *testing.T) *machine {
	t.Helper()
	m := newMachine()
	if after := m.opening(); after != 0 {
		t.Errorf("a first stream goes on from %d", after)
	}
	m.streams(t0)
	s := snapshot(10, "srv-1", vm("a", "srv-1", running))
	s.GetSnapshot().Events = []*pb.Event{{Id: "1"}, {Id: "2"}}
	hear(t, m, t0, s)
	m.broken(at(time.Second), errors.New("reset"))
	return m
}

func TestAStreamGoesOnFromTheLastRevisionAndRepeatsNothing(t *testing.T) {
	m := again(t)
	if after := m.opening(); after != 10 {
		t.Fatalf("it asks for what came after %d, want 10", after)
	}
	m.streams(at(2 * time.Second))
	expect(t, m, at(2*time.Second), Resync)
	d := delta(12, &pb.Delta{Pool: &pb.PoolView{Config: &pb.PoolConfig{Name: "p", Incarnation: "i1"}, Leader: "srv-2"},
		Vms: []*pb.VMView{vm("a", "srv-2", running)}, Events: []*pb.Event{{Id: "2"}, {Id: "3"}}})
	hear(t, m, at(2*time.Second), d)
	expect(t, m, at(2*time.Second), Live)
	if len(m.view.Events) != 3 || m.view.VM("a").GetClaim().GetServer() != "srv-2" || m.view.Leader() != "srv-2" || m.view.Server("srv-1") == nil {
		t.Errorf("the view is %+v", m.view)
	}
	if r := m.takeReturn(); r == nil || r.Sentence() != "back after 2s: 1 VM moved, leader srv-1 -> srv-2, 1 event" {
		t.Errorf("what was missed: %v", r)
	}
}

func TestARevisionThatIsGoneIsFollowedByASnapshotAtOnce(t *testing.T) {
	m := again(t)
	m.opening()
	m.streams(at(2 * time.Second))
	if wait := m.broken(at(2*time.Second), fmt.Errorf("revision 10: %w", pool.ErrGone)); wait != 0 {
		t.Errorf("the next attempt waits %s", wait)
	}
	if after := m.opening(); after != 0 {
		t.Fatalf("it asks for what came after %d again", after)
	}
	m.streams(at(2 * time.Second))
	hear(t, m, at(2*time.Second), snapshot(300, "srv-1"))
	expect(t, m, at(2*time.Second), Live)
	m.broken(at(3*time.Second), errors.New("reset"))
	if after := m.opening(); after != 300 {
		t.Errorf("then it goes on from %d, want 300", after)
	}
}

func TestChangesOfAnotherPoolAreNotTakenForThisOnes(t *testing.T) {
	for what, r := range map[string]*pb.WatchPoolResponse{
		"another incarnation": delta(11, &pb.Delta{Pool: &pb.PoolView{Config: &pb.PoolConfig{Incarnation: "i2"}}, VmsRemoved: []string{"a"}}),
		"a change of nobody":  delta(11, &pb.Delta{VmsRemoved: []string{"a"}}),
		"only a sign of life": heartbeat(10, false),
		"an earlier revision": delta(9, &pb.Delta{Pool: &pb.PoolView{Config: &pb.PoolConfig{Incarnation: "i1"}}, VmsRemoved: []string{"a"}}),
	} {
		m := again(t)
		m.opening()
		m.streams(at(2 * time.Second))
		_, err := m.message(at(2*time.Second), r)
		if err == nil || m.view.VM("a") == nil || m.link.Freshness(at(2*time.Second)) == Live {
			t.Errorf("%s: %v; the view %+v is %s", what, err, m.view, m.link.Freshness(at(2*time.Second)))
		}
		m.broken(at(2*time.Second), err)
		if after := m.opening(); after != 0 {
			t.Errorf("%s: then it asks for what came after %d", what, after)
		}
	}
}

func TestAnAgentThatSaysNothingToARevisionIsAskedForAll(t *testing.T) {
	m := again(t)
	m.opening()
	m.broken(at(2*time.Second), errors.New("refused")) // nobody answered: nothing is learnt
	if after := m.opening(); after != 10 {
		t.Errorf("after a refused connection it begins from %d", after)
	}
	m.streams(at(3 * time.Second))
	m.broken(at(8*time.Second), errSilent)
	if after := m.opening(); after != 0 {
		t.Errorf("after silence it asks for what came after %d again", after)
	}
}
