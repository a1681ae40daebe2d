package world

import (
	"context"
	"fmt"

	"github.com/holdfast-ha/holdfast/agent/local"
	"github.com/holdfast-ha/holdfast/pkg/pool"
)

var errNoMigration = fmt.Errorf("live migration is not simulated: %w", pool.ErrUnavailable)

// Migrate fails.
func (h *Hypervisor) Migrate(context.Context, local.Migration) (local.Transfer, error) {
	return local.Transfer{}, errNoMigration
}

// Abort fails.
func (h *Hypervisor) Abort(context.Context, pool.VMID) error { return errNoMigration }

// Job finds none.
func (h *Hypervisor) Job(context.Context, pool.VMID) (local.Job, error) { return local.Job{}, nil }
