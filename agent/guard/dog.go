package guard

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/holdfast-ha/holdfast/pkg/clock"
	"github.com/holdfast-ha/holdfast/pkg/pool"
)

const (
	// loopAlive: without a Step for so long the loop hangs, and petting would hide it.
	loopAlive = 2 * time.Second
	// petEvery bounds the pause between two pets.
	petEvery = time.Second
	// tryArming is the pause before a watchdog that failed is tried again.
	tryArming = 30 * time.Second
)

// dog keeps the watchdog armed while something is held, and petted while that is within its time. It works beside
// the loop, because a device may take its time; the loop only says until when petting is allowed.
type dog struct {
	watchdog Watchdog
	clock    clock.Clock
	log      *slog.Logger
	wake     clock.Signal // for run
	changed  clock.Signal // set when ready or proof may have changed

	mu    sync.Mutex
	held  bool         // something is held
	limit pool.Instant // of petting
	armed bool
	stuck bool // it cannot be disarmed
	watch Watch
	err   error // why it cannot be armed
	again pool.Instant
	// untold: it worked and failed since, and no Status has said so yet.
	untold bool
}

func newDog(w Watchdog, c clock.Clock, log *slog.Logger, changed clock.Signal) *dog {
	return &dog{watchdog: w, clock: c, log: log, wake: c.NewSignal(), changed: changed}
}

// allow says whether something is held and until when petting is allowed, as of now.
func (d *dog) allow(held bool, until pool.Instant, limited bool, now pool.Instant) {
	d.mu.Lock()
	news := held != d.held
	d.held, d.limit = held, now.Add(loopAlive)
	if limited {
		d.limit = min(d.limit, until)
	}
	d.mu.Unlock()
	if news {
		d.wake.Set()
	}
}

// ready reports whether a Hold may be acknowledged as far as the watchdog goes: it is armed, or there is none. The
// error says that it was counted on and cannot be armed: Hold fails until a Status has told so, because the claim
// that is written after a Hold says what watchdog stands behind it.
func (d *dog) ready() (bool, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case d.watchdog == nil || d.armed:
		return true, nil
	case d.err == nil:
		return false, nil
	case d.untold:
		return false, fmt.Errorf("arm the watchdog: %w: %w", pool.ErrUnavailable, d.err)
	}
	return true, nil
}

// proof returns the time-out to count on: zero unless a hardware watchdog works.
func (d *dog) proof() time.Duration {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.untold = false
	if d.watchdog == nil || d.err != nil || !d.watch.Hardware {
		return 0
	}
	return d.watch.Timeout
}

func (d *dog) isArmed() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.armed
}

// run begins by arming the watchdog, to learn its time-out; unless something is held it is disarmed again at once.
func (d *dog) run(ctx context.Context) {
	d.arm()
	for ctx.Err() == nil {
		d.wake.Wait(ctx, d.step())
	}
	d.mu.Lock()
	free := d.armed && !d.held && !d.stuck
	d.mu.Unlock()
	if free {
		d.disarm()
	}
}

// step brings the watchdog to where it belongs and returns when to look again.
func (d *dog) step() time.Duration {
	d.mu.Lock()
	now := d.clock.Now()
	arm := d.held && !d.armed && (d.err == nil || !now.Before(d.again))
	disarm := d.armed && !d.held && !d.stuck
	pet := d.armed && now.Before(d.limit)
	d.mu.Unlock()
	switch {
	case arm:
		d.arm()
	case disarm:
		d.disarm()
	case pet:
		if err := d.watchdog.Pet(); err != nil {
			d.log.Error("watchdog not petted", "err", err)
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.armed {
		return tryArming
	}
	return min(petEvery, d.watch.Timeout/4)
}

func (d *dog) arm() {
	watch, err := d.watchdog.Arm()
	d.mu.Lock()
	was := d.err
	d.armed, d.err = err == nil, err
	if err == nil {
		d.watch, d.untold = watch, false
	} else {
		d.untold = d.watch.Timeout > 0
		d.watch = Watch{}
		d.again = d.clock.Now().Add(tryArming)
	}
	d.mu.Unlock()
	if (err != nil) != (was != nil) {
		d.log.Warn("watchdog", "works", err == nil, "timeout", watch.Timeout, "hardware", watch.Hardware, "err", err)
	}
	d.changed.Set()
}

// disarm says that it is not armed before it is so: a Hold that comes meanwhile waits until it is armed again.
func (d *dog) disarm() {
	d.mu.Lock()
	d.armed = false
	d.mu.Unlock()
	err := d.watchdog.Disarm()
	d.mu.Lock()
	defer d.mu.Unlock()
	if errors.Is(err, ErrNoWayOut) {
		d.armed, d.stuck = true, true
	} else if err != nil {
		d.armed, d.err = true, nil
		d.log.Error("watchdog not disarmed; petting it on", "err", err)
	}
	d.changed.Set()
}
