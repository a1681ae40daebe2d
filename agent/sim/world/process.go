package world

import "github.com/holdfast-ha/holdfast/agent/sim/vtime"

// Agent returns the agent's process, nil if none runs.
func (s *Server) Agent() *vtime.Proc { return s.agent }

// Guard returns the guard's process, nil if none runs.
func (s *Server) Guard() *vtime.Proc { return s.guard }

// HasGuard reports whether a guard belongs on this server.
func (s *Server) HasGuard() bool { return s.Fencing == FencingGuard || s.Fencing == FencingWatchdog }

// NewProc returns a process of this server that neither faults nor power changes end by themselves: the caller
// kills it.
func (s *Server) NewProc(name string) *vtime.Proc {
	return s.w.s.NewProc(name+" "+s.Name, s.time)
}

// StartAgent starts the agent if the machine runs and none does yet; one that is stopping starts again after that, as a
// service manager's queue has it.
func (s *Server) StartAgent() {
	if s.agent != nil && s.stopping == s.agent {
		s.again = s.agent
		return
	}
	if !s.booted || s.agent != nil || s.w.programs == nil {
		return
	}
	s.agent = s.NewProc("agent")
	s.w.emit(KindProcess, s.Name, "", "the agent of %s starts", s.Name)
	s.w.programs.StartAgent(s, s.agent)
}

// KillAgent ends the agent as SIGKILL does.
func (s *Server) KillAgent() {
	if s.agent == nil {
		return
	}
	s.w.emit(KindProcess, s.Name, "", "the agent of %s is killed", s.Name)
	s.agent.Kill()
	s.agent = nil
	s.edges = nil
	s.unheld()
}

// HangAgent stops the agent as SIGSTOP does.
func (s *Server) HangAgent() {
	if s.agent != nil {
		s.w.emit(KindProcess, s.Name, "", "the agent of %s hangs", s.Name)
		s.agent.Hang()
	}
}

// ResumeAgent continues a hung agent.
func (s *Server) ResumeAgent() {
	if s.agent != nil && s.agent.Hung() {
		s.w.emit(KindProcess, s.Name, "", "the agent of %s goes on", s.Name)
		s.agent.Resume()
	}
}

// StopAgent asks the agent to end in an orderly way, and to start again if restart is set.
func (s *Server) StopAgent(restart bool) {
	if s.agent == nil || s.w.programs == nil {
		return
	}
	s.w.emit(KindProcess, s.Name, "", "the agent of %s is asked to stop", s.Name)
	s.stopping = s.agent
	s.w.programs.StopAgent(s, restart)
}

// AgentEnded is called by the agent's program, at its orderly end.
func (s *Server) AgentEnded(p *vtime.Proc, restart bool) {
	if s.agent != p || !p.Alive() {
		return
	}
	s.w.emit(KindProcess, s.Name, "", "the agent of %s has stopped", s.Name)
	s.agent = nil
	s.edges = nil
	p.Kill()
	s.unheld()
	if restart || s.again == p {
		s.StartAgent()
	}
}

// StartGuard starts the guard if the machine runs, has one, and none runs yet; a hung one goes on.
func (s *Server) StartGuard() {
	if s.guard != nil && s.guard.Hung() {
		s.w.emit(KindProcess, s.Name, "", "the guard of %s goes on", s.Name)
		s.guard.Resume()
		return
	}
	if !s.booted || s.guard != nil || !s.HasGuard() || s.w.programs == nil {
		return
	}
	s.guard = s.NewProc("guard")
	s.w.emit(KindProcess, s.Name, "", "the guard of %s starts", s.Name)
	s.w.programs.StartGuard(s, s.guard)
}

// KillGuard ends the guard as SIGKILL does.
func (s *Server) KillGuard() {
	if s.guard == nil {
		return
	}
	s.w.emit(KindProcess, s.Name, "", "the guard of %s is killed", s.Name)
	s.guard.Kill()
	s.guard = nil
}

// HangGuard stops the guard as SIGSTOP does.
func (s *Server) HangGuard() {
	if s.guard != nil {
		s.w.emit(KindProcess, s.Name, "", "the guard of %s hangs", s.Name)
		s.guard.Hang()
	}
}
