package main

import (
	"context"
	"log/slog"

	"github.com/holdfast-ha/holdfast/agent/etcd"
	"github.com/holdfast-ha/holdfast/pkg/clock"
	"github.com/holdfast-ha/holdfast/pkg/config"
)

// runEtcd runs this machine's member of the embedded etcd until ctx ends.
func runEtcd(ctx context.Context, c config.Config, log *slog.Logger) error {
	cfg, err := etcd.FromSettings(c)
	if err != nil {
		return err
	}
	return etcd.Run(ctx, cfg, clock.Real(), log)
}
