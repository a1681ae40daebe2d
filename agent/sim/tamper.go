package sim

import (
	"github.com/holdfast-ha/holdfast/agent/guard"
	"github.com/holdfast-ha/holdfast/pkg/kv"
)

// Tamper switches defences off, so that tests can show that the checker and the search notice. The zero value leaves
// everything as it is.
type Tamper struct {
	// Kills replaces the processes that a guard kills.
	Kills func(guard.Processes) guard.Processes
	// Store replaces an agent's connection to etcd, renewals of its lease apart.
	Store func(kv.Store) kv.Store
}

func (t Tamper) processes(p guard.Processes) guard.Processes {
	if t.Kills == nil {
		return p
	}
	return t.Kills(p)
}

func (t Tamper) store(s kv.Store) kv.Store {
	if t.Store == nil {
		return s
	}
	return t.Store(s)
}
