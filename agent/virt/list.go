//go:build libvirt_dlopen

package virt

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"libvirt.org/go/libvirt"

	"github.com/holdfast-ha/holdfast/agent/local"
	"github.com/holdfast-ha/holdfast/agent/virt/definition"
	"github.com/holdfast-ha/holdfast/agent/virt/process"
	"github.com/holdfast-ha/holdfast/pkg/pool"
)

// Domains lists the active domains and those that ended and were not forgotten, by name. What events have marked is
// read from libvirt first; everything is, after a lost connection and once in a while. While the daemon is away or
// does not answer, it lists what was known, with deaths as the processes show them; before the first good reading it
// fails with pool.ErrUnavailable.
func (a *Adapter) Domains(ctx context.Context) ([]local.Domain, error) {
	err := a.refresh(ctx)
	a.mu.Lock()
	synced, connected := a.synced, a.down == nil
	a.mu.Unlock()
	if !synced {
		if err == nil {
			err = fmt.Errorf("domains were not read yet: %w", pool.ErrUnavailable)
		}
		return nil, err
	}
	if err != nil && connected {
		a.opt.Log.Warn("reading domains; using what was known", "err", err)
	}
	all := a.records.list(a.clock.Now(), a.opt.Settle, connected && err == nil)
	a.shape(all)
	return all, nil
}

// refresh reads what must be read. One caller at a time does; others wait.
func (a *Adapter) refresh(ctx context.Context) error {
	if err := a.downNow(); err != nil {
		return err
	}
	ctx, cancel := a.clock.WithTimeout(ctx, a.opt.CallLimit)
	defer cancel()
	select {
	case a.reading <- struct{}{}:
	case <-ctx.Done():
		return fmt.Errorf("list domains: %w", pool.ErrUnavailable)
	}
	defer func() { <-a.reading }()
	now := a.clock.Now()
	a.mu.Lock()
	all := a.stale || now.Sub(a.readAt) >= a.opt.Reread
	a.stale = false
	a.mu.Unlock()
	dirty := a.records.takeDirty()
	if !all && len(dirty) == 0 {
		return nil
	}
	r := request{what: "list domains", limit: a.opt.CallLimit, reads: true}
	found, err := run(ctx, a.calls, r, func(conn *libvirt.Connect) ([]seen, error) {
		if all {
			return a.readAll(conn)
		}
		return a.readSome(conn, dirty)
	})
	if err != nil {
		for _, name := range dirty {
			a.records.mark(name)
		}
		a.mu.Lock()
		a.stale = a.stale || all
		a.mu.Unlock()
		return err
	}
	if all {
		dirty = a.records.names()
	}
	a.take(found, dirty)
	if all {
		a.mu.Lock()
		a.synced, a.readAt = true, now
		a.mu.Unlock()
	}
	return nil
}

// take puts what was read into the records. expected are the names that were asked for.
func (a *Adapter) take(found []seen, expected []string) {
	here := map[string]bool{}
	for _, s := range found {
		here[s.name] = true
		if s.qemu.PID == 0 {
			a.records.mark(s.name) // its process is not visible yet, or no more
		}
		if a.records.observe(s) {
			a.watch(s.qemu.Process)
		}
	}
	for _, name := range expected {
		if !here[name] {
			a.records.missing(name, a.clock.Now())
		}
	}
}

func (a *Adapter) readAll(conn *libvirt.Connect) ([]seen, error) {
	domains, err := conn.ListAllDomains(libvirt.CONNECT_LIST_DOMAINS_ACTIVE)
	if err != nil {
		return nil, fmt.Errorf("list domains: %w", failure(err, true))
	}
	var all []seen
	for i := range domains {
		s, ok, e := a.look(&domains[i])
		if ok {
			all = append(all, s)
		}
		err = errors.Join(err, e)
		free(&domains[i])
	}
	return all, err
}

func (a *Adapter) readSome(conn *libvirt.Connect, names []string) ([]seen, error) {
	var all []seen
	for _, name := range names {
		d, err := conn.LookupDomainByName(name)
		if isCode(err, libvirt.ERR_NO_DOMAIN) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", name, failure(err, true))
		}
		s, ok, err := a.look(d)
		free(d)
		if err != nil {
			return nil, err
		}
		if ok {
			all = append(all, s)
		}
	}
	return all, nil
}

// free drops a handle; a failure would only mean that there is nothing to free.
func free(d *libvirt.Domain) { _ = d.Free() }

// look reads one domain; ok is false if it is not active. No call here waits for a QEMU.
func (a *Adapter) look(d *libvirt.Domain) (s seen, ok bool, err error) {
	name, uuid, valid := identity(d)
	if !valid {
		return seen{}, false, nil
	}
	state, reason, err := d.GetState()
	if isCode(err, libvirt.ERR_NO_DOMAIN) || (err == nil && state == libvirt.DOMAIN_SHUTOFF) {
		return seen{}, false, nil
	}
	if err != nil {
		return seen{}, false, fmt.Errorf("read %s: %w", name, failure(err, true))
	}
	marker, err := a.readMarker(d, name)
	if isCode(err, libvirt.ERR_NO_DOMAIN) {
		return seen{}, false, nil
	}
	if err != nil {
		return seen{}, false, fmt.Errorf("read metadata of %s: %w", name, failure(err, true))
	}
	known, had := a.records.get(name)
	q, err := a.find(name, uuid, known)
	if err != nil {
		return seen{}, false, err
	}
	// Other tools' sockets are not for the guard.
	ours := a.monitorPath(pool.VMID(name))
	q.Monitors = slices.DeleteFunc(slices.Clone(q.Monitors), func(m string) bool { return ours == "" || m != ours })
	s = seen{name: name, uuid: uuid, qemu: q, state: stateOf(state, reason, q.Incoming, marker), marker: marker}
	if marker != nil && (!had || known.disks == nil || known.uuid != uuid) {
		s.disks = a.readDisks(d)
	}
	return s, true, nil
}

// find returns a domain's process; a zero one if there is none.
func (a *Adapter) find(name, uuid string, known record) (process.QEMU, error) {
	if known.qemu.PID != 0 && known.uuid == uuid && !known.ended {
		if dead, err := a.procs.Dead(known.qemu.Process); err == nil && !dead {
			return known.qemu, nil
		}
	}
	q, err := a.procs.Find(name, uuid)
	if errors.Is(err, process.ErrNone) {
		return process.QEMU{}, nil
	}
	return q, err
}

// readMarker returns a domain's marker, nil if it has none or only a copy of another VM's, as a cloned domain does.
func (a *Adapter) readMarker(d *libvirt.Domain, name string) (*local.Marker, error) {
	text, err := d.GetMetadata(libvirt.DOMAIN_METADATA_ELEMENT, definition.Namespace, libvirt.DOMAIN_AFFECT_LIVE)
	if isCode(err, libvirt.ERR_NO_DOMAIN_METADATA) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	m, err := definition.ParseMarker(text)
	if err != nil {
		// Not a stranger's domain, and of no epoch that any claim has.
		a.opt.Log.Error("a domain's marker is damaged", "vm", name, "err", err)
		return &local.Marker{VM: pool.VMID(name)}, nil
	}
	if string(m.VM) != name {
		return nil, nil
	}
	return &m, nil
}

// readDisks returns the paths of the writable disks; none if they cannot be read: this serves StorageLost only.
func (a *Adapter) readDisks(d *libvirt.Domain) []string {
	paths := []string{}
	text, err := d.GetXMLDesc(0)
	if err != nil {
		return nil
	}
	chains, err := definition.Chains(text)
	if err != nil {
		return nil
	}
	for _, c := range chains {
		if c.Writable() && (c.Kind == definition.DiskFile || c.Kind == definition.DiskBlock) {
			paths = append(paths, c.Path)
		}
	}
	return paths
}

// stateOf translates libvirt's state. A source after its memory left and a destination before it arrived both are
// paused for migration; the destination's QEMU was started with -incoming and has never run.
func stateOf(state libvirt.DomainState, reason int, incoming bool, m *local.Marker) local.DomainState {
	switch state {
	case libvirt.DOMAIN_RUNNING, libvirt.DOMAIN_BLOCKED, libvirt.DOMAIN_PMSUSPENDED:
		return local.DomainRunning // a guest that sleeps does so by itself
	case libvirt.DOMAIN_SHUTDOWN, libvirt.DOMAIN_SHUTOFF:
		return local.DomainShuttingDown
	case libvirt.DOMAIN_CRASHED:
		return local.DomainPanicked
	}
	switch libvirt.DomainPausedReason(reason) {
	case libvirt.DOMAIN_PAUSED_IOERROR:
		return local.DomainIOError
	case libvirt.DOMAIN_PAUSED_CRASHED:
		return local.DomainPanicked
	case libvirt.DOMAIN_PAUSED_SHUTTING_DOWN:
		return local.DomainShuttingDown
	case libvirt.DOMAIN_PAUSED_MIGRATION:
		if incoming && (m == nil || !m.Started) {
			return local.DomainIncoming
		}
		return local.DomainPostMigrate
	case libvirt.DOMAIN_PAUSED_POSTCOPY, libvirt.DOMAIN_PAUSED_POSTCOPY_FAILED:
		return local.DomainPostMigrate
	}
	return local.DomainPaused
}
