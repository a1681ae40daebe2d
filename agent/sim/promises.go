package sim

import (
	"context"
	"time"

	"github.com/holdfast-ha/holdfast/agent/failsafe"
	"github.com/holdfast-ha/holdfast/agent/sim/vtime"
	"github.com/holdfast-ha/holdfast/agent/sim/world"
	"github.com/holdfast-ha/holdfast/pkg/pool"
)

var _ failsafe.Asker = (*peers)(nil)

// AskPromise asks another agent not to act as leader for hold.
func (m *peers) AskPromise(ctx context.Context, server pool.ServerID, hold time.Duration) (promised bool, why string, err error) {
	err = m.call(ctx, server, func(ctx context.Context, other *simAgent) error {
		promised, why = other.Promise(ctx, Incarnation, hold)
		return nil
	})
	return promised && err == nil, why, err
}

// rosterMemory keeps what an agent knows of the roster under the server's /run.
type rosterMemory struct {
	s *world.Server
	p *vtime.Proc
}

func (m *rosterMemory) Load() (failsafe.Known, bool, error) {
	m.p.Check()
	k, ok := m.s.Run["roster"].(failsafe.Known)
	return k, ok, nil
}

func (m *rosterMemory) Save(k failsafe.Known) error {
	m.p.Check()
	m.s.Run["roster"] = k
	return nil
}
