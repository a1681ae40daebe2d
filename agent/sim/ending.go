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

// blind reports whether what is known of a VM is old news: nobody can write to etcd, nobody leads, or the server that
// owns it, or was told to, has trouble that keeps its agent from acting and from telling.
func (c *Checker) blind(snap *pool.Snapshot, id pool.VMID) bool {
	claim, _ := snap.Claims.Get(id)
	server := string(claim.Server)
	lead := string(snap.Leader.Server)
	switch {
	case !c.p.Etcd.Quorum(), lead == "", !c.p.Etcd.Reaches(lead), c.p.handicapped(lead):
		return true
	case claim.Phase == pool.PhaseUnassigned || !snap.Alive(claim.Server, claim.Session):
		return false
	}
	return c.bounds.left > 0 && c.p.Now() < c.bounds.left+c.bounds.recoveryBound() || !c.p.Etcd.Reaches(server) || c.p.Net.Slowed(server) || c.p.handicapped(server)
}

// ending checks one VM.
func (c *Checker) ending(snap *pool.Snapshot, view *plan.View, vm pool.VM) {
	im := c.p.World.Image(vm.ID)
	at := im.Executing()
	status, reason := view.VM(vm.ID)
	wanted := vm.Desired == pool.DesiredRunning
	switch {
	case c.blind(snap, vm.ID):
	case len(at) == 1 && wanted:
		moved := im.Starts > c.starts[vm.ID] || im.Migrations > c.migrations[vm.ID]
		if moved && len(vm.Require) > 0 && !slices.Contains(vm.Require, pool.ServerID(at[0])) {
			c.broken(5, "%s runs on %s, where it must not", vm.ID, at[0])
		}
	case len(at) == 1:
		if reason == "" && status != plan.VMLost && c.p.Now() > c.latest+snap.Config.StopLimit+tail/10 {
			c.broken(5, "%s is wanted %s, yet executes on %s, reported %s without a reason", vm.ID, vm.Desired, at[0], status)
		}
	case !wanted:
		if status != plan.VMStopped && (status != plan.VMLost || reason == "") {
			c.broken(5, "%s is wanted %s and reported %s (%s)", vm.ID, vm.Desired, status, reason)
		}
	case status == plan.VMLost && !snap.Protected(vm):
	case !slices.Contains([]plan.VMStatus{plan.VMWaiting, plan.VMFailed, plan.VMStarting, plan.VMPaused}, status):
		c.broken(5, "%s is wanted running, executes nowhere, and is reported %s (%s)", vm.ID, status, reason)
	case reason == "" && (status != plan.VMStarting || im.StartFails == 0 && len(im.Copies()) == 0):
		c.broken(5, "%s is wanted running, executes nowhere, and is reported %s without a reason", vm.ID, status)
	}
}
