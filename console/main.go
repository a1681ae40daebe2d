package main

import (
	"context"
	"os"
	"os/signal"
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
		Version: version.String(),
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
