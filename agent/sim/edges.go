package sim

import (
	"github.com/holdfast-ha/holdfast/agent/api"
	"github.com/holdfast-ha/holdfast/agent/guard"
	"github.com/holdfast-ha/holdfast/agent/sim/vtime"
	"github.com/holdfast-ha/holdfast/agent/sim/world"
	"github.com/holdfast-ha/holdfast/pkg/lease"
)

// GuardMemory keeps what the guard of a simulated server must know after a restart under that server's /run.
func GuardMemory(s *world.Server, p *vtime.Proc) guard.Memory { return &guardMemory{s, p} }

// LeaseState keeps a session for an agent's successor under a simulated server's /run.
func LeaseState(s *world.Server, p *vtime.Proc) lease.StateStore { return &leaseState{s, p} }

// Definitions reads domain XML as a real agent does.
func Definitions() api.Definitions { return definitions{} }
