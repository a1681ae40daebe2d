package world

import (
	"slices"
	"time"

	"github.com/holdfast-ha/holdfast/pkg/pool"
)

// Always makes an attempt fail for ever.
const Always = -1

// VMSpec is what the world knows of a VM: its disks on the shared storage and how its guest behaves.
type VMSpec struct {
	ID          pool.VMID
	UUID        string
	MemoryBytes int64
	CPUs        int
	// BlockDisks: a bare block device, without any lock.
	BlockDisks bool
	// DirtyRate is how fast the guest changes memory, in bytes per second.
	DirtyRate int64
	// StartFails, MigrateFails and StopFails: so many attempts fail; Always for ever. StartFailsOn limits the
	// first to one server.
	StartFails   int
	StartFailsOn string
	MigrateFails int
	StopFails    int
}

// Image is a VM's disk with its lock, and the count of what the guest went through.
type Image struct {
	VMSpec
	// holder has the image lock.
	holder *QEMU
	// copies are all processes of the VM, on any server, oldest first.
	copies []*QEMU
	// Starts counts guest boots, Migrations arrivals by live migration.
	Starts, Migrations int
	chain              chain
	// staleRuns counts how often a guest went on with memory that another copy had left behind.
	staleRuns int
	// stood is the process that a live move has stopped for the end of the copy, stoodAt when.
	stood   *QEMU
	stoodAt time.Duration
	// lockless: nobody is refused, whatever the disks are.
	lockless bool
}

// IgnoreLocks makes the storage refuse nobody for a lock that another process has, on any VM's disk: how lines of
// defence above it are tested alone.
func (w *World) IgnoreLocks(on bool) {
	w.lockless = on
	for _, im := range w.images {
		im.lockless = on
	}
}

// AddVM puts a VM's disk on the shared storage. Adding it again changes how it behaves.
func (w *World) AddVM(spec VMSpec) *Image {
	if im := w.images[spec.ID]; im != nil {
		im.VMSpec = spec
		return im
	}
	im := &Image{VMSpec: spec, lockless: w.lockless}
	w.images[spec.ID] = im
	return im
}

// Image returns a VM's disk, nil if there is none.
func (w *World) Image(vm pool.VMID) *Image { return w.images[vm] }

// Executing returns the servers on which the guest executes now, in the order in which its processes were made.
func (im *Image) Executing() []string {
	var out []string
	for _, q := range im.copies {
		if q.state == stateRunning {
			out = append(out, q.server.Name)
		}
	}
	return out
}

// longestStand is for how long a guest that stands still for the end of its move is still said to run.
const longestStand = 2 * time.Second

// Standing returns the server that a guest is just leaving in a live move, while it stands still for the end of the copy;
// empty at any other time, and when that takes longer than it should.
func (im *Image) Standing() string {
	q := im.stood
	if q == nil || q.server.w.s.Now()-im.stoodAt > longestStand {
		return ""
	}
	for _, o := range im.copies {
		switch o.state {
		case stateRunning:
			return ""
		case stateFinish, statePostMigrate, stateArrived:
			return q.server.Name
		}
	}
	return ""
}

// StaleRuns counts how often the guest went on with memory that is older than another copy's execution.
func (im *Image) StaleRuns() int { return im.staleRuns }

// Copies returns all live processes of the VM, oldest first.
func (im *Image) Copies() []*QEMU { return slices.Clone(im.copies) }

// lock gives q the image lock, or reports that another process has it. Block devices have none.
func (im *Image) lock(q *QEMU) bool {
	if im.BlockDisks || im.lockless || im.holder == q {
		return true
	}
	if im.holder != nil {
		return false
	}
	im.holder = q
	return true
}

func (im *Image) unlock(q *QEMU) {
	if im.holder == q {
		im.holder = nil
	}
}

func (im *Image) drop(q *QEMU) {
	im.unlock(q)
	im.copies = slices.DeleteFunc(im.copies, func(o *QEMU) bool { return o == q })
}

// spend uses up one of a number of failures; true if this attempt fails.
func spend(n *int) bool {
	switch {
	case *n == Always:
		return true
	case *n > 0:
		*n--
		return true
	}
	return false
}

// failsStart uses up a failing start on a server.
func (im *Image) failsStart(server string) bool {
	if im.StartFailsOn != "" && im.StartFailsOn != server {
		return false
	}
	return spend(&im.StartFails)
}
