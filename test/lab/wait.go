package lab

import (
	"context"
	"fmt"
	"syscall"
	"time"
)

// errNoDevice is what reading a file of a cgroup gives while it is being removed.
var errNoDevice = syscall.ENODEV

// waitFor asks done every so often until it says yes, fails, or ctx ends.
func waitFor(ctx context.Context, every time.Duration, done func() (bool, error)) error {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		ok, err := done()
		if ok || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waited in vain: %w", context.Cause(ctx))
		case <-tick.C:
		}
	}
}
