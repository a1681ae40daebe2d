//go:build !libvirt_dlopen

package virt

import (
	"context"
	"fmt"

	"github.com/holdfast-ha/holdfast/agent/guard"
	"github.com/holdfast-ha/holdfast/agent/local"
	"github.com/holdfast-ha/holdfast/agent/virt/definition"
	"github.com/holdfast-ha/holdfast/agent/virt/process"
	"github.com/holdfast-ha/holdfast/pkg/clock"
	"github.com/holdfast-ha/holdfast/pkg/pool"
)

// Adapter stands in for the real one in a build without libvirt: what needs libvirt fails, with the way out.
type Adapter struct {
	changed clock.Signal
	procs   process.Table
}

var (
	_ local.Hypervisor = (*Adapter)(nil)
	_ local.Needs      = (*Adapter)(nil)
	_ local.Drifts     = (*Adapter)(nil)
)

var errWithout = fmt.Errorf("this binary was built without libvirt; build it with -tags libvirt_dlopen: %w", pool.ErrUnavailable)

// New returns an Adapter without libvirt.
func New(o Options) *Adapter {
	o = o.complete()
	return &Adapter{changed: o.Clock.NewSignal(), procs: process.Table{Run: o.RunDir}}
}

// Run fails.
func (a *Adapter) Run(context.Context) error { return errWithout }

// Changed is never set.
func (a *Adapter) Changed() clock.Signal { return a.changed }

// Health says that there is no libvirt.
func (a *Adapter) Health() Health { return Health{Reason: errWithout.Error()} }

// Kill works as in the real adapter.
func (a *Adapter) Kill(ctx context.Context, p guard.Process) error { return a.procs.Kill(ctx, p) }

// Dead works as in the real adapter.
func (a *Adapter) Dead(_ context.Context, p guard.Process) (bool, error) { return a.procs.Dead(p) }

// Absent works as in the real adapter.
func (a *Adapter) Absent(ctx context.Context, uuid string) (bool, error) {
	return a.procs.Absent(ctx, uuid)
}

// PutsAway fails.
func (a *Adapter) PutsAway(context.Context, pool.VMID) (bool, error) { return false, errWithout }

// Forget has nothing to forget.
func (a *Adapter) Forget(pool.VMID) {}

// NoPause says that there is no libvirt.
func (a *Adapter) NoPause() string { return errWithout.Error() }

// Domains fails.
func (a *Adapter) Domains(context.Context) ([]local.Domain, error) { return nil, errWithout }

// Create fails.
func (a *Adapter) Create(context.Context, string, local.Marker) (local.Domain, error) {
	return local.Domain{}, errWithout
}

// Resume fails.
func (a *Adapter) Resume(context.Context, pool.VMID, local.Marker) error { return errWithout }

// Adopt fails.
func (a *Adapter) Adopt(context.Context, pool.VMID, local.Marker) error { return errWithout }

// Shutdown fails.
func (a *Adapter) Shutdown(context.Context, pool.VMID) error { return errWithout }

// Capacity fails.
func (a *Adapter) Capacity(context.Context) (local.Capacity, error) {
	return local.Capacity{}, errWithout
}

// CPUModel fails.
func (a *Adapter) CPUModel(context.Context) (string, error) { return "", errWithout }

// Load fails.
func (a *Adapter) Load() (process.Load, error) { return process.Load{}, errWithout }

// Usage fails.
func (a *Adapter) Usage(context.Context) ([]local.Usage, error) { return nil, errWithout }

// StorageLost fails.
func (a *Adapter) StorageLost(context.Context) (bool, error) { return false, errWithout }

// Missing fails.
func (a *Adapter) Missing(context.Context, []pool.Need) ([]string, error) { return nil, errWithout }

// LookupDomain fails.
func (a *Adapter) LookupDomain(context.Context, string) (Found, bool, error) {
	return Found{}, false, errWithout
}

// Inspect fails.
func (a *Adapter) Inspect(context.Context, string, []pool.Need) (Inspection, error) {
	return Inspection{}, errWithout
}

// Chains fails.
func (a *Adapter) Chains(context.Context, pool.VMID) ([]definition.Chain, error) {
	return nil, errWithout
}

// Drift fails.
func (a *Adapter) Drift(context.Context, pool.VM) (local.Drift, error) {
	return local.Drift{}, errWithout
}
