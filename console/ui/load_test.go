package ui

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/holdfast-ha/holdfast/console/cli/fakepool"
	pb "github.com/holdfast-ha/holdfast/proto/holdfast/v1"
)

// bigPool is a pool of n VMs on 20 servers.
func bigPool(n int) *pb.Snapshot {
	s := fakepool.Healthy()
	s.Servers, s.Vms = nil, nil
	for i := range 20 {
		s.Servers = append(s.Servers, &pb.ServerView{Server: &pb.Server{Id: fmt.Sprintf("hv-%02d", i)}, States: []pb.ServerState{pb.ServerState_SERVER_STATE_UP},
			Member: &pb.Member{MemoryBytes: 1 << 40, Cpus: 64}, Vms: int32(n / 20), MemoryUsedBytes: 1 << 38}) //nolint:gosec // small
	}
	for i := range n {
		s.Vms = append(s.Vms, bigVM(i, isRunning))
	}
	return s
}

func bigVM(i int, st pb.VMStatus) *pb.VMView {
	return &pb.VMView{Vm: &pb.VM{Id: fmt.Sprintf("vm-%05d", i), MemoryBytes: 8 << 30, Cpus: 4, Ha: true, Movable: true}, Protected: true, Status: st,
		Claim: &pb.Claim{Server: fmt.Sprintf("hv-%02d", i%20)}}
}

// benchmarkFrames measures one update of five VMs (a tenth of a second of 50 updates) and the frame behind it.
func benchmarkFrames(b *testing.B, vms int, prepare ...string) {
	bed := newBench(b, bigPool(vms), 160, 45)
	bed.press(prepare...)
	var took []time.Duration
	b.ResetTimer()
	for n := 0; b.Loop(); n++ {
		d := &pb.Delta{}
		for k := range 5 {
			d.Vms = append(d.Vms, bigVM((n*5+k)%vms, pb.VMStatus(1+n%9))) //nolint:gosec // small
		}
		bed.now = bed.now.Add(100 * time.Millisecond)
		bed.delta(d)
		start := time.Now()
		_ = bed.m.View()
		took = append(took, time.Since(start))
	}
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Microseconds()), "view-p50-us")
	b.ReportMetric(float64(took[len(took)*95/100].Microseconds()), "view-p95-us")
}

func BenchmarkFrameOf2000VMs(b *testing.B)       { benchmarkFrames(b, 2000, "3") }
func BenchmarkFrameOf2000VMsSorted(b *testing.B) { benchmarkFrames(b, 2000, "3", "s", "s", "s") }
func BenchmarkFrameOf10000VMs(b *testing.B)      { benchmarkFrames(b, 10000, "3") }
func BenchmarkOverviewOf2000VMs(b *testing.B)    { benchmarkFrames(b, 2000, "1") }

// BenchmarkKeyToFrame measures a key press and the frame behind it.
func BenchmarkKeyToFrame(b *testing.B) {
	bed := newBench(b, bigPool(2000), 160, 45)
	bed.press("3")
	for b.Loop() {
		bed.press("j")
		_ = bed.m.View()
	}
}
