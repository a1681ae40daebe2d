package virt

import (
	"context"
	"fmt"

	"github.com/holdfast-ha/holdfast/agent/local"
	"github.com/holdfast-ha/holdfast/pkg/pool"
)

var errNoMigration = fmt.Errorf("live migration through libvirt is not built in: %w", pool.ErrUnavailable)

// Migrate fails.
func (a *Adapter) Migrate(context.Context, local.Migration) (local.Transfer, error) {
	return local.Transfer{}, errNoMigration
}

// Abort fails.
func (a *Adapter) Abort(context.Context, pool.VMID) error { return errNoMigration }

// Job finds none.
func (a *Adapter) Job(context.Context, pool.VMID) (local.Job, error) { return local.Job{}, nil }
