package plan

import (
	"time"

	"github.com/holdfast-ha/holdfast/pkg/pool"
)

// ColdStartGrace is how long a leader that finds a pool as it is after a power loss of the whole site waits for the
// other servers to boot before it fences any that ran VMs before.
const ColdStartGrace = 2 * time.Minute

// ColdStart reports whether the pool looks as if all of it had been down: VMs of two servers or more ran under
// sessions that ended before this agent watched, and none runs under a session that it knows. known holds the
// sessions that this agent has seen live. One server that is lost is an ordinary failure, however young the leader; not so
// in a pool that was rebuilt, whose servers have had no session in this life of its data yet.
func ColdStart(s *pool.Snapshot, known map[pool.Session]bool) bool {
	ended := map[pool.ServerID]bool{}
	for vm, c := range pool.Join(s.VMs, s.Claims) {
		if vm != nil && c != nil && mayRun(*c) && c.Session == pool.FormerLife && !s.Members.Has(c.Server) {
			return true
		}
	}
	for vm, c := range pool.Join(s.VMs, s.Claims) {
		switch {
		case vm == nil || c == nil:
		case mayRun(*c) && known[c.Session]:
			return false
		case mayRun(*c) && !s.Alive(c.Server, c.Session):
			ended[c.Server] = true
		case c.Phase == pool.PhaseUnassigned && c.Cause == pool.CauseServerRestarted && vm.Desired == pool.DesiredRunning:
			ended[c.LastServer] = true
		}
	}
	return len(ended) >= 2
}

// spared reports whether a claim's server is given time to come back: the pool has just started, and the session
// ended before this agent watched.
func (p *planner) spared(c pool.Claim) bool {
	return p.in.Now.Before(p.in.ColdUntil) && !p.in.Known[c.Session]
}
