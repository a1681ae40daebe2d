package guard

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/holdfast-ha/holdfast/pkg/clock"
	"github.com/holdfast-ha/holdfast/pkg/pool"
)

// Config says where a guard finds things.
type Config struct {
	// Socket is the UNIX socket that agents call.
	Socket string
	// Dir is the guard's own folder, below /run: it must not survive the system, and must survive the guard.
	Dir string
	// Watchdog is the device to use, such as /dev/watchdog; empty: none. WatchdogTimeout is what to ask it for.
	Watchdog        string
	WatchdogTimeout time.Duration
	// BootID names the running system.
	BootID string
	Log    *slog.Logger
	// Harden asks for real-time priority, locked memory and exemption from the OOM killer. What is not permitted is
	// logged and done without.
	Harden bool
}

// Run is the guard's process: it returns when ctx ends, or when it cannot start. Another guard on the same folder is
// refused.
func Run(ctx context.Context, cfg Config) error {
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return fmt.Errorf("guard: %w", err)
	}
	lock, err := lockDir(cfg.Dir)
	if err != nil {
		return err
	}
	defer func() { _ = lock.Close() }()
	memory, err := NewFileMemory(cfg.Dir, cfg.BootID)
	if err != nil {
		return err
	}
	listener, err := Listen(cfg.Socket)
	if err != nil {
		return err
	}
	words := newAsyncLog(cfg.Log.Handler())
	log := slog.New(words)
	if cfg.Harden {
		harden(log)
	}
	c := clock.Real()
	loop := NewLoop(LoopConfig{Core: NewCore(), Processes: NewPidfds(), Watchdog: device(cfg), Memory: memory,
		Pauser: Monitors{}, Clock: c, Log: log})
	ctx, cancel := context.WithCancelCause(ctx)
	g := clock.NewGroup(c)
	g.Go("guard log", func() { words.run(ctx) })
	g.Go("guard server", func() {
		if err := NewServer(loop, c, log).Serve(ctx, listener); ctx.Err() == nil {
			cancel(err)
		}
	})
	err = loop.Run(ctx)
	cancel(err)
	g.Wait()
	return context.Cause(ctx)
}

// device returns the configured watchdog, or nil.
func device(cfg Config) Watchdog {
	if cfg.Watchdog == "" {
		return nil
	}
	name := filepath.Base(cfg.Watchdog)
	if name == "watchdog" {
		name = "watchdog0" // the kernel's alias for the first one
	}
	return &Device{Path: cfg.Watchdog, Sys: "/sys/class/watchdog/" + name, Timeout: cfg.WatchdogTimeout}
}

// lockDir makes sure that only one guard uses dir.
func lockDir(dir string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("guard: %w", err)
	}
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		err = fmt.Errorf("another guard runs on %s: %w", dir, pool.ErrRefused)
	}
	if err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("guard: %w", err)
	}
	return f, nil
}
