package virt

import (
	"context"

	"github.com/holdfast-ha/holdfast/agent/guard"
)

// Crash ends a process by SIGKILL as if it had crashed: nobody here expects its end. It returns once it is seen dead.
func (a *Adapter) Crash(ctx context.Context, p guard.Process) error { return a.procs.Kill(ctx, p) }
