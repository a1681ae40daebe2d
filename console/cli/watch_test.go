package cli

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/holdfast-ha/holdfast/console/cli/fakepool"
	pb "github.com/holdfast-ha/holdfast/proto/holdfast/v1"
)

// watching is a command that runs on until it is interrupted.
type watching struct {
	out, err lockedBuffer
	stop     func() int
}

func (b *bench) watch(args ...string) *watching {
	b.t.Helper()
	ctx, cancel := context.WithCancel(b.t.Context())
	w := &watching{}
	ended := make(chan int, 1)
	go func() { ended <- b.start(ctx, &w.out, &w.err, args...) }()
	w.stop = func() int {
		cancel()
		return <-ended
	}
	b.t.Cleanup(cancel)
	return w
}

func TestAWatchInAPipePrintsALineForEachChange(t *testing.T) {
	b := newBench(t, fakepool.Healthy(), 1)
	w := b.watch("vms", "--watch")
	w.out.await(t, "web-02")
	v := fakepool.Healthy().GetVms()[2]
	v.Status, v.Reason = pb.VMStatus_VM_STATUS_PAUSED, "I/O error\x1b[2J on vda"
	b.pool.Change(&pb.Delta{Vms: []*pb.VMView{v}})
	w.out.await(t, "13:05:20 vm web-01: paused on hv-01, HA on: I/O error?[2J on vda\n")
	b.pool.Change(&pb.Delta{VmsRemoved: []string{"old"}})
	w.out.await(t, "13:05:20 vm old: gone\n")
	if code := w.stop(); code != ExitOK {
		t.Errorf("exit %d after an interrupt, want 0", code)
	}
}

func TestAWatchGoesOnWithAnotherAgentAndTellsWhatItMissed(t *testing.T) {
	b := newBench(t, fakepool.Healthy(), 2)
	w := b.watch("status", "--watch")
	w.out.await(t, "pool prod-a", "told by srv-1")
	if err := b.pool.Kill(0); err != nil {
		t.Fatal(err)
	}
	w.out.await(t, "STALE")
	v := fakepool.Healthy().GetVms()[2]
	v.Status, v.Reason = pb.VMStatus_VM_STATUS_LOST, "its server is lost"
	b.pool.Change(&pb.Delta{Vms: []*pb.VMView{v}})
	w.out.await(t, "live again, from srv-2", "vm web-01: lost on hv-01, HA on: its server is lost")
	w.stop()
}

func TestAWatchLeavesAnAgentThatGoesSilent(t *testing.T) {
	t.Parallel()
	b := newBench(t, fakepool.Healthy(), 2)
	b.pool.Fail("WatchPool", fakepool.Fault{Hang: true})
	w := b.watch("vms", "--watch")
	w.out.await(t, "web-01")
	w.stop()
}

func TestAWatchOnATerminalRedrawsInPlace(t *testing.T) {
	b := newBench(t, fakepool.Healthy(), 1)
	b.width, b.height, b.env["NO_COLOR"] = 80, 24, "1"
	w := b.watch("vms", "--watch")
	first := w.out.await(t, "web-02")
	lines := strings.Count(first, "\n")
	v := fakepool.Healthy().GetVms()[2]
	v.Status = pb.VMStatus_VM_STATUS_PAUSED
	b.pool.Change(&pb.Delta{Vms: []*pb.VMView{v}})
	all := w.out.await(t, "paused")
	w.stop()
	if want := fmt.Sprintf("\x1b[%dA\r\x1b[J", lines); !strings.Contains(all, want) {
		t.Errorf("the second frame does not go up %d lines: %q", lines, all)
	}
	if strings.Contains(all, "\x1b[?1049h") {
		t.Error("the alternate screen was used")
	}
	contains(t, "the first line", strings.SplitN(all, "\n", 2)[0], "live from srv-1, revision 8812")
}

func TestAScreenNeverScrollsAway(t *testing.T) {
	lines := make([]string, 50)
	for i := range lines {
		lines[i] = strings.Repeat("x", i)
	}
	for _, height := range []int{3, 10, 24, 60} {
		used := 0
		for _, l := range fitScreen(lines, 20, height) {
			used += rows(l, 20)
		}
		if height > 3 && used >= height {
			t.Errorf("%d rows on a terminal of %d", used, height)
		}
	}
}

func TestAWatchForScriptsIsTheStreamItself(t *testing.T) {
	b := newBench(t, fakepool.Healthy(), 1)
	w := b.watch("vms", "--state", "running", "--watch", "-o", "json")
	w.out.await(t, "\n")
	v := fakepool.Healthy().GetVms()[2]
	v.Status = pb.VMStatus_VM_STATUS_PAUSED
	b.pool.Change(&pb.Delta{Vms: []*pb.VMView{v}, Servers: fakepool.Healthy().GetServers()})
	out := w.out.await(t, "vmsRemoved")
	w.stop()
	lines := strings.Split(strings.TrimSpace(out), "\n")
	if len(lines) != 2 {
		t.Fatalf("%d lines, want the snapshot and one change:\n%s", len(lines), out)
	}
	var messages [2]pb.WatchPoolResponse
	for i, line := range lines {
		if err := protojson.Unmarshal([]byte(line), &messages[i]); err != nil {
			t.Fatalf("line %d: %v", i, err)
		}
	}
	if n := len(messages[0].GetSnapshot().GetVms()); n != 3 {
		t.Errorf("%d running VMs in the snapshot, want 3", n)
	}
	want := &pb.Delta{VmsRemoved: []string{"web-01"}}
	if !proto.Equal(messages[1].GetDelta(), want) {
		t.Errorf("change = %v, want %v", messages[1].GetDelta(), want)
	}
}

func TestEventsAreFollowedAcrossTheDeathOfAnAgent(t *testing.T) {
	b := newBench(t, fakepool.Troubled(), 2)
	w := b.watch("events", "--watch", "--limit", "2")
	w.out.await(t, "web-02: operator kim asked to stop web-02")
	event := func(id, text string) *pb.Delta {
		return &pb.Delta{Events: []*pb.Event{{Id: id, Vm: "web-01", Text: text}}}
	}
	b.pool.Change(event("e1000", "seen live"))
	w.out.await(t, "web-01: seen live\n")
	asked := b.pool.Calls("") // whoever serves it by now
	if err := b.pool.Kill(asked[len(asked)-1].Agent); err != nil {
		t.Fatal(err)
	}
	w.err.await(t, "asking again")
	b.pool.Change(event("e1001", "while it was away"))
	w.out.await(t, "web-01: while it was away\n")
	b.pool.Change(event("e1002", "afterwards"))
	out := w.out.await(t, "web-01: afterwards\n")
	w.stop()
	if n := strings.Count(out, "\n"); n != 5 {
		t.Errorf("%d lines, want the last 2 and 3 new ones, each once:\n%s", n, out)
	}
}

func TestAFilteredEventWatchShowsOnlyThat(t *testing.T) {
	b := newBench(t, fakepool.Troubled(), 1)
	w := b.watch("events", "--watch", "--vm", "web-08")
	w.out.await(t, "web-08")
	b.pool.Change(&pb.Delta{Events: []*pb.Event{{Id: "e2000", Vm: "other", Text: "no"}, {Id: "e2001", Vm: "web-08", Text: "yes"}}})
	out := w.out.await(t, "yes")
	w.stop()
	if strings.Contains(out, "other") || strings.Contains(out, "hv-06 lost") {
		t.Errorf("more than web-08:\n%s", out)
	}
}
