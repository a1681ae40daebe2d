package app

import (
	"context"
	"fmt"

	"github.com/holdfast-ha/holdfast/agent/drill"
	"github.com/holdfast-ha/holdfast/agent/guard"
	"github.com/holdfast-ha/holdfast/pkg/pool"
)

// TouchCanary says how a canary stands on this server, and then does to it what h asks for, if drill.Check lets it.
func (a *Agent) TouchCanary(ctx context.Context, h drill.Hit) (drill.Facts, error) {
	if a.cut == nil {
		return drill.Facts{}, pool.Refuse("NO_DRILL", "", "%s takes no part in drills", a.cfg.Server)
	}
	if h.Limit < 0 {
		return drill.Facts{}, fmt.Errorf("limit %v: must be 0 or more: %w", h.Limit, pool.ErrInvalid)
	}
	if err := drill.Check(a.Snapshot(), a.cfg.Server, a.ID(), h); err != nil {
		return drill.Facts{}, err
	}
	process, err := a.processOf(ctx, h.VM)
	if err != nil {
		return drill.Facts{}, err
	}
	facts := drill.Facts{Server: a.cfg.Server, Session: a.ID(), PID: process.PID, Started: process.StartTicks, AgentSince: a.began, Isolated: a.cut.Left()}
	switch h.Level {
	case pool.DrillQEMU:
		if process.PID == 0 {
			return facts, pool.Refuse("NOT_RUNNING", "", "%s has no process on %s", h.VM, a.cfg.Server)
		}
		a.e.Log.Warn("a drill ends a canary's process", "vm", h.VM, "pid", process.PID)
		return facts, a.e.Drill.Crash(ctx, h.VM, process)
	case pool.DrillAgent:
		a.e.Log.Warn("a drill ends this agent", "vm", h.VM)
		a.e.Drill.EndAgent()
	case pool.DrillIsolation:
		a.e.Log.Warn("a drill closes this agent's way to etcd, or opens it again", "vm", h.VM, "limit", h.Limit)
		a.cut.Close(h.Limit)
	}
	return facts, nil
}

// processOf finds a VM's process here; it has no PID if there is none.
func (a *Agent) processOf(ctx context.Context, vm pool.VMID) (guard.Process, error) {
	domains, err := a.e.Hypervisor.Domains(ctx)
	if err != nil {
		return guard.Process{}, fmt.Errorf("look for %s: %w", vm, err)
	}
	for _, d := range domains {
		if d.VM != vm || d.Marker == nil {
			continue
		}
		if dead, err := a.e.Hypervisor.Dead(ctx, d.Process); err != nil || dead {
			return guard.Process{}, err
		}
		return d.Process, nil
	}
	return guard.Process{}, nil
}
