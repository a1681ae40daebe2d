package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/holdfast-ha/holdfast/pkg/clock"
	"github.com/holdfast-ha/holdfast/pkg/config"
	"github.com/holdfast-ha/holdfast/pkg/pool"
)

// nextLimit is how long the steps after the services' start are tried: etcd elects, and a new server becomes a voter.
const nextLimit = 2 * time.Minute

// nextEvery is how often they are tried.
const nextEvery = time.Second

// withTokens makes the tokens of the further servers of a pool that was just started, and tells the commands there.
func withTokens(cmd *cobra.Command, c config.Config, count int) error {
	if count == 0 {
		return nil
	}
	out := cmd.OutOrStdout()
	if _, err := fmt.Fprintf(out, "On each further server, within an hour:\n"); err != nil {
		return err
	}
	for range count {
		var token fmt.Stringer
		err := retried(cmd.Context(), clock.Real(), func() (again bool, err error) {
			token, err = createToken(cmd, c, 0, "", "")
			// One whose outcome is unknown was told to nobody, and expires.
			return errors.Is(err, pool.ErrUnavailable) || errors.Is(err, pool.ErrOutcomeUnknown), err
		})
		if err != nil {
			return fmt.Errorf("the pool is made and started; its tokens are not: make them with holdfast-agent token create --count %d: %w", count, err)
		}
		if _, err := fmt.Fprintf(out, "  holdfast-agent join %s --start\n", token); err != nil {
			return err
		}
	}
	return nil
}

// checkTokens refuses a number of tokens that init cannot make.
func checkTokens(count int, start bool) error {
	if count < 0 || count > maxTokens {
		return fmt.Errorf("--tokens %d: must be from 1 to %d: %w", count, maxTokens, pool.ErrInvalid)
	}
	if count > 0 && !start {
		return fmt.Errorf("--tokens needs --start, since tokens are kept in the pool's etcd; without it: holdfast-agent token create, once the services run: %w", pool.ErrInvalid)
	}
	return nil
}

// switchHA has the command line switch the pool's half of HA on, as soon as the pool can lose a server.
func switchHA(ctx context.Context, clk clock.Clock, out io.Writer, holdfast func(ctx context.Context) (text string, code int, err error)) error {
	last := ""
	err := retried(ctx, clk, func() (again bool, err error) {
		text, code, err := holdfast(ctx)
		if err != nil {
			return false, err
		}
		text = strings.TrimSpace(text)
		if code == 0 {
			_, err := fmt.Fprintln(out, text)
			return false, err
		}
		if text != last {
			last = text
			if _, err := fmt.Fprintf(out, "HA of the pool waits: %s\n", text); err != nil {
				return false, err
			}
		}
		return code != exitUsage, fmt.Errorf("holdfast ha on: %s", text)
	})
	if err != nil {
		return fmt.Errorf("this server is in the pool and started; HA of the pool is not on: %w", err)
	}
	return nil
}

// exitUsage is the exit code of the command line for a command that is wrong in itself; docs/cli.md, "Exit codes".
const exitUsage = 2

// haOn runs `holdfast ha on`.
func haOn(ctx context.Context) (text string, code int, err error) {
	out, err := exec.CommandContext(ctx, "holdfast", "ha", "on").CombinedOutput()
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		return string(out), exit.ExitCode(), nil
	}
	return string(out), 0, err
}

// retried tries step again while it says so, nextLimit long, and returns its last error.
func retried(ctx context.Context, clk clock.Clock, step func() (again bool, err error)) error {
	ctx, cancel := clk.WithTimeout(ctx, nextLimit)
	defer cancel()
	for {
		again, err := step()
		if err == nil || !again {
			return err
		}
		if clk.Sleep(ctx, nextEvery) != nil {
			return err
		}
	}
}
