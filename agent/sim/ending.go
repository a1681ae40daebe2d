package sim

import (
	"maps"
	"slices"

	"github.com/holdfast-ha/holdfast/pkg/plan"
	"github.com/holdfast-ha/holdfast/pkg/pool"
)

// End checks how every VM stands at the end of a run: invariant 5.
func (c *Checker) End() error {
	snap := c.p.truth.snapshot()
	view := plan.NewView(snap)
	for _, id := range slices.Sorted(maps.Keys(c.known)) {
		vm, ok := snap.VMs.Get(id)
		if !ok {
			c.broken(5, "vm %s is not registered any more", id)
			break
		}
		c.ending(snap, view, vm)
	}
	if c.failure != nil {
		return c.failure
	}
	return nil
}

// ending checks one VM.
func (c *Checker) ending(snap *pool.Snapshot, view *plan.View, vm pool.VM) {
	im := c.p.World.Image(vm.ID)
	at := im.Executing()
	status, reason := view.VM(vm.ID)
	wanted := vm.Desired == pool.DesiredRunning
	switch {
	case len(at) == 1 && wanted:
		moved := im.Starts > c.starts[vm.ID] || im.Migrations > c.migrations[vm.ID]
		if moved && len(vm.Require) > 0 && !slices.Contains(vm.Require, pool.ServerID(at[0])) {
			c.broken(5, "%s runs on %s, where it must not", vm.ID, at[0])
		}
	case len(at) == 1:
		if reason == "" && status != plan.VMLost {
			c.broken(5, "%s is wanted %s, yet executes on %s, reported %s without a reason", vm.ID, vm.Desired, at[0], status)
		}
	case !wanted:
		if status != plan.VMStopped && (status != plan.VMLost || snap.Protected(vm)) {
			c.broken(5, "%s is wanted %s and reported %s (%s)", vm.ID, vm.Desired, status, reason)
		}
	case status == plan.VMLost && !snap.Protected(vm):
	case !slices.Contains([]plan.VMStatus{plan.VMWaiting, plan.VMFailed, plan.VMStarting, plan.VMPaused}, status):
		c.broken(5, "%s is wanted running, executes nowhere, and is reported %s (%s)", vm.ID, status, reason)
	case reason == "":
		c.broken(5, "%s is wanted running, executes nowhere, and is reported %s without a reason", vm.ID, status)
	}
}
