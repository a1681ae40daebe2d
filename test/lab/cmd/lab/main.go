//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"text/tabwriter"

	"golang.org/x/sys/unix"

	"github.com/holdfast-ha/holdfast/test/lab"
)

// errUsage means that the command line makes no sense.
var errUsage = errors.New("usage")

// exitStatus is the status of a program that was run on a server.
type exitStatus int

// Error names the status; it is passed on, not printed.
func (e exitStatus) Error() string { return fmt.Sprintf("exit status %d", int(e)) }

// command is one subcommand. Its words are those of the scenario language.
type command struct {
	name, args, help string
	run              func(ctx context.Context, l *lab.Lab, args []string) error
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGINT, unix.SIGTERM)
	defer stop()
	err := run(ctx, os.Args[1:])
	var status exitStatus
	switch {
	case err == nil:
	case errors.As(err, &status):
		os.Exit(int(status))
	case errors.Is(err, errUsage):
		fmt.Fprintln(os.Stderr, "lab:", err)
		os.Exit(2)
	default:
		fmt.Fprintln(os.Stderr, "lab:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	level := slog.LevelWarn
	if len(args) > 0 && args[0] == "-v" {
		level, args = slog.LevelInfo, args[1:]
	}
	if len(args) == 0 || args[0] == "help" || args[0] == "-h" || args[0] == "--help" {
		usage(os.Stdout)
		return nil
	}
	for _, c := range commands() {
		if c.name != args[0] {
			continue
		}
		if os.Geteuid() != 0 {
			return errors.New("the lab needs root: run it with sudo")
		}
		log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: level}))
		l, err := lab.Open(lab.Options{Log: log})
		if err != nil {
			return err
		}
		err = c.run(ctx, l, args[1:])
		if errors.Is(err, errUsage) {
			return fmt.Errorf("%w: lab %s %s", err, c.name, c.args)
		}
		return err
	}
	return fmt.Errorf("%w: no command %q, see `lab help`", errUsage, args[0])
}

func usage(w io.Writer) {
	fmt.Fprintln(w, "lab: real libvirt servers on this machine, each with its own network, libvirtd and power switch")
	fmt.Fprintln(w)
	table := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	for _, c := range commands() {
		fmt.Fprintf(table, "  lab %s\t%s\n", strings.TrimSpace(c.name+" "+c.args), c.help)
	}
	_ = table.Flush()
	fmt.Fprintf(w, "\n%s=NAME selects another lab than the default one; `lab -v COMMAND` tells each step.\n", lab.EnvName)
}

// words checks the number of arguments.
func words(args []string, least, most int) error {
	if len(args) < least || len(args) > most {
		return errUsage
	}
	return nil
}
