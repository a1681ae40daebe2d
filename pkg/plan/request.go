package plan

import (
	"fmt"
	"slices"
	"time"

	"github.com/holdfast-ha/holdfast/pkg/place"
	"github.com/holdfast-ha/holdfast/pkg/pool"
)

// subject is one VM with everything that is stored about it.
type subject struct {
	vm        pool.VM
	claim     pool.Claim
	hasClaim  bool
	home      pool.Home
	state     pool.VMState
	protected bool
	// ops are the running operations of the VM, oldest request first.
	ops []pool.Operation
}

// keep forgets that a VM is kept for a server that will not have it back: one that is not in the pool any more, or is
// being emptied.
func (c *subject) keep(s *pool.Snapshot) *subject {
	if c.claim.Cause != pool.CauseKept {
		return c
	}
	if srv, ok := s.Servers.Get(c.claim.LastServer); !ok || srv.Maintenance || srv.Removing {
		c.claim.Cause = pool.CauseServerShutdown
	}
	return c
}

// wanted reports whether operators want the VM running.
func (c *subject) wanted() bool { return c.vm.Desired == pool.DesiredRunning }

// asked returns the running operation of one of the kinds, if it was asked for under this claim's epoch.
func (c *subject) asked(kinds ...pool.OperationKind) (pool.Operation, bool) {
	for _, op := range c.ops {
		if slices.Contains(kinds, op.Kind) && op.StartEpoch == c.claim.Epoch {
			return op, true
		}
	}
	return pool.Operation{}, false
}

// involuntary reports whether the VM stopped without anybody's wish, so that starting it again is HA's business.
func involuntary(c pool.Claim, h pool.Home) bool {
	switch c.Cause {
	case pool.CauseFenced, pool.CauseServerRestarted, pool.CauseServerShutdown, pool.CauseIsolated, pool.CauseStorageLost, pool.CauseKept:
		return true
	case pool.CauseUnspecified:
		return len(h.Failures) > 0
	default:
		return c.Cause.CountsAsFailure()
	}
}

// withServer reports whether the VM stopped because its server did, so that without HA it waits for that server.
func withServer(c pool.Cause) bool {
	return c == pool.CauseServerRestarted || c == pool.CauseServerShutdown || c == pool.CauseIsolated || c == pool.CauseStorageLost || c == pool.CauseKept
}

// hold says why a VM without owner that is wanted running must not be placed now, if so. A restart that was under way
// when HA was frozen goes on: its claim names no cause any more.
func hold(cfg pool.Config, c *subject) (why string, held bool) {
	_, started := c.asked(pool.OperationStart)
	switch {
	case c.home.Failed:
		return c.home.FailedReason, true
	case cfg.HA && cfg.Frozen && c.vm.HA && c.claim.Cause != pool.CauseUnspecified && involuntary(c.claim, c.home) && !started:
		return "HA is frozen" + by(cfg.FrozenMark), true
	}
	return "", false
}

// request turns a VM without owner into a request for a server.
func request(cfg pool.Config, c *subject, wall time.Time) place.Request {
	last := c.claim.LastServer
	r := place.Request{VM: c.vm, Exhausted: exhausted(c.vm, c.home, wall), Failover: c.protected && involuntary(c.claim, c.home)}
	for _, s := range []pool.ServerID{c.home.Server, last} {
		if s != "" && !slices.Contains(r.Home, s) {
			r.Home = append(r.Home, s)
		}
	}
	if failedAt(c) == last {
		r.Stay, r.PassLock = last, last
	}
	if op, ok := c.asked(pool.OperationRestart); ok && op.Outcome == pool.OutcomeRunning {
		r.Stay, r.PassLock = last, last
	}
	if op, ok := c.asked(pool.OperationRelocate); ok {
		r.Stay, r.StayWhy = op.Server, "as asked"
	}
	_, started := c.asked(pool.OperationStart)
	switch {
	case last == "" || started:
	case c.claim.Cause == pool.CauseKept:
		r.Only, r.OnlyWhy, r.PassLock = last, "it went down and keeps its VMs for its return", last
	case !c.protected && withServer(c.claim.Cause):
		r.Only, r.OnlyWhy = last, unprotectedWhy(cfg, c.vm)
	}
	return r
}

// failedAt returns the server of the VM's latest counted failure, if that is why it is down now.
func failedAt(c *subject) pool.ServerID {
	if c.claim.Cause.CountsAsFailure() {
		return c.claim.LastServer
	}
	if n := len(c.home.Failures); n > 0 && c.claim.Cause == pool.CauseUnspecified && c.claim.Phase == pool.PhaseUnassigned {
		return c.home.Failures[n-1].Server
	}
	return ""
}

// unprotectedWhy says which half of the switch is off.
func unprotectedWhy(cfg pool.Config, vm pool.VM) string {
	switch {
	case !cfg.HA:
		return "HA is off for the pool"
	case !vm.HA:
		return "HA is off for " + string(vm.ID)
	default:
		return "HA is frozen" + by(cfg.FrozenMark)
	}
}

// by names who set something, if known.
func by(m pool.Mark) string {
	if m.By == "" {
		return ""
	}
	text := " by " + m.By
	if m.Why != "" {
		text += fmt.Sprintf(" (%s)", m.Why)
	}
	return text
}
