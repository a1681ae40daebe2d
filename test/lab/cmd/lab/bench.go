//go:build linux

package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/holdfast-ha/holdfast/test/lab"
	"github.com/holdfast-ha/holdfast/test/lab/measure"
)

// bench measures on a lab that it makes and removes. Not on one that somebody uses.
func bench(ctx context.Context, l *lab.Lab, args []string) (err error) {
	if len(args) == 0 {
		return errUsage
	}
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	runs := flags.Int("runs", 20, "how many servers lose power, or how often a guest moves")
	ttl := flags.Duration("ttl", 5*time.Second, "the pool's lease time")
	seed := flags.Uint64("seed", uint64(time.Now().UnixNano())%1_000_000, "draws the pauses")
	power := flags.Bool("power", false, "every server has a power switch that acts at once")
	length := flags.Duration("for", time.Minute, "how long an idle pool is looked at")
	link := flags.String("link", "", "what each server's network carries while guests move, such as 1gbit; default: what the machine can")
	if err := flags.Parse(args[1:]); err != nil || flags.NArg() > 0 {
		return fmt.Errorf("%w: %w", errUsage, err)
	}
	if err := lab.Check(); err != nil {
		return err
	}
	if len(l.Servers()) > 0 {
		return errors.New("a lab of this name is up: take it down, or choose another with " + lab.EnvName)
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
		defer cancel()
		if err != nil {
			fmt.Fprintf(os.Stderr, "last lines of the servers' logs:\n%s\n", l.Tails(15))
		}
		err = errors.Join(err, l.Down(ctx))
	}()
	switch args[0] {
	case "failover":
		return measure.Failover{Runs: *runs, TTL: *ttl, Seed: *seed, Power: *power, Out: os.Stdout}.Measure(ctx, l)
	case "migrate":
		return measure.Migrate{Runs: *runs, Link: *link, Out: os.Stdout}.Measure(ctx, l)
	case "tour":
		return measure.Tour{Runs: *runs, Out: os.Stdout}.Measure(ctx, l)
	case "idle":
		return measure.Idle{For: *length, Out: os.Stdout}.Measure(ctx, l)
	}
	return errUsage
}
