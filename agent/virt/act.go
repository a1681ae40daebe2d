//go:build libvirt_dlopen

package virt

import (
	"context"
	"fmt"
	"strings"
	"time"

	"libvirt.org/go/libvirt"

	"github.com/holdfast-ha/holdfast/agent/local"
	"github.com/holdfast-ha/holdfast/agent/virt/definition"
	"github.com/holdfast-ha/holdfast/pkg/pool"
)

// Create makes a transient domain from xml with the CPUs stopped. It is idempotent: a domain that an earlier call of
// unknown outcome made under the same marker is returned. An inactive definition of the same VM that was left in
// libvirt is removed first: it could start by itself at boot. Errors: local.ErrDiskLocked, pool.ErrExists (another
// domain has the name or UUID), pool.ErrInvalid and pool.ErrRefused (the definition), pool.ErrUnavailable,
// pool.ErrOutcomeUnknown.
func (a *Adapter) Create(ctx context.Context, xml string, marker local.Marker) (local.Domain, error) {
	monitor := a.monitorFor(ctx, marker.VM)
	d, err := a.create(ctx, xml, marker, monitor)
	if err != nil && monitor != "" && strings.Contains(err.Error(), monitor) {
		// QEMU names the option that it fails with.
		_, why, _ := strings.Cut(err.Error(), monitorOptions+": ")
		a.setNoMonitors(fmt.Sprintf("QEMU cannot listen in %s: %s", a.opt.MonitorDir, strings.TrimSuffix(why, ": "+pool.ErrInvalid.Error())))
		return a.create(ctx, xml, marker, "")
	}
	return d, err
}

func (a *Adapter) create(ctx context.Context, xml string, marker local.Marker, monitor string) (local.Domain, error) {
	text, err := definition.Prepare(xml, marker, monitor)
	if err != nil {
		return local.Domain{}, err
	}
	uuid, err := uuidOf(text)
	if err != nil {
		return local.Domain{}, err
	}
	r := request{what: "create", vm: marker.VM, limit: a.opt.StartLimit}
	s, err := run(ctx, a.calls, r, func(conn *libvirt.Connect) (seen, error) {
		d, err := a.clear(conn, string(marker.VM), uuid, marker)
		if err != nil {
			return seen{}, fmt.Errorf("create %s: %w", marker.VM, err)
		}
		if d == nil {
			if d, err = conn.DomainCreateXML(text, libvirt.DOMAIN_START_PAUSED); err != nil {
				return seen{}, fmt.Errorf("create %s: %w", marker.VM, failure(err, false))
			}
		}
		defer free(d)
		s, ok, err := a.look(d)
		if err == nil && (!ok || s.qemu.PID == 0) {
			err = fmt.Errorf("its process ended at once: %w", pool.ErrOutcomeUnknown)
		}
		return s, err
	})
	a.records.mark(string(marker.VM))
	if err != nil {
		return local.Domain{}, err
	}
	a.take([]seen{s}, nil)
	rec, ok := a.records.get(s.name)
	if !ok {
		return local.Domain{}, fmt.Errorf("create %s: it ended at once: %w", marker.VM, pool.ErrOutcomeUnknown)
	}
	return rec.domain(a.clock.Now(), a.opt.Settle, true), nil
}

func uuidOf(text string) (string, error) {
	d, err := definition.Read(text)
	if err != nil {
		return "", err
	}
	return d.UUID, nil
}

// tidy is how long libvirt may take to notice that a process has died; reapEvery is the pause between two looks.
// docs/facts.md: up to 1 s for 20 at once, and 1-2 s more where init is slow to reap.
const (
	tidy      = 4 * time.Second
	reapEvery = 20 * time.Millisecond
)

// clear makes the name free for a new domain. It returns a domain that is already what is to be created.
func (a *Adapter) clear(conn *libvirt.Connect, name, uuid string, marker local.Marker) (*libvirt.Domain, error) {
	deadline := a.clock.Now().Add(tidy)
	for {
		d, err := conn.LookupDomainByName(name)
		if isCode(err, libvirt.ERR_NO_DOMAIN) {
			return nil, nil
		}
		if err != nil {
			return nil, failure(err, true)
		}
		same, gone, err := a.inTheWay(d, uuid, marker)
		if same {
			return d, nil
		}
		free(d)
		if err != nil || gone {
			return nil, err
		}
		if !a.clock.Now().Before(deadline) {
			return nil, fmt.Errorf("libvirt has not noticed for %v that the last QEMU of it died: %w", tidy, pool.ErrUnavailable)
		}
		if err := a.clock.Sleep(a.life, reapEvery); err != nil {
			return nil, fmt.Errorf("stopped: %w", pool.ErrUnavailable)
		}
	}
}

// inTheWay looks at a domain that has the name: is it already the wanted one (same), or has it been removed (gone)?
// Neither: look again soon.
func (a *Adapter) inTheWay(d *libvirt.Domain, uuid string, marker local.Marker) (same, gone bool, err error) {
	name, has, _ := identity(d)
	if has != uuid {
		return false, false, fmt.Errorf("libvirt has another domain %s with UUID %s; rename or undefine it: %w", name, has, pool.ErrExists)
	}
	s, active, err := a.look(d)
	switch {
	case err != nil:
		return false, false, err
	case !active:
		return false, true, undefine(d, leftOver)
	case s.qemu.PID == 0:
		return false, false, nil // dead, and libvirt is about to notice
	case s.marker != nil && *s.marker == marker && s.state == local.DomainPaused:
		return true, false, nil
	}
	return false, false, fmt.Errorf("it is active here already, as %v: %w", s.qemu.Process, pool.ErrExists)
}

// What goes with a definition. A saved memory image is older than the disks of a VM that the pool has run since.
const (
	keepState = libvirt.DOMAIN_UNDEFINE_KEEP_NVRAM | libvirt.DOMAIN_UNDEFINE_KEEP_TPM
	leftOver  = keepState | libvirt.DOMAIN_UNDEFINE_MANAGED_SAVE | libvirt.DOMAIN_UNDEFINE_SNAPSHOTS_METADATA |
		libvirt.DOMAIN_UNDEFINE_CHECKPOINTS_METADATA
)

// undefine removes a stored definition and its autostart mark. A running domain becomes transient.
func undefine(d *libvirt.Domain, flags libvirt.DomainUndefineFlagsValues) error {
	persistent, err := d.IsPersistent()
	if isCode(err, libvirt.ERR_NO_DOMAIN) || (err == nil && !persistent) {
		return nil
	}
	if err != nil {
		return failure(err, true)
	}
	if err := d.SetAutostart(false); err != nil {
		return fmt.Errorf("switch autostart off: %w", failure(err, false))
	}
	err = d.UndefineFlags(flags)
	if isCode(err, libvirt.ERR_INVALID_ARG) { // before libvirt 8.9 there was no KEEP_TPM, and nothing removed the state
		err = d.UndefineFlags(flags &^ libvirt.DOMAIN_UNDEFINE_KEEP_TPM)
	}
	if err != nil && !isCode(err, libvirt.ERR_NO_DOMAIN) {
		return fmt.Errorf("remove the stored definition: %w", failure(err, false))
	}
	return nil
}

// Resume lets the CPUs run, then writes marker with Started into the metadata. A domain that runs already is fine.
// The domain must carry a marker of this pool and of no later epoch: pool.ErrStale otherwise. In this order a failure
// between the two leaves a domain that runs and is not marked, which another Resume mends; the other way round it
// would look like one that an operator has paused.
func (a *Adapter) Resume(ctx context.Context, vm pool.VMID, marker local.Marker) error {
	marker.Started = true
	return a.change(ctx, "resume", vm, a.opt.StartLimit, func(d *libvirt.Domain) error {
		now, err := a.readMarker(d, string(vm))
		if err != nil {
			return failure(err, true)
		}
		if now == nil || now.Pool != marker.Pool || now.Epoch > marker.Epoch {
			return fmt.Errorf("the domain is not the one to resume, its marker is %+v: %w", now, pool.ErrStale)
		}
		state, _, err := d.GetState()
		if err != nil {
			return failure(err, false)
		}
		if state != libvirt.DOMAIN_RUNNING {
			if err := d.Resume(); err != nil {
				return failure(err, false)
			}
		}
		return a.writeMarker(d, marker)
	})
}

// Adopt writes marker into a running domain that libvirt has started itself, has it end with its process like every
// domain of the pool, and removes its stored definition, which the pool now keeps: the domain becomes transient and
// does not stop. NVRAM and TPM state stay. It is idempotent.
func (a *Adapter) Adopt(ctx context.Context, vm pool.VMID, marker local.Marker) error {
	return a.change(ctx, "adopt", vm, a.opt.StartLimit, func(d *libvirt.Domain) error {
		now, err := a.readMarker(d, string(vm))
		if err != nil {
			return failure(err, true)
		}
		if now != nil && now.Pool != marker.Pool {
			return pool.Refuse("OTHER_POOL", "remove it from that pool first", "domain %s belongs to pool %s", vm, now.Pool)
		}
		if err := a.writeMarker(d, marker); err != nil {
			return err
		}
		a.setLifecycle(d, vm)
		return undefine(d, keepState)
	})
}

// setLifecycle is best effort: libvirt may refuse it for a running domain, and then a guest that panics stays, as a
// process, until the pool ends it.
func (a *Adapter) setLifecycle(d *libvirt.Domain, vm pool.VMID) {
	for event, action := range map[libvirt.DomainLifecycle]libvirt.DomainLifecycleAction{
		libvirt.DOMAIN_LIFECYCLE_POWEROFF: libvirt.DOMAIN_LIFECYCLE_ACTION_DESTROY,
		libvirt.DOMAIN_LIFECYCLE_CRASH:    libvirt.DOMAIN_LIFECYCLE_ACTION_DESTROY,
	} {
		if err := d.SetLifecycleAction(event, action, uint32(libvirt.DOMAIN_AFFECT_LIVE)); err != nil {
			a.opt.Log.Info("lifecycle action stays as it was", "vm", vm, "err", failure(err, false))
		}
	}
}

// Shutdown asks the guest to power off: through its agent if that answers, else by the power button. It returns
// once asked.
func (a *Adapter) Shutdown(ctx context.Context, vm pool.VMID) error {
	return a.change(ctx, "shut down", vm, a.opt.CallLimit, func(d *libvirt.Domain) error {
		return failure(d.ShutdownFlags(libvirt.DOMAIN_SHUTDOWN_DEFAULT), false)
	})
}

// writeMarker replaces the marker of an active domain.
func (a *Adapter) writeMarker(d *libvirt.Domain, m local.Marker) error {
	err := d.SetMetadata(libvirt.DOMAIN_METADATA_ELEMENT, definition.MarkerXML(m), definition.Prefix, definition.Namespace, libvirt.DOMAIN_AFFECT_LIVE)
	if err != nil {
		return fmt.Errorf("write metadata: %w", failure(err, false))
	}
	a.records.setMarker(string(m.VM), m)
	return nil
}

// change calls f on a domain and has it read again afterwards.
func (a *Adapter) change(ctx context.Context, what string, vm pool.VMID, limit time.Duration, f func(*libvirt.Domain) error) error {
	r := request{what: what, vm: vm, limit: limit}
	_, err := run(ctx, a.calls, r, func(conn *libvirt.Connect) (struct{}, error) {
		d, err := conn.LookupDomainByName(string(vm))
		if err != nil {
			return struct{}{}, fmt.Errorf("%v: %w", r, failure(err, true))
		}
		defer free(d)
		if err := f(d); err != nil {
			return struct{}{}, fmt.Errorf("%v: %w", r, err)
		}
		return struct{}{}, nil
	})
	a.records.mark(string(vm))
	a.changed.Set()
	return err
}
