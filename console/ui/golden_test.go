package ui

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/muesli/termenv"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/holdfast-ha/holdfast/console/cli/fakepool"
	"github.com/holdfast-ha/holdfast/console/feed"
	pb "github.com/holdfast-ha/holdfast/proto/holdfast/v1"
)

// update reports whether -update was given, which teatest defines: it rewrites the golden frames.
func update() bool { return flag.Lookup("update").Value.String() == "true" }

var sizes = [][2]int{{80, 24}, {120, 40}, {200, 60}}

// scenes are the screens and dialogs that are kept as golden frames.
var goldenScenes = []struct {
	name string
	do   func(b *bench)
}{
	{"overview", func(*bench) {}},
	{"servers", func(b *bench) { b.press("2", "j") }},
	{"vms", func(b *bench) { b.press("3", "j", "j") }},
	{"vms-filtered", func(b *bench) {
		b.press("3", "/")
		b.write("web state!=stopped")
		b.press("enter", " ", "S")
	}},
	{"operations", func(b *bench) { b.press("4") }},
	{"events", func(b *bench) { b.press("5") }},
	{"incidents", func(b *bench) { b.press("6") }},
	{"incident", func(b *bench) { b.line("incident show last") }},
	{"capacity", func(b *bench) { b.press("7") }},
	{"help", func(b *bench) { b.press("3", "?") }},
	{"palette", func(b *bench) { b.press("3", ":"); b.write("inb") }},
	{"actions", func(b *bench) { b.press("3", "A") }},
	{"problems", func(b *bench) { b.press("!") }},
	{"explain", func(b *bench) { b.press("3", "/"); b.write("gpu"); b.press("enter", "e") }},
	{"server-lost", func(b *bench) { b.line("server show hv-06") }},
	{"vm", func(b *bench) { b.line("vm show web-01") }},
	{"failover", func(b *bench) { b.line("operation show op-1") }},
	{"confirm-light", func(b *bench) { b.line("inbound-lock on hv-01") }},
	{"confirm-named", func(b *bench) { b.line("confirm-fenced hv-06") }},
	{"confirm-pool-ha", func(b *bench) { b.press("1", "H"); b.write("SAN work") }},
	{"migrate", func(b *bench) { b.line("migrate web-01") }},
	{"migrate-many", func(b *bench) { b.line("migrate web-01 db-main web-03") }},
	{"maintenance", func(b *bench) { b.line("maintenance enter hv-02") }},
	{"shutdown", func(b *bench) { b.line("shutdown hv-02") }},
	{"remove-server", func(b *bench) { b.line("remove-server hv-02") }},
	{"maintenance-exit", func(b *bench) { b.delta(evacuating()); b.line("maintenance exit hv-02") }},
	{"what-if", func(b *bench) { b.line("plan lose hv-01") }},
	{"refused", func(b *bench) { b.line("start web-01") }},
	{"stale", func(b *bench) {
		b.press("3")
		b.link.Open = false
		b.link.Lost = b.now
		b.link.Try = 2
		b.pass(12e9, false)
	}},
	{"no-leader", func(b *bench) { b.link.NoLeader = b.now; b.pass(3e9, true) }},
	{"etcd-lost", func(b *bench) { b.link.EtcdLost = b.now; b.pass(12e9, true) }},
	{"ha-off", func(b *bench) {
		p := fakepool.Troubled().GetPool()
		p.Config.Ha, p.Config.HaMark.Why = false, "SAN work"
		b.delta(&pb.Delta{Pool: p})
	}},
	{"waiting-for-fencing", func(b *bench) {
		b.delta(unproven())
		b.press("2", "G")
	}},
	{"fencing-tried", func(b *bench) { b.delta(unproven()); b.line("server show hv-06") }},
	{"failover-running", func(b *bench) { b.delta(fencedNow()); b.press("1") }},
	{"failover-told", func(b *bench) { b.delta(fencedNow()); b.line("server show hv-06") }},
	{"evacuating", func(b *bench) { b.delta(evacuating()); b.press("2", "g") }},
	{"evacuating-vms", func(b *bench) { b.delta(evacuating()); b.press("3") }},
	{"evacuation", func(b *bench) { b.delta(evacuating()); b.line("operation show op-9") }},
	{"evacuation-begun", func(b *bench) {
		startEvacuation(b)
	}},
	{"evacuation-alive", func(b *bench) { startEvacuation(b); b.delta(evacuating()) }},
	{"evacuation-blocked", func(b *bench) { startEvacuation(b); b.delta(evacuating()); b.delta(blocked()) }},
	{"evacuation-ended", func(b *bench) { startEvacuation(b); b.delta(evacuating()); b.delta(emptied()) }},
	{"resync", func(b *bench) {
		b.press("3")
		b.link.Open, b.link.Lost = false, b.now
		b.pass(12e9, false)
		b.link.Open, b.link.Synced = true, false
		b.pass(1e9, true)
	}},
	{"leader-change", func(b *bench) {
		for _, leader := range []string{"", "hv-01"} {
			p := fakepool.Troubled().GetPool()
			p.Leader = leader
			b.delta(&pb.Delta{Pool: p})
		}
	}},
	{"back", func(b *bench) {
		before, snap := b.m.view, fakepool.Troubled()
		snap.Vms[4].Claim.Server, snap.Pool.Leader = "hv-05", "hv-01"
		b.merger.Fold(&pb.WatchPoolResponse{Revision: 9000, ServedBy: "hv-02", Change: &pb.WatchPoolResponse_Snapshot{Snapshot: snap}})
		after := b.merger.View()
		b.news(feed.Update{View: after, Link: b.link, Back: &feed.Return{Before: before, After: after, Gone: 41 * time.Second}})
	}},
}

// unproven has every proof tried for hv-06, and none that holds.
func unproven() *pb.Delta {
	snap := fakepool.Troubled()
	s, p := snap.GetServers()[5], snap.GetPool()
	s.Reason = "1 VM waiting for fencing: web-07"
	s.Server.Fence = []*pb.FenceDevice{{Agent: "fence_ipmilan"}}
	p.Alerts = append(p.Alerts, &pb.Alert{
		Id: "fencing-hv-06", Kind: "WAITING_FOR_FENCING", Server: "hv-06", Since: p.GetAlerts()[0].GetSince(),
		Text: "hv-06 is lost; web-07 waiting for fencing: power fencing failed: fence_ipmilan: exit status 1; its guard did not hold web-07 when the session ended; once hv-06 is off for certain: confirm-fenced hv-06",
		Tried: []*pb.ProofTry{
			{Proof: pb.Proof_PROOF_POWER, Result: "power fencing failed: fence_ipmilan: exit status 1"},
			{Proof: pb.Proof_PROOF_WATCHDOG, Result: "no watchdog was armed"},
			{Proof: pb.Proof_PROOF_GUARD, Result: "its guard did not hold web-07 when the session ended"},
		},
	})
	told := func(ago time.Duration, kind, text string) *pb.Event {
		at := fakepool.Now.Add(-ago)
		return &pb.Event{Id: "zz" + at.Format("150405.000"), At: timestamppb.New(at), Kind: kind, Server: "hv-06", Actor: "leader hv-03", Text: text}
	}
	return &pb.Delta{Servers: []*pb.ServerView{s}, Pool: p, Events: []*pb.Event{
		told(9*time.Second, "SERVER_FENCING", "the power of hv-06 is being cut by fence_ipmilan"),
		told(7*time.Second, "SERVER_FENCING_FAILED", "hv-06: cutting the power failed after 2.0 s, attempt 1; the next in 2s: fence_ipmilan: exit status 1"),
		told(3*time.Second, "SERVER_FENCING_FAILED", "hv-06: cutting the power failed after 2.0 s, attempt 2; the next in 4s: fence_ipmilan: exit status 1"),
	}}
}

// fencedNow has hv-06 proven harmless, and one of its VMs running again.
func fencedNow() *pb.Delta {
	s := fakepool.Troubled()
	lost := s.GetServers()[5]
	lost.States, lost.Reason = append(lost.States, pb.ServerState_SERVER_STATE_FENCED), ""
	lost.Fence = &pb.Fence{Server: "hv-06", Session: 4711, Proof: pb.Proof_PROOF_GUARD, At: timestamppb.New(fakepool.Now.Add(-9 * time.Second)), By: "leader hv-03",
		Evidence: "guard armed, lease gone for 0.6 s"}
	return &pb.Delta{Servers: []*pb.ServerView{lost}, OperationsRemoved: []string{"op-1"}}
}

// startEvacuation confirms the maintenance of hv-02.
func startEvacuation(b *bench) {
	gpu := fakepool.Troubled().GetVms()[4]
	gpu.Vm.Id, gpu.Vm.MemoryBytes = "gpu-1", 32<<30
	b.delta(&pb.Delta{Vms: []*pb.VMView{gpu}})
	b.line("maintenance enter hv-02")
	b.press("tab")
	b.write("new power supply")
	b.press("enter")
	b.write("hv-02")
	b.press("enter", "tab", "enter")
	last := b.sent[len(b.sent)-1]
	b.reduce(Reply{Session: b.m.sessionNo, At: b.now, ID: last.ID, Message: &pb.EnterMaintenanceResponse{Operation: &pb.Operation{Id: "op-9"}}})
}

// blocked has nothing left to move off hv-02 but what cannot leave.
func blocked() *pb.Delta {
	d := evacuating()
	s, ops := d.GetServers()[0], d.GetOperations()
	s.States = []pb.ServerState{pb.ServerState_SERVER_STATE_UP, pb.ServerState_SERVER_STATE_BLOCKED}
	s.Reason = "in maintenance by operator kim: new power supply with 2 VMs left: gpu-1 stays: host device attached; web-02 waits: no server has 8 GiB free"
	ops[1].Outcome, ops[1].Finished = pb.OperationOutcome_OPERATION_OUTCOME_DONE, timestamppb.New(fakepool.Now)
	d.GetVms()[0].Status, d.GetVms()[0].Claim.Server = pb.VMStatus_VM_STATUS_RUNNING, "hv-05"
	return d
}

// emptied has hv-02 in maintenance and empty.
func emptied() *pb.Delta {
	d := blocked()
	s, ops := d.GetServers()[0], d.GetOperations()
	s.States = []pb.ServerState{pb.ServerState_SERVER_STATE_UP, pb.ServerState_SERVER_STATE_MAINTENANCE}
	s.Reason = "in maintenance by operator kim: new power supply"
	ops[0].Outcome, ops[0].Finished, ops[0].Progress.ItemsDone = pb.OperationOutcome_OPERATION_OUTCOME_DONE, timestamppb.New(fakepool.Now), 9
	stopped, moved := fakepool.Troubled().GetVms()[5], fakepool.Troubled().GetVms()[4]
	stopped.Status, stopped.Claim.Server = pb.VMStatus_VM_STATUS_STOPPED, ""
	moved.Vm.Id, moved.Claim.Server = "gpu-1", "hv-04"
	d.Vms = append(d.Vms, stopped, moved)
	return d
}

// evacuating has hv-02 emptied for maintenance: four of nine VMs have gone, web-01 is on its way.
func evacuating() *pb.Delta {
	snap := fakepool.Troubled()
	s, moving := snap.GetServers()[1], snap.GetVms()[4]
	s.States = []pb.ServerState{pb.ServerState_SERVER_STATE_UP, pb.ServerState_SERVER_STATE_EVACUATING}
	s.Server.Maintenance, s.Server.MaintenanceMark = true, &pb.Mark{By: "operator kim", At: timestamppb.New(fakepool.Now.Add(-130 * time.Second)), Why: "new power supply"}
	moving.Status = pb.VMStatus_VM_STATUS_MIGRATING
	return &pb.Delta{Servers: []*pb.ServerView{s}, Vms: []*pb.VMView{moving}, Operations: []*pb.Operation{
		{
			Id: "op-9", Kind: pb.OperationKind_OPERATION_KIND_EVACUATE, Server: "hv-02", Phase: "moving VMs", Outcome: pb.OperationOutcome_OPERATION_OUTCOME_RUNNING,
			Requested: s.GetServer().GetMaintenanceMark(), Progress: &pb.Progress{ItemsDone: 4, ItemsTotal: 9},
		},
		{
			Id: "op-10", Kind: pb.OperationKind_OPERATION_KIND_RELOCATE, Vm: "web-01", Source: "hv-02", Server: "hv-05", Parent: "op-9", Phase: "copying", Attempt: 2,
			Outcome: pb.OperationOutcome_OPERATION_OUTCOME_RUNNING, Requested: &pb.Mark{By: "leader hv-03", At: timestamppb.New(fakepool.Now.Add(-12 * time.Second))},
			Progress: &pb.Progress{BytesDone: 5 << 30, BytesTotal: 8 << 30, BytesPerSecond: 600 << 20, EstimatedTimeToFinish: durationpb.New(5 * time.Second)},
		},
	}}
}

func TestFramesAreAsReviewed(t *testing.T) {
	for _, s := range goldenScenes {
		for _, size := range sizes {
			name := fmt.Sprintf("%s-%dx%d", s.name, size[0], size[1])
			t.Run(name, func(t *testing.T) {
				b := newBench(t, fakepool.Troubled(), size[0], size[1])
				s.do(b)
				compareGolden(t, name+".txt", b.screen())
			})
		}
	}
}

func TestASmallTerminalKeepsTheMostImportant(t *testing.T) {
	for _, size := range [][2]int{{60, 16}, {59, 15}, {40, 3}} {
		b := newBench(t, fakepool.Troubled(), size[0], size[1])
		b.press("3")
		compareGolden(t, fmt.Sprintf("small-%dx%d.txt", size[0], size[1]), b.screen())
	}
}

func TestColoursComeFromTheTheme(t *testing.T) {
	for _, l := range []Look{
		{Theme: "default", Profile: termenv.ANSI256, ASCII: true}, {Theme: "default", Profile: termenv.ANSI, ASCII: true, Light: true},
		{Theme: "mono", Profile: termenv.ANSI256, ASCII: true}, {Theme: "colour-blind", Profile: termenv.ANSI256}, {Theme: "high-contrast", Profile: termenv.ANSI},
	} {
		b := newBench(t, fakepool.Troubled(), 80, 24)
		b.m.setLook(l)
		b.press("3", " ")
		name := fmt.Sprintf("colour-%s-%d.txt", l.Theme, l.Profile)
		compareGolden(t, name, strings.ReplaceAll(b.m.View(), "\x1b", "<ESC>"))
	}
}

func TestNoColourMeansNoEscapeSequenceAtAll(t *testing.T) {
	for _, s := range goldenScenes {
		b := newBench(t, fakepool.Troubled(), 80, 24)
		s.do(b)
		if strings.Contains(b.m.View(), "\x1b") {
			t.Errorf("%s: an escape sequence in spite of NO_COLOR", s.name)
		}
	}
}

func compareGolden(t *testing.T, name, got string) {
	t.Helper()
	got = trimLines(got)
	path := filepath.Join("testdata", "frames", name)
	if update() {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("%v; go test ./console/ui -update writes it", err)
	}
	if got != string(want) {
		t.Errorf("%s differs; if it should, go test ./console/ui -update and review:\n%s", name, got)
	}
}

func trimLines(s string) string {
	var out []string
	for line := range strings.SplitSeq(s, "\n") {
		out = append(out, strings.TrimRight(line, " "))
	}
	return strings.Join(out, "\n") + "\n"
}
