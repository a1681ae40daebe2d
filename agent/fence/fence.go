package fence

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/holdfast-ha/holdfast/pkg/pool"
)

// Bounds of one call.
const (
	// attempts is how often a device is told the same before its server's call fails; the caller tries again later.
	attempts = 2
	// pause separates them.
	pause = 500 * time.Millisecond
)

// Fencer runs fence programs. It holds no state and is safe for concurrent use. Create it with New.
type Fencer struct {
	// Dir lists the folders where programs are looked for, in order.
	Dir []string
	Log *slog.Logger

	pause time.Duration
}

// New returns a Fencer that looks for programs where packages install them.
func New(log *slog.Logger) *Fencer {
	return &Fencer{Dir: []string{"/usr/sbin", "/usr/bin", "/sbin"}, Log: log, pause: pause}
}

// State is what a device says about the power that it controls.
type State string

// The states of a device. Unknown is every answer that is neither.
const (
	On      State = "on"
	Off     State = "off"
	Unknown State = "unknown"
)

// PowerOff returns once every device of the server has switched it off and has said twice that it is off; evidence is
// a sentence that names the devices. An error means that nothing is proven; some of the devices may be off then.
func (f *Fencer) PowerOff(ctx context.Context, server pool.Server) (evidence string, err error) {
	devices, err := devicesOf(server)
	if err != nil {
		return "", err
	}
	if err := each(devices, func(d device) error { return f.turn(ctx, d, Off) }); err != nil {
		return "", fmt.Errorf("switch %s off: %w", server.ID, err)
	}
	// One device may have been switched on again, or have lied, while the others were dealt with.
	if err := each(devices, func(d device) error { return f.expect(ctx, d, Off) }); err != nil {
		return "", fmt.Errorf("verify that %s is off: %w", server.ID, err)
	}
	return sentence(devices), nil
}

// PowerOn switches every device of the server on and has each confirm it. Call it only after PowerOff succeeded, or
// where nothing depends on the server being off.
func (f *Fencer) PowerOn(ctx context.Context, server pool.Server) error {
	devices, err := devicesOf(server)
	if err != nil {
		return err
	}
	if err := each(devices, func(d device) error { return f.turn(ctx, d, On) }); err != nil {
		return fmt.Errorf("switch %s on: %w", server.ID, err)
	}
	return nil
}

// Check asks every device of the server for its state and changes nothing. States are in the order of the devices; an
// error names those that did not answer. It proves nothing about a session.
func (f *Fencer) Check(ctx context.Context, server pool.Server) ([]State, error) {
	devices, err := devicesOf(server)
	if err != nil {
		return nil, err
	}
	states := make([]State, len(devices))
	err = each(devices, func(d device) error {
		state, err := f.status(ctx, d)
		states[d.number] = state
		return err
	})
	if err != nil {
		return states, fmt.Errorf("ask the power switches of %s: %w", server.ID, err)
	}
	return states, nil
}

// CheckOn returns an error unless every device of a server that runs says that it is on. One that says off belongs to
// another server, or feeds a power supply that is dead: neither would fence this server.
func (f *Fencer) CheckOn(ctx context.Context, server pool.Server) error {
	devices, err := devicesOf(server)
	if err != nil {
		return err
	}
	return each(devices, func(d device) error {
		state, err := f.status(ctx, d)
		if err == nil && state != On {
			err = fmt.Errorf("%s says that it is %s while %s runs; check its plug", d.name, state, server.ID)
		}
		return err
	})
}

// turn tells a device what to do and has it confirm that it is done, and once more if that fails.
func (f *Fencer) turn(ctx context.Context, d device, want State) error {
	var err error
	for n := range attempts {
		if n > 0 {
			f.Log.Warn("fence device tried again", "server", d.server, "device", d.name, "action", string(want), "err", err)
			if wait(ctx, f.pause) != nil {
				return err
			}
		}
		if err = f.turnOnce(ctx, d, want); err == nil {
			return nil
		}
		var permanent *unusable
		if ctx.Err() != nil || errors.As(err, &permanent) {
			return err
		}
	}
	return err
}

func (f *Fencer) turnOnce(ctx context.Context, d device, want State) error {
	r, err := f.run(ctx, d, string(want))
	if err != nil {
		return err
	}
	if r.code != 0 {
		return fmt.Errorf("%s failed to switch %s (exit status %d)%s", d.name, want, r.code, r.said())
	}
	return f.expect(ctx, d, want)
}

// expect fails unless the device says that it is in the wanted state.
func (f *Fencer) expect(ctx context.Context, d device, want State) error {
	state, err := f.status(ctx, d)
	if err != nil {
		return err
	}
	if state != want {
		return fmt.Errorf("%s says that it is %s after it was switched %s", d.name, state, want)
	}
	return nil
}

// Exit statuses of the action `status`.
const (
	statusOn  = 0
	statusOff = 2
)

// status asks a device for its state. Without an error it is On or Off.
func (f *Fencer) status(ctx context.Context, d device) (State, error) {
	r, err := f.run(ctx, d, "status")
	if err != nil {
		return Unknown, err
	}
	switch {
	case r.code == statusOn && r.says != Off:
		return On, nil
	case r.code == statusOff && r.says != On:
		return Off, nil
	case r.code == statusOn || r.code == statusOff:
		return Unknown, fmt.Errorf("%s contradicts itself about its state: it prints %s, with exit status %d", d.name, r.says, r.code)
	}
	return Unknown, fmt.Errorf("%s does not tell its state (exit status %d)%s", d.name, r.code, r.said())
}

// each does the same with all devices at once, so that two power supplies take no longer than one, and an error tells
// all that is wrong, in the order of the devices.
func each(devices []device, do func(device) error) error {
	errs := make([]error, len(devices))
	var all sync.WaitGroup
	for i, d := range devices {
		all.Add(1)
		go func() {
			defer all.Done()
			errs[i] = do(d)
		}()
	}
	all.Wait()
	var failed failures
	for _, err := range errs {
		if err != nil {
			failed = append(failed, err)
		}
	}
	if len(failed) == 0 {
		return nil
	}
	return failed
}

// failures is several errors in one line.
type failures []error

func (f failures) Error() string {
	texts := make([]string, len(f))
	for i, err := range f {
		texts[i] = err.Error()
	}
	return strings.Join(texts, "; ")
}

// Unwrap gives the errors to errors.Is and errors.As.
func (f failures) Unwrap() []error { return f }

// wait lets d pass.
func wait(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-timer.C:
		return nil
	}
}
