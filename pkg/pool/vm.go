package pool

import (
	"fmt"
	"time"
)

// Priority orders recovery.
type Priority int

// Priorities.
const (
	PriorityUnspecified Priority = iota
	PriorityLow
	PriorityMedium
	PriorityHigh
)

// String returns the priority's word.
func (p Priority) String() string {
	return word([]string{"unspecified", "low", "medium", "high"}, int(p))
}

// Desired is the power state that operators want for a VM.
type Desired int

// Desired power states.
const (
	DesiredUnspecified Desired = iota
	DesiredRunning
	// DesiredStopped asks the guest to shut down and forces it after the stop limit.
	DesiredStopped
	// DesiredKilled forces it off at once; otherwise as stopped.
	DesiredKilled
)

// String returns the state's word.
func (d Desired) String() string {
	return word([]string{"unspecified", "running", "stopped", "killed"}, int(d))
}

// NeedKind classifies what a VM needs from a server.
type NeedKind int

// Kinds of need.
const (
	NeedUnspecified NeedKind = iota
	// NeedFile: a path that must exist on the server (disk, ISO, kernel, NVRAM).
	NeedFile
	// NeedBridge: a host bridge.
	NeedBridge
	// NeedNetwork: a libvirt network.
	NeedNetwork
	// NeedMachine: a machine type of its emulator.
	NeedMachine
	// NeedHostDevice: a host device; pins the VM.
	NeedHostDevice
	// NeedSecret: a libvirt secret.
	NeedSecret
	// NeedCPU: a CPU model or feature set.
	NeedCPU
)

// String returns the kind's word.
func (k NeedKind) String() string {
	return word([]string{"unspecified", "file", "bridge", "network", "machine type", "host device", "secret", "CPU"}, int(k))
}

// Need is one thing that a VM needs from the server it runs on, besides memory and CPUs.
type Need struct {
	Kind NeedKind
	Name string
}

// VM is a VM's registration: definition, policy and what operators want.
type VM struct {
	ID          VMID
	UUID        string
	XML         string
	MemoryBytes int64
	CPUs        int
	// HA is the VM's half of the switch.
	HA       bool
	HAMark   Mark
	Priority Priority
	// Prefer lists servers in order; soft. Require lists the only ones allowed; hard.
	Prefer, Require []ServerID
	// Apart and Together name groups; hard: never with another of the same Apart group on one server, always
	// with those of the same Together group.
	Apart, Together string
	// Restarts and Relocations within Window bound automatic restarts: Restarts+1 tries on a server, then
	// Relocations moves to another, then failed.
	Restarts, Relocations int
	Window                time.Duration
	// Movable: it can migrate live.
	Movable bool
	// DiskLocks: every disk has a lock that stops a second writer.
	DiskLocks bool
	Needs     []Need
	// RestartOnGuestShutdown: a guest that powers itself off is started again.
	RestartOnGuestShutdown bool
	Desired                Desired
	DesiredMark            Mark
	// DisksInDoubt says why the disks in XML may not be those that the guest wrote last; empty if they are. Such a VM
	// is started nowhere: an old base would lose what was written since. Written by its owner, ended by an operator.
	DisksInDoubt string
	// Canary: it was made by a drill, which may do anything to it, and which removes it.
	Canary   bool
	Revision Revision
}

// Secrets are the passwords that were taken out of a VM's definition, by their place in it. They are in no snapshot.
type Secrets struct {
	VM        VMID
	Passwords map[string]string
}

// DefaultVM returns the policy of a newly registered VM; HA is off, it is wanted stopped.
func DefaultVM(id VMID) VM {
	return VM{ID: id, Priority: PriorityMedium, Restarts: 1, Relocations: 1, Window: 10 * time.Minute,
		Movable: true, Desired: DesiredStopped}
}

// Validate reports the first value that cannot work, with what would.
func (v VM) Validate() error {
	if err := CheckName("vm", string(v.ID)); err != nil {
		return err
	}
	switch {
	case v.MemoryBytes <= 0:
		return fmt.Errorf("vm %s: memory must be more than 0: %w", v.ID, ErrInvalid)
	case v.CPUs <= 0:
		return fmt.Errorf("vm %s: needs at least 1 CPU: %w", v.ID, ErrInvalid)
	case v.Restarts < 0 || v.Relocations < 0:
		return fmt.Errorf("vm %s: restarts and relocations must be 0 or more: %w", v.ID, ErrInvalid)
	case v.Window <= 0:
		return fmt.Errorf("vm %s: window must be more than 0: %w", v.ID, ErrInvalid)
	case v.Priority < PriorityLow || v.Priority > PriorityHigh:
		return fmt.Errorf("vm %s: priority must be low, medium or high: %w", v.ID, ErrInvalid)
	case v.Desired == DesiredUnspecified:
		return fmt.Errorf("vm %s: no desired state: %w", v.ID, ErrInvalid)
	}
	for _, g := range []string{v.Apart, v.Together} {
		if g != "" {
			if err := CheckName("group", g); err != nil {
				return err
			}
		}
	}
	return nil
}

// RunState is what the owner observes of a VM.
type RunState int

// Observed states.
const (
	RunUnspecified RunState = iota
	RunStarting
	RunRunning
	RunPaused
	RunStopping
	RunStopped
)

// String returns the state's word.
func (r RunState) String() string {
	return word([]string{"unspecified", "starting", "running", "paused", "stopping", "stopped"}, int(r))
}

// VMState is what a VM's owner last reported. Written on change, never on a timer.
type VMState struct {
	VM     VMID
	Server ServerID
	Epoch  Epoch
	State  RunState
	// Reason explains it: "I/O error", "disk lock held by another process", ...
	Reason   string
	Since    time.Time
	Revision Revision
}

// Failure is one counted failure of a VM.
type Failure struct {
	Server ServerID
	Cause  Cause
	At     time.Time
	Detail string
}

// Home remembers where a VM belongs and what went wrong with it lately. Written by the leader.
type Home struct {
	VM VMID
	// Server is where it goes back to after maintenance; empty: nowhere in particular.
	Server ServerID
	// Failures within the VM's window, oldest first.
	Failures []Failure
	// Failed: the restart policy gave up; cleared by an operator.
	Failed       bool
	FailedReason string
	// Placed is where an operator has put it by hand: while it is there, it is not moved to a preferred server.
	Placed   ServerID
	Revision Revision
}
