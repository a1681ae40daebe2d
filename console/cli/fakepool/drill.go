package fakepool

import (
	"context"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/holdfast-ha/holdfast/pkg/pool"
	pb "github.com/holdfast-ha/holdfast/proto/holdfast/v1"
)

// drill is what the pool's canary is up to.
type drill struct {
	facts *pb.CanaryFacts
	// Stops: the canary does not survive its agent. Stuck: it does not run again.
	stops, stuck bool
	// unborn is why the next canary fails instead of running; empty: it runs.
	unborn string
}

// Drills says how drills end badly: with stops the canary does not survive its agent, with stuck it does not run again
// after its QEMU died.
func (p *Pool) Drills(stops, stuck bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.drill.stops, p.drill.stuck = stops, stuck
}

// CanaryFails has the next canary fail instead of running, for that reason.
func (p *Pool) CanaryFails(reason string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.drill.unborn = reason
}

// Canary is the name of the pool's canary.
const Canary = "canary-0123456789ab"

// CreateCanary makes a canary that runs at once.
func (a *Agent) CreateCanary(_ context.Context, r *pb.CreateCanaryRequest) (*pb.CreateCanaryResponse, error) {
	p := a.pool
	p.mu.Lock()
	defer p.mu.Unlock()
	if slices.ContainsFunc(p.state.GetVms(), func(v *pb.VMView) bool { return v.GetVm().GetCanary() }) {
		return nil, pool.Refuse("DRILL_RUNS", "if it does not: holdfast drill clean", "there is a canary")
	}
	server := r.GetServer()
	if server == "" {
		server = "hv-03"
	}
	v := vm(Canary, server, 1, pb.VMStatus_VM_STATUS_RUNNING, "")
	if p.drill.unborn != "" {
		v = vm(Canary, "", 0, pb.VMStatus_VM_STATUS_FAILED, p.drill.unborn)
	}
	v.Vm.Canary = true
	p.drill.facts = &pb.CanaryFacts{Server: server, Session: 4711, Process: 700, ProcessStarted: 1, AgentSince: timestamppb.New(Now)}
	p.change(&pb.Delta{Vms: []*pb.VMView{v}})
	return &pb.CreateCanaryResponse{Vm: v, Disk: "/srv/vms/holdfast-" + Canary + ".raw"}, nil
}

// GetCanary says how the canary stands.
func (a *Agent) GetCanary(_ context.Context, r *pb.GetCanaryRequest) (*pb.GetCanaryResponse, error) {
	a.pool.mu.Lock()
	defer a.pool.mu.Unlock()
	f := proto.CloneOf(a.pool.drill.facts)
	if r.GetServer() != "" && r.GetServer() != f.GetServer() {
		f.Process = 0
	}
	return &pb.GetCanaryResponse{Facts: f}, nil
}

// HitCanary has the pool do at once what a good one does in time.
func (a *Agent) HitCanary(_ context.Context, r *pb.HitCanaryRequest) (*pb.HitCanaryResponse, error) {
	p := a.pool
	p.mu.Lock()
	defer p.mu.Unlock()
	before := proto.CloneOf(p.drill.facts)
	i := slices.IndexFunc(p.state.GetVms(), func(v *pb.VMView) bool { return v.GetVm().GetId() == r.GetCanary() })
	if i < 0 {
		return nil, notFound("canary", r.GetCanary())
	}
	v := proto.CloneOf(p.state.GetVms()[i])
	switch r.GetLevel() {
	case pb.DrillLevel_DRILL_LEVEL_QEMU:
		v.Claim.Epoch++
		if p.drill.stuck {
			v.Status = pb.VMStatus_VM_STATUS_WAITING
		}
		p.drill.facts.Process++
	case pb.DrillLevel_DRILL_LEVEL_AGENT:
		p.drill.facts.AgentSince = timestamppb.New(Now.Add(time.Second))
		if p.drill.stops {
			p.drill.facts.Process = 0
		}
	case pb.DrillLevel_DRILL_LEVEL_ISOLATION:
		if r.GetLimit().AsDuration() == 0 {
			break
		}
		lost := proto.CloneOf(p.state.GetServers()[slices.IndexFunc(p.state.GetServers(), func(s *pb.ServerView) bool { return s.GetServer().GetId() == r.GetServer() })])
		back := proto.CloneOf(lost)
		lost.States, lost.Session, lost.Fence = []pb.ServerState{pb.ServerState_SERVER_STATE_LOST}, 0, &pb.Fence{Server: r.GetServer(), Session: 4711}
		p.change(&pb.Delta{Servers: []*pb.ServerView{lost}})
		v.Claim.Epoch++
		v.Claim.Server = "hv-01"
		p.drill.facts.Server = "hv-01"
		p.change(&pb.Delta{Vms: []*pb.VMView{v}})
		back.Session++
		p.change(&pb.Delta{Servers: []*pb.ServerView{back}})
	}
	p.change(&pb.Delta{Vms: []*pb.VMView{v}})
	return &pb.HitCanaryResponse{Before: before}, nil
}

// RemoveCanary forgets the canary.
func (a *Agent) RemoveCanary(_ context.Context, r *pb.RemoveCanaryRequest) (*pb.RemoveCanaryResponse, error) {
	a.pool.mu.Lock()
	defer a.pool.mu.Unlock()
	a.pool.change(&pb.Delta{VmsRemoved: []string{r.GetCanary()}})
	return &pb.RemoveCanaryResponse{DiskDeleted: true}, nil
}
