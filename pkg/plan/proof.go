package plan

import (
	"github.com/holdfast-ha/holdfast/pkg/pool"
)

// gone reports whether the session that the claim names has ended, or is fenced, as far as the snapshot shows.
func gone(s *pool.Snapshot, c pool.Claim) bool {
	return !s.Alive(c.Server, c.Session) || s.FencedFor(c.Server, c.Session)
}

// adopting reports whether a claim was made for a VM that runs already, outside the pool, and that its server is to
// adopt: the first owner is also where it ran last. Unlike other assigned claims it may be executing.
func adopting(c pool.Claim) bool {
	return c.Phase == pool.PhaseAssigned && c.Epoch == 1 && c.LastServer == c.Server
}

// mayRun reports whether the claim's server may be executing the VM.
func mayRun(c pool.Claim) bool { return c.MayRun() }

// covers reports whether a recorded fence proves that the claim's server no longer runs the VM. Power and an
// operator's word cover everything; the guard and the watchdog only what was armed when the session ended, and the
// guard alone only where disk locks stop a second writer, unless the pool trusts it. The watchdog's wait is never
// shorter than the guard's, so its record proves what the guard's would. Source: docs/safety.md, "Fencing".
func covers(f pool.Fence, c pool.Claim, vm pool.VM, cfg pool.Config) bool {
	if !f.Covers(c.Session) {
		return false
	}
	switch f.Proof {
	case pool.ProofPower, pool.ProofConfirmed:
		return true
	case pool.ProofWatchdog:
		return watchdogCounts(c) || guardCounts(c, vm, cfg)
	case pool.ProofGuard:
		return guardCounts(c, vm, cfg)
	default:
		return false
	}
}

func guardCounts(c pool.Claim, vm pool.VM, cfg pool.Config) bool {
	return c.Armed && (vm.DiskLocks || cfg.TrustGuardAlone)
}

func watchdogCounts(c pool.Claim) bool { return c.Armed && c.Watchdog > 0 }

// timing derives the durations of the safety argument; a policy that cannot be used gives the longest.
func timing(cfg pool.Config) pool.Timing {
	t, err := pool.NewTiming(cfg.LeaseTTL)
	if err != nil {
		t, _ = pool.NewTiming(pool.MaxTTL)
	}
	return t
}
