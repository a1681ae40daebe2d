package sim

import (
	"fmt"
	"strings"

	"github.com/holdfast-ha/holdfast/agent/sim/world"
	"github.com/holdfast-ha/holdfast/pkg/plan"
	"github.com/holdfast-ha/holdfast/pkg/pool"
)

// tellWorld writes the world's events into the time line.
func (p *Pool) tellWorld(e world.Event) { p.trace.add("%s", e.Text) }

// tellChange writes into the time line what a commit means to people: events of the pool's history, members coming
// and going, leadership, claims, alerts and the outcome of operations.
func (p *Pool) tellChange(c Change) {
	if !p.trace.begun || p.trace.sink == nil {
		return
	}
	told := map[string]bool{}
	for id := range c.After.Events.ChangedSince(c.Before.Events) {
		if e, ok := c.After.Events.Get(id); ok && !c.Before.Events.Has(id) {
			if e.Actor != operator.Name { // whose command stands there already
				p.trace.add("%s: %s", e.Actor, e.Text)
			}
			told[e.Text] = true
		}
	}
	for id := range c.After.Members.ChangedSince(c.Before.Members) {
		was, had := c.Before.Members.Get(id)
		now, has := c.After.Members.Get(id)
		switch {
		case had && !has:
			how := "its lease has expired"
			if c.By == string(id) {
				how = "it was given back"
			}
			p.trace.add("the session of %s has ended: %s", id, how)
		case has && (!had || was.Session != now.Session):
			p.trace.add("%s is a member, session %d", id, now.Session)
		}
	}
	if c.Before.Leader != c.After.Leader {
		if l := c.After.Leader.Server; l != "" {
			p.trace.add("%s leads", l)
		} else {
			p.trace.add("nobody leads")
		}
	}
	for id := range c.After.Claims.ChangedSince(c.Before.Claims) {
		was, _ := c.Before.Claims.Get(id)
		now, ok := c.After.Claims.Get(id)
		if text := claimStep(was, now, ok); text != "" {
			p.trace.add("claim of %s: %s (by %s)", id, text, c.By)
		}
	}
	for id := range c.After.Fences.ChangedSince(c.Before.Fences) {
		was, _ := c.Before.Fences.Get(id)
		if f, ok := c.After.Fences.Get(id); ok && f.Proof != pool.ProofNone && (f.Proof != was.Proof || f.Session != was.Session) {
			p.trace.add("%s can run none of its VMs any more, as of session %d: %s", id, f.Session, proofWords(f.Proof))
		}
	}
	for id := range c.After.Alerts.ChangedSince(c.Before.Alerts) {
		was, had := c.Before.Alerts.Get(id)
		now, has := c.After.Alerts.Get(id)
		switch {
		case has && saidBefore(told, now.Text): // the history has just said it
		case has && (!had || was.Text != now.Text):
			p.trace.add("alert: %s", now.Text)
		case had && !has:
			p.trace.add("alert over: %s", head(was.Text))
		}
	}
	p.tellStates(c)
}

// saidBefore reports whether one of the events told of an alert: in its words, or in the beginning of them.
func saidBefore(told map[string]bool, text string) bool {
	for t := range told {
		if strings.HasPrefix(text, t) {
			return true
		}
	}
	return false
}

// proofWords says in words what makes a lost server harmless.
func proofWords(by pool.Proof) string {
	switch by {
	case pool.ProofReleased:
		return "it gave them back before it left"
	case pool.ProofPower:
		return "its power was cut, and its power switch says that it is off"
	case pool.ProofWatchdog:
		return "its watchdog was armed, and has had the time to reset it"
	case pool.ProofGuard:
		return "its guard was armed, and kills what it holds before the lease can end"
	case pool.ProofConfirmed:
		return "an operator has confirmed that it is off"
	}
	return by.String()
}

// tellBeginning writes how the pool stands at time 0.
func (p *Pool) tellBeginning() {
	if p.trace.sink == nil {
		return
	}
	var up []string
	for _, s := range p.World.Servers() {
		if !s.Powered() {
			continue
		}
		text := s.Name
		if n := s.Executing(); n > 0 && len(p.File.VMs) > fewVMs {
			text += fmt.Sprintf(" (%d VMs)", n)
		} else if n > 0 {
			var vms []string
			for _, q := range s.QEMUs() {
				vms = append(vms, string(q.VM))
			}
			text += " (" + strings.Join(vms, " ") + ")"
		}
		up = append(up, text)
	}
	leader := "nobody leads"
	if l := p.truth.snapshot().Leader.Server; l != "" {
		leader = string(l) + " leads"
	}
	p.trace.add("the pool stands: %s; %s", strings.Join(up, ", "), leader)
}

// fewVMs are listed by name.
const fewVMs = 30

// head is what a text is about: all before its details.
func head(text string) string {
	before, _, _ := strings.Cut(text, ": ")
	before, _, _ = strings.Cut(before, "; ")
	return before
}

// tellStates writes how VMs' reported states changed.
func (p *Pool) tellStates(c Change) {
	for id := range c.After.States.ChangedSince(c.Before.States) {
		now, ok := c.After.States.Get(id)
		was, _ := c.Before.States.Get(id)
		if ok && (was.State != now.State || was.Server != now.Server || was.Reason != now.Reason) {
			why := ""
			if now.Reason != "" {
				why = ": " + now.Reason
			}
			p.trace.add("%s is reported %s on %s%s", id, now.State, now.Server, why)
		}
	}
}

// claimStep says what changed in a claim; empty if nothing worth a line.
func claimStep(was, now pool.Claim, exists bool) string {
	switch {
	case !exists:
		return "removed"
	case was.Phase == pool.PhaseUnspecified:
		return whose(now)
	case was.Phase != now.Phase || was.Server != now.Server || was.Epoch != now.Epoch:
		text := fmt.Sprintf("%s; was %s", whose(now), whose(was))
		if was.Epoch != now.Epoch {
			text += fmt.Sprintf("; epoch %d", now.Epoch)
		}
		if now.Phase == pool.PhaseUnassigned && now.Cause != pool.CauseUnspecified {
			text += fmt.Sprintf("; cause: %s", now.Cause)
		}
		if now.Armed && (!was.Armed || was.Server != now.Server) {
			text += fmt.Sprintf("; the guard of %s holds it", now.Server)
		}
		return text
	case was.Session != now.Session:
		return fmt.Sprintf("%s, asserted again under session %d", whose(now), now.Session)
	case was.Armed && !now.Armed:
		return fmt.Sprintf("%s, and its guard no longer answers for it", whose(now))
	case !was.Armed && now.Armed:
		return fmt.Sprintf("%s, and its guard holds it", whose(now))
	case was.Incoming != nil && now.Incoming == nil:
		return whose(now) + ", migration ended"
	}
	return ""
}

// whose says in words whom a claim lets run its VM.
func whose(c pool.Claim) string {
	switch c.Phase {
	case pool.PhaseUnassigned:
		return "nobody's"
	case pool.PhaseAssigned:
		return "given to " + string(c.Server)
	case pool.PhaseHeld:
		return "with " + string(c.Server)
	case pool.PhaseMigrating:
		if c.Incoming != nil {
			return fmt.Sprintf("with %s, migrating to %s", c.Server, c.Incoming.Server)
		}
		return fmt.Sprintf("with %s, migrating", c.Server)
	case pool.PhaseReleasing:
		return fmt.Sprintf("with %s, which gives it back", c.Server)
	case pool.PhaseHandedOver:
		return "handed over to " + string(c.Server)
	}
	return fmt.Sprintf("%s %s", c.Phase, c.Server)
}

// report is what a connected agent says, cached for one snapshot.
type report struct {
	snap *pool.Snapshot
	view *plan.View
}

// reporter returns what the agents that reach etcd report: the newest snapshot among them, of the first by name.
// If none reaches etcd, any living agent answers; nil if there is none.
func (p *Pool) reporter() *report {
	var best *pool.Snapshot
	connected := false
	for _, s := range p.World.Servers() {
		a := p.crew.Agent(s.Name)
		if a == nil || s.Agent() == nil || s.Agent().Hung() {
			continue
		}
		snap := a.Snapshot()
		if snap == nil || snap.Revision == 0 {
			continue
		}
		reaches := p.Etcd.Reaches(s.Name)
		if best == nil || (reaches && !connected) || (reaches == connected && snap.Revision > best.Revision) {
			best, connected = snap, reaches
		}
	}
	if best == nil {
		return nil
	}
	if p.reported == nil || p.reported.snap != best {
		p.reported = &report{best, plan.NewView(best)}
	}
	return p.reported
}

// serverStates returns the words for a server.
func (r *report) serverStates(server string) []string {
	states, _ := r.view.Server(pool.ServerID(server))
	var out []string
	for _, s := range states {
		out = append(out, s.String())
	}
	return out
}
