package local

import (
	"context"
	"time"

	"github.com/holdfast-ha/holdfast/agent/guard"
	"github.com/holdfast-ha/holdfast/pkg/clock"
	"github.com/holdfast-ha/holdfast/pkg/pool"
)

// Marker is what a domain carries in its metadata: whose it is and under which right it was made.
type Marker struct {
	Pool        string
	Incarnation string
	VM          pool.VMID
	Epoch       pool.Epoch
	// Operation made this copy as the destination of a migration; empty for a cold start.
	Operation pool.OperationID
	// Started is set just after the CPUs ran for the first time.
	Started bool
}

// DomainState is what the hypervisor says about a domain.
type DomainState int

// Domain states.
const (
	DomainUnspecified DomainState = iota
	// DomainPaused: CPUs are stopped: created paused, or by an operator's hand.
	DomainPaused
	DomainRunning
	// DomainShuttingDown: the guest is powering off.
	DomainShuttingDown
	// DomainIOError: paused by QEMU after a disk error.
	DomainIOError
	// DomainPanicked: the guest kernel panicked.
	DomainPanicked
	// DomainIncoming: a migration is arriving; the CPUs never ran here.
	DomainIncoming
	// DomainPostMigrate: paused after its memory went elsewhere.
	DomainPostMigrate
	// DomainGone: the process has ended; Exit says how.
	DomainGone
)

// Exit says how a domain's QEMU ended, as far as the hypervisor knows.
type Exit int

// Exits.
const (
	ExitUnknown Exit = iota
	// ExitGuest: the guest powered off.
	ExitGuest
	// ExitCrashed: QEMU died, or was killed.
	ExitCrashed
	// ExitMigrated: it ended because its memory had moved.
	ExitMigrated
	// ExitDestroyed: it was destroyed through the hypervisor.
	ExitDestroyed
)

// Domain is one VM as found on this server.
type Domain struct {
	VM      pool.VMID
	UUID    string
	Process guard.Process
	// Monitor is the path of a QMP socket of the process for the guard's Held.Monitor; empty if it has none.
	Monitor string
	State   DomainState
	// Exit and ExitDetail are set in DomainGone.
	Exit       Exit
	ExitDetail string
	// Panicked: the guest kernel panicked before the domain ended.
	Panicked bool
	// Marker is nil for a domain that Holdfast did not make.
	Marker *Marker
}

// Hypervisor is libvirt and QEMU as this package uses them. Every call may block and may fail while libvirtd is
// down. Safe for concurrent use; calls for different VMs do not wait for each other.
type Hypervisor interface {
	// Domains lists every active domain on this server, and those that ended lately and were not forgotten
	// (DomainGone), whose exit the caller has not yet read with Forget.
	Domains(ctx context.Context) ([]Domain, error)
	// Create defines a transient domain from xml with marker in its metadata and starts its process with the CPUs
	// stopped. A start refused by a disk lock fails with ErrDiskLocked.
	Create(ctx context.Context, xml string, marker Marker) (Domain, error)
	// Resume lets the CPUs run, then sets marker.Started in the metadata. It mends a domain that runs and is not
	// marked yet.
	Resume(ctx context.Context, vm pool.VMID, marker Marker) error
	// Adopt writes marker into the metadata of a running domain that has none.
	Adopt(ctx context.Context, vm pool.VMID, marker Marker) error
	// Shutdown asks the guest to power off; it returns at once.
	Shutdown(ctx context.Context, vm pool.VMID) error
	// Kill ends the domain's process by SIGKILL and returns once it is seen dead. It works without libvirtd.
	Kill(ctx context.Context, p guard.Process) error
	// Dead reports whether the process is seen dead, without libvirtd. It is the only proof of death.
	Dead(ctx context.Context, p guard.Process) (bool, error)
	// Absent reports whether no process of the VM with this UUID exists on this server, by the process table and
	// without libvirtd. It is the proof of death for a VM whose process is not known any more.
	Absent(ctx context.Context, uuid string) (bool, error)
	// Forget drops what is remembered of a VM that ended.
	Forget(vm pool.VMID)
	// Changed is set whenever a domain changed, appeared or ended, or the connection came back.
	Changed() clock.Signal
}

// Needs checks what VMs need from this server.
type Needs interface {
	// Missing returns what this server lacks of needs, in words; empty if nothing.
	Missing(ctx context.Context, needs []pool.Need) ([]string, error)
	// StorageLost reports whether the path to the shared storage is gone.
	StorageLost(ctx context.Context) (bool, error)
}

// Capacity is what a server has.
type Capacity struct {
	HostUUID    string
	BootID      string
	MemoryBytes int64
	CPUs        int
}

// Usage is a VM's live load; it never goes through etcd.
type Usage struct {
	VM pool.VMID
	// CPUTime since its start, and memory in use.
	CPUTime     time.Duration
	MemoryBytes int64
}

// Write is one guarded transaction of an owner. Claim, State and VM are written if not nil; Event is added.
type Write struct {
	// Session guards the write: the server's member key must still have this create revision.
	Session pool.Session
	// VM names the claim whose revision must still be Revision.
	VM       pool.VMID
	Revision pool.Revision
	Claim    *pool.Claim
	State    *pool.VMState
	// Stopped: also set the registration's desired state to stopped, if the registration is unchanged at this
	// revision: the guest powered itself off.
	Registration *pool.VM
	Event        *pool.Event
}

// Pool is the pool's data as this package uses it. Safe for concurrent use.
type Pool interface {
	// Snapshot returns the newest snapshot; its revision is 0 before the first.
	Snapshot() *pool.Snapshot
	// ReadClaim reads a claim linearizably; ok is false if there is none.
	ReadClaim(ctx context.Context, vm pool.VMID) (c pool.Claim, ok bool, err error)
	// Write applies w and returns the new revision. pool.ErrStale: a guard failed, nothing was written;
	// pool.ErrOutcomeUnknown: read back first.
	Write(ctx context.Context, w Write) (pool.Revision, error)
}

// Session is this server's session as this package uses it.
type Session interface {
	// ID returns the session; 0 while there is none.
	ID() pool.Session
	// Allows reports whether a VM may be started or resumed now: the stop time is ahead and the guard knows it.
	Allows(now pool.Instant) bool
}
