package guard

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/holdfast-ha/holdfast/pkg/pool"
)

// Process names one process for as long as the machine is up: a PID alone may be used again. The guard opens a
// pidfd and compares the start time before it trusts the number.
type Process struct {
	PID int
	// StartTicks is field 22 of /proc/PID/stat.
	StartTicks uint64
}

// String names the process for logs.
func (p Process) String() string { return fmt.Sprintf("pid %d", p.PID) }

// Lease is what the guard knows of one session: until when its VMs may run. Instants are this server's
// CLOCK_BOOTTIME.
type Lease struct {
	Session pool.Session
	// Sent is when the request to etcd was sent that the deadlines are counted from. Of two Leases of one session
	// the one with the later Sent counts, also where its deadlines are earlier: so a request that was delayed on its
	// way to the guard cannot undo a newer one.
	Sent pool.Instant
	// KillAt is sent + P: past it the guard acts on every VM held under the session.
	KillAt pool.Instant
	// Deadline is sent + T: by then all must be dead.
	Deadline pool.Instant
	// Promised: the deadlines do not rest on the lease but on promises of all that may lead, and Sent is when those
	// were asked for. It only prolongs: it never brings a deadline forward, changes no policy, and counts only while
	// the stop time that the guard knew before is ahead. Source: docs/safety.md, "Failsafe".
	Promised bool `json:",omitempty"`
	// OnIsolation and Grace: what to do at KillAt. With pause, VMs are killed Grace later.
	OnIsolation pool.Isolation
	Grace       time.Duration
}

// Held is one VM that the guard holds.
type Held struct {
	VM      pool.VMID
	Process Process
	Session pool.Session
	// Monitor is the path of a QMP socket of the process that the guard may use to pause it; empty: it has none, and
	// the isolation policy "pause" kills at KillAt as "stop" does.
	Monitor string `json:",omitempty"`
}

// Status is what the guard reports of itself.
type Status struct {
	// Armed: the guard runs and its clock works.
	Armed bool
	// Watchdog is the time-out of a hardware watchdog that resets this server when the guard freezes while it holds
	// a VM; zero without one. A software watchdog counts as none: it stops with the host.
	Watchdog time.Duration
	// Held is sorted by VM.
	Held []Held
	// Paused lists VMs that the guard paused at a deadline and that have not been held anew since: resume such a VM
	// only after its claim was re-asserted, then Hold it again. Sorted.
	Paused []pool.VMID
	// Killed lists VMs that the guard killed at a deadline since it started, newest last; at most 1000.
	Killed []pool.VMID
}

// Errors of the Client's calls, besides pool.ErrInvalid and pool.ErrUnavailable.
var (
	// ErrLate: the session's KillAt is not ahead, or the guard does not know the session. Extend first.
	ErrLate = errors.New("the session's stop time is not ahead")
	// ErrOutdated: the guard knows a later Sent of this session.
	ErrOutdated = errors.New("overtaken by a newer deadline")
	// ErrNoProcess: the process has ended, or the PID is another's.
	ErrNoProcess = errors.New("no such process")
	// ErrDoomed: the guard has begun to kill this process.
	ErrDoomed = errors.New("the process is being killed")
)

// Client is the guard as the agent sees it. Implementations: the UNIX socket, and the simulator. Every call is
// acknowledged by the guard or fails; after a failure, nothing may be assumed. Safe for concurrent use.
type Client interface {
	// Extend sets a session's deadlines: those with the newest Sent count, ErrOutdated is the answer to others. A
	// session that the guard does not know is new, unless the deadlines are Promised: those prolong only what has not
	// come to its end, else ErrLate is the answer.
	Extend(ctx context.Context, lease Lease) error
	// Hold makes the guard responsible for a VM under a session. It succeeds only while that session's KillAt is
	// ahead, and replaces an earlier hold of the same process. After it the VM is stopped at KillAt at the latest.
	// An earlier process of the VM stays held as it was until it is dead.
	Hold(ctx context.Context, held Held) error
	// LetGo ends the responsibility for a VM, all its processes. Clear `armed` in its claim first, by an acknowledged
	// write. What is being killed stays so.
	LetGo(ctx context.Context, vm pool.VMID) error
	Status(ctx context.Context) (Status, error)
}
