package world

import (
	"time"

	"github.com/holdfast-ha/holdfast/agent/guard"
	"github.com/holdfast-ha/holdfast/agent/local"
	"github.com/holdfast-ha/holdfast/pkg/pool"
)

// state is what a QEMU process does.
type state int

const (
	// statePrelaunch: made with the CPUs stopped; they never ran here.
	statePrelaunch state = iota
	stateRunning
	// statePaused by hand or by the guard.
	statePaused
	stateIOError
	statePanicked
	// stateIncoming: memory arrives; no image lock.
	stateIncoming
	// stateArrived: memory is complete, the CPUs never ran here; no image lock.
	stateArrived
	// stateFinish: stopped for the last of its memory to be copied.
	stateFinish
	// statePostMigrate: memory went elsewhere; no image lock.
	statePostMigrate
	stateDead
)

// QEMU is one process.
type QEMU struct {
	VM      pool.VMID
	Process guard.Process
	server  *Server
	image   *Image
	state   state
	marker  *local.Marker
	uuid    string
	ran     bool
	// stale: another copy executed after this one's memory was taken.
	stale bool
	// panicked is kept through the end of the process.
	panicked bool
	exit     local.Exit
	detail   string
	// stopping: the guest was asked to power off, or does so by itself. dying: SIGKILL is on its way.
	stopping, dying bool
	// disk is what it was made with; empty if nobody said.
	disk string
}

// Server returns where the process runs.
func (q *QEMU) Server() string { return q.server.Name }

// Monitor returns the path of the socket through which a guard can pause the process.
func (q *QEMU) Monitor() string { return "/run/qemu/" + string(q.VM) + ".guard" }

// Executes reports whether the guest's CPUs run.
func (q *QEMU) Executes() bool { return q.state == stateRunning }

// Paused reports whether the guest has run and is stopped now.
func (q *QEMU) Paused() bool {
	return q.ran && (q.state == statePaused || q.state == stateIOError || q.state == stateFinish || q.state == statePostMigrate)
}

var domainStates = map[state]local.DomainState{
	statePrelaunch: local.DomainPaused, stateRunning: local.DomainRunning, statePaused: local.DomainPaused,
	stateIOError: local.DomainIOError, statePanicked: local.DomainPanicked, stateIncoming: local.DomainIncoming,
	stateArrived: local.DomainPaused, stateFinish: local.DomainPostMigrate, statePostMigrate: local.DomainPostMigrate, stateDead: local.DomainGone,
}

func (q *QEMU) domain() local.Domain {
	d := local.Domain{VM: q.VM, UUID: q.uuid, Process: q.Process, State: domainStates[q.state], Panicked: q.panicked, Monitor: q.Monitor(), Shape: q.shape()}
	if q.marker != nil {
		m := *q.marker
		d.Marker = &m
	}
	if q.state == stateDead {
		d.Exit, d.ExitDetail = q.exit, q.detail
	}
	return d
}

// spawn makes a process of a VM on a server. The caller has checked the lock.
func (s *Server) spawn(im *Image, st state, marker *local.Marker) *QEMU {
	s.nextPID += 1 + s.w.s.Rand().IntN(20)
	q := &QEMU{VM: im.ID, server: s, image: im, state: st, marker: marker, uuid: im.UUID,
		Process: guard.Process{PID: s.nextPID, StartTicks: uint64(s.w.s.Now() / (10 * time.Millisecond))}}
	s.qemus = append(s.qemus, q)
	im.copies = append(im.copies, q)
	return q
}

// run lets the CPUs run. The caller holds the image lock for it.
func (q *QEMU) run(how string) {
	if q.state == stateRunning {
		return
	}
	first := !q.ran && q.state == statePrelaunch
	arrived := q.state == stateArrived
	q.state, q.ran = stateRunning, true
	for _, o := range q.image.copies {
		if o != q && (o.ran || o.state == stateArrived) {
			o.stale = true
		}
	}
	switch {
	case first:
		q.image.Starts++
		how = "starts"
		if !q.image.chain.boots(q.disk) {
			how = "starts from " + q.disk + ", which is not what it wrote last,"
		}
	case arrived:
		q.image.Migrations++
		how = "goes on, migrated,"
	}
	if q.stale {
		q.image.staleRuns++
		how += " with memory that is older than another copy's execution,"
	}
	q.tell("%s %s on %s", q.VM, how, q.server.Name)
	q.server.checkStorage(q)
}

// halt stops the CPUs into st.
func (q *QEMU) halt(st state, why string) {
	if q.state == stateDead || q.state == st {
		return
	}
	q.state = st
	if st == statePostMigrate {
		q.image.unlock(q)
	}
	q.tell("%s on %s is paused: %s", q.VM, q.server.Name, why)
}

// end ends the process.
func (q *QEMU) end(how local.Exit, detail string) {
	if q.state == stateDead {
		return
	}
	was := q.state
	q.state, q.exit, q.detail = stateDead, how, detail
	q.image.drop(q)
	q.image.chain.copying = false // a job ends with its process
	q.server.ended(q)
	switch was {
	case stateRunning:
		q.tell("%s ends on %s: %s", q.VM, q.server.Name, detail)
	case statePrelaunch, stateIncoming, stateArrived:
		q.tell("%s's paused copy on %s is gone: %s", q.VM, q.server.Name, detail)
	default:
		q.tell("%s, which did not execute, ends on %s: %s", q.VM, q.server.Name, detail)
	}
}

func (q *QEMU) tell(format string, args ...any) {
	q.server.w.emit(KindGuest, q.server.Name, q.VM, format, args...)
	q.server.domainsChanged()
}

// sigkill ends the process as SIGKILL does: it is dead a few hundredths of a second later.
func (q *QEMU) sigkill(how local.Exit, detail string) {
	if q.dying {
		return
	}
	q.dying = true
	q.server.w.s.After(q.server.w.s.Between(5*time.Millisecond, 60*time.Millisecond), func() {
		q.end(how, detail)
	})
}

// powerOff lets the guest power itself off, which takes it a moment.
func (q *QEMU) powerOff(detail string) {
	if q.stopping || q.state != stateRunning {
		return
	}
	q.stopping = true
	q.server.w.s.After(q.server.w.o.GuestShutdown, func() {
		q.stopping = false
		if q.state == stateRunning {
			q.end(local.ExitGuest, detail)
		}
	})
}
