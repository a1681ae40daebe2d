package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/holdfast-ha/holdfast/pkg/config"
	"github.com/holdfast-ha/holdfast/pkg/version"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	cmd := root()
	if err := cmd.ExecuteContext(ctx); err != nil {
		code := exitCode(err)
		if err != exitError(code) { //nolint:errorlint // our own value, never wrapped; whoever returned it has said why
			fmt.Fprintln(os.Stderr, "holdfast-agent:", err)
		}
		os.Exit(code)
	}
}

// exitError carries an exit status that is not 1.
type exitError int

func (e exitError) Error() string { return fmt.Sprintf("exit status %d", int(e)) }

func exitCode(err error) int {
	if e, ok := err.(exitError); ok { //nolint:errorlint // our own value, never wrapped
		return int(e)
	}
	return 1
}

// root assembles the commands.
func root() *cobra.Command {
	var path string
	cmd := &cobra.Command{
		Use:           "holdfast-agent",
		Short:         "High availability for plain libvirt/KVM servers: what runs on each server",
		SilenceUsage:  true,
		SilenceErrors: true,
		Version:       version.String(),
		Args:          cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, log, err := settings(path)
			if err != nil {
				return err
			}
			return runLives(cmd.Context(), c, path, log)
		},
	}
	cmd.PersistentFlags().StringVar(&path, "config", config.DefaultPath, "this server's settings")
	cmd.AddCommand(
		withSettings("run", "run the agent (the same as no command)", &path,
			func(ctx context.Context, c config.Config, log *slog.Logger) error { return runLives(ctx, c, path, log) }),
		withSettings("guard", "run the guard: stops protected VMs when the session runs out", &path, runGuard),
		withSettings("etcd", "run this machine's member of the pool's embedded etcd", &path, runEtcd),
		initCommand(), tokenCommand(&path), joinCommand(), caCommand(&path), demoCommand(), simulateCommand(), manCommand(), checkCommand(&path),
		rebuildCommand(&path), backupCommand(&path), restoreCommand(&path),
	)
	return cmd
}

// withSettings makes a command that needs the server's settings and nothing else.
func withSettings(use, short string, path *string, run func(context.Context, config.Config, *slog.Logger) error) *cobra.Command {
	return &cobra.Command{Use: use, Short: short, Args: cobra.NoArgs, RunE: func(cmd *cobra.Command, _ []string) error {
		c, log, err := settings(*path)
		if err != nil {
			return err
		}
		return run(cmd.Context(), c, log)
	}}
}

// settings loads a server's settings and makes the logger that they ask for.
func settings(path string) (config.Config, *slog.Logger, error) {
	c, err := config.Load(path)
	if err != nil {
		return c, nil, err
	}
	return c, newLogger(c.Log), nil
}

func newLogger(l config.Log) *slog.Logger {
	var level slog.Level
	if err := level.UnmarshalText([]byte(l.Level)); err != nil {
		level = slog.LevelInfo
	}
	o := &slog.HandlerOptions{Level: level}
	if l.Format == "json" {
		return slog.New(slog.NewJSONHandler(os.Stderr, o))
	}
	return slog.New(slog.NewTextHandler(os.Stderr, o))
}
