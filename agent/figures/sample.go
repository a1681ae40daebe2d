package figures

import (
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/holdfast-ha/holdfast/agent/local"
	"github.com/holdfast-ha/holdfast/pkg/pool"
	pb "github.com/holdfast-ha/holdfast/proto/holdfast/v1"
)

// sample is what was read at one instant.
type sample struct {
	at        pool.Instant // 0: none
	wall      time.Time
	host      Host
	hostKnown bool
	vms       []local.Usage
	trouble   string
	moving    []moving
}

// moving is a VM on its way from here.
type moving struct {
	vm   pool.VMID
	rate int64
}

// compare makes figures of two readings. CPU times that are in one of them only, or run backwards, tell nothing.
func compare(server pool.ServerID, before, after sample) *pb.ServerFigures {
	f := &pb.ServerFigures{Server: string(server), At: timestamppb.New(after.wall), WithoutVms: after.trouble}
	over := time.Duration(0)
	if before.at != 0 {
		over = after.at.Sub(before.at)
		f.Over = durationpb.New(over)
	}
	if after.hostKnown {
		f.Cpus, f.MemoryUsedBytes, f.MemoryBytes = int32(after.host.CPUs), after.host.MemoryUsedBytes, after.host.MemoryBytes //nolint:gosec // no server has two thousand million CPUs
		if before.hostKnown {
			f.CpusBusy = min(busy(before.host.Busy, after.host.Busy, over), float64(after.host.CPUs))
		}
	}
	was := make(map[pool.VMID]time.Duration, len(before.vms))
	for _, u := range before.vms {
		was[u.VM] = u.CPUTime
	}
	rates := map[pool.VMID]int64{}
	for _, m := range after.moving {
		rates[m.vm] = m.rate
		f.MigrationBytesPerSecond += m.rate
	}
	for _, u := range after.vms {
		v := &pb.VMFigures{Vm: string(u.VM), MemoryBytes: u.MemoryBytes, MigrationBytesPerSecond: rates[u.VM]}
		if t, ok := was[u.VM]; ok {
			v.CpusBusy = busy(t, u.CPUTime, over)
		}
		f.Vms = append(f.Vms, v)
	}
	slices.SortFunc(f.Vms, func(a, b *pb.VMFigures) int { return strings.Compare(a.GetVm(), b.GetVm()) })
	return f
}

// busy is how many CPUs were busy on average, to a thousandth.
func busy(before, after, over time.Duration) float64 {
	if over <= 0 || after < before {
		return 0
	}
	return float64((after-before)*1000/over) / 1000
}
