package main

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/term"

	"github.com/holdfast-ha/holdfast/console/cli"
	"github.com/holdfast-ha/holdfast/pkg/version"
)

func main() { os.Exit(run()) }

// run is main with an exit code, so that deferred calls run.
func run() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	// A second interrupt ends the program at once.
	context.AfterFunc(ctx, stop)
	return cli.Main(ctx, cli.Env{
		In: os.Stdin, Out: os.Stdout, Err: os.Stderr, Getenv: os.Getenv, Now: time.Now,
		OutTerminal: terminal(os.Stdout), ErrTerminal: terminal(os.Stderr), InTerminal: term.IsTerminal(int(os.Stdin.Fd())),
		Version: version.String(), Console: becomeConsole,
	}, os.Args[1:])
}

// terminal returns the terminal behind f, or nil.
func terminal(f *os.File) *cli.Terminal {
	if !term.IsTerminal(int(f.Fd())) {
		return nil
	}
	return &cli.Terminal{Size: func() (width, height int) {
		w, h, err := term.GetSize(int(f.Fd()))
		if err != nil {
			return 80, 24
		}
		return w, h
	}}
}

// becomeConsole replaces this program by holdfast-console, found beside it or on the PATH.
func becomeConsole(flags []string) error {
	path, err := findConsole()
	if err != nil {
		return err
	}
	return syscall.Exec(path, append([]string{path}, flags...), os.Environ()) //nolint:gosec // our own binary
}

const consoleName = "holdfast-console"

func findConsole() (string, error) {
	if self, err := os.Executable(); err == nil {
		path := filepath.Join(filepath.Dir(self), consoleName)
		if _, err := os.Stat(path); err == nil {
			return path, nil
		}
	}
	path, err := exec.LookPath(consoleName)
	if err != nil {
		return "", fmt.Errorf("%w: %w", fs.ErrNotExist, err)
	}
	return path, nil
}
