package fakepool

import (
	"fmt"
	"math"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/durationpb"

	pb "github.com/holdfast-ha/holdfast/proto/holdfast/v1"
)

// figuresEvery is the pace of figures.
const figuresEvery = 2 * time.Second

// WatchFigures tells figures of all servers and running VMs until the caller leaves.
func (a *Agent) WatchFigures(_ *pb.WatchFiguresRequest, stream grpc.ServerStreamingServer[pb.WatchFiguresResponse]) error {
	t := time.NewTicker(figuresEvery)
	defer t.Stop()
	for n := 0; ; n++ {
		a.pool.mu.Lock()
		if a.pool.steady {
			n = 0
		}
		m := Figures(a.pool.state, n)
		a.pool.mu.Unlock()
		m.ServedBy = fmt.Sprintf("srv-%d", a.number+1)
		if err := stream.Send(m); err != nil {
			return err
		}
		select {
		case <-t.C:
		case <-stream.Context().Done():
			return stream.Context().Err()
		}
	}
}

// Steady has the same figures told again and again, so that two watchers see the same.
func (p *Pool) Steady() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.steady = true
}

// Figures makes up what the servers and running VMs of a pool keep busy; n is the number of the measurement.
func Figures(s *pb.Snapshot, n int) *pb.WatchFiguresResponse {
	out := &pb.WatchFiguresResponse{ServedBy: "hv-01"}
	for i, sv := range s.GetServers() {
		if sv.GetMember() == nil {
			continue
		}
		f := &pb.ServerFigures{Server: sv.GetServer().GetId(), Over: durationpb.New(2 * time.Second), Cpus: sv.GetMember().GetCpus(),
			MemoryBytes: sv.GetMember().GetMemoryBytes(), MemoryUsedBytes: sv.GetMember().GetMemoryBytes() / 100 * int64(30+7*(i%9))}
		f.CpusBusy = float64(f.GetCpus()) * (20 + float64(11*i%60) + 10*math.Sin(float64(n+i)/4)) / 100
		for k, v := range s.GetVms() {
			if v.GetClaim().GetServer() != f.GetServer() || v.GetStatus() != pb.VMStatus_VM_STATUS_RUNNING && v.GetStatus() != pb.VMStatus_VM_STATUS_MIGRATING {
				continue
			}
			vf := &pb.VMFigures{Vm: v.GetVm().GetId(), MemoryBytes: v.GetVm().GetMemoryBytes() / 100 * 80,
				CpusBusy: float64(v.GetVm().GetCpus()) * (15 + float64(13*k%70) + 12*math.Sin(float64(n+k)/3)) / 100}
			if v.GetStatus() == pb.VMStatus_VM_STATUS_MIGRATING {
				vf.MigrationBytesPerSecond = 600 << 20
				f.MigrationBytesPerSecond += vf.GetMigrationBytesPerSecond()
			}
			f.Vms = append(f.Vms, vf)
		}
		out.Servers = append(out.Servers, f)
	}
	return out
}
