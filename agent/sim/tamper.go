package sim

import (
	"github.com/holdfast-ha/holdfast/agent/app"
	"github.com/holdfast-ha/holdfast/agent/guard"
	"github.com/holdfast-ha/holdfast/pkg/kv"
)

// Tamper switches defences off, so that tests can show that the checker and the search notice. The zero value leaves
// everything as it is. Whatever it replaces is an edge of the simulation, or one of the agent's pure rules: there is
// no switch in what runs on real servers.
type Tamper struct {
	// Kills replaces the processes that a guard kills.
	Kills func(guard.Processes) guard.Processes
	// Store replaces an agent's connection to etcd, renewals of its lease apart.
	Store func(kv.Store) kv.Store
	// Agent changes the edges and rules of each agent that starts.
	Agent func(server string, e *app.Edges)
	// Guard changes the edges of each guard that starts.
	Guard func(*guard.LoopConfig)
	// NoLocks: the image locks of the shared storage stop nobody, whatever the registrations say.
	NoLocks bool
}

// any reports whether anything is switched off.
func (t Tamper) any() bool {
	return t.Kills != nil || t.Store != nil || t.Agent != nil || t.Guard != nil || t.NoLocks
}

// And returns what switches off both what t and what other switch off. Where both replace the same edge, other's stands
// on top.
func (t Tamper) And(other Tamper) Tamper {
	return Tamper{
		Kills: func(p guard.Processes) guard.Processes {
			for _, f := range []func(guard.Processes) guard.Processes{t.Kills, other.Kills} {
				if f != nil {
					p = f(p)
				}
			}
			return p
		},
		Store: func(s kv.Store) kv.Store {
			for _, f := range []func(kv.Store) kv.Store{t.Store, other.Store} {
				if f != nil {
					s = f(s)
				}
			}
			return s
		},
		Agent: func(server string, e *app.Edges) {
			for _, f := range []func(string, *app.Edges){t.Agent, other.Agent} {
				if f != nil {
					f(server, e)
				}
			}
		},
		Guard: func(c *guard.LoopConfig) {
			for _, f := range []func(*guard.LoopConfig){t.Guard, other.Guard} {
				if f != nil {
					f(c)
				}
			}
		},
		NoLocks: t.NoLocks || other.NoLocks,
	}
}

func (t Tamper) guard(c guard.LoopConfig) guard.LoopConfig {
	if t.Kills != nil {
		c.Processes = t.Kills(c.Processes)
	}
	if t.Guard != nil {
		t.Guard(&c)
	}
	return c
}

func (t Tamper) agent(server string, e app.Edges) app.Edges {
	if t.Store != nil {
		e.Store = t.Store(e.Store)
	}
	if t.Agent != nil {
		t.Agent(server, &e)
	}
	return e
}
