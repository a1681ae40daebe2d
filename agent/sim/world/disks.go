package world

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/holdfast-ha/holdfast/agent/local"
	"github.com/holdfast-ha/holdfast/pkg/pool"
)

var (
	_ local.Drifts = (*Hypervisor)(nil)
	_ local.Drifts = (*Outside)(nil)
)

// chain is where a VM's newest data is: the disk that its definition names at first, later what snapshots and block
// jobs made of it.
type chain struct {
	// top is the file or device that the guest writes; empty until it was first started.
	top string
	// layers counts the overlays that snapshots made; copying that a block job runs which may move the VM. Both belong
	// to the process, whose changes are counted.
	layers  int
	copying bool
	changes int
	// base is the lowest image.
	base string
	// stale counts boots from a disk that was not the newest.
	stale int
}

// Stale counts the times that the guest was booted from a disk that was not the one it wrote last.
func (im *Image) Stale() int { return im.chain.stale }

// opened notes which disk a process was made with.
func (c *chain) opened(disk string) {
	if c.top == "" {
		c.top, c.base = disk, disk
	}
}

// Redefined takes the disk that an edited definition names for the VM's newest.
func (im *Image) Redefined(xml string) {
	im.chain.top, im.chain.base = diskOf(xml), diskOf(xml)
	im.chain.changes++
}

// boots reports whether a first boot from disk starts from the newest data.
func (c *chain) boots(disk string) bool {
	if disk == "" || disk == c.top {
		return true
	}
	c.stale++
	return false
}

// Snapshot moves a running VM to an overlay, as a backup tool does behind everybody's back; false if it does not run.
func (w *World) Snapshot(vm pool.VMID) bool {
	return w.disks(vm, func(c *chain) string {
		c.layers++
		c.top = fmt.Sprintf("/pool/%s.snap%d.qcow2", vm, c.layers)
		return "is moved to the overlay " + c.top
	})
}

// CommitStart begins an active commit of a running VM's overlays; false if it does not run.
func (w *World) CommitStart(vm pool.VMID) bool {
	return w.disks(vm, func(c *chain) string {
		c.copying = true
		return "has its overlays committed"
	})
}

// CommitPivot ends the commit: from now on the VM writes its lowest image; false if it does not run.
func (w *World) CommitPivot(vm pool.VMID) bool {
	return w.disks(vm, func(c *chain) string {
		c.copying, c.top = false, c.base
		return "is moved back to " + c.base
	})
}

func (w *World) disks(vm pool.VMID, change func(*chain) string) bool {
	q := w.newest(vm)
	if q == nil || !q.Executes() {
		return false
	}
	q.tell("%s on %s %s", vm, q.server.Name, change(&q.image.chain))
	q.image.chain.changes++
	return true
}

// shape names the state of a process's disks.
func (q *QEMU) shape() string { return fmt.Sprintf("%v, %d changes", q.Process, q.image.chain.changes) }

// Drift compares the disk that a VM writes with its registration.
func (h *Hypervisor) Drift(ctx context.Context, vm pool.VM) (local.Drift, error) {
	out := local.Drift{VM: vm}
	err := h.s.libvirt(ctx, h.p, 3*time.Millisecond, func() error {
		q := h.s.find(vm.ID)
		if q == nil {
			return local.ErrNoDomain
		}
		c := &q.image.chain
		out.VM.DisksInDoubt = ""
		if c.copying {
			out.VM.DisksInDoubt = "a block job was running on disk vda"
		}
		if was := diskOf(vm.XML); was != c.top && was != "" && c.top != "" {
			out.VM.XML = strings.Replace(vm.XML, was, c.top, 1)
			out.Why = fmt.Sprintf("disk vda is %s now, not %s", c.top, was)
		}
		if out.Why == "" && out.VM.DisksInDoubt != vm.DisksInDoubt {
			out.Why = "a block job on disk vda began or ended"
		}
		return nil
	})
	if err != nil {
		return local.Drift{}, fmt.Errorf("compare %s with its registration: %w", vm.ID, err)
	}
	return out, nil
}

// Drift implements local.Drifts.
func (o *Outside) Drift(ctx context.Context, vm pool.VM) (local.Drift, error) {
	return outside(ctx, o.paced, o.proc, func(ctx context.Context) (local.Drift, error) { return o.h.Drift(ctx, vm) })
}

// diskOf returns the path of a definition's first disk, empty if it names none.
func diskOf(xml string) string {
	_, disk, _ := strings.Cut(xml, "<disk ")
	_, source, _ := strings.Cut(disk, "<source ")
	for _, attr := range []string{"file='", "dev='"} {
		if _, rest, ok := strings.Cut(source, attr); ok {
			path, _, _ := strings.Cut(rest, "'")
			return path
		}
	}
	return ""
}
