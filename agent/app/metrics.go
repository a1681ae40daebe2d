package app

import "github.com/holdfast-ha/holdfast/pkg/pool"

// StopTime is when this server's protected VMs are stopped unless the session is renewed before; ok is false without a
// session.
func (a *Agent) StopTime() (at pool.Instant, ok bool) {
	s := a.current()
	if s == nil {
		return 0, false
	}
	info, ok := s.Current()
	return info.KillAt, ok
}

// Leads reports whether this agent leads the pool.
func (a *Agent) Leads() bool {
	a.mu.Lock()
	c := a.lead
	a.mu.Unlock()
	if c == nil {
		return false
	}
	_, leads := c.Leading()
	return leads
}
