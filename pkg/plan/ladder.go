package plan

import (
	"fmt"
	"strings"
	"time"

	"github.com/holdfast-ha/holdfast/pkg/pool"
)

// ladder is how far the proofs have come for the claims of a lost server that none covers yet.
type ladder struct {
	// proven is the proof that holds now, if any; server and time are not filled in.
	proven *pool.Fence
	// wake lists when a proof will hold by the passing of time.
	wake []pool.Instant
	// wantsPower: it has fence devices, and they have not reported it off since.
	wantsPower bool
	// open names the VMs that wait.
	open []pool.VMID
	// stuck: no proof will come by itself soon; tried says why, proof by proof.
	stuck bool
	tried []pool.ProofTry
	// spared: the server is given time to boot.
	spared bool
}

// climb tries the proofs in their order: power, watchdog, guard. An operator's confirmation is a record already.
func (p *planner) climb(s *server, open []owedClaim, sight Sight) ladder {
	var l ladder
	if len(open) == 0 {
		return l
	}
	for _, o := range open {
		l.open = append(l.open, o.vm.ID)
	}
	if open = p.withoutSpared(&l, open); len(open) == 0 {
		return l
	}
	pending := p.climbPower(&l, s, open)
	pending = p.climbWatchdog(&l, open, sight) || pending
	pending = p.climbGuard(&l, s, open, sight) || pending
	l.stuck = l.proven == nil && !pending && len(open) == len(l.open)
	return l
}

// withoutSpared leaves out the claims whose server is given time to boot.
func (p *planner) withoutSpared(l *ladder, open []owedClaim) []owedClaim {
	var now []owedClaim
	for _, o := range open {
		if !p.spared(o.claim) {
			now = append(now, o)
		}
	}
	if len(now) < len(open) {
		l.spared = true
		l.wake = append(l.wake, p.in.ColdUntil)
	}
	return now
}

// climbPower reports whether a command is under way that has not failed yet.
func (p *planner) climbPower(l *ladder, s *server, open []owedClaim) (pending bool) {
	if s.registration == nil || len(s.registration.Fence) == 0 {
		l.failed(pool.ProofPower, "no power fencing is set up")
		return false
	}
	got := p.in.Power[s.id]
	f := pool.Fence{Session: got.Session, Proof: pool.ProofPower, Evidence: got.Evidence}
	if got.Off && anyCovered(f, open, p.cfg) {
		l.proven = &f
		return false
	}
	l.wantsPower = true
	if got.Err == "" {
		return true
	}
	l.failed(pool.ProofPower, "power fencing failed: "+got.Err)
	return false
}

// climbWatchdog waits until the slowest of the armed watchdogs must have fired.
func (p *planner) climbWatchdog(l *ladder, open []owedClaim, sight Sight) (pending bool) {
	var slowest time.Duration
	for _, o := range open {
		if watchdogCounts(o.claim) {
			slowest = max(slowest, o.claim.Watchdog)
		}
	}
	if slowest == 0 {
		l.failed(pool.ProofWatchdog, noWatchdog)
		return false
	}
	wait := p.timing.WatchdogSettle(slowest)
	if p.elapsed(sight.Since) < wait {
		l.wake = append(l.wake, sight.Since.Add(wait))
		return true
	}
	f := pool.Fence{Session: pool.Session(sight.Revision), Proof: pool.ProofWatchdog,
		Evidence: fmt.Sprintf("watchdog of %v armed, lease gone for %s", slowest, seconds(p.elapsed(sight.Since)))}
	if l.proven == nil && anyCovered(f, open, p.cfg) {
		l.proven = &f
	}
	return false
}

// LabelFenceBy is the label by which an operator says of a server whose word alone counts; with the value FenceByWatchdog its
// guard is no proof, even where disks have locks. Power and an operator's word always count.
const (
	LabelFenceBy    = "fence-by"
	FenceByWatchdog = "watchdog"
)

// climbGuard waits for L after the lease was seen gone.
func (p *planner) climbGuard(l *ladder, s *server, open []owedClaim, sight Sight) (pending bool) {
	if s.registration != nil && s.registration.Labels[LabelFenceBy] == FenceByWatchdog {
		l.failed(pool.ProofGuard, "only its watchdog is trusted, as its label "+LabelFenceBy+" says")
		return false
	}
	var unarmed, unlocked []pool.VMID
	for _, o := range open {
		switch {
		case !o.claim.Armed:
			unarmed = append(unarmed, o.vm.ID)
		case !guardCounts(o.claim, o.vm, p.cfg):
			unlocked = append(unlocked, o.vm.ID)
		}
	}
	if len(unarmed) > 0 {
		l.failed(pool.ProofGuard, "its guard did not hold "+names(unarmed)+" when the session ended")
	}
	if len(unlocked) > 0 {
		l.failed(pool.ProofGuard, "the guard alone is no proof for "+names(unlocked)+", whose disks have no lock")
	}
	if len(unarmed)+len(unlocked) == len(open) {
		return false
	}
	if p.elapsed(sight.Since) < p.timing.Settle {
		l.wake = append(l.wake, sight.Since.Add(p.timing.Settle))
		return true
	}
	f := pool.Fence{Session: pool.Session(sight.Revision), Proof: pool.ProofGuard,
		Evidence: fmt.Sprintf("guard armed, lease gone for %s", seconds(p.elapsed(sight.Since)))}
	if l.proven == nil && anyCovered(f, open, p.cfg) {
		l.proven = &f
	}
	return false
}

// noWatchdog is said of it in the list of what was tried. A sentence leaves it out: most servers have none.
const noWatchdog = "no watchdog was armed"

// failed notes that a proof does not hold.
func (l *ladder) failed(proof pool.Proof, why string) {
	l.tried = append(l.tried, pool.ProofTry{Proof: proof, Result: why})
}

func anyCovered(f pool.Fence, open []owedClaim, cfg pool.Config) bool {
	for _, o := range open {
		if covers(f, o.claim, o.vm, cfg) {
			return true
		}
	}
	return false
}

// text says what the VMs wait for, and the way out.
func (l ladder) text(s pool.ServerID) string {
	if l.spared {
		return fmt.Sprintf("%s is lost; %s waiting for fencing: the whole pool was down, so %s is given %v to start; if it will not: confirm-fenced %s",
			s, names(l.open), s, ColdStartGrace, s)
	}
	var why []string
	for _, t := range l.tried {
		if t.Result != noWatchdog {
			why = append(why, t.Result)
		}
	}
	return fmt.Sprintf("%s is lost; %s waiting for fencing: %s; once %s is off for certain: confirm-fenced %s",
		s, names(l.open), strings.Join(why, "; "), s, s)
}
