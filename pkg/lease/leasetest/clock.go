package leasetest

import (
	"time"

	"github.com/holdfast-ha/holdfast/pkg/clock"
	"github.com/holdfast-ha/holdfast/pkg/pool"
)

// Clock is the real clock with the time of the synctest bubble that it is used in: goroutines, timers and Now all
// run in the bubble's time.
type Clock struct{ clock.Clock }

// NewClock returns a Clock. Use it inside a bubble only.
func NewClock() Clock { return Clock{clock.Real()} }

// Now returns the bubble's time.
func (Clock) Now() pool.Instant {
	return pool.Instant(time.Now().UnixNano()) //nolint:forbidigo // this is a clock
}
