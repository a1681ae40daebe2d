package pool

import (
	"fmt"
	"time"
)

// Instant is a reading of CLOCK_BOOTTIME in nanoseconds. It means something only on the server that took it and
// is never stored for others. The zero value means "never".
type Instant int64

// Add returns the instant d later.
func (i Instant) Add(d time.Duration) Instant { return i + Instant(d) }

// Sub returns the time from other to i.
func (i Instant) Sub(other Instant) time.Duration { return time.Duration(i - other) }

// Before reports whether i is earlier than other.
func (i Instant) Before(other Instant) bool { return i < other }

// String prints seconds since boot, for logs and diagnostics.
func (i Instant) String() string { return fmt.Sprintf("boot+%.3fs", time.Duration(i).Seconds()) }

// Timing holds the durations that the safety argument rests on. All follow from TTL; see docs/safety.md,
// "Lease budget". Build it with NewTiming.
type Timing struct {
	// TTL is T: how long a session's lease lives after a renewal.
	TTL time.Duration
	// Renew is how often the agent renews: T/5.
	Renew time.Duration
	// RenewTimeout bounds one renewal request: min(1 s, T/6).
	RenewTimeout time.Duration
	// Stop is P: protected VMs are killed this long after the last good renewal was sent. T - max(T/5, 500 ms).
	Stop time.Duration
	// Settle is L where the guard is the proof: what the leader waits after it first saw the member key gone. max(T/8, 500 ms).
	Settle time.Duration
}

// Smallest and largest lease lifetimes that the safety argument was checked for.
const (
	MinTTL     = 3 * time.Second
	MaxTTL     = 60 * time.Second
	DefaultTTL = 5 * time.Second
)

// NewTiming derives all durations from the lease lifetime. It fails outside MinTTL..MaxTTL, and for anything but
// whole seconds, which is all that an etcd lease can express.
func NewTiming(ttl time.Duration) (Timing, error) {
	if ttl < MinTTL || ttl > MaxTTL {
		return Timing{}, fmt.Errorf("lease_ttl %v: must be from %v to %v: %w", ttl, MinTTL, MaxTTL, ErrInvalid)
	}
	if ttl%time.Second != 0 {
		return Timing{}, fmt.Errorf("lease_ttl %v: must be whole seconds: %w", ttl, ErrInvalid)
	}
	return Timing{
		TTL:          ttl,
		Renew:        ttl / 5,
		RenewTimeout: min(time.Second, ttl/6),
		Stop:         ttl - max(ttl/5, 500*time.Millisecond),
		Settle:       max(ttl/8, 500*time.Millisecond),
	}, nil
}

// WatchdogSettle is L where a watchdog with time-out w is the proof: L >= P + W + 2 s - T, never less than Settle.
// The 2 s cover clock rates and the granularity of petting.
func (t Timing) WatchdogSettle(w time.Duration) time.Duration {
	return max(t.Settle, t.Stop+w+2*time.Second-t.TTL)
}

// CheckElection reports whether losing the etcd leader can bring a healthy server to P. election is etcd's
// election time-out; raft randomises it up to its double. Source: docs/safety.md, "Lease budget".
func (t Timing) CheckElection(election time.Duration) error {
	worst := 2*election + t.RenewTimeout + t.Renew
	if worst >= t.Stop {
		return fmt.Errorf("etcd election timeout %v is too long for lease_ttl %v: electing (%v) + one timed-out renewal (%v) + one interval (%v) must stay below the stop time %v; lower the election timeout or raise lease_ttl: %w",
			election, t.TTL, 2*election, t.RenewTimeout, t.Renew, t.Stop, ErrInvalid)
	}
	return nil
}
