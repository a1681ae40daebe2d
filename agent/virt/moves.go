package virt

import (
	"context"
	"sync"
	"time"

	"github.com/holdfast-ha/holdfast/agent/local"
	"github.com/holdfast-ha/holdfast/pkg/clock"
	"github.com/holdfast-ha/holdfast/pkg/pool"
)

// moves watches the VMs that this adapter migrates, by libvirt's events, without any libvirt. Safe for concurrent use;
// it never blocks.
type moves struct {
	mu sync.Mutex
	of map[pool.VMID]*move
	// asking are the VMs whose job libvirt was asked about and has not answered.
	asking map[pool.VMID]bool
}

// move is one migration as events show it.
type move struct {
	mu sync.Mutex
	// suspended: the CPUs stand still, by the last event; before the first, because it had been paused. ran: they were
	// seen to start.
	suspended, paused, ran bool
	// stopped: its process ended because it has moved. Events come in order, so nothing of it comes after.
	stopped bool
	broken  string
	job     local.Job
	over    clock.Signal
	// still is closed when the CPUs are first seen to stand still.
	still chan struct{}
	once  sync.Once
}

func newMoves() *moves {
	return &moves{of: map[pool.VMID]*move{}, asking: map[pool.VMID]bool{}}
}

// begin starts to watch a VM; false if it is watched already.
func (ms *moves) begin(vm pool.VMID, over clock.Signal) (*move, bool) {
	ms.mu.Lock()
	defer ms.mu.Unlock()
	if ms.of[vm] != nil {
		return nil, false
	}
	m := &move{over: over, still: make(chan struct{})}
	ms.of[vm] = m
	return m, true
}

// end stops to watch a VM.
func (ms *moves) end(vm pool.VMID, m *move) {
	ms.mu.Lock()
	defer ms.mu.Unlock()
	if ms.of[vm] == m {
		delete(ms.of, vm)
	}
}

// watched reports whether a call for a VM's migration has not returned.
func (ms *moves) watched(vm pool.VMID) bool {
	ms.mu.Lock()
	defer ms.mu.Unlock()
	return ms.of[vm] != nil
}

// turn is what an event says of a VM's CPUs.
type turn int

const (
	turnSuspended turn = iota
	turnRunning
	turnStarted
	turnMigrated
	turnEnded
)

// event takes in one event of a VM, in libvirt's order.
func (ms *moves) event(name string, t turn) {
	ms.mu.Lock()
	m := ms.of[pool.VMID(name)]
	ms.mu.Unlock()
	if m == nil {
		return
	}
	m.mu.Lock()
	switch t {
	case turnSuspended:
		m.suspended = true
		m.once.Do(func() { close(m.still) })
	case turnRunning, turnStarted:
		m.suspended, m.paused, m.ran = false, false, true
	case turnMigrated:
		m.stopped = true
	case turnEnded:
		m.spoil("it ended otherwise than by moving")
	}
	m.mu.Unlock()
	m.over.Set()
}

// lost notes that events were missed.
func (ms *moves) lost() {
	ms.mu.Lock()
	defer ms.mu.Unlock()
	for _, m := range ms.of {
		m.mu.Lock()
		m.spoil("the connection to libvirt broke meanwhile, so that nobody saw whether the guest ran on")
		m.mu.Unlock()
		m.over.Set()
	}
}

// spoil notes the first reason not to trust the copy; the lock is held.
func (m *move) spoil(why string) {
	if m.broken == "" {
		m.broken = why
	}
}

// wasPaused notes that an operator had paused the VM before, unless it was seen to run since.
func (m *move) wasPaused() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.ran {
		m.suspended, m.paused = true, true
	}
}

// verdict waits, for a moment, until the events of a migration whose call succeeded are complete, and judges them. The
// call's answer and the events come on different connections; what makes the events complete is the last one, the end
// of the process.
func (m *move) verdict(ctx context.Context, c clock.Clock, settle time.Duration) local.Transfer {
	deadline := c.Now().Add(settle)
	for {
		m.mu.Lock()
		t := local.Transfer{Paused: m.paused}
		switch {
		case m.broken != "":
			t.Why = m.broken
		case m.stopped && !m.suspended:
			t.Why = "the guest ran on after it had been stopped for the end of the copy, or was never seen to stop"
		case m.stopped:
			t.Clean = true
		default:
			t.Why = "libvirt has not said that the source's QEMU ended because it moved"
		}
		waiting := m.broken == "" && !m.stopped
		m.mu.Unlock()
		left := deadline.Sub(c.Now())
		if !waiting || left <= 0 || ctx.Err() != nil {
			return t
		}
		m.over.Wait(ctx, left)
	}
}

// early judges a migration whose QEMU was heard to its clean end, before libvirt's call has returned. What libvirt's
// events have told so far must not contradict; QEMU's own word does not depend on those to come.
func (m *move) early() local.Transfer {
	m.mu.Lock()
	defer m.mu.Unlock()
	return local.Transfer{Clean: m.suspended && m.broken == ""}
}

// ask reports whether libvirt may be asked about a VM's job now; answered must follow.
func (ms *moves) ask(vm pool.VMID) bool {
	ms.mu.Lock()
	defer ms.mu.Unlock()
	if ms.asking[vm] {
		return false
	}
	ms.asking[vm] = true
	return true
}

func (ms *moves) answered(vm pool.VMID) {
	ms.mu.Lock()
	defer ms.mu.Unlock()
	delete(ms.asking, vm)
}

// known completes an answer about a VM's job: while Migrate waits there is one, whatever libvirt says or not.
func (ms *moves) known(vm pool.VMID, job local.Job, err error) (local.Job, error) {
	ms.mu.Lock()
	m := ms.of[vm]
	ms.mu.Unlock()
	if m == nil {
		return job, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if err == nil && job.Running {
		m.job = job
	}
	m.job.Running = true
	return m.job, nil
}
