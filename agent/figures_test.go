package main

import (
	"testing"
	"time"

	"github.com/holdfast-ha/holdfast/pkg/clock"
	pb "github.com/holdfast-ha/holdfast/proto/holdfast/v1"
)

func TestFiguresOfAllServersComeFromAnyAgentAndThoseOfADeadServerStop(t *testing.T) {
	b := startDemo(t)
	b.until("eight VMs run", 30*time.Second, func(vms map[string]*pb.VMView) bool {
		for _, v := range vms {
			if !runsOn(v, "srv-1", "srv-2", "srv-3") {
				return false
			}
		}
		return len(vms) == 8
	})
	ctx, cancel := clock.Real().WithTimeout(t.Context(), time.Minute)
	defer cancel()
	stream, err := pb.NewPoolServiceClient(b.client).WatchFigures(ctx, &pb.WatchFiguresRequest{})
	if err != nil {
		t.Fatal(err)
	}
	next := func() *pb.WatchFiguresResponse {
		t.Helper()
		r, err := stream.Recv()
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	busy := map[string]bool{}
	for len(busy) < 8+3 {
		for _, s := range next().GetServers() {
			if s.GetCpusBusy() > 0 && s.GetCpusBusy() <= float64(s.GetCpus()) && s.GetMemoryUsedBytes() < s.GetMemoryBytes() {
				busy[s.GetServer()] = true
			}
			for _, v := range s.GetVms() {
				if v.GetCpusBusy() > 0 && v.GetMemoryBytes() > 0 {
					busy[v.GetVm()] = true
				}
			}
		}
	}
	victim := b.another()
	if err := b.tell("power", "off", victim); err != nil {
		t.Fatal(err)
	}
	// Those of the dead server stop, while the others' go on.
	for quiet := 0; quiet < 3; quiet++ {
		for _, s := range next().GetServers() {
			if s.GetServer() == victim {
				quiet = -1
			}
		}
	}
	for heard := 0; heard < 2; heard = len(next().GetServers()) {
	}
}

// another is a server whose agent does not serve the test.
func (b *demoBed) another() string {
	b.t.Helper()
	r, err := pb.NewServerServiceClient(b.client).ListServers(b.t.Context(), &pb.ListServersRequest{})
	if err != nil {
		b.t.Fatal(err)
	}
	serves, other := false, ""
	for _, s := range r.GetServers() {
		if s.GetServer().GetAddress() == b.client.Agent() {
			serves = true
		} else {
			other = s.GetServer().GetId()
		}
	}
	if !serves || other == "" {
		b.t.Fatalf("which of these serves at %s? %v", b.client.Agent(), r.GetServers())
	}
	return other
}
