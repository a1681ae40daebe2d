package pool

import (
	"fmt"
	"time"
)

// Phase is where a claim stands. docs/state-model.md has the transitions.
type Phase int

// The phases of a claim.
const (
	PhaseUnspecified Phase = iota
	// PhaseUnassigned: no server owns the VM: it is stopped, or waits for a server that can take it.
	PhaseUnassigned
	// PhaseAssigned: the leader told Server to run the VM. It has not run under this claim yet.
	PhaseAssigned
	// PhaseHeld: Server runs the VM.
	PhaseHeld
	// PhaseMigrating: Server runs the VM and Incoming prepares a paused copy.
	PhaseMigrating
	// PhaseHandedOver: Server owns the VM now and may resume its paused copy.
	PhaseHandedOver
	// PhaseReleasing: Server is told to stop the VM and release it.
	PhaseReleasing
)

var phaseNames = [...]string{"unspecified", "UNASSIGNED", "ASSIGNED", "HELD", "MIGRATING", "HANDED_OVER", "RELEASING"}

// String returns the phase's word as it stands in etcd.
func (p Phase) String() string { return word(phaseNames[:], int(p)) }

// Owned reports whether a server may be executing the VM in this phase.
func (p Phase) Owned() bool { return p >= PhaseHeld && p <= PhaseReleasing }

// Cause says why an owner let a VM go.
type Cause int

// The causes of a release.
const (
	CauseUnspecified Cause = iota
	// CauseStopped: the pool wanted it stopped.
	CauseStopped
	// CauseGuestShutdown: the guest powered itself off.
	CauseGuestShutdown
	// CauseCrashed: QEMU died by itself.
	CauseCrashed
	// CausePanicked: the guest kernel panicked.
	CausePanicked
	// CauseStartFailed: it could not be started there.
	CauseStartFailed
	// CauseServerRestarted: the server, or its session, ended and came back without the VM.
	CauseServerRestarted
	// CauseServerShutdown: the server is shutting down.
	CauseServerShutdown
	// CauseFenced: the leader took it from a server that was proven harmless.
	CauseFenced
	// CauseMoved: released for a planned move (relocate, evacuation).
	CauseMoved
	// CauseIsolated: killed at the deadline of a session that could not be renewed.
	CauseIsolated
	// CauseStorageLost: the server lost its path to the VM's disks.
	CauseStorageLost
	// CauseKept: the server went down, and the VM is kept for its return by the pool's shutdown policy.
	CauseKept
	// CauseMigrationFailed: its QEMU ended while it was on its way, and nothing proves that the copy is as new.
	CauseMigrationFailed
)

var causeNames = [...]string{"unspecified", "stopped", "guest shutdown", "crashed", "guest panic", "start failed",
	"server restarted", "server shutdown", "server fenced", "moved", "isolated", "storage lost",
	"server shutdown, kept for its return", "migration failed"}

// String returns the cause in words for people.
func (c Cause) String() string { return word(causeNames[:], int(c)) }

// CountsAsFailure reports whether the restart policy counts this release against the VM.
func (c Cause) CountsAsFailure() bool {
	return c == CauseCrashed || c == CausePanicked || c == CauseStartFailed
}

// Incoming is the destination of a running migration.
type Incoming struct {
	Server  ServerID
	Session Session
	// Held: the destination's guard holds the incoming copy.
	Held bool
}

// Claim is the record of which server may run a VM now. It is changed only by compare-and-swap on Revision.
type Claim struct {
	VM      VMID
	Server  ServerID
	Session Session
	Epoch   Epoch
	Phase   Phase
	// Armed: the owner's guard holds this VM; proofs by guard and watchdog count.
	Armed bool
	// Watchdog is W of the owner's watchdog while Armed; zero without one.
	Watchdog  time.Duration
	Incoming  *Incoming
	Operation OperationID
	// Paused: the guest was paused by hand before it moved, and stays so; meaningful in PhaseHandedOver.
	Paused bool
	// LastServer is where it ran last; kept while unassigned.
	LastServer ServerID
	// Cause and Detail say why it was released; meaningful in PhaseUnassigned.
	Cause  Cause
	Detail string
	// Incarnation of the etcd data that this claim belongs to.
	Incarnation string
	// Since is when the phase began, by the writer's wall clock; for people.
	Since time.Time
	// Replaces is the mod revision of a stranger's value that the leader wrote this one in place of; 0: of none.
	Replaces Revision
	// Revision is the key's mod revision; not stored in the value.
	Revision Revision
}

// OwnedBy reports whether the claim names this server and this session.
func (c Claim) OwnedBy(s ServerID, session Session) bool {
	return c.Server == s && c.Session == session && session != 0
}

// Check reports a claim that no writer of ours would write.
func (c Claim) Check() error {
	switch {
	case c.Phase <= PhaseUnspecified || c.Phase > PhaseReleasing:
		return fmt.Errorf("claim %s: no such phase: %w", c.VM, ErrInvalid)
	case c.Phase == PhaseUnassigned && c.Server != "":
		return fmt.Errorf("claim %s: unassigned, yet names server %s: %w", c.VM, c.Server, ErrInvalid)
	case c.Phase != PhaseUnassigned && (c.Server == "" || c.Session == 0):
		return fmt.Errorf("claim %s: %v without a server and session: %w", c.VM, c.Phase, ErrInvalid)
	case c.Phase == PhaseMigrating && c.Incoming == nil:
		return fmt.Errorf("claim %s: migrating without a destination: %w", c.VM, ErrInvalid)
	case c.Epoch < 0:
		return fmt.Errorf("claim %s: negative epoch: %w", c.VM, ErrInvalid)
	}
	return nil
}

// word returns names[i], or a placeholder for a value from a newer version.
func word(names []string, i int) string {
	if i < 0 || i >= len(names) {
		return fmt.Sprintf("unknown(%d)", i)
	}
	return names[i]
}
