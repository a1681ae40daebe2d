package plan

import (
	"fmt"

	"github.com/holdfast-ha/holdfast/pkg/pool"
)

// VMStatus is one word for how a VM stands. The numbers are those of the API's VMStatus.
type VMStatus int

// Statuses of a VM.
const (
	VMUnspecified VMStatus = iota
	VMRunning
	VMStopped
	// VMWaiting: wanted running; no server can take it now, or its old server is not yet fenced.
	VMWaiting
	// VMFailed: the restart policy gave up, or HA is off and it stopped by itself.
	VMFailed
	VMPaused
	// VMLost: its server is lost and nobody may restart it.
	VMLost
	VMStarting
	VMStopping
	VMMigrating
)

var vmStatusNames = [...]string{"unspecified", "running", "stopped", "waiting", "failed", "paused", "lost", "starting", "stopping", "migrating"}

// String returns the status's word.
func (v VMStatus) String() string {
	if v < 0 || int(v) >= len(vmStatusNames) {
		return fmt.Sprintf("unknown(%d)", int(v))
	}
	return vmStatusNames[v]
}

// VM tells how a VM stands and why. The reason is one sentence without a final full stop; it is empty where
// nothing needs explaining.
func (v *View) VM(id pool.VMID) (VMStatus, string) {
	vm, ok := v.snap.VMs.Get(id)
	if !ok {
		return VMUnspecified, fmt.Sprintf("no vm %s is registered", id)
	}
	c := v.subject(id, vm)
	switch {
	case !vm.Readable():
		return VMUnspecified, "its registration in etcd cannot be read; it is left alone"
	case c.hasClaim && !c.claim.Readable():
		return VMUnspecified, "its claim in etcd cannot be read; it is left alone"
	}
	switch {
	case !c.hasClaim || c.claim.Phase == pool.PhaseUnassigned:
		return v.unassignedStatus(c)
	case c.claim.Phase == pool.PhaseAssigned && !adopting(c.claim):
		return v.assignedStatus(c)
	case gone(v.snap, c.claim):
		return v.goneStatus(c)
	default:
		return v.ownedStatus(c)
	}
}

func (v *View) unassignedStatus(c *subject) (VMStatus, string) {
	switch {
	case !c.wanted():
		return VMStopped, stoppedWhy(c)
	case c.home.Failed:
		return VMFailed, c.home.FailedReason
	case c.claim.Cause.CountsAsFailure() && !c.protected && !v.snap.Config.Frozen:
		reason, _ := judge(v.snap.Config, c, counted(c.vm, c.home, c.claim, asOf(c)), asOf(c))
		return VMFailed, reason
	}
	if why, held := hold(v.snap.Config, c); held {
		return VMWaiting, why
	}
	if why := v.waitingWhy(c); why != "" {
		return VMWaiting, why
	}
	return VMStarting, "a server is being chosen"
}

// stoppedWhy tells of a stop that was nobody's command.
func stoppedWhy(c *subject) string {
	switch c.claim.Cause {
	case pool.CauseGuestShutdown:
		return "the guest powered itself off"
	case pool.CauseUnspecified, pool.CauseStopped:
		return ""
	default:
		return c.claim.Cause.String()
	}
}

func (v *View) assignedStatus(c *subject) (VMStatus, string) {
	switch {
	case !c.wanted():
		return VMStopping, ""
	case gone(v.snap, c.claim):
		return VMWaiting, fmt.Sprintf("%s was lost before it started there; another server is being chosen", c.claim.Server)
	case c.state.Server == c.claim.Server && c.state.Epoch == c.claim.Epoch && c.state.Reason != "":
		return VMStarting, c.state.Reason
	default:
		return VMStarting, ""
	}
}

// goneStatus: a server may run it, and the session under which it did has ended.
func (v *View) goneStatus(c *subject) (VMStatus, string) {
	s := c.claim.Server
	if v.snap.Members.Has(s) && !v.snap.FencedFor(s, c.claim.Session) {
		return VMWaiting, fmt.Sprintf("%s is back with a new session and checks its VMs", s)
	}
	switch {
	case !c.protected:
		why := unprotectedWhy(v.snap.Config, c.vm)
		return VMLost, fmt.Sprintf("%s is lost; %s, so it is not restarted elsewhere", s, why)
	case !c.wanted():
		return VMLost, fmt.Sprintf("wanted stopped; %s is lost", s)
	default:
		return VMWaiting, v.fencingWhy(c)
	}
}

func (v *View) ownedStatus(c *subject) (VMStatus, string) {
	reported := c.state.Server == c.claim.Server && c.state.Epoch == c.claim.Epoch
	switch {
	case c.claim.Phase == pool.PhaseMigrating, c.claim.Phase == pool.PhaseHandedOver:
		return VMMigrating, migrationWhy(c.claim)
	case c.claim.Phase == pool.PhaseReleasing, !c.wanted():
		return VMStopping, reasonIf(reported, c)
	case !reported:
		return VMStarting, ""
	}
	switch c.state.State {
	case pool.RunRunning:
		return VMRunning, c.state.Reason
	case pool.RunPaused:
		return VMPaused, c.state.Reason
	case pool.RunStopping, pool.RunStopped:
		return VMStopping, c.state.Reason
	default:
		return VMStarting, c.state.Reason
	}
}

func reasonIf(reported bool, c *subject) string {
	if reported {
		return c.state.Reason
	}
	return ""
}

func migrationWhy(c pool.Claim) string {
	switch {
	case c.Phase == pool.PhaseHandedOver:
		return fmt.Sprintf("handed over to %s", c.Server)
	case c.Incoming != nil:
		return fmt.Sprintf("from %s to %s", c.Server, c.Incoming.Server)
	default:
		return ""
	}
}
