package guard

import (
	"context"
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

// Lease is what the guard knows of one session: until when its VMs may run.
type Lease struct {
	Session pool.Session
	// KillAt is sent + P: past it the guard acts on every VM held under the session.
	KillAt pool.Instant
	// Deadline is sent + T: by then all must be dead.
	Deadline pool.Instant
	// OnIsolation and Grace: what to do at KillAt. With pause, VMs are killed Grace later.
	OnIsolation pool.Isolation
	Grace       time.Duration
}

// Held is one VM that the guard holds.
type Held struct {
	VM      pool.VMID
	Process Process
	Session pool.Session
}

// Status is what the guard reports of itself.
type Status struct {
	// Armed: the guard runs and its clock works.
	Armed bool
	// Watchdog is the armed watchdog's time-out; zero without one.
	Watchdog time.Duration
	Held     []Held
	// Killed lists VMs that the guard killed at a deadline since it started, newest last.
	Killed []pool.VMID
}

// Client is the guard as the agent sees it. Implementations: the UNIX socket, and the simulator. Every call is
// acknowledged by the guard or fails; after a failure, nothing may be assumed. Safe for concurrent use.
type Client interface {
	// Extend moves a session's deadline forward, never back. A session that the guard does not know is new.
	Extend(ctx context.Context, lease Lease) error
	// Hold makes the guard responsible for a VM under a session. It succeeds only while that session's KillAt is
	// ahead, and replaces an earlier hold of the same VM. After it the VM dies at KillAt at the latest.
	Hold(ctx context.Context, held Held) error
	// LetGo ends the responsibility for a VM. Clear `armed` in its claim first, by an acknowledged write.
	LetGo(ctx context.Context, vm pool.VMID) error
	Status(ctx context.Context) (Status, error)
}
