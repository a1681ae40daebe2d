//go:build libvirt_dlopen

package virt

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"libvirt.org/go/libvirt"

	"github.com/holdfast-ha/holdfast/agent/local"
	"github.com/holdfast-ha/holdfast/agent/virt/definition"
	"github.com/holdfast-ha/holdfast/pkg/pool"
)

// LookupDomain finds a domain by name or UUID and returns a definition of it that can be registered, passwords
// included. ok is false if libvirt knows none.
func (a *Adapter) LookupDomain(ctx context.Context, name string) (f Found, ok bool, err error) {
	r := request{what: "look up", vm: pool.VMID(name), limit: a.opt.CallLimit, reads: true}
	f, err = run(ctx, a.calls, r, func(conn *libvirt.Connect) (Found, error) {
		d, err := conn.LookupDomainByName(name)
		if isCode(err, libvirt.ERR_NO_DOMAIN) {
			d, err = conn.LookupDomainByUUIDString(name)
		}
		if isCode(err, libvirt.ERR_NO_DOMAIN) || isCode(err, libvirt.ERR_INVALID_ARG) {
			return Found{}, local.ErrNoDomain
		}
		if err != nil {
			return Found{}, failure(err, true)
		}
		defer free(d)
		return a.describe(d)
	})
	if errors.Is(err, local.ErrNoDomain) {
		return Found{}, false, nil
	}
	if err != nil {
		return Found{}, false, fmt.Errorf("look up %.80q: %w", name, err)
	}
	return f, true, nil
}

func (a *Adapter) describe(d *libvirt.Domain) (f Found, err error) {
	name, uuid, _ := identity(d)
	f.Name, f.UUID = name, uuid
	if f.Running, err = d.IsActive(); err != nil {
		return Found{}, failure(err, true)
	}
	if f.Persistent, err = d.IsPersistent(); err != nil {
		return Found{}, failure(err, true)
	}
	if f.Persistent {
		if f.Autostart, err = d.GetAutostart(); err != nil {
			return Found{}, failure(err, true)
		}
	}
	if f.XML, err = definitionOf(d, f.Running, f.Persistent); err != nil {
		return Found{}, err
	}
	if f.Running {
		if f.Marker, err = a.readMarker(d, name); err != nil {
			return Found{}, failure(err, true)
		}
	}
	f.Notes, err = foundNotes(d, f)
	return f, err
}

// definitionOf returns what runs, or what is stored if nothing does. What runs counts for the disks: a snapshot may
// have moved them.
func definitionOf(d *libvirt.Domain, running, persistent bool) (string, error) {
	if !running {
		text, err := d.GetXMLDesc(libvirt.DOMAIN_XML_SECURE | libvirt.DOMAIN_XML_INACTIVE)
		if err != nil {
			return "", failure(err, true)
		}
		return definition.Clean(text)
	}
	text, err := d.GetXMLDesc(libvirt.DOMAIN_XML_SECURE)
	if err != nil {
		return "", failure(err, true)
	}
	if persistent {
		stored, err := d.GetXMLDesc(libvirt.DOMAIN_XML_SECURE | libvirt.DOMAIN_XML_INACTIVE)
		if err != nil {
			return "", failure(err, true)
		}
		if text, err = definition.WithCPUOf(text, stored); err != nil {
			return "", err
		}
	}
	return definition.Clean(text)
}

func foundNotes(d *libvirt.Domain, f Found) ([]string, error) {
	var say []string
	if f.Autostart {
		say = append(say, "its autostart is switched off when the pool takes it over")
	}
	if f.Persistent {
		say = append(say, "its definition leaves libvirt and lives in the pool from then on")
		if saved, err := d.HasManagedSaveImage(0); err == nil && saved {
			say = append(say, "it has a saved memory image, which is dropped at its first start by the pool: start it once through libvirt to keep what it holds")
		}
	}
	n, err := d.SnapshotNum(0)
	if err != nil && !isCode(err, libvirt.ERR_NO_SUPPORT) {
		return nil, failure(err, true)
	}
	if n > 0 {
		say = append(say, fmt.Sprintf("libvirt's list of its %d snapshots is lost when it stops; the image files stay", n))
	}
	return say, nil
}

// Inspect asks libvirt whether it accepts a definition, without side effects: libvirt reads it, fills in what it
// leaves open, and writes a QEMU command line, which is thrown away. It also checks the needs, and the file systems
// that hold the disks. rejected is libvirt's reason; empty if it accepts.
func (a *Adapter) Inspect(ctx context.Context, text string, needs []pool.Need) (Inspection, error) {
	d, err := definition.Read(text)
	if err != nil {
		return Inspection{}, err
	}
	var out Inspection
	if out.Rejected, err = a.rejected(ctx, text); err != nil {
		return Inspection{}, err
	}
	if out.Missing, err = a.Missing(ctx, needs); err != nil {
		return Inspection{}, err
	}
	for _, disk := range d.Disks {
		if disk.Kind != definition.DiskFile || !disk.Writable() {
			continue
		}
		why, err := a.facts.Locks(disk.Path)
		if err != nil {
			return Inspection{}, err
		}
		if why != "" {
			out.Unlocked = append(out.Unlocked, fmt.Sprintf("disk %s: %s", disk.Target, why))
		}
	}
	return out, nil
}

func (a *Adapter) rejected(ctx context.Context, text string) (string, error) {
	r := request{what: "inspect", limit: a.opt.StartLimit, reads: true}
	return run(ctx, a.calls, r, func(conn *libvirt.Connect) (string, error) {
		_, err := conn.DomainXMLToNative("qemu-argv", text, 0)
		var e libvirt.Error
		switch {
		case err == nil:
			return "", nil
		case !errors.As(err, &e), broken(e):
			return "", fmt.Errorf("inspect: %w", failure(err, true))
		}
		return message(e), nil
	})
}

// Chains returns the disks of an active VM with their backing chains and block jobs, as they are now.
func (a *Adapter) Chains(ctx context.Context, vm pool.VMID) ([]definition.Chain, error) {
	text, err := a.liveXML(ctx, vm)
	if err != nil {
		return nil, err
	}
	return definition.Chains(text)
}

// Drift compares an active VM with its registration.
func (a *Adapter) Drift(ctx context.Context, vm pool.VM) (local.Drift, error) {
	live, err := a.liveXML(ctx, vm.ID)
	if err != nil {
		return local.Drift{}, err
	}
	c, err := definition.Compare(vm.XML, live)
	if err != nil {
		return local.Drift{}, fmt.Errorf("compare %s with its registration: %w", vm.ID, err)
	}
	d := local.Drift{Differs: strings.Join(c.Devices, ", ")}
	d.VM, d.Why = c.Apply(vm, a.locked)
	return d, nil
}

// locked reports whether the file system of a path keeps locks between servers.
func (a *Adapter) locked(path string) bool {
	why, err := a.facts.Locks(path)
	return err == nil && why == ""
}

func (a *Adapter) liveXML(ctx context.Context, vm pool.VMID) (string, error) {
	r := request{what: "read definition", vm: vm, limit: a.opt.CallLimit, reads: true}
	return run(ctx, a.calls, r, func(conn *libvirt.Connect) (string, error) {
		d, err := conn.LookupDomainByName(string(vm))
		if err != nil {
			return "", fmt.Errorf("%v: %w", r, failure(err, true))
		}
		defer free(d)
		text, err := d.GetXMLDesc(0)
		return text, failure(err, true)
	})
}
