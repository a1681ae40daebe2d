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
		if !ok && c.perhapsRemoved[id] {
			continue
		}
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
	switch {
	case !c.p.Etcd.Quorum(), !c.p.led(snap):
		return true
	case claim.Phase == pool.PhaseUnassigned || !snap.Alive(claim.Server, claim.Session):
		return false
	}
	server := string(claim.Server)
	return c.bounds.leaving(server) || !c.p.Etcd.Reaches(server) || c.p.unable(server)
}

// ending checks one VM.
func (c *Checker) ending(snap *pool.Snapshot, view *plan.View, vm pool.VM) {
	im := c.p.World.Image(vm.ID)
	at := im.Executing()
	status, reason := view.VM(vm.ID)
	wanted := vm.Desired == pool.DesiredRunning
	switch {
	case c.blind(snap, vm.ID):
	case len(at) == 1 && wanted: // that it may run there was checked when it was sent there
	case len(at) == 0 && wanted && im.Standing() != "": // it stands still for the end of its move, as it may for a moment
	case len(at) == 1:
		if reason == "" && status != plan.VMLost && !c.stillStopping(snap) {
			c.broken(5, "%s is wanted %s, yet executes on %s, reported %s without a reason", vm.ID, vm.Desired, at[0], status)
		}
	case !wanted:
		if status != plan.VMStopped && (status != plan.VMStopping || !c.stillStopping(snap)) && (status != plan.VMLost || reason == "") &&
			(status != plan.VMWaiting || reason == "" || !c.away(snap, vm.ID)) {
			c.broken(5, "%s is wanted %s and reported %s (%s)", vm.ID, vm.Desired, status, reason)
		}
	case status == plan.VMLost && !snap.Protected(vm):
	case !slices.Contains([]plan.VMStatus{plan.VMWaiting, plan.VMFailed, plan.VMStarting, plan.VMPaused}, status):
		c.broken(5, "%s is wanted running, executes nowhere, and is reported %s (%s)", vm.ID, status, reason)
	case (status == plan.VMStarting || status == plan.VMMigrating) && c.p.Now()-c.bounds.down[vm.ID] < c.bounds.recoveryBound():
	case reason == "" && (status != plan.VMStarting || im.StartFails == 0 && len(im.Copies()) == 0):
		c.broken(5, "%s is wanted running, executes nowhere, and is reported %s without a reason", vm.ID, status)
	}
}

// away reports whether the server that a VM's claim names is lost, or has trouble that keeps its agent from seeing that
// nothing is left of it: the claim waits for that.
func (c *Checker) away(snap *pool.Snapshot, id pool.VMID) bool {
	claim, _ := snap.Claims.Get(id)
	return claim.Phase.Owned() && !snap.Alive(claim.Server, claim.Session) &&
		(!snap.Members.Has(claim.Server) || c.p.unable(string(claim.Server)))
}

// stillStopping reports whether a guest that was asked to stop by the latest command may not have been forced yet.
func (c *Checker) stillStopping(snap *pool.Snapshot) bool {
	return c.p.Now() < c.latest+snap.Config.StopLimit+tail/10
}
