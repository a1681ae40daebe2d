package clock

import (
	"context"
	"time"

	"github.com/holdfast-ha/holdfast/pkg/pool"
)

// Clock reads time, waits for it and starts concurrent work. Implementations are safe for concurrent use.
type Clock interface {
	// Now returns CLOCK_BOOTTIME of this server.
	Now() pool.Instant
	// Wall returns the wall clock, for showing to people only.
	Wall() time.Time
	// Sleep waits for d or until ctx ends; it returns ctx's error in the latter case.
	Sleep(ctx context.Context, d time.Duration) error
	// Go runs f beside the caller. name appears in diagnostics. Use a Group where the end of f matters.
	Go(name string, f func())
	// NewSignal returns a level-triggered wake-up flag.
	NewSignal() Signal
	// WithTimeout is context.WithTimeout in this clock's time. Cancel it to free its timer.
	WithTimeout(parent context.Context, d time.Duration) (context.Context, context.CancelFunc)
	// WithCancel is context.WithCancel; the simulated clock needs its own so that waits notice.
	WithCancel(parent context.Context) (context.Context, context.CancelCauseFunc)
}

// Signal is a flag that one loop waits for and others set. Any number of Set calls before a Wait count as one.
type Signal interface {
	// Set raises the flag and wakes a waiter. It never blocks.
	Set()
	// Wait returns true and lowers the flag once it is up; false when d has passed or ctx ended first.
	// A negative d waits without limit.
	Wait(ctx context.Context, d time.Duration) bool
}
