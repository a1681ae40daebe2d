package clock

import (
	"context"
	"time"

	"golang.org/x/sys/unix"

	"github.com/holdfast-ha/holdfast/pkg/pool"
)

// Real returns the machine's own clock.
func Real() Clock { return realClock{} }

type realClock struct{}

// Now falls back on CLOCK_MONOTONIC where CLOCK_BOOTTIME is missing; Linux has had it since 2.6.39.
func (realClock) Now() pool.Instant {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts)
	}
	return pool.Instant(ts.Nano())
}

func (realClock) Wall() time.Time { return time.Now() }

func (realClock) Sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (realClock) Go(_ string, f func()) { go f() }

func (realClock) NewSignal() Signal { return realSignal{c: make(chan struct{}, 1)} }

func (realClock) WithTimeout(parent context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeout(parent, d)
}

func (realClock) WithCancel(parent context.Context) (context.Context, context.CancelCauseFunc) {
	return context.WithCancelCause(parent)
}

type realSignal struct{ c chan struct{} }

func (s realSignal) Set() {
	select {
	case s.c <- struct{}{}:
	default:
	}
}

func (s realSignal) Wait(ctx context.Context, d time.Duration) bool {
	var after <-chan time.Time
	if d >= 0 {
		t := time.NewTimer(d)
		defer t.Stop()
		after = t.C
	}
	select {
	case <-s.c:
		return true
	default:
	}
	select {
	case <-s.c:
		return true
	case <-after:
		return false
	case <-ctx.Done():
		return false
	}
}
