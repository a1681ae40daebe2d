package api

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/holdfast-ha/holdfast/pkg/pool"
	pb "github.com/holdfast-ha/holdfast/proto/holdfast/v1"
)

// UpdateVM changes a VM's policy.
func (s *Server) UpdateVM(ctx context.Context, r *pb.UpdateVMRequest) (*pb.UpdateVMResponse, error) {
	m, err := s.mark(ctx, "")
	if err != nil {
		return nil, err
	}
	if len(r.GetSet()) == 0 {
		return nil, fmt.Errorf("nothing to set: give KEY=VALUE: %w", pool.ErrInvalid)
	}
	err = s.applyRetry(ctx, func(snap *pool.Snapshot) (pool.Change, error) {
		vm, err := findVM(snap, r.GetVm())
		if err != nil {
			return pool.Change{}, err
		}
		if err := applySettings(snap, &vm, r.GetSet()); err != nil {
			return pool.Change{}, err
		}
		c := pool.Change{VMs: []pool.VM{vm}}
		// A new preference counts even for a VM that was put elsewhere by hand before.
		if h, ok := snap.Homes.Get(vm.ID); ok && h.Placed != "" && setsAny(r.GetSet(), "prefer") {
			h.Placed = ""
			c.Homes = []pool.Home{h}
		}
		c.Events = []pool.Event{s.event("VM_SET", m, "", vm.ID, "%s set %s on %s", m.By, settingsText(r.GetSet()), vm.ID)}
		return c, nil
	})
	if err != nil {
		return nil, err
	}
	view, err := s.vmView(pool.VMID(r.GetVm()), true)
	return &pb.UpdateVMResponse{Vm: view}, err
}

// applySettings sets all of set on vm and checks the result against the pool; all or nothing.
func applySettings(snap *pool.Snapshot, vm *pool.VM, set map[string]string) error {
	for _, key := range slices.Sorted(maps.Keys(set)) {
		if err := pool.SetVM(vm, key, set[key]); err != nil {
			return err
		}
	}
	if err := vm.Validate(); err != nil {
		return err
	}
	return checkRules(snap, *vm, setsAny(set, "prefer", "require"))
}

// setsAny reports whether one of the keys is among the settings.
func setsAny(set map[string]string, keys ...string) bool {
	return slices.ContainsFunc(keys, func(k string) bool { _, ok := set[k]; return ok })
}

func settingsText(set map[string]string) string {
	var out string
	for _, k := range slices.Sorted(maps.Keys(set)) {
		if out != "" {
			out += " "
		}
		out += k + "=" + clean(set[k])
	}
	return out
}

// SetVMHA switches HA of VMs, all or none.
func (s *Server) SetVMHA(ctx context.Context, r *pb.SetVMHARequest) (*pb.SetVMHAResponse, error) {
	m, err := s.mark(ctx, r.GetWhy())
	if err != nil {
		return nil, err
	}
	if len(r.GetVms()) == 0 {
		return nil, fmt.Errorf("name at least one vm: %w", pool.ErrInvalid)
	}
	err = s.applyRetry(ctx, func(snap *pool.Snapshot) (pool.Change, error) {
		var c pool.Change
		after := *snap
		later := &after // with those that are switched before
		for _, name := range r.GetVms() {
			vm, err := findVM(snap, name)
			if err != nil {
				return pool.Change{}, err
			}
			if r.GetOn() {
				if err := s.checkSecondServer(snap, vm); err != nil {
					return pool.Change{}, err
				}
			}
			if vm.HA == r.GetOn() {
				continue
			}
			vm.HA, vm.HAMark = r.GetOn(), m
			if r.GetOn() && vm.Desired == pool.DesiredRunning {
				if err := admits(later, vm, "HA for"); err != nil {
					return pool.Change{}, err
				}
			}
			later.VMs = later.VMs.With(vm.ID, vm)
			c.VMs = append(c.VMs, vm)
			c.Events = append(c.Events, s.event("VM_HA", m, "", vm.ID, "%s switched HA %s for %s", m.By, onOff(r.GetOn()), vm.ID))
		}
		return c, nil
	})
	if err != nil {
		return nil, err
	}
	resp := &pb.SetVMHAResponse{}
	for _, name := range r.GetVms() {
		view, err := s.vmView(pool.VMID(name), true)
		if err != nil {
			return nil, err
		}
		resp.Vms = append(resp.Vms, view)
	}
	return resp, nil
}

// checkSecondServer refuses HA for a VM that fewer than two servers could ever run: what a server lacks and what
// the VM requires count, momentary load and states do not.
func (s *Server) checkSecondServer(snap *pool.Snapshot, vm pool.VM) error {
	able := 0
	var why []error
	for id, m := range snap.Members.All() {
		lacks := m.Lacks[vm.ID]
		switch {
		case len(vm.Require) > 0 && !slices.Contains(vm.Require, id):
			why = append(why, fmt.Errorf("%s is not among the servers it requires", id))
		case len(lacks) > 0:
			why = append(why, fmt.Errorf("%s lacks %s", id, listed(lacks)))
		case m.MemoryBytes > 0 && m.MemoryBytes < vm.MemoryBytes:
			why = append(why, fmt.Errorf("%s has less memory than it needs", id))
		default:
			able++
		}
	}
	if able >= 2 || len(why) == 0 {
		return nil
	}
	return pool.Refuse("NO_SECOND_SERVER", "give a second server what it lacks",
		"HA cannot protect %s: only %d server can run it: %v", vm.ID, able, errors.Join(why...))
}

func onOff(on bool) string {
	if on {
		return "on"
	}
	return "off"
}

// RemoveVM forgets a stopped VM.
func (s *Server) RemoveVM(ctx context.Context, r *pb.RemoveVMRequest) (*pb.RemoveVMResponse, error) {
	m, err := s.mark(ctx, "")
	if err != nil {
		return nil, err
	}
	err = s.applyRetry(ctx, func(snap *pool.Snapshot) (pool.Change, error) {
		vm, err := findVM(snap, r.GetVm())
		if err != nil {
			return pool.Change{}, err
		}
		claim, ok := snap.Claims.Get(vm.ID)
		if ok && claim.Phase != pool.PhaseUnassigned {
			return pool.Change{}, pool.Refuse("VM_RUNS", "holdfast stop "+string(vm.ID),
				"%s %s; only a stopped VM can be removed", vm.ID, whereNow(claim))
		}
		c := pool.Change{RemoveVMs: []pool.VM{vm},
			Events: []pool.Event{s.event("VM_REMOVED", m, "", vm.ID, "%s removed %s from the pool; its disks are left alone", m.By, vm.ID)}}
		if ok {
			c.Claims = nil
			c.RemoveClaims = []pool.Claim{claim}
		}
		return c, nil
	})
	if err != nil {
		return nil, err
	}
	return &pb.RemoveVMResponse{}, nil
}

// whereNow says what a claim with an owner means to people.
func whereNow(c pool.Claim) string {
	switch c.Phase {
	case pool.PhaseAssigned:
		return "is starting on " + string(c.Server)
	case pool.PhaseReleasing:
		return "is stopping on " + string(c.Server)
	case pool.PhaseMigrating, pool.PhaseHandedOver:
		return "is running and on its way to another server"
	default:
		return "is running on " + string(c.Server)
	}
}
