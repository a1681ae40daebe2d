package main

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/holdfast-ha/holdfast/agent/guard"
	"github.com/holdfast-ha/holdfast/pkg/config"
	"github.com/holdfast-ha/holdfast/pkg/lease"
)

// watchdogDevice is what guard.watchdog "auto" looks for.
const watchdogDevice = "/dev/watchdog"

// runGuard runs this server's guard until ctx ends.
func runGuard(ctx context.Context, c config.Config, log *slog.Logger) error {
	boot, err := lease.BootID()
	if err != nil {
		return err
	}
	return guard.Run(ctx, guard.Config{
		Socket: c.Guard.Socket, Dir: filepath.Join(c.RunDir, "guard"), BootID: boot, Log: log, Harden: true,
		Watchdog: watchdogPath(c.Guard.Watchdog), WatchdogTimeout: c.Guard.WatchdogTimeout,
	})
}

// monitorDir turns the setting into a directory; empty: none.
func monitorDir(setting string) string {
	if setting == "off" {
		return ""
	}
	return setting
}

// watchdogPath turns the setting into a device; empty: none.
func watchdogPath(setting string) string {
	switch setting {
	case "off":
		return ""
	case "auto":
		if _, err := os.Stat(watchdogDevice); err != nil {
			return ""
		}
		return watchdogDevice
	}
	return setting
}
