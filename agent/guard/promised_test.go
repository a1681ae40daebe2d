package guard_test

import (
	"errors"
	"testing"

	"github.com/holdfast-ha/holdfast/agent/guard"
	"github.com/holdfast-ha/holdfast/pkg/pool"
)

// promised is a deadline that rests on promises asked for at the given millisecond.
func promised(s pool.Session, asked pool.Instant) guard.Lease {
	l := leaseOf(s, asked)
	l.Promised = true
	return l
}

func TestPromisesProlongWhatRuns(t *testing.T) {
	c := guard.NewCore()
	must(t, c.Extend(leaseOf(7, 1000), 1000*ms))
	must(t, c.Hold(held(1, 7), 1001*ms))
	must(t, c.Extend(promised(7, 3000), 3500*ms))
	wantActs(t, c, 6999)
	must(t, c.Extend(promised(7, 6000), 6900*ms))
	wantActs(t, c, 9999)
	wantActs(t, c, 10_000, "kill vm-1")
}

// The guard, or the whole server, may have been frozen: what has come to its end stays ended, whoever promised what.
func TestPromisesComeTooLateAtTheStopTime(t *testing.T) {
	c := guard.NewCore()
	must(t, c.Extend(leaseOf(7, 1000), 1000*ms))
	must(t, c.Hold(held(1, 7), 1001*ms))
	if err := c.Extend(promised(7, 4500), 5000*ms); !errors.Is(err, guard.ErrLate) {
		t.Errorf("promises at the stop time: %v", err)
	}
	wantActs(t, c, 5000, "kill vm-1")
}

func TestPromisesBeginNoSession(t *testing.T) {
	c := guard.NewCore()
	if err := c.Extend(promised(7, 1000), 1000*ms); !errors.Is(err, guard.ErrLate) {
		t.Errorf("promises for an unknown session: %v", err)
	}
}

func TestPromisesNeverShortenADeadline(t *testing.T) {
	c := guard.NewCore()
	grace := leaseOf(7, 1000)
	grace.KillAt, grace.Deadline = 60_000*ms, 61_000*ms
	must(t, c.Extend(grace, 1000*ms))
	must(t, c.Hold(held(1, 7), 1001*ms))
	must(t, c.Extend(promised(7, 5000), 5100*ms))
	wantActs(t, c, 59_999)
	wantActs(t, c, 60_000, "kill vm-1")
}

// What the guard has paused, because the session could not be renewed, only a new write of its claim lets run on.
func TestPromisesLetNothingRunOnThatIsPaused(t *testing.T) {
	c := guard.NewCore()
	must(t, c.Extend(pausing(leaseOf(7, 1000)), 1000*ms))
	h := withMonitor(held(1, 7))
	must(t, c.Hold(h, 1001*ms))
	for _, a := range c.Tick(5000 * ms) {
		c.Paused(a.Held, a.Ask, 5100*ms)
	}
	if err := c.Extend(promised(7, 4900), 5200*ms); !errors.Is(err, guard.ErrLate) {
		t.Errorf("promises for a paused VM: %v", err)
	}
	wantActs(t, c, 35_000, "kill vm-1")
}

func TestPromisesKeepTheIsolationPolicy(t *testing.T) {
	c := guard.NewCore()
	must(t, c.Extend(pausing(leaseOf(7, 1000)), 1000*ms))
	must(t, c.Hold(withMonitor(held(1, 7)), 1001*ms))
	must(t, c.Extend(promised(7, 3000), 3100*ms)) // says "stop"
	wantActs(t, c, 7000, "pause vm-1")
}

// A renewal that was sent before the promises were asked for, and answered after, is no newer word.
func TestPromisesOvertakeARenewalThatWasSentEarlier(t *testing.T) {
	c := guard.NewCore()
	must(t, c.Extend(leaseOf(7, 1000), 1000*ms))
	must(t, c.Hold(held(1, 7), 1001*ms))
	must(t, c.Extend(promised(7, 3000), 3100*ms))
	if err := c.Extend(leaseOf(7, 2900), 3200*ms); !errors.Is(err, guard.ErrOutdated) {
		t.Errorf("the earlier renewal: %v", err)
	}
	must(t, c.Extend(leaseOf(7, 3900), 4000*ms))
	wantActs(t, c, 7900, "kill vm-1")
}
