package world

import (
	"crypto/sha256"
	"fmt"

	"github.com/holdfast-ha/holdfast/agent/local"
	"github.com/holdfast-ha/holdfast/pkg/pool"
)

// Place makes a VM run on a server in no time, whoever holds its locks: for set-up and for tests of those who watch.
// marker may be nil for a domain that Holdfast did not make.
func (w *World) Place(vm pool.VMID, server string, marker *local.Marker) *QEMU {
	im, s := w.images[vm], w.servers[server]
	if im == nil || s == nil {
		return nil
	}
	q := s.spawn(im, statePrelaunch, marker)
	im.lock(q)
	q.run("")
	return q
}

// newest returns the VM's process that executes, else its newest one.
func (w *World) newest(vm pool.VMID) *QEMU {
	im := w.images[vm]
	if im == nil || len(im.copies) == 0 {
		return nil
	}
	for _, q := range im.copies {
		if q.state == stateRunning {
			return q
		}
	}
	return im.copies[len(im.copies)-1]
}

// Crash ends the VM's process as a bug in QEMU does; false if it has none.
func (w *World) Crash(vm pool.VMID) bool {
	q := w.newest(vm)
	if q == nil {
		return false
	}
	q.end(local.ExitCrashed, "QEMU crashed")
	return true
}

// GuestShutdown lets the guest power itself off; false if it does not execute.
func (w *World) GuestShutdown(vm pool.VMID) bool {
	q := w.newest(vm)
	if q == nil || !q.Executes() {
		return false
	}
	q.powerOff("the guest powered itself off")
	return true
}

// GuestPanic lets the guest's kernel panic; false if it does not execute.
func (w *World) GuestPanic(vm pool.VMID) bool {
	q := w.newest(vm)
	if q == nil || !q.Executes() {
		return false
	}
	q.panicked = true
	q.halt(statePanicked, "guest panic")
	return true
}

// HostUUID returns the UUID of a server's hardware.
func HostUUID(server string) string { return uuid("host " + server) }

// VMUUID returns the UUID of a VM by its name.
func VMUUID(vm pool.VMID) string { return uuid("vm " + string(vm)) }

func uuid(of string) string {
	h := sha256.Sum256([]byte(of))
	return fmt.Sprintf("%x-%x-4%03x-8%03x-%x", h[0:4], h[4:6], uint16(h[6])<<4|uint16(h[7])>>4, uint16(h[8])<<4|uint16(h[9])>>4, h[10:16])
}
