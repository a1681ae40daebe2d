package main

import (
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	pb "github.com/holdfast-ha/holdfast/proto/holdfast/v1"
)

// hit is one call to a canary's server.
func (b *demoBed) hit(drills pb.DrillServiceClient, canary, server string, level pb.DrillLevel, limit time.Duration) *pb.CanaryFacts {
	b.t.Helper()
	r, err := drills.HitCanary(b.t.Context(), &pb.HitCanaryRequest{Canary: canary, Server: server, Level: level, Limit: durationpb.New(limit)})
	if err != nil {
		b.t.Fatalf("%v on %s: %v", level, server, err)
	}
	return r.GetBefore()
}

// The end of its process and the isolation of its server, on the demo's real agents and guards, with nothing else on the
// server that is hit. The demo's agents share one process: the end of an agent is played in the lab.
func TestACanarySurvivesItsProcessesEndAndAnIsolationAndNothingElseIsTouched(t *testing.T) {
	b := startDemo(t)
	b.until("eight VMs run", 30*time.Second, func(vms map[string]*pb.VMView) bool {
		for _, v := range vms {
			if !runsOn(v, "srv-1", "srv-2", "srv-3") {
				return false
			}
		}
		return len(vms) == 8
	})
	drills, vms := pb.NewDrillServiceClient(b.client), pb.NewVMServiceClient(b.client)
	for _, vm := range []string{"mail", "build"} {
		if _, err := vms.KillVM(t.Context(), &pb.KillVMRequest{Vm: vm}); err != nil {
			t.Fatal(err)
		}
	}
	var others map[string]*pb.VMView
	b.until("srv-3 is empty", 20*time.Second, func(all map[string]*pb.VMView) bool {
		others = all
		return all["mail"].GetClaim().GetServer() == "" && all["build"].GetClaim().GetServer() == ""
	})
	made, err := drills.CreateCanary(t.Context(), &pb.CreateCanaryRequest{Server: "srv-3"})
	if err != nil {
		t.Fatal(err)
	}
	canary := made.GetVm().GetVm().GetId()
	ready := func(servers ...string) {
		t.Helper()
		b.until("the canary runs and is held", 40*time.Second, func(all map[string]*pb.VMView) bool {
			return runsOn(all[canary], servers...) && all[canary].GetClaim().GetArmed()
		})
	}
	ready("srv-3")
	if _, err := vms.UpdateVM(t.Context(), &pb.UpdateVMRequest{Vm: canary, Set: map[string]string{"prefer": ""}}); err != nil {
		t.Fatal(err)
	}
	if _, err := drills.HitCanary(t.Context(), &pb.HitCanaryRequest{Canary: canary, Server: "srv-1", Level: pb.DrillLevel_DRILL_LEVEL_QEMU}); err == nil || !strings.Contains(err.Error(), "does not simply run on srv-1") {
		t.Errorf("a hit on a server without the canary: %v", err)
	}
	before := b.hit(drills, canary, "srv-3", pb.DrillLevel_DRILL_LEVEL_QEMU, 0)
	b.until("a new process of the canary", 20*time.Second, func(map[string]*pb.VMView) bool {
		r, err := drills.GetCanary(t.Context(), &pb.GetCanaryRequest{Canary: canary, Server: "srv-3"})
		return err == nil && r.GetFacts().GetProcess() != 0 && r.GetFacts().GetProcess() != before.GetProcess()
	})
	ready("srv-1", "srv-2", "srv-3")

	b.hit(drills, canary, "srv-3", pb.DrillLevel_DRILL_LEVEL_ISOLATION, time.Minute)
	ready("srv-1", "srv-2")
	gone, err := drills.GetCanary(t.Context(), &pb.GetCanaryRequest{Canary: canary, Server: "srv-3"})
	if err != nil || gone.GetFacts().GetProcess() != 0 {
		t.Errorf("on the isolated server: %v, %v", gone.GetFacts(), err)
	}
	if _, err := drills.HitCanary(t.Context(), &pb.HitCanaryRequest{Canary: canary, Server: "srv-3", Level: pb.DrillLevel_DRILL_LEVEL_ISOLATION}); err != nil {
		t.Errorf("end the isolation: %v", err)
	}
	servers := pb.NewServerServiceClient(b.client)
	b.until("srv-3 is back", 20*time.Second, func(map[string]*pb.VMView) bool {
		r, err := servers.GetServer(t.Context(), &pb.GetServerRequest{Server: "srv-3"})
		return err == nil && r.GetServer().GetSession() != 0
	})
	if _, err := drills.RemoveCanary(t.Context(), &pb.RemoveCanaryRequest{Canary: canary}); err != nil {
		t.Fatal(err)
	}
	b.until("nothing else has changed", 10*time.Second, func(all map[string]*pb.VMView) bool {
		for name, v := range others {
			if now := all[name]; now.GetClaim().GetEpoch() != v.GetClaim().GetEpoch() || now.GetStatus() != v.GetStatus() {
				t.Errorf("%s was %v in epoch %d, and is %v in epoch %d", name, v.GetStatus(), v.GetClaim().GetEpoch(), now.GetStatus(), now.GetClaim().GetEpoch())
			}
		}
		return len(all) == len(others)
	})
}
