//go:build !libvirt_dlopen

package virt

import (
	"context"

	"github.com/holdfast-ha/holdfast/agent/local"
	"github.com/holdfast-ha/holdfast/pkg/pool"
)

// Migrate fails.
func (a *Adapter) Migrate(context.Context, local.Migration) (local.Transfer, error) {
	return local.Transfer{}, errWithout
}

// Abort fails.
func (a *Adapter) Abort(context.Context, pool.VMID) error { return errWithout }

// Job fails.
func (a *Adapter) Job(context.Context, pool.VMID) (local.Job, error) { return local.Job{}, errWithout }

// QEMUUser fails.
func (a *Adapter) QEMUUser(context.Context) (uid, gid int, err error) { return 0, 0, errWithout }

// MakeReady fails.
func (a *Adapter) MakeReady(context.Context) error { return errWithout }

// Socket fails.
func (a *Adapter) Socket() (string, error) { return "", errWithout }
