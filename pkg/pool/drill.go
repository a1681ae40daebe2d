package pool

import (
	"fmt"
	"path"
	"time"
)

// DrillLevel is what a drill does to its canary.
type DrillLevel int

// Levels, in the order of their severity.
const (
	DrillUnspecified DrillLevel = iota
	// DrillQEMU: its QEMU dies, as if it had crashed.
	DrillQEMU
	// DrillAgent: the agent of its server dies and is started again; no VM may stop.
	DrillAgent
	// DrillIsolation: the agent of its server does not reach etcd; the canary is started elsewhere.
	DrillIsolation
)

// String returns the level's word.
func (l DrillLevel) String() string {
	return word([]string{"unspecified", "qemu", "agent", "isolation"}, int(l))
}

// ParseDrillLevel is the reverse of String. Errors are ErrInvalid.
func ParseDrillLevel(s string) (DrillLevel, error) {
	for l := DrillQEMU; l <= DrillIsolation; l++ {
		if l.String() == s {
			return l, nil
		}
	}
	return 0, fmt.Errorf("level %q: write qemu, agent or isolation: %w", s, ErrInvalid)
}

// Allowances of a drill's budget, for what the lease budget does not say. docs/operations.md, "Test your HA
// configuration".
const (
	// DrillSeen is how long it may take until a process that died is seen to be dead, and written down.
	DrillSeen = time.Second
	// DrillExpiry is how late etcd may end a lease, and the leader look at it. docs/facts.md.
	DrillExpiry = time.Second
	// DrillStart is how long a start may take: placing, QEMU's own start, the guard's word, one transaction.
	DrillStart = 2 * time.Second
)

// DrillBudget is what a level of a drill may take, each counted from the hit; 0: does not apply.
type DrillBudget struct {
	// Stopped is when the canary must have stopped on the server that lost its session.
	Stopped time.Duration
	// Detected is when the pool must know that something is wrong.
	Detected time.Duration
	// Fenced is when the old server must be proven harmless.
	Fenced time.Duration
	// Recovered is when all must be well again: the canary runs, or the agent is back with its session.
	Recovered time.Duration
}

// DrillBudget returns what a level may take in a pool with this timing; watchdog is that of the server that is hit, 0 if
// it has none.
func (t Timing) DrillBudget(l DrillLevel, watchdog time.Duration) DrillBudget {
	switch l {
	case DrillQEMU:
		return DrillBudget{Detected: DrillSeen, Recovered: DrillSeen + DrillStart}
	case DrillAgent:
		return DrillBudget{Recovered: t.Stop}
	case DrillIsolation:
		settle := t.Settle
		if watchdog > 0 {
			settle = t.WatchdogSettle(watchdog)
		}
		lost := t.TTL + DrillExpiry
		return DrillBudget{Stopped: t.TTL, Detected: lost, Fenced: lost + settle, Recovered: lost + settle + DrillStart}
	}
	return DrillBudget{}
}

// CanaryDisk returns the path of a canary's disk, and an error for any VM but one that a drill made: nothing of another
// VM is deleted.
func CanaryDisk(vm VM) (string, error) {
	found := ""
	for _, n := range vm.Needs {
		if n.Kind != NeedFile {
			continue
		}
		if found != "" || path.Base(n.Name) != CanaryFile(vm.ID) {
			return "", fmt.Errorf("vm %s needs %s, which no drill made: %w", vm.ID, n.Name, ErrRefused)
		}
		found = n.Name
	}
	if !vm.Canary || found == "" {
		return "", Refuse("NO_CANARY", "", "%s was not made by a drill", vm.ID)
	}
	return found, nil
}

// CanaryFile is the name of a canary's disk in its folder.
func CanaryFile(vm VMID) string { return "holdfast-" + string(vm) + ".raw" }
