package sim

import (
	"context"

	"github.com/holdfast-ha/holdfast/agent/sim/scenario"
	"github.com/holdfast-ha/holdfast/agent/sim/world"
	"github.com/holdfast-ha/holdfast/pkg/pool"
)

// Crew runs the programs of all servers.
type Crew interface {
	world.Programs
	// Agent returns the agent that runs on a server, nil if none does.
	Agent(server string) Agent
}

// Agent is one running agent as operators see it.
type Agent interface {
	// Snapshot returns the pool as the agent would report it, nil before it has read it.
	Snapshot() *pool.Snapshot
	// Do carries out an operator command through the API's handlers. It is called in a coroutine of the agent's
	// process. The operation is empty for a command that makes none.
	Do(ctx context.Context, c scenario.Statement) (pool.OperationID, error)
}
