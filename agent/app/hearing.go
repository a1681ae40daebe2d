package app

import (
	"context"
	"time"

	"github.com/holdfast-ha/holdfast/agent/leader"
	"github.com/holdfast-ha/holdfast/agent/reach"
	"github.com/holdfast-ha/holdfast/pkg/pool"
)

// Reach tells which hosts answer.
type Reach interface {
	reach.Probe
	// AskSilence asks another member how long it has listened to subject in vain; it begins when asked first.
	AskSilence(ctx context.Context, witness, subject pool.ServerID) (time.Duration, error)
}

// hearing is how this agent hears the others, and what they hear.
type hearing struct {
	*reach.Listener
	Reach
}

var _ leader.Hearing = hearing{}

// newHearing returns nil if this agent has no way to listen.
func (a *Agent) newHearing() leader.Hearing {
	if a.ears == nil {
		return nil
	}
	return hearing{a.ears, a.e.Reach}
}

// Silence begins or goes on to listen to another server, and returns how long that has given no sign of life. The
// leader asks while it suspects one.
func (a *Agent) Silence(server pool.ServerID) time.Duration {
	snap := a.Snapshot()
	if a.ears == nil || server == a.cfg.Server || !snap.Servers.Has(server) {
		return 0
	}
	a.ears.Listen(server, snap.Config.SuspectAfter/4)
	return a.ears.Silence(server)
}
