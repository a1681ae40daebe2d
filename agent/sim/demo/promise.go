package demo

import (
	"context"
	"fmt"
	"time"

	"github.com/holdfast-ha/holdfast/pkg/pool"
)

// AskPromise asks another agent of the demo not to act as leader for hold.
func (m *peers) AskPromise(ctx context.Context, server pool.ServerID, hold time.Duration) (promised bool, why string, err error) {
	m.c.mu.Lock()
	r := m.c.agents[string(server)]
	cut := m.c.apart[[2]string{m.self, string(server)}]
	m.c.mu.Unlock()
	if r == nil || cut {
		return false, "", fmt.Errorf("server %s does not answer: %w", server, pool.ErrUnavailable)
	}
	promised, why = r.agent.Promise(ctx, Incarnation, hold)
	return promised, why, nil
}
