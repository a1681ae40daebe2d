package drill

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/holdfast-ha/holdfast/pkg/pool"
)

// MaxIsolation bounds an isolation: longer tells nothing more.
const MaxIsolation = 10 * time.Minute

// Hit is what is to be done to a canary; the zero level does nothing.
type Hit struct {
	VM    pool.VMID
	Level pool.DrillLevel
	// Limit ends an isolation; 0 ends one that goes on.
	Limit time.Duration
	// BesideOthers and CutPower accept what else may happen; see HitCanaryRequest.
	BesideOthers, CutPower bool
}

// Facts is how a canary stands on a server.
type Facts struct {
	Server  pool.ServerID
	Session pool.Session
	// PID and Started name the canary's process; 0 if there is none.
	PID     int
	Started uint64
	// AgentSince is when the server's agent began, by its wall clock.
	AgentSince time.Time
	// Isolated is for how long the way to etcd stays closed at most; 0: it is open.
	Isolated time.Duration
}

// Check says why server, which has session, must not do what h asks for; nil: it may.
func Check(snap *pool.Snapshot, server pool.ServerID, session pool.Session, h Hit) error {
	if err := isCanary(snap, h.VM); err != nil {
		return err
	}
	if h.Level == pool.DrillUnspecified || h.Level == pool.DrillIsolation && h.Limit == 0 {
		return nil
	}
	c, _ := snap.Claims.Get(h.VM)
	switch {
	case c.Phase != pool.PhaseHeld || c.Server != server || c.Session != session:
		return pool.Refuse("NOT_RUNNING", "", "%s does not simply run on %s: its claim is %s %s", h.VM, server, c.Phase, c.Server)
	case h.Level == pool.DrillQEMU:
		return nil
	case !c.Armed:
		return pool.Refuse("NOT_PROTECTED", "", "%s is not held by the guard of %s yet", h.VM, server)
	case h.Level == pool.DrillAgent:
		return checkAgent(snap, server, h)
	case h.Level == pool.DrillIsolation:
		return checkIsolation(snap, server, h)
	}
	return fmt.Errorf("drill level %d is unknown to this agent: %w", h.Level, pool.ErrInvalid)
}

func isCanary(snap *pool.Snapshot, id pool.VMID) error {
	vm, ok := snap.VMs.Get(id)
	if !ok {
		return fmt.Errorf("no canary %s in this pool: %w", id, pool.ErrNotFound)
	}
	_, err := pool.CanaryDisk(vm)
	return err
}

// checkAgent: the end of an agent stops no VM, but its guard stops those with HA if it is not started again in time.
func checkAgent(snap *pool.Snapshot, server pool.ServerID, h Hit) error {
	if others := Others(snap, server, h.VM, true); len(others) > 0 && !h.BesideOthers {
		return pool.Refuse("OTHER_VMS", "choose a server without, or say --beside-others: they only stop if the agent is not started again in time",
			"%s also runs %s, with HA", server, shown(others))
	}
	return nil
}

func checkIsolation(snap *pool.Snapshot, server pool.ServerID, h Hit) error {
	if others := Others(snap, server, h.VM, false); len(others) > 0 {
		return pool.Refuse("OTHER_VMS", "isolate a server without, or move them away first: holdfast migrate VM",
			"%s also runs %s", server, shown(others))
	}
	if srv, _ := snap.Servers.Get(server); len(srv.Fence) > 0 && !h.CutPower {
		return pool.Refuse("POWER_FENCED", "say --cut-power if it may lose its power, or isolate a server without power switches",
			"%s has power switches, so the leader will cut its power", server)
	}
	return nil
}

// Others lists the VMs besides the canary that a server runs, takes in or is told to run; only those with HA, if so wanted.
func Others(snap *pool.Snapshot, server pool.ServerID, canary pool.VMID, onlyHA bool) []pool.VMID {
	var out []pool.VMID
	for id, c := range snap.Claims.All() {
		vm, known := snap.VMs.Get(id)
		here := c.Server == server && c.Phase != pool.PhaseUnassigned || c.Incoming != nil && c.Incoming.Server == server
		if id != canary && here && (!onlyHA || !known || snap.Protected(vm)) {
			out = append(out, id)
		}
	}
	slices.Sort(out)
	return out
}

// shown names at most five VMs.
func shown(vms []pool.VMID) string {
	const most = 5
	var names []string
	for _, v := range vms[:min(most, len(vms))] {
		names = append(names, string(v))
	}
	if n := len(vms) - most; n > 0 {
		names = append(names, fmt.Sprintf("%d more", n))
	}
	return strings.Join(names, ", ")
}

// Ready says why no drill can be held in a pool now; nil: one can.
func Ready(snap *pool.Snapshot) error {
	switch {
	case !snap.Config.HA:
		return pool.Refuse("NOT_PROTECTED", "holdfast ha on", "the pool's HA is off: nothing would be restarted")
	case snap.Config.Frozen:
		return pool.Refuse("NOT_PROTECTED", "holdfast unfreeze", "HA is frozen: nothing would be restarted")
	case snap.Leader.Server == "":
		return fmt.Errorf("the pool has no leader now: %w", pool.ErrUnavailable)
	}
	able := 0
	for id := range snap.Members.All() {
		if s, ok := snap.Servers.Get(id); ok && !s.InboundLock && !s.Maintenance {
			able++
		}
	}
	if able < 2 {
		return pool.Refuse("NO_SECOND_SERVER", "", "only %d server takes VMs now: nothing could be started elsewhere", able)
	}
	for id, vm := range snap.VMs.All() {
		if vm.Canary {
			return pool.Refuse("DRILL_RUNS", "if it does not: holdfast drill clean", "there is a canary, %s, made by %s at %s: another drill may be running",
				id, vm.DesiredMark.By, vm.DesiredMark.At.Format(time.RFC3339))
		}
	}
	return nil
}
