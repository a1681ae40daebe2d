package cli

import (
	"fmt"
	"strings"
	"testing"

	"github.com/holdfast-ha/holdfast/console/cli/fakepool"
	"github.com/holdfast-ha/holdfast/console/cli/text"
	pb "github.com/holdfast-ha/holdfast/proto/holdfast/v1"
)

func TestTopShowsServersAndTheBusiestVMsFirst(t *testing.T) {
	for _, width := range []int{60, 80, 160} {
		b := newBench(t, fakepool.Healthy(), 1)
		b.width, b.height, b.env["NO_COLOR"] = width, 40, "1"
		r := b.must(ExitOK, "top", "--limit", "2")
		contains(t, "stdout", r.out, "SERVER", "hv-01", "MEM USED", "MIGRATION", "more VMs: --limit 0")
		rows := 0
		for line := range strings.SplitSeq(r.out, "\n") {
			if text.Width(line) >= width {
				t.Errorf("line of %d cells on a terminal of %d: %q", text.Width(line), width, line)
			}
			f := strings.Fields(line)
			if len(f) < 4 || strings.HasPrefix(f[0], "hv-") || !strings.HasSuffix(f[2], "%") {
				continue
			}
			rows++
		}
		if rows != 2 {
			t.Errorf("%d VMs are shown, want 2:\n%s", rows, r.out)
		}
	}
	b := newBench(t, fakepool.Healthy(), 1)
	r := b.must(ExitOK, "top", "-o", "json")
	contains(t, "stdout", r.out, `"cpusBusy"`, `"migrationBytesPerSecond"`)
}

func TestTopNamesServersThatAreSilent(t *testing.T) {
	p := &top{heard: map[string]*pb.ServerFigures{"hv-02": {Server: "hv-02"}}}
	p.take(&pb.WatchFiguresResponse{Servers: []*pb.ServerFigures{{Server: "hv-01", Cpus: 8, CpusBusy: 2}},
		Silent: []*pb.SilentServer{{Server: "hv-02", Reason: "connection refused"}}})
	out := strings.Join(p.lay(page{width: 100, paint: painter(false)}), "\n")
	contains(t, "table", out, "hv-01", "25%", "hv-02", "?", "connection refused")
	if p.measured() {
		t.Error("a server that measured once counts as measured")
	}
}

func TestTheBusiestVMsComeFirstAndACopyThatArrivesIsNoSecondVM(t *testing.T) {
	p := &top{heard: map[string]*pb.ServerFigures{}, vms: map[string]*pb.VMView{}}
	for vm, s := range map[string]string{"a": "hv-01", "b": "hv-02", "c": "hv-01"} {
		p.vms[vm] = &pb.VMView{Vm: &pb.VM{Id: vm, Cpus: 2}, Claim: &pb.Claim{Server: s}}
	}
	p.take(&pb.WatchFiguresResponse{Servers: []*pb.ServerFigures{
		{Server: "hv-01", Vms: []*pb.VMFigures{{Vm: "a", CpusBusy: 0.5}, {Vm: "b", CpusBusy: 2}, {Vm: "c", CpusBusy: 0.9}}},
		{Server: "hv-02", Vms: []*pb.VMFigures{{Vm: "b", CpusBusy: 0.7}}},
	}})
	var got []string
	for _, f := range p.busiest() {
		got = append(got, f.GetVm())
	}
	if fmt.Sprint(got) != "[c b a]" {
		t.Errorf("order %v, want c b a", got)
	}
}

func TestTopMovesToAnotherAgentWhenItsOwnDies(t *testing.T) {
	b := newBench(t, fakepool.Healthy(), 2)
	w := b.watch("top", "--watch", "-o", "json")
	w.out.await(t, `"hv-01"`)
	asked := b.pool.Calls("") // whoever serves it
	serving := asked[len(asked)-1].Agent
	if err := b.pool.Kill(serving); err != nil {
		t.Fatal(err)
	}
	w.err.await(t, "asking another agent")
	w.out.await(t, fmt.Sprintf(`"srv-%d"`, 2-serving))
	w.stop()
}
