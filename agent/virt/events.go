//go:build libvirt_dlopen

package virt

import (
	"fmt"

	"libvirt.org/go/libvirt"

	"github.com/holdfast-ha/holdfast/agent/local"
)

// subscribe connects and registers for events. From its return on nothing that happens is missed; everything
// before must be read.
func (a *Adapter) subscribe() (*eventLink, error) {
	conn, err := a.dial()
	if err != nil {
		return nil, err
	}
	l := &eventLink{conn: conn, closed: make(chan libvirt.ConnectCloseReason, 1)}
	if err := a.register(l); err != nil {
		l.drop(a)
		return nil, fmt.Errorf("subscribe to libvirt's events: %w", failure(err, true))
	}
	return l, nil
}

func (a *Adapter) register(l *eventLink) error {
	conn := l.conn
	err := conn.RegisterCloseCallback(func(_ *libvirt.Connect, reason libvirt.ConnectCloseReason) {
		select {
		case l.closed <- reason:
		default:
		}
	})
	if err != nil {
		return err
	}
	wake := func(d *libvirt.Domain) {
		if name, _, ok := identity(d); ok {
			a.records.mark(name)
			a.changed.Set()
		}
	}
	steps := []func() (int, error){
		func() (int, error) {
			return conn.DomainEventLifecycleRegister(nil, func(_ *libvirt.Connect, d *libvirt.Domain, e *libvirt.DomainEventLifecycle) {
				a.lifecycle(d, e)
			})
		},
		func() (int, error) {
			return conn.DomainEventRebootRegister(nil, func(_ *libvirt.Connect, d *libvirt.Domain) { wake(d) })
		},
		func() (int, error) {
			return conn.DomainEventControlErrorRegister(nil, func(_ *libvirt.Connect, d *libvirt.Domain) { wake(d) })
		},
		func() (int, error) {
			return conn.DomainEventWatchdogRegister(nil, func(_ *libvirt.Connect, d *libvirt.Domain, _ *libvirt.DomainEventWatchdog) { wake(d) })
		},
		func() (int, error) {
			return conn.DomainEventIOErrorReasonRegister(nil, func(_ *libvirt.Connect, d *libvirt.Domain, _ *libvirt.DomainEventIOErrorReason) { wake(d) })
		},
		func() (int, error) {
			return conn.DomainEventMetadataChangeRegister(nil, func(_ *libvirt.Connect, d *libvirt.Domain, _ *libvirt.DomainEventMetadataChange) { wake(d) })
		},
		func() (int, error) {
			return conn.DomainEventBlockJob2Register(nil, func(_ *libvirt.Connect, d *libvirt.Domain, _ *libvirt.DomainEventBlockJob) { a.disksChanged(d) })
		},
		func() (int, error) {
			return conn.DomainEventDeviceAddedRegister(nil, func(_ *libvirt.Connect, d *libvirt.Domain, _ *libvirt.DomainEventDeviceAdded) { a.disksChanged(d) })
		},
		func() (int, error) {
			return conn.DomainEventDeviceRemovedRegister(nil, func(_ *libvirt.Connect, d *libvirt.Domain, _ *libvirt.DomainEventDeviceRemoved) { a.disksChanged(d) })
		},
	}
	for _, step := range steps {
		id, err := step()
		if err != nil {
			return err
		}
		l.callbacks = append(l.callbacks, id)
	}
	if v, err := conn.GetLibVersion(); err == nil {
		l.version = fmt.Sprintf("%d.%d.%d", v/1000000, v/1000%1000, v%1000)
	}
	return nil
}

// identity reads a domain's name and UUID, which are part of its handle: no call is made.
func identity(d *libvirt.Domain) (name, uuid string, ok bool) {
	name, err := d.GetName()
	if err != nil {
		return "", "", false
	}
	uuid, err = d.GetUUIDString()
	return name, uuid, err == nil
}

// disksChanged has the disks of a domain read again.
func (a *Adapter) disksChanged(d *libvirt.Domain) {
	if name, _, ok := identity(d); ok {
		a.records.forgetDisks(name)
		a.changed.Set()
	}
}

// lifecycle runs in the event loop: it notes, and returns at once.
func (a *Adapter) lifecycle(d *libvirt.Domain, e *libvirt.DomainEventLifecycle) {
	name, uuid, ok := identity(d)
	if !ok {
		return
	}
	switch e.Event {
	case libvirt.DOMAIN_EVENT_SUSPENDED:
		a.moves.event(name, turnSuspended)
		a.records.mark(name)
	case libvirt.DOMAIN_EVENT_RESUMED:
		a.moves.event(name, turnRunning)
		a.records.mark(name)
	case libvirt.DOMAIN_EVENT_STOPPED:
		if libvirt.DomainEventStoppedDetailType(e.Detail) == libvirt.DOMAIN_EVENT_STOPPED_MIGRATED {
			a.moves.event(name, turnMigrated)
		} else {
			a.moves.event(name, turnEnded)
		}
		// libvirt says so after the process has died. If the one we know lives, an earlier run is meant: the event
		// may be overtaken by a new start, which is answered on another connection.
		if rec, ok := a.records.get(name); ok && rec.qemu.PID != 0 {
			if dead, err := a.procs.Dead(rec.qemu.Process); err == nil && !dead {
				a.records.mark(name)
				break
			}
		}
		a.records.stopped(name, uuid, stopOf(libvirt.DomainEventStoppedDetailType(e.Detail)), a.clock.Now())
	case libvirt.DOMAIN_EVENT_STARTED:
		a.moves.event(name, turnStarted)
		a.records.started(name)
	case libvirt.DOMAIN_EVENT_SHUTDOWN:
		switch libvirt.DomainEventShutdownDetailType(e.Detail) {
		case libvirt.DOMAIN_EVENT_SHUTDOWN_HOST:
			a.records.shutdown(name, powerHost)
		case libvirt.DOMAIN_EVENT_SHUTDOWN_GUEST:
			a.records.shutdown(name, powerGuest)
		default: // QEMU does not say
			a.records.mark(name)
		}
	case libvirt.DOMAIN_EVENT_CRASHED:
		a.records.panickedNow(name)
	default:
		a.records.mark(name)
	}
	a.changed.Set()
}

// stopOf translates how libvirt says that a domain ended. A killed QEMU is FAILED; CRASHED is a guest's panic.
func stopOf(detail libvirt.DomainEventStoppedDetailType) stop {
	switch detail {
	case libvirt.DOMAIN_EVENT_STOPPED_SHUTDOWN:
		return stop{exit: local.ExitGuest, detail: "the guest powered off"}
	case libvirt.DOMAIN_EVENT_STOPPED_DESTROYED:
		return stop{exit: local.ExitDestroyed, detail: "it was destroyed through libvirt"}
	case libvirt.DOMAIN_EVENT_STOPPED_CRASHED:
		return stop{exit: local.ExitCrashed, detail: "the guest panicked", panicked: true}
	case libvirt.DOMAIN_EVENT_STOPPED_MIGRATED:
		return stop{exit: local.ExitMigrated, detail: "it migrated to another server"}
	case libvirt.DOMAIN_EVENT_STOPPED_SAVED:
		return stop{exit: local.ExitDestroyed, detail: "it was saved to a file through libvirt"}
	case libvirt.DOMAIN_EVENT_STOPPED_FAILED:
		return stop{exit: local.ExitCrashed, detail: "QEMU died or was killed"}
	}
	return stop{exit: local.ExitDestroyed, detail: fmt.Sprintf("libvirt stopped it (reason %d)", detail)}
}
