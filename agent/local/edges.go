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
	// Shape differs from one listing to the next if disks or devices may have changed in between; empty where nobody
	// can tell.
	Shape string
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
	// Adopt writes marker into the metadata of a running domain that has none. It also replaces the marker of a copy
	// that arrived by migration, without letting its CPUs run: its guest was paused by hand before it moved.
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
	Transfers
	// Changed is set whenever a domain changed, appeared or ended, or the connection came back.
	Changed() clock.Signal
}

// Transfers is the hypervisor's part in live migration.
type Transfers interface {
	// Migrate copies a VM's running guest to another server, where it arrives with its CPUs stopped, and returns once
	// the hypervisor's job has ended, either way, or only the hypervisor's own account of a clean end is missing
	// (Transfer.Rest). A job outlives its caller: neither the end of ctx nor that of this process ends it; Abort does.
	Migrate(ctx context.Context, m Migration) (Transfer, error)
	// Abort asks the hypervisor to give a running job up; it returns nil if there is none. It may block as long as the
	// guest's CPUs are stopped for the end of the copy.
	Abort(ctx context.Context, vm pool.VMID) error
	// Job says how the VM's outgoing job stands, and never takes longer than its ctx. It is also how an agent that
	// restarted finds out that a job goes on without its caller.
	Job(ctx context.Context, vm pool.VMID) (Job, error)
	// PutsAway reports whether the hypervisor is still busy with a run of the VM on this server that has ended, or never
	// came to be, so that no copy of it can arrive yet.
	PutsAway(ctx context.Context, vm pool.VMID) (bool, error)
}

// Migration is one transfer of a VM to another server.
type Migration struct {
	VM        pool.VMID
	Operation pool.OperationID
	To        pool.ServerID
	// Marker is the copy's: the epoch of the claim under which it was made, and the operation.
	Marker Marker
	// Bandwidth limits the copy, in bytes per second; 0: none.
	Bandwidth int64
	// AutoConverge slows the guest down when it changes memory faster than it can be copied.
	AutoConverge bool
	Link         Link
}

// Link is where the source's hypervisor reaches the destination's, as paths of UNIX sockets on the source. Empty where
// the hypervisors reach each other without.
type Link struct {
	// Libvirt leads to the destination's libvirt, Stream to its incoming QEMU.
	Libvirt, Stream string
}

// Transfer is how a job ended whose call returned without an error.
type Transfer struct {
	// Clean: the guest was seen suspended for the end of the copy (or Paused), it was not seen to run after that, and
	// the stream of events that would have told so never broke. Without it the copy's memory may be stale.
	Clean bool
	// Why says what is missing, if not Clean.
	Why string
	// Paused: the guest had been paused by hand before, and was so all along.
	Paused bool
	// Rest waits until the hypervisor has ended the job, or ctx ends; nil if it has. What it waits for changes nothing
	// of the above: the source's process is dead. The way to the destination is not closed before.
	Rest func(ctx context.Context)
}

// Job is a VM's outgoing migration as the hypervisor sees it now.
type Job struct {
	Running bool
	// Progress of a running job; zero values where the hypervisor does not say.
	BytesDone, BytesTotal, BytesPerSecond, DirtyPerSecond int64
	// Downtime is how long the guest would stand still if the copy ended now.
	Downtime time.Duration
	// Pass counts rounds through the guest's memory; from the second on only what it changed is copied.
	Pass int
}

// Peers is how a source's agent talks to a destination's. Safe for concurrent use.
type Peers interface {
	// Prepare asks server to for its consent to take in the copy that operation op makes of vm under a claim of epoch,
	// and opens the way there. The other agent consents only after a linearizable read of the claim.
	Prepare(ctx context.Context, to pool.ServerID, op pool.OperationID, vm pool.VMID, epoch pool.Epoch) (Link, error)
	// ConfirmIncoming asks how the copy of op stands on server to, whose session must be session.
	ConfirmIncoming(ctx context.Context, to pool.ServerID, op pool.OperationID, vm pool.VMID, session pool.Session) (Confirmed, error)
	// Close ends the way that Prepare opened for op, if one is open.
	Close(op pool.OperationID)
}

// Confirmed is what a destination says of its copy.
type Confirmed struct {
	// Arrived: the copy of this operation is there, complete, and its CPUs never ran.
	Arrived bool
	// Held: the destination's guard holds the copy's process under the session that was named.
	Held bool
	// Watchdog is the time-out of the watchdog behind that guard; 0: none.
	Watchdog time.Duration
}

// Drifts compares what runs with what is registered. A hypervisor that implements it sets Domain.Shape.
type Drifts interface {
	// Drift compares an active VM with its registration vm. It may block and fail as the other calls do.
	Drift(ctx context.Context, vm pool.VM) (Drift, error)
}

// Drift is how a VM that runs differs from its registration.
type Drift struct {
	// VM is the registration as it should be: with the disks that run, what follows from them, and what is in doubt.
	VM pool.VM
	// Why tells what of that is new; empty if nothing is.
	Why string
	// Differs tells what else runs otherwise than registered, and ends with the next start; empty if nothing does.
	Differs string
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
	// Peer, if set, must still have PeerSession: the destination of a hand-over.
	Peer        pool.ServerID
	PeerSession pool.Session
	Event       *pool.Event
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
	// WriteProgress writes an operation's record if it is unchanged and this server still has session.
	WriteProgress(ctx context.Context, session pool.Session, op pool.Operation) error
}

// Session is this server's session as this package uses it.
type Session interface {
	// ID returns the session; 0 while there is none.
	ID() pool.Session
	// Allows reports whether a VM may be started or resumed now: the stop time is ahead and the guard knows it.
	Allows(now pool.Instant) bool
}
