package pool

import (
	"fmt"
	"time"
)

// Isolation says what a server does with its protected VMs when its session's stop time comes.
type Isolation int

// Isolation policies.
const (
	IsolationUnspecified Isolation = iota
	// IsolationStop kills them.
	IsolationStop
	// IsolationPause pauses them and kills them only after the isolation grace.
	IsolationPause
)

// String returns the policy's word.
func (i Isolation) String() string { return word([]string{"unspecified", "stop", "pause"}, int(i)) }

// ShutdownPolicy says what happens to the VMs of a server that is shut down or rebooted from its own shell.
type ShutdownPolicy int

// Shutdown policies.
const (
	ShutdownUnspecified ShutdownPolicy = iota
	// ShutdownEvacuate moves them first.
	ShutdownEvacuate
	// ShutdownStop shuts guests down and releases them.
	ShutdownStop
	// ShutdownFreeze shuts guests down and keeps them for the server's return.
	ShutdownFreeze
)

// String returns the policy's word.
func (s ShutdownPolicy) String() string {
	return word([]string{"unspecified", "evacuate", "stop", "freeze"}, int(s))
}

// Mark records who set something, when and why. At is that server's wall clock.
type Mark struct {
	By  string
	At  time.Time
	Why string
}

// Config is the pool's policy.
type Config struct {
	Name        string
	Incarnation string
	// HA is the pool's half of the switch; a VM is protected only if its own is on as well.
	HA     bool
	HAMark Mark
	// Frozen pauses HA: nothing is fenced, moved or restarted.
	Frozen     bool
	FrozenMark Mark
	// LeaseTTL is T; see Timing.
	LeaseTTL time.Duration
	// ReturnHome: VMs go back after maintenance, or to a preferred server.
	ReturnHome bool
	Shutdown   ShutdownPolicy
	// Tolerate is how many server failures capacity is kept for.
	Tolerate int
	// LockBarsFailover: an inbound lock keeps failover out as well.
	LockBarsFailover bool
	OnIsolation      Isolation
	IsolationGrace   time.Duration
	// TrustGuardAlone accepts the guard as proof for VMs on disks without locks.
	TrustGuardAlone bool
	SuspectAfter    time.Duration
	// StopLimit is how long a guest may take to shut down before it is forced.
	StopLimit time.Duration
	// RestartGrace is how long a session outlives the planned stop of its agent.
	RestartGrace time.Duration
	// EventsKept and OperationsKept bound the history in etcd, in entries.
	EventsKept     int
	OperationsKept int
	// Migrations and MigrationsPerServer bound how many live migrations run at once: in the pool, and with one server
	// as their source or destination.
	Migrations, MigrationsPerServer int
	// MigrateBandwidth is the most that one migration copies, in bytes per second; 0: no limit.
	MigrateBandwidth int64
	// AutoConverge slows a guest down that changes memory faster than it is copied.
	AutoConverge bool
	// MigrateLimit is how long one migration may take before it is stopped; the VM then runs on where it is.
	MigrateLimit time.Duration
	// PowerOn: a server that was fenced by power is switched on again once its VMs run elsewhere.
	PowerOn  bool
	Revision Revision
}

// DefaultConfig returns the policy of a new pool. HA is off until it is switched on.
func DefaultConfig(name, incarnation string) Config {
	return Config{
		Name: name, Incarnation: incarnation, LeaseTTL: DefaultTTL, ReturnHome: true,
		Shutdown: ShutdownEvacuate, LockBarsFailover: true,
		OnIsolation: IsolationStop, IsolationGrace: 30 * time.Second, SuspectAfter: 2 * time.Second,
		StopLimit: 60 * time.Second, RestartGrace: 60 * time.Second, EventsKept: 2000, OperationsKept: 500,
		Migrations: 4, MigrationsPerServer: 2, AutoConverge: true, MigrateLimit: 30 * time.Minute, PowerOn: true,
	}
}

// Validate reports the first value that cannot work, with what would.
func (c Config) Validate() error {
	if err := CheckName("pool", c.Name); err != nil {
		return err
	}
	if _, err := NewTiming(c.LeaseTTL); err != nil {
		return err
	}
	switch {
	case c.Tolerate < 0:
		return fmt.Errorf("tolerate %d: must be 0 or more: %w", c.Tolerate, ErrInvalid)
	case c.IsolationGrace < time.Second || c.IsolationGrace > time.Hour:
		return fmt.Errorf("isolation_grace %v: must be from 1s to 1h: %w", c.IsolationGrace, ErrInvalid)
	case c.SuspectAfter < time.Second:
		return fmt.Errorf("suspect_after %v: must be at least 1s: %w", c.SuspectAfter, ErrInvalid)
	case c.StopLimit < time.Second:
		return fmt.Errorf("stop_limit %v: must be at least 1s: %w", c.StopLimit, ErrInvalid)
	case c.RestartGrace < c.LeaseTTL:
		return fmt.Errorf("restart_grace %v: must not be shorter than lease_ttl %v: %w", c.RestartGrace, c.LeaseTTL, ErrInvalid)
	case c.EventsKept < 100 || c.OperationsKept < 10:
		return fmt.Errorf("events_kept %d, operations_kept %d: keep at least 100 and 10: %w", c.EventsKept, c.OperationsKept, ErrInvalid)
	case c.Migrations < 1 || c.MigrationsPerServer < 1:
		return fmt.Errorf("migrations %d, migrations_per_server %d: each must be 1 or more: %w", c.Migrations, c.MigrationsPerServer, ErrInvalid)
	case c.MigrateBandwidth != 0 && c.MigrateBandwidth < 1<<20:
		return fmt.Errorf("migrate_bandwidth %d: must be 0 (no limit) or at least 1M: %w", c.MigrateBandwidth, ErrInvalid)
	case c.MigrateLimit < 10*time.Second:
		return fmt.Errorf("migrate_limit %v: must be at least 10s: %w", c.MigrateLimit, ErrInvalid)
	case c.Shutdown == ShutdownUnspecified || c.OnIsolation == IsolationUnspecified:
		return fmt.Errorf("shutdown and on_isolation must be set: %w", ErrInvalid)
	}
	return nil
}
