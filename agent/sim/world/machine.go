package world

import (
	"context"
	"time"

	"github.com/holdfast-ha/holdfast/agent/sim/vtime"
	"github.com/holdfast-ha/holdfast/pkg/clock"
)

// HoldUp is how long a shutdown may be held up by a server's agent; what the unit files set for systemd-logind.
const HoldUp = 15 * time.Minute

// goneFor is how long it takes from the end of the hold-up until a server's programs have ended.
const goneFor = 500 * time.Millisecond

// departure is an orderly shutdown under way.
type departure struct {
	reboot bool
}

// GoDown begins an orderly shutdown, or reboot, as from the server's own shell. The agent may hold it up; without one
// nobody does.
func (s *Server) GoDown(reboot bool) {
	if !s.powered || s.going != nil {
		return
	}
	word := "shut down"
	if reboot {
		word = "reboot"
	}
	s.w.emit(KindServer, s.Name, "", "%s is asked to %s", s.Name, word)
	d := &departure{reboot: reboot}
	s.going = d
	s.tellGoing()
	if s.agent == nil {
		s.leave(d)
		return
	}
	s.w.s.After(HoldUp, func() { s.leave(d) })
}

// leave ends the hold-up.
func (s *Server) leave(d *departure) {
	if s.going != d || !s.powered {
		return
	}
	boot := s.boots
	s.w.s.After(goneFor, func() {
		if s.going == d && s.boots == boot {
			s.Reboot(!d.reboot)
		}
	})
}

// unheld is called when the agent's process has ended: logind sees its lock closed.
func (s *Server) unheld() {
	s.watchers = nil
	if s.going != nil {
		s.leave(s.going)
	}
}

func (s *Server) tellGoing() {
	for _, sig := range s.watchers {
		sig.Set()
	}
}

// Machine is how an agent's process sees and delays the shutdown of its server.
type Machine struct {
	s *Server
	p *vtime.Proc
}

// Machine returns the edge for an agent that runs as p.
func (s *Server) Machine(p *vtime.Proc) *Machine { return &Machine{s, p} }

// GoingDown reports whether the server was asked to shut down, or to reboot.
func (m *Machine) GoingDown() (down, reboot bool) {
	m.p.Check()
	if m.s.going == nil {
		return false, false
	}
	return true, m.s.going.reboot
}

// Subscribe sets sig whenever that changes.
func (m *Machine) Subscribe(sig clock.Signal) {
	m.p.Check()
	m.s.watchers = append(m.s.watchers, sig)
}

// LetGo lets the shutdown go on.
func (m *Machine) LetGo(context.Context) error {
	m.p.Check()
	if m.s.going != nil {
		m.s.leave(m.s.going)
	}
	return nil
}

// PowerOff asks the server to shut down, or to reboot.
func (m *Machine) PowerOff(_ context.Context, reboot bool) error {
	m.p.Check()
	m.s.w.s.After(0, func() { m.s.GoDown(reboot) })
	return nil
}

// HoldUp returns for how long a shutdown can be held up.
func (m *Machine) HoldUp() time.Duration { return HoldUp }
