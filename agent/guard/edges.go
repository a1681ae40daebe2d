package guard

import (
	"context"
	"errors"
	"time"
)

// Processes reaches processes without trusting a PID. None of its methods blocks. For one caller at a time.
type Processes interface {
	// Open pins p, so that later calls reach it and nothing else. ErrNoProcess: it has ended, or is not it.
	Open(p Process) error
	// Kill sends SIGKILL and returns at once. It opens p first if need be. A process that has ended is no error.
	Kill(p Process) error
	// Dead reports whether every thread of p has ended. Other errors than "it has ended" are no proof of death.
	Dead(p Process) (bool, error)
	// Close unpins p.
	Close(p Process)
}

// Pauser stops the CPUs of a VM.
type Pauser interface {
	// Pause returns nil once the VM's CPUs are confirmed to stand still and its disks are quiet.
	Pause(ctx context.Context, h Held) error
}

// Watch is an armed watchdog.
type Watch struct {
	// Timeout is W: without a pet for so long the server resets.
	Timeout time.Duration
	// Hardware: it fires although the host is frozen.
	Hardware bool
}

// ErrNoWayOut says that the watchdog cannot be stopped once it was armed; it must be petted for ever.
var ErrNoWayOut = errors.New("the watchdog cannot be stopped")

// Watchdog resets the server when it is not petted in time. Its methods may block for a while. For one caller at a
// time.
type Watchdog interface {
	// Arm starts it, or takes it over if it runs.
	Arm() (Watch, error)
	Pet() error
	// Disarm stops it, or fails with ErrNoWayOut.
	Disarm() error
}
