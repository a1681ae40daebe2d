package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"
	"google.golang.org/grpc/grpclog"

	"github.com/holdfast-ha/holdfast/agent/sim/demo"
	"github.com/holdfast-ha/holdfast/pkg/config"
)

// demoCommand runs a pool to play with, or pulls a plug in the one that runs.
func demoCommand() *cobra.Command {
	o := demo.Options{Serve: registerServices}
	level, plain := "error", false
	cmd := &cobra.Command{
		Use:   "demo [STATEMENT]",
		Short: "a pool to play with, in the console: simulated servers on a real etcd, no root, no libvirt",
		Long: `Without words: run the demo pool until interrupted. With words: make something happen in the demo that runs, such as

  holdfast-agent demo power off srv-2
  holdfast-agent demo power on srv-2
  holdfast-agent demo agent kill leader
  holdfast-agent demo cut srv-1
  holdfast-agent demo vm crash web-01`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				answer, err := demo.Tell(o.Control, strings.Join(args, " "))
				if err == nil {
					_, err = fmt.Fprintln(cmd.OutOrStdout(), answer)
				}
				return err
			}
			o.Log = newLogger(config.Log{Level: level})
			return runDemo(cmd.Context(), o, cmd.OutOrStdout(), plain)
		},
	}
	fl := cmd.Flags()
	fl.IntVar(&o.AgentPort, "port", demo.AgentPort, "first of three ports on loopback for the agents")
	fl.IntVar(&o.EtcdPort, "etcd-port", demo.EtcdPort, "first of two ports on loopback for etcd")
	fl.StringVar(&o.Control, "control", demo.ControlPath(), "socket on which plugs are pulled")
	fl.StringVar(&level, "log", level, "what agents log: debug, info, warn, error")
	fl.StringVar(&o.Scenario, "scenario", "", "`FILE` of the scenario language: its pool instead of the demo's, and what happens to it, in real time")
	fl.BoolVar(&plain, "plain", false, "print what happens instead of the live view")
	return cmd
}

// runDemo runs the demo with the console on a terminal, or what happens as lines elsewhere.
func runDemo(ctx context.Context, o demo.Options, out io.Writer, plain bool) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	view := viewer()
	if plain || len(view) == 0 || !term.IsTerminal(int(os.Stdout.Fd())) { //nolint:gosec // a file descriptor is small
		o.Out = out
		o.Ready = func(agents []string) { welcome(out, agents) }
		return demo.Run(ctx, o)
	}
	// What gRPC has to say about itself must not be written over the screen.
	grpclog.SetLoggerV2(grpclog.NewLoggerV2(io.Discard, io.Discard, io.Discard))
	o.Ready = func(agents []string) {
		go func() {
			defer cancel()
			c := exec.CommandContext(ctx, view[0], append(view[1:], "--agents", strings.Join(agents, ","))...) //nolint:gosec // our own binary
			c.Stdin, c.Stdout, c.Stderr = os.Stdin, os.Stdout, os.Stderr
			// It restores the terminal when it is asked to end.
			c.Cancel = func() error { return c.Process.Signal(syscall.SIGTERM) }
			c.WaitDelay = 2 * time.Second
			var exit *exec.ExitError
			if err := c.Run(); err != nil && ctx.Err() == nil && !errors.As(err, &exit) {
				_, _ = fmt.Fprintln(os.Stderr, "holdfast-agent: the console:", err) // the demo ends
			}
		}()
	}
	return demo.Run(ctx, o)
}

// viewer finds the console beside this program or, without it, the command line; empty if there is neither.
func viewer() []string {
	self, err := os.Executable()
	if err != nil {
		return nil
	}
	for _, v := range [][]string{{"holdfast-console"}, {"holdfast", "status", "--watch"}} {
		v[0] = filepath.Join(filepath.Dir(self), v[0])
		if _, err := os.Stat(v[0]); err == nil {
			return v
		}
	}
	return nil
}

func welcome(w io.Writer, agents []string) {
	_, _ = fmt.Fprintf(w, `A pool of three simulated servers runs on a real etcd. From another terminal:
  bin/holdfast status                      bin/holdfast vms --watch
  bin/holdfast-agent demo power off srv-2  bin/holdfast-agent demo power on srv-2
  bin/holdfast-agent demo cut leader       bin/holdfast-agent demo heal all
Agents serve at %s. Ctrl-C ends it; nothing is kept.
`, strings.Join(agents, ", ")) // a lost terminal ends the demo by its own signal
}
