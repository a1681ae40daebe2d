package plan

import (
	"fmt"
	"time"

	"github.com/holdfast-ha/holdfast/pkg/pool"
)

// Limits of switching fenced servers on again.
const (
	// PowerOnMost is how often a server is switched on again within PowerOnWindow. One that needs more is broken.
	PowerOnMost = 3
	// PowerOnWindow is how long a power-on counts.
	PowerOnWindow = 24 * time.Hour
	// PowerOnLimit is how long a power-on that fails is tried again. After that somebody may have their hands in the
	// machine.
	PowerOnLimit = 10 * time.Minute
)

// settleFence drops what is recorded about earlier sessions of a server that is back with a newer one, except how often
// it was switched on again lately.
func (p *planner) settleFence(s *server) {
	if s.fence.Revision == 0 || s.hasFence && (!s.up || s.fence.Session >= s.member.Session) {
		return
	}
	recent := p.recentPowerOns(s)
	if !s.hasFence && len(recent) == len(s.fence.SwitchedOn) {
		return
	}
	a := Action{Kind: DropFence, Server: s.id, Why: fmt.Sprintf("%s is back with a new session", s.id)}
	if !s.hasFence {
		a.Why = fmt.Sprintf("%s was switched on again long ago", s.id)
	}
	if len(recent) == 0 {
		a.Change.RemoveFences = []pool.Fence{s.fence}
	} else {
		a.Change.Fences = []pool.Fence{{Server: s.id, At: s.fence.At, By: s.fence.By, SwitchedOn: recent, Revision: s.fence.Revision}}
	}
	p.add(a)
}

// recentPowerOns are the times that still count.
func (p *planner) recentPowerOns(s *server) []time.Time {
	var recent []time.Time
	for _, at := range s.fence.SwitchedOn {
		if p.in.Wall.Sub(at) < PowerOnWindow {
			recent = append(recent, at)
		}
	}
	return recent
}

// mayPowerOn reports whether a server is one that the pool switched off and may switch on again: nothing protected is
// left to be recovered from it, and no operator has it in hand.
func (p *planner) mayPowerOn(s *server) bool {
	r := s.registration
	return p.cfg.PowerOn && s.hasFence && s.fence.Proof == pool.ProofPower && !s.up && !s.unreadable && len(s.owed) == 0 &&
		r != nil && len(r.Fence) > 0 && !r.Maintenance && !r.Removing && !r.ShuttingDown
}

// switchedOn reports when the pool decided to switch a server on after its latest fencing.
func (s *server) switchedOn() (at time.Time, decided bool) {
	if n := len(s.fence.SwitchedOn); n > 0 && !s.fence.SwitchedOn[n-1].Before(s.fence.At) {
		return s.fence.SwitchedOn[n-1], true
	}
	return time.Time{}, false
}

// planPowerOn switches a fenced server on again once its VMs run elsewhere. The decision is on record before the
// command is sent, so that no crash of a leader lets it be sent more often than is allowed.
func (p *planner) planPowerOn(s *server) {
	if !p.mayPowerOn(s) {
		return
	}
	if at, decided := s.switchedOn(); decided {
		if !p.in.PowerOn[s.id].Done && p.in.Wall.Sub(at) < PowerOnLimit {
			p.out.PowerOn = append(p.out.PowerOn, s.id)
		}
		return
	}
	recent := p.recentPowerOns(s)
	if len(recent) >= PowerOnMost {
		return
	}
	at := p.in.Wall
	if at.Before(s.fence.At) { // another leader's clock
		at = s.fence.At
	}
	f := s.fence
	f.SwitchedOn = append(recent, at)
	why := fmt.Sprintf("%s is switched on again: nothing protected is left to be recovered from it", s.id)
	p.add(Action{Kind: SwitchOn, Server: s.id, Why: why, Change: pool.Change{Fences: []pool.Fence{f}, MembersAbsent: []pool.ServerID{s.id},
		Events: []pool.Event{p.event("SERVER_SWITCHED_ON", s.id, "", why)}}})
}

// powerAlerts: power switches that do not work, and servers that are not switched on again.
func (p *planner) powerAlerts(s *server, raise raiseFunc) {
	if s.registration != nil && len(s.registration.Fence) > 0 && s.up {
		p.switchAlert(s, raise)
	}
	if !p.mayPowerOn(s) || p.cfg.Frozen {
		return
	}
	at, decided := s.switchedOn()
	text := ""
	switch on := p.in.PowerOn[s.id]; {
	case !decided && len(p.recentPowerOns(s)) >= PowerOnMost:
		text = fmt.Sprintf("%s was fenced and switched on again %d times within %v, so it stays off: find out why, then switch it on by hand", s.id, PowerOnMost, PowerOnWindow)
	case decided && !on.Done && on.Err != "" && p.in.Wall.Sub(at) < PowerOnLimit:
		text = fmt.Sprintf("%s was fenced, and cannot be switched on again: %s", s.id, on.Err)
	case decided && !on.Done && p.in.Wall.Sub(at) >= PowerOnLimit && p.alertOpen("power-on-"+string(s.id)):
		text = fmt.Sprintf("%s was fenced, and could not be switched on again within %v: switch it on by hand", s.id, PowerOnLimit)
	}
	if text != "" {
		raise("power-on-"+string(s.id), AlertPowerOn, s.id, "", "POWER_ON_FAILED", text)
	}
}

// switchAlert keeps an alert open until the switch has answered well; a new leader has not asked it yet.
func (p *planner) switchAlert(s *server, raise raiseFunc) {
	id := pool.AlertID("power-switch-" + string(s.id))
	wrong, asked := p.in.Switches[s.id]
	switch old, open := p.snap.Alerts.Get(id); {
	case wrong != "":
		raise(string(id), AlertSwitch, s.id, "", "POWER_SWITCH", fmt.Sprintf("the power switch of %s is not usable, so %s could not be fenced by it: %s", s.id, s.id, wrong))
	case !asked && open:
		raise(string(id), AlertSwitch, s.id, "", "", old.Text)
	}
}

func (p *planner) alertOpen(id string) bool { return p.snap.Alerts.Has(pool.AlertID(id)) }
