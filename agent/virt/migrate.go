//go:build libvirt_dlopen

package virt

import (
	"context"
	"fmt"
	"time"

	"libvirt.org/go/libvirt"

	"github.com/holdfast-ha/holdfast/agent/local"
	"github.com/holdfast-ha/holdfast/agent/virt/definition"
	"github.com/holdfast-ha/holdfast/pkg/pool"
)

// moveFlags are those of every migration. PAUSED: libvirt never starts the copy, whatever happens to its peer
// (docs/facts.md: without it libvirt alone can run a VM twice). Post-copy is never asked for: a guest that is half here
// and half there dies with either. Nothing is made persistent, and the source's domain ends with its process.
const moveFlags = libvirt.MIGRATE_LIVE | libvirt.MIGRATE_PEER2PEER | libvirt.MIGRATE_PAUSED | libvirt.MIGRATE_ABORT_ON_ERROR

// Migrate copies a VM to another server through the sockets of m.Link, where it arrives with its CPUs stopped. It
// returns when libvirt's job has ended, or QEMU was heard to its end on its second monitor (Transfer.Rest); when ctx ends first, with pool.ErrOutcomeUnknown, and the job goes on.
// pool.ErrRefused: a block job runs on one of its disks, or another migration does.
func (a *Adapter) Migrate(ctx context.Context, m local.Migration) (local.Transfer, error) {
	if m.Link.Libvirt == "" || m.Link.Stream == "" {
		return local.Transfer{}, fmt.Errorf("migrate %s: no way to server %s was opened: %w", m.VM, m.To, pool.ErrInvalid)
	}
	w, ok := a.moves.begin(m.VM, a.clock.NewSignal())
	if !ok {
		return local.Transfer{}, pool.Refuse("MIGRATING", "wait for it to end", "%s is being migrated already", m.VM)
	}
	// From here on nothing that happens to the VM is missed, unless the connection for events breaks.
	if err := a.downNow(); err != nil {
		a.moves.end(m.VM, w)
		return local.Transfer{}, fmt.Errorf("migrate %s: %w", m.VM, err)
	}
	done := make(chan error, 1)
	a.clock.Go("libvirt migrate", func() { done <- a.migrate(m, w) })
	left := make(chan local.Transfer, 1)
	lctx, enough := a.clock.WithCancel(ctx)
	a.clock.Go("last words", func() {
		if a.lastWords(lctx, m, w) {
			if t := w.early(); t.Clean {
				left <- t
			}
		}
	})
	defer enough(nil)
	select {
	case t := <-left:
		t.Rest = a.rest(m, w, done)
		return t, nil
	case err := <-done:
		defer a.moved(m.VM, w)
		if err != nil {
			return local.Transfer{}, fmt.Errorf("migrate %s to %s: %w", m.VM, m.To, err)
		}
		return w.verdict(ctx, a.clock, a.opt.Settle), nil
	case <-ctx.Done():
		go func() {
			if err := <-done; err != nil {
				a.opt.Log.Info("a migration that nobody waited for has failed", "vm", m.VM, "to", m.To, "err", err)
			}
			a.moved(m.VM, w)
		}()
		return local.Transfer{}, fmt.Errorf("migrate %s to %s: it is not waited for any more and goes on: %w", m.VM, m.To, pool.ErrOutcomeUnknown)
	}
}

// lastWords listens to the source's QEMU from when its CPUs stand still, and reports whether it ended as one whose guest
// was never let go on and whose memory had left: then its process is seen dead. libvirt says so too, but only 0.2 s later:
// it looks for the death of the process no more often (docs/facts.md).
func (a *Adapter) lastWords(ctx context.Context, m local.Migration, w *move) bool {
	rec, ok := a.records.get(string(m.VM))
	if !ok || rec.qemu.PID == 0 || len(rec.qemu.Monitors) == 0 {
		return false
	}
	select {
	case <-w.still:
	case <-ctx.Done():
		return false
	}
	p := rec.qemu.Process
	h, err := a.procs.Open(p)
	if err != nil {
		return false
	}
	defer h.Close()
	var f farewell
	err = f.hear(ctx, rec.qemu.Monitors[0], p, func() { a.records.leaves(string(m.VM), p) })
	if !f.clean() {
		a.opt.Log.Info("the end of a migration is left to libvirt to tell", "vm", m.VM, "operation", m.Operation, "reason", err)
		return false
	}
	if h.Wait(ctx) != nil {
		return false
	}
	a.ended(p)
	return true
}

// rest returns what waits for libvirt's call.
func (a *Adapter) rest(m local.Migration, w *move, done <-chan error) func(context.Context) {
	over := make(chan struct{})
	a.clock.Go("libvirt migrate, rest", func() {
		if err := <-done; err != nil {
			a.opt.Log.Warn("libvirt's call failed after the guest had left", "vm", m.VM, "to", m.To, "err", err)
		}
		a.moved(m.VM, w)
		close(over)
	})
	return func(ctx context.Context) {
		select {
		case <-over:
		case <-ctx.Done():
		}
	}
}

// PutsAway reports whether libvirt is busy with a run of the VM here that has ended, as far as processes show, or has yet
// to begin: a copy whose source vanished at once becomes a QEMU all the same, of which no event tells before, and libvirt
// ends it then.
func (a *Adapter) PutsAway(ctx context.Context, vm pool.VMID) (bool, error) {
	if a.moves.watched(vm) || a.records.putsAway(string(vm), a.clock.Now(), tidy) {
		return true, nil
	}
	r := request{what: "look for " + string(vm), limit: a.opt.CallLimit, reads: true}
	return run(ctx, a.calls, r, func(conn *libvirt.Connect) (bool, error) {
		d, err := conn.LookupDomainByName(string(vm))
		if isCode(err, libvirt.ERR_NO_DOMAIN) {
			return false, nil
		}
		if err != nil {
			return false, fmt.Errorf("%v: %w", r, failure(err, true))
		}
		defer free(d)
		active, err := d.IsActive()
		if isCode(err, libvirt.ERR_NO_DOMAIN) {
			return false, nil
		}
		return active, failure(err, true)
	})
}

// moved ends the watch of a migration whose call has come back.
func (a *Adapter) moved(vm pool.VMID, w *move) {
	a.moves.end(vm, w)
	a.records.stays(string(vm))
	a.changed.Set()
}

// migrate makes the call, on a connection of its own: it lasts as long as the copy does.
func (a *Adapter) migrate(m local.Migration, w *move) error {
	conn, err := a.open()
	if err != nil {
		return err
	}
	defer a.shut(conn)
	d, err := conn.LookupDomainByName(string(m.VM))
	if err != nil {
		return failure(err, true)
	}
	defer free(d)
	params, err := a.parameters(d, m, w)
	if err != nil {
		return err
	}
	flags := moveFlags
	if m.AutoConverge {
		flags |= libvirt.MIGRATE_AUTO_CONVERGE
	}
	if a.opt.UnsafeMigration {
		flags |= libvirt.MIGRATE_UNSAFE
	}
	began := a.clock.Now()
	err = d.MigrateToURI3("qemu+unix:///system?socket="+m.Link.Libvirt, params, flags)
	a.opt.Log.Info("libvirt's migration ended", "vm", m.VM, "to", m.To, "operation", m.Operation,
		"took", a.clock.Now().Sub(began).Round(time.Millisecond), "err", err)
	return failure(err, false)
}

// parameters checks that the VM can leave now, and says how.
func (a *Adapter) parameters(d *libvirt.Domain, m local.Migration, w *move) (*libvirt.DomainMigrateParameters, error) {
	state, reason, err := d.GetState()
	if err != nil {
		return nil, failure(err, true)
	}
	switch {
	case state == libvirt.DOMAIN_PAUSED && libvirt.DomainPausedReason(reason) == libvirt.DOMAIN_PAUSED_USER:
		w.wasPaused()
	case state != libvirt.DOMAIN_RUNNING && state != libvirt.DOMAIN_BLOCKED && state != libvirt.DOMAIN_PMSUSPENDED:
		return nil, pool.Refuse("NOT_RUNNING", "", "the VM neither runs nor was paused by hand")
	}
	if err := blockJob(d); err != nil {
		return nil, err
	}
	text, err := d.GetXMLDesc(libvirt.DOMAIN_XML_SECURE | libvirt.DOMAIN_XML_MIGRATABLE)
	if err != nil {
		return nil, failure(err, true)
	}
	copied, err := definition.Arriving(text, m.Marker)
	if err != nil {
		return nil, err
	}
	p := &libvirt.DomainMigrateParameters{URISet: true, URI: "unix://" + m.Link.Stream, DestXMLSet: true, DestXML: copied}
	if m.Bandwidth > 0 {
		p.BandwidthSet, p.Bandwidth = true, uint64((m.Bandwidth+mebibyte-1)/mebibyte)
	}
	return p, nil
}

const mebibyte = 1 << 20

// blockJob refuses while a backup, a snapshot's commit or a copy runs on one of the disks: the job stays behind, and
// what it wrote would be neither here nor there.
func blockJob(d *libvirt.Domain) error {
	text, err := d.GetXMLDesc(0)
	if err != nil {
		return failure(err, true)
	}
	chains, err := definition.Chains(text)
	if err != nil {
		return err
	}
	for _, c := range chains {
		job := c.Job
		if job == "" {
			// Jobs that only shorten a chain do not show in the definition. An empty drive has no answer, and no job.
			if info, err := d.GetBlockJobInfo(c.Target, 0); err == nil && info.Type != 0 {
				job = "block"
			}
		}
		if job != "" {
			return pool.Refuse("BLOCK_JOB", "wait until it has ended, or end it", "a %s job runs on disk %s", job, c.Target)
		}
	}
	return nil
}

// Abort asks libvirt to give the VM's migration up; nil if none runs. While the guest stands still for the end of the
// copy libvirt answers late; after a limit it returns pool.ErrOutcomeUnknown and the request stands.
func (a *Adapter) Abort(ctx context.Context, vm pool.VMID) error {
	r := request{what: "abort the migration of " + string(vm), limit: a.opt.StartLimit}
	_, err := run(ctx, a.calls, r, func(conn *libvirt.Connect) (struct{}, error) {
		d, err := conn.LookupDomainByName(string(vm))
		if isCode(err, libvirt.ERR_NO_DOMAIN) {
			return struct{}{}, nil
		}
		if err != nil {
			return struct{}{}, fmt.Errorf("%v: %w", r, failure(err, true))
		}
		defer free(d)
		err = d.AbortJob()
		if isCode(err, libvirt.ERR_OPERATION_INVALID) || isCode(err, libvirt.ERR_NO_DOMAIN) { // no job
			return struct{}{}, nil
		}
		if err != nil {
			return struct{}{}, fmt.Errorf("%v: %w", r, failure(err, false))
		}
		return struct{}{}, nil
	})
	return err
}

// jobLimit bounds one question about a job. QEMU does not answer while its guest stands still for the end of the copy.
const jobLimit = 2 * time.Second

// Job says how the VM's outgoing migration stands. While libvirt does not answer and this adapter's own Migrate waits,
// it repeats what was last known.
func (a *Adapter) Job(ctx context.Context, vm pool.VMID) (local.Job, error) {
	r := request{what: "read the job of " + string(vm), limit: jobLimit, reads: true}
	job, err := run(ctx, a.calls, r, func(conn *libvirt.Connect) (local.Job, error) {
		if !a.moves.ask(vm) {
			return local.Job{}, fmt.Errorf("%v: libvirt still owes the last answer: %w", r, pool.ErrUnavailable)
		}
		defer a.moves.answered(vm)
		d, err := conn.LookupDomainByName(string(vm))
		if isCode(err, libvirt.ERR_NO_DOMAIN) {
			return local.Job{}, nil
		}
		if err != nil {
			return local.Job{}, fmt.Errorf("%v: %w", r, failure(err, true))
		}
		defer free(d)
		info, err := d.GetJobStats(0)
		if isCode(err, libvirt.ERR_NO_DOMAIN) || isCode(err, libvirt.ERR_OPERATION_INVALID) { // it has ended
			return local.Job{}, nil
		}
		if err != nil {
			return local.Job{}, fmt.Errorf("%v: %w", r, failure(err, true))
		}
		return jobOf(info), nil
	})
	return a.moves.known(vm, job, err)
}

// jobOf translates libvirt's statistics.
func jobOf(i *libvirt.DomainJobInfo) local.Job {
	if i.Type != libvirt.DOMAIN_JOB_BOUNDED && i.Type != libvirt.DOMAIN_JOB_UNBOUNDED {
		return local.Job{}
	}
	if i.OperationSet && i.Operation != libvirt.DOMAIN_JOB_OPERATION_MIGRATION_OUT {
		return local.Job{}
	}
	return local.Job{Running: true,
		BytesDone: int64(i.DataProcessed), BytesTotal: int64(i.DataProcessed + i.DataRemaining), BytesPerSecond: int64(i.MemBps),
		DirtyPerSecond: int64(i.MemDirtyRate * max(i.MemPageSize, 4096)), Downtime: time.Duration(i.Downtime) * time.Millisecond,
		Pass: int(i.MemIteration)}
}
