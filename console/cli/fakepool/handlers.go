package fakepool

import (
	"context"
	"fmt"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/holdfast-ha/holdfast/pkg/pool"
	"github.com/holdfast-ha/holdfast/pkg/rpc"
	pb "github.com/holdfast-ha/holdfast/proto/holdfast/v1"
)

// locked runs f on the pool's state and returns a copy of what it returns, since answers outlive the lock.
func locked[T proto.Message](a *Agent, f func(p *Pool, s *pb.Snapshot) (T, error)) (T, error) {
	a.pool.mu.Lock()
	defer a.pool.mu.Unlock()
	m, err := f(a.pool, a.pool.state)
	if err != nil {
		var none T
		return none, err
	}
	return proto.CloneOf(m), nil
}

// GetPool returns the pool at a glance.
func (a *Agent) GetPool(context.Context, *pb.GetPoolRequest) (*pb.GetPoolResponse, error) {
	return locked(a, func(_ *Pool, s *pb.Snapshot) (*pb.GetPoolResponse, error) {
		return &pb.GetPoolResponse{Pool: s.GetPool()}, nil
	})
}

// WatchPool streams a snapshot, then changes, and heartbeats. It goes on from the present revision alone.
func (a *Agent) WatchPool(r *pb.WatchPoolRequest, stream grpc.ServerStreamingServer[pb.WatchPoolResponse]) error {
	changes := make(chan *pb.Delta, 100)
	p := a.pool
	p.mu.Lock()
	snap := proto.CloneOf(p.state)
	p.watchers[changes] = true
	p.mu.Unlock()
	defer func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		delete(p.watchers, changes)
	}()
	send := func(m *pb.WatchPoolResponse) error {
		p.mu.Lock()
		m.Revision, m.ServedBy, m.ServerTime = p.state.GetPool().GetRevision(), fmt.Sprintf("srv-%d", a.number+1), timestamppb.Now()
		m = proto.CloneOf(m)
		p.mu.Unlock()
		return stream.Send(m)
	}
	opening := &pb.WatchPoolResponse{Change: &pb.WatchPoolResponse_Snapshot{Snapshot: snap}}
	switch after := r.GetAfterRevision(); {
	case after == snap.GetPool().GetRevision() && after > 0:
		opening.Change = &pb.WatchPoolResponse_Delta{Delta: &pb.Delta{Pool: snap.GetPool()}}
	case after > 0:
		return fmt.Errorf("revision %d is not kept any more by this agent: %w", after, pool.ErrGone)
	}
	if err := send(opening); err != nil {
		return err
	}
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		m := &pb.WatchPoolResponse{Change: &pb.WatchPoolResponse_Heartbeat{Heartbeat: &pb.Heartbeat{}}}
		select {
		case d := <-changes:
			m.Change = &pb.WatchPoolResponse_Delta{Delta: d}
		case <-tick.C:
		case <-stream.Context().Done():
			return stream.Context().Err()
		}
		if err := send(m); err != nil {
			return err
		}
	}
}

func (p *Pool) setConfig(f func(*pb.PoolConfig)) *pb.PoolConfig {
	view := proto.CloneOf(p.state.GetPool())
	f(view.Config)
	p.change(&pb.Delta{Pool: view})
	return view.GetConfig()
}

// UpdatePool checks the settings' names as the real agent does, and keeps none of the values.
func (a *Agent) UpdatePool(_ context.Context, r *pb.UpdatePoolRequest) (*pb.UpdatePoolResponse, error) {
	c := pool.DefaultConfig("demo", "x")
	for k, v := range r.GetSet() {
		if err := pool.SetPool(&c, k, v); err != nil {
			return nil, err
		}
	}
	return locked(a, func(_ *Pool, s *pb.Snapshot) (*pb.UpdatePoolResponse, error) {
		return &pb.UpdatePoolResponse{Config: s.GetPool().GetConfig()}, nil
	})
}

// SetPoolHA switches the pool's HA.
func (a *Agent) SetPoolHA(_ context.Context, r *pb.SetPoolHARequest) (*pb.SetPoolHAResponse, error) {
	return locked(a, func(p *Pool, _ *pb.Snapshot) (*pb.SetPoolHAResponse, error) {
		return &pb.SetPoolHAResponse{Config: p.setConfig(func(c *pb.PoolConfig) { c.Ha = r.GetOn() })}, nil
	})
}

// SetFreeze freezes and unfreezes.
func (a *Agent) SetFreeze(_ context.Context, r *pb.SetFreezeRequest) (*pb.SetFreezeResponse, error) {
	return locked(a, func(p *Pool, _ *pb.Snapshot) (*pb.SetFreezeResponse, error) {
		return &pb.SetFreezeResponse{Config: p.setConfig(func(c *pb.PoolConfig) { c.Frozen = r.GetFrozen() })}, nil
	})
}

func (p *Pool) server(name string) (*pb.ServerView, error) {
	for _, s := range p.state.GetServers() {
		if s.GetServer().GetId() == name {
			return proto.CloneOf(s), nil
		}
	}
	return nil, notFound("server", name)
}

func (p *Pool) vm(name string) (*pb.VMView, error) {
	for _, v := range p.state.GetVms() {
		if v.GetVm().GetId() == name {
			return proto.CloneOf(v), nil
		}
	}
	return nil, notFound("vm", name)
}

// ListServers lists the servers.
func (a *Agent) ListServers(context.Context, *pb.ListServersRequest) (*pb.ListServersResponse, error) {
	return locked(a, func(_ *Pool, s *pb.Snapshot) (*pb.ListServersResponse, error) {
		return &pb.ListServersResponse{Servers: s.GetServers(), Revision: s.GetPool().GetRevision()}, nil
	})
}

// GetServer returns one server.
func (a *Agent) GetServer(_ context.Context, r *pb.GetServerRequest) (*pb.GetServerResponse, error) {
	return locked(a, func(p *Pool, s *pb.Snapshot) (*pb.GetServerResponse, error) {
		v, err := p.server(r.GetServer())
		return &pb.GetServerResponse{Server: v, Revision: s.GetPool().GetRevision()}, err
	})
}

// changeServer changes one server and returns it.
func (a *Agent) changeServer(name string, f func(*pb.ServerView)) (*pb.ServerView, error) {
	return locked(a, func(p *Pool, _ *pb.Snapshot) (*pb.ServerView, error) {
		v, err := p.server(name)
		if err != nil {
			return nil, err
		}
		f(v)
		p.change(&pb.Delta{Servers: []*pb.ServerView{v}})
		return v, nil
	})
}

// SetInboundLock locks and unlocks.
func (a *Agent) SetInboundLock(_ context.Context, r *pb.SetInboundLockRequest) (*pb.SetInboundLockResponse, error) {
	v, err := a.changeServer(r.GetServer(), func(v *pb.ServerView) { v.Server.InboundLock = r.GetOn() })
	return &pb.SetInboundLockResponse{Server: v}, err
}

// ConfirmFenced refuses unless the name was typed.
func (a *Agent) ConfirmFenced(_ context.Context, r *pb.ConfirmFencedRequest) (*pb.ConfirmFencedResponse, error) {
	if r.GetTypedName() != r.GetServer() {
		return nil, pool.Refuse("NAME_NOT_TYPED", "type the server's name", "the typed name is not %s", r.GetServer())
	}
	v, err := a.changeServer(r.GetServer(), func(v *pb.ServerView) {
		v.States = append(v.GetStates(), pb.ServerState_SERVER_STATE_FENCED)
	})
	return &pb.ConfirmFencedResponse{Server: v}, err
}

// UpdateServer sets labels and fence devices.
func (a *Agent) UpdateServer(_ context.Context, r *pb.UpdateServerRequest) (*pb.UpdateServerResponse, error) {
	v, err := a.changeServer(r.GetServer(), func(v *pb.ServerView) {
		if r.GetSetFence() {
			v.Server.Fence = r.GetFence()
		}
		v.Server.Labels = r.GetLabels()
	})
	return &pb.UpdateServerResponse{Server: v}, err
}

// RemoveServer takes a server out.
func (a *Agent) RemoveServer(_ context.Context, r *pb.RemoveServerRequest) (*pb.RemoveServerResponse, error) {
	return locked(a, func(p *Pool, _ *pb.Snapshot) (*pb.RemoveServerResponse, error) {
		if _, err := p.server(r.GetServer()); err != nil {
			return nil, err
		}
		p.change(&pb.Delta{ServersRemoved: []string{r.GetServer()}})
		return &pb.RemoveServerResponse{}, nil
	})
}

// ListOperations lists the operations.
func (a *Agent) ListOperations(_ context.Context, r *pb.ListOperationsRequest) (*pb.ListOperationsResponse, error) {
	return locked(a, func(_ *Pool, s *pb.Snapshot) (*pb.ListOperationsResponse, error) {
		resp := &pb.ListOperationsResponse{Revision: s.GetPool().GetRevision()}
		for _, o := range s.GetOperations() {
			if !r.GetRunningOnly() || o.GetOutcome() == pb.OperationOutcome_OPERATION_OUTCOME_RUNNING {
				resp.Operations = append(resp.Operations, o)
			}
		}
		return resp, nil
	})
}

// GetOperation returns one operation, and each time it is asked the operation is one step further.
func (a *Agent) GetOperation(_ context.Context, r *pb.GetOperationRequest) (*pb.GetOperationResponse, error) {
	return locked(a, func(p *Pool, s *pb.Snapshot) (*pb.GetOperationResponse, error) {
		for _, o := range s.GetOperations() {
			if o.GetId() != r.GetOperation() {
				continue
			}
			if steps := p.scripts[o.GetVm()]; len(steps) > 0 {
				o = proto.CloneOf(o)
				o.Phase, o.Outcome, o.Error = steps[0].GetPhase(), steps[0].GetOutcome(), steps[0].GetError()
				if len(steps) > 1 {
					p.scripts[o.GetVm()] = steps[1:]
				}
				p.change(&pb.Delta{Operations: []*pb.Operation{o}})
			}
			return &pb.GetOperationResponse{Operation: o, Revision: s.GetPool().GetRevision()}, nil
		}
		return nil, notFound("operation", r.GetOperation())
	})
}

// ListEvents lists the events that match, the latest if there is a limit.
func (a *Agent) ListEvents(_ context.Context, r *pb.ListEventsRequest) (*pb.ListEventsResponse, error) {
	return locked(a, func(_ *Pool, s *pb.Snapshot) (*pb.ListEventsResponse, error) {
		resp := &pb.ListEventsResponse{Revision: s.GetPool().GetRevision()}
		for _, e := range s.GetEvents() {
			if (r.GetServer() == "" || r.GetServer() == e.GetServer()) && (r.GetVm() == "" || r.GetVm() == e.GetVm()) && (r.GetKind() == "" || r.GetKind() == e.GetKind()) {
				resp.Events = append(resp.Events, e)
			}
		}
		if n := int(r.GetLimit()); n > 0 && len(resp.GetEvents()) > n {
			resp.Events = resp.GetEvents()[len(resp.GetEvents())-n:]
		}
		return resp, nil
	})
}

// ListVMs lists the VMs.
func (a *Agent) ListVMs(context.Context, *pb.ListVMsRequest) (*pb.ListVMsResponse, error) {
	return locked(a, func(_ *Pool, s *pb.Snapshot) (*pb.ListVMsResponse, error) {
		return &pb.ListVMsResponse{Vms: s.GetVms(), Revision: s.GetPool().GetRevision()}, nil
	})
}

// GetVM returns one VM.
func (a *Agent) GetVM(_ context.Context, r *pb.GetVMRequest) (*pb.GetVMResponse, error) {
	return locked(a, func(p *Pool, s *pb.Snapshot) (*pb.GetVMResponse, error) {
		v, err := p.vm(r.GetVm())
		return &pb.GetVMResponse{Vm: v, Revision: s.GetPool().GetRevision()}, err
	})
}

// changeVM changes one VM and returns it.
func (a *Agent) changeVM(name string, f func(*pb.VMView)) (*pb.VMView, error) {
	return locked(a, func(p *Pool, _ *pb.Snapshot) (*pb.VMView, error) {
		v, err := p.vm(name)
		if err != nil {
			return nil, err
		}
		f(v)
		p.change(&pb.Delta{Vms: []*pb.VMView{v}})
		return v, nil
	})
}

// RegisterVM takes the name out of the XML, or the domain's.
func (a *Agent) RegisterVM(_ context.Context, r *pb.RegisterVMRequest) (*pb.RegisterVMResponse, error) {
	name := r.GetDomain()
	if r.GetXml() != "" {
		_, rest, ok := strings.Cut(r.GetXml(), "<name>")
		if !ok {
			return nil, fmt.Errorf("the XML names no VM: %w", pool.ErrInvalid)
		}
		name, _, _ = strings.Cut(rest, "</name>")
	}
	vm := pool.DefaultVM(pool.VMID(name))
	for k, v := range r.GetSet() {
		if err := pool.SetVM(&vm, k, v); err != nil {
			return nil, err
		}
	}
	view := &pb.VMView{Vm: &pb.VM{Id: name, Xml: r.GetXml(), Cpus: 2, MemoryBytes: 4 << 30}, Status: pb.VMStatus_VM_STATUS_STOPPED}
	a.pool.Change(&pb.Delta{Vms: []*pb.VMView{view}})
	return &pb.RegisterVMResponse{Vm: view, Notes: []string{"autostart was switched off"}}, nil
}

// UpdateVM checks the settings' names as the real agent does.
func (a *Agent) UpdateVM(_ context.Context, r *pb.UpdateVMRequest) (*pb.UpdateVMResponse, error) {
	vm := pool.DefaultVM("x")
	for k, v := range r.GetSet() {
		if err := pool.SetVM(&vm, k, v); err != nil {
			return nil, err
		}
	}
	v, err := a.changeVM(r.GetVm(), func(*pb.VMView) {})
	return &pb.UpdateVMResponse{Vm: v}, err
}

// RemoveVM forgets a VM; refused while it runs.
func (a *Agent) RemoveVM(_ context.Context, r *pb.RemoveVMRequest) (*pb.RemoveVMResponse, error) {
	return locked(a, func(p *Pool, _ *pb.Snapshot) (*pb.RemoveVMResponse, error) {
		v, err := p.vm(r.GetVm())
		if err != nil {
			return nil, err
		}
		if v.GetStatus() != pb.VMStatus_VM_STATUS_STOPPED {
			return nil, pool.Refuse("NOT_STOPPED", "holdfast stop "+r.GetVm(), "%s is not stopped", r.GetVm())
		}
		p.change(&pb.Delta{VmsRemoved: []string{r.GetVm()}})
		return &pb.RemoveVMResponse{}, nil
	})
}

// SetVMHA switches HA of VMs.
func (a *Agent) SetVMHA(_ context.Context, r *pb.SetVMHARequest) (*pb.SetVMHAResponse, error) {
	resp := &pb.SetVMHAResponse{}
	for _, name := range r.GetVms() {
		v, err := a.changeVM(name, func(v *pb.VMView) { v.Vm.Ha, v.Protected = r.GetOn(), r.GetOn() })
		if err != nil {
			return nil, err
		}
		resp.Vms = append(resp.Vms, v)
	}
	return resp, nil
}

// operate creates an operation; the same request ID gives the same one.
func (a *Agent) operate(kind pb.OperationKind, vm, why, requestID string) (*pb.Operation, error) {
	return locked(a, func(p *Pool, s *pb.Snapshot) (*pb.Operation, error) {
		for _, o := range s.GetOperations() {
			if requestID != "" && o.GetRequestId() == requestID {
				return o, nil
			}
		}
		if _, err := p.vm(vm); err != nil {
			return nil, err
		}
		p.serial++
		o := &pb.Operation{
			Id: fmt.Sprintf("op-new-%d", p.serial), Kind: kind, Vm: vm, Outcome: pb.OperationOutcome_OPERATION_OUTCOME_RUNNING, Phase: "requested",
			Requested: &pb.Mark{By: "kim", At: timestamppb.Now(), Why: why}, RequestId: requestID,
		}
		if len(p.scripts[vm]) == 0 {
			p.scripts[vm] = []*pb.Operation{
				{Phase: "under way", Outcome: pb.OperationOutcome_OPERATION_OUTCOME_RUNNING},
				{Phase: "finished", Outcome: pb.OperationOutcome_OPERATION_OUTCOME_DONE},
			}
		}
		p.change(&pb.Delta{Operations: []*pb.Operation{o}})
		return o, nil
	})
}

// StartVM starts.
func (a *Agent) StartVM(_ context.Context, r *pb.StartVMRequest) (*pb.StartVMResponse, error) {
	o, err := a.operate(pb.OperationKind_OPERATION_KIND_START, r.GetVm(), r.GetWhy(), r.GetRequestId())
	return &pb.StartVMResponse{Operation: o}, err
}

// StopVM stops.
func (a *Agent) StopVM(_ context.Context, r *pb.StopVMRequest) (*pb.StopVMResponse, error) {
	o, err := a.operate(pb.OperationKind_OPERATION_KIND_STOP, r.GetVm(), r.GetWhy(), r.GetRequestId())
	return &pb.StopVMResponse{Operation: o}, err
}

// KillVM kills.
func (a *Agent) KillVM(_ context.Context, r *pb.KillVMRequest) (*pb.KillVMResponse, error) {
	o, err := a.operate(pb.OperationKind_OPERATION_KIND_KILL, r.GetVm(), r.GetWhy(), r.GetRequestId())
	return &pb.KillVMResponse{Operation: o}, err
}

// RestartVM restarts.
func (a *Agent) RestartVM(_ context.Context, r *pb.RestartVMRequest) (*pb.RestartVMResponse, error) {
	o, err := a.operate(pb.OperationKind_OPERATION_KIND_RESTART, r.GetVm(), r.GetWhy(), r.GetRequestId())
	return &pb.RestartVMResponse{Operation: o}, err
}

// ClearVM clears.
func (a *Agent) ClearVM(_ context.Context, r *pb.ClearVMRequest) (*pb.ClearVMResponse, error) {
	v, err := a.changeVM(r.GetVm(), func(v *pb.VMView) { v.Status, v.Reason = pb.VMStatus_VM_STATUS_STARTING, "" })
	return &pb.ClearVMResponse{Vm: v}, err
}

// WhoAmI says what the test ordered with Identity, and a caller who may do everything otherwise.
func (a *Agent) WhoAmI(context.Context, *pb.WhoAmIRequest) (*pb.WhoAmIResponse, error) {
	a.pool.mu.Lock()
	defer a.pool.mu.Unlock()
	if a.pool.me != nil {
		return proto.CloneOf(a.pool.me), nil
	}
	return &pb.WhoAmIResponse{Name: "kim", Role: "admin", Permitted: rpc.Permitted("admin")}, nil
}

// Identity orders what WhoAmI answers.
func (p *Pool) Identity(me *pb.WhoAmIResponse) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.me = me
}
