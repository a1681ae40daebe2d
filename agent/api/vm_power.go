package api

import (
	"context"
	"fmt"

	"github.com/holdfast-ha/holdfast/pkg/pool"
	"github.com/holdfast-ha/holdfast/pkg/wire"
	pb "github.com/holdfast-ha/holdfast/proto/holdfast/v1"
)

// power is what start, stop, kill and restart have in common.
type power struct {
	kind    pool.OperationKind
	desired pool.Desired
	event   string
	verb    string
	// check refuses what cannot be done now.
	check func(snap *pool.Snapshot, vm pool.VM, claim pool.Claim) error
}

var powers = map[pool.OperationKind]power{
	pool.OperationStart:   {pool.OperationStart, pool.DesiredRunning, "VM_START_ASKED", "start", checkStart},
	pool.OperationStop:    {pool.OperationStop, pool.DesiredStopped, "VM_STOP_ASKED", "stop", nil},
	pool.OperationKill:    {pool.OperationKill, pool.DesiredKilled, "VM_KILL_ASKED", "kill", nil},
	pool.OperationRestart: {pool.OperationRestart, pool.DesiredRunning, "VM_RESTART_ASKED", "restart", checkRestart},
}

func checkStart(snap *pool.Snapshot, vm pool.VM, claim pool.Claim) error {
	if h, ok := snap.Homes.Get(vm.ID); ok && h.Failed && snap.Protected(vm) {
		return pool.Refuse("VM_FAILED", "find out why, then: holdfast clear "+string(vm.ID), "%s has failed: %s", vm.ID, h.FailedReason)
	}
	if vm.Desired != pool.DesiredRunning && !claim.Phase.Owned() {
		return admits(snap, vm, "starting")
	}
	return nil
}

func checkRestart(snap *pool.Snapshot, vm pool.VM, claim pool.Claim) error {
	if err := checkStart(snap, vm, claim); err != nil {
		return err
	}
	if vm.Desired != pool.DesiredRunning {
		return pool.Refuse("NOT_RUNNING", "holdfast start "+string(vm.ID), "%s is wanted stopped", vm.ID)
	}
	if !claim.Phase.Owned() {
		return pool.Refuse("NOT_RUNNING", "", "%s does not run now", vm.ID)
	}
	return nil
}

// changePower sets a VM's desired state and creates the operation that follows it to the end.
func (s *Server) changePower(ctx context.Context, kind pool.OperationKind, name, why, requestID string) (*pb.Operation, error) {
	p := powers[kind]
	m, err := s.mark(ctx, why)
	if err != nil {
		return nil, err
	}
	id := s.operationID(requestID)
	err = s.applyRetry(ctx, func(snap *pool.Snapshot) (pool.Change, error) {
		vm, err := findVM(snap, name)
		if err != nil {
			return pool.Change{}, err
		}
		if old, done := snap.Operations.Get(id); done {
			if old.VM != vm.ID || old.Kind != kind {
				return pool.Change{}, fmt.Errorf("request ID %s was used to %v %s; a new request needs a new one: %w", clean(requestID), old.Kind, old.VM, pool.ErrExists)
			}
			return pool.Change{}, nil
		}
		claim, _ := snap.Claims.Get(vm.ID)
		if p.check != nil {
			if err := p.check(snap, vm, claim); err != nil {
				return pool.Change{}, err
			}
		}
		op := pool.Operation{ID: id, Kind: kind, VM: vm.ID, Source: claim.Server, Outcome: pool.OutcomeRunning, Phase: "requested",
			Requested: m, RequestID: requestID, StartEpoch: claim.Epoch}
		c := pool.Change{Operations: []pool.Operation{op},
			Events: []pool.Event{s.event(p.event, m, "", vm.ID, "%s asked to %s %s", m.By, p.verb, vm.ID)}}
		// Without HA nothing restarts the VM by itself, so that a start by an operator is word enough.
		if h, ok := snap.Homes.Get(vm.ID); ok && h.Failed && kind == pool.OperationStart {
			h.Failed, h.FailedReason, h.Failures = false, "", nil
			c.Homes = []pool.Home{h}
		}
		if vm.Desired != p.desired {
			vm.Desired, vm.DesiredMark = p.desired, m
			c.VMs = []pool.VM{vm}
		}
		return c, nil
	})
	if err != nil {
		return nil, err
	}
	return s.operation(id)
}

// operation returns the stored operation.
func (s *Server) operation(id pool.OperationID) (*pb.Operation, error) {
	snap, err := s.snapshot()
	if err != nil {
		return nil, err
	}
	op, ok := snap.Operations.Get(id)
	if !ok {
		return nil, fmt.Errorf("no operation %s; it may have left the history: %w", clean(string(id)), pool.ErrNotFound)
	}
	return wire.Operation(op), nil
}

// StartVM wants a VM running.
func (s *Server) StartVM(ctx context.Context, r *pb.StartVMRequest) (*pb.StartVMResponse, error) {
	op, err := s.changePower(ctx, pool.OperationStart, r.GetVm(), r.GetWhy(), r.GetRequestId())
	return &pb.StartVMResponse{Operation: op}, err
}

// StopVM wants a VM stopped; the guest is asked first.
func (s *Server) StopVM(ctx context.Context, r *pb.StopVMRequest) (*pb.StopVMResponse, error) {
	op, err := s.changePower(ctx, pool.OperationStop, r.GetVm(), r.GetWhy(), r.GetRequestId())
	return &pb.StopVMResponse{Operation: op}, err
}

// KillVM forces a VM off.
func (s *Server) KillVM(ctx context.Context, r *pb.KillVMRequest) (*pb.KillVMResponse, error) {
	op, err := s.changePower(ctx, pool.OperationKill, r.GetVm(), r.GetWhy(), r.GetRequestId())
	return &pb.KillVMResponse{Operation: op}, err
}

// RestartVM stops a VM and starts it again.
func (s *Server) RestartVM(ctx context.Context, r *pb.RestartVMRequest) (*pb.RestartVMResponse, error) {
	op, err := s.changePower(ctx, pool.OperationRestart, r.GetVm(), r.GetWhy(), r.GetRequestId())
	return &pb.RestartVMResponse{Operation: op}, err
}

// ClearVM forgets a VM's failures; it is started again if it is wanted running.
func (s *Server) ClearVM(ctx context.Context, r *pb.ClearVMRequest) (*pb.ClearVMResponse, error) {
	m, err := s.mark(ctx, r.GetWhy())
	if err != nil {
		return nil, err
	}
	err = s.applyRetry(ctx, func(snap *pool.Snapshot) (pool.Change, error) {
		vm, err := findVM(snap, r.GetVm())
		if err != nil {
			return pool.Change{}, err
		}
		home, ok := snap.Homes.Get(vm.ID)
		if !ok || (!home.Failed && len(home.Failures) == 0) {
			return pool.Change{}, pool.Refuse("NOT_FAILED", "", "%s has no failures to clear", vm.ID)
		}
		home.Failed, home.FailedReason, home.Failures = false, "", nil
		return pool.Change{Homes: []pool.Home{home},
			Events: []pool.Event{s.event("VM_CLEARED", m, "", vm.ID, "%s cleared the failures of %s", m.By, vm.ID)}}, nil
	})
	if err != nil {
		return nil, err
	}
	view, err := s.vmView(pool.VMID(r.GetVm()), true)
	return &pb.ClearVMResponse{Vm: view}, err
}
