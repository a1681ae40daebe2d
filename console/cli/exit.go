package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/holdfast-ha/holdfast/console/cli/text"
	"github.com/holdfast-ha/holdfast/pkg/pool"
	"github.com/holdfast-ha/holdfast/pkg/rpc"
)

// Exit codes. `holdfast help exit-codes` and docs/cli.md print exitHelp.
const (
	ExitOK = 0
	// ExitRefused: the pool said no, or there is no such thing; nothing was changed.
	ExitRefused = 1
	// ExitUsage: the command, a value or a file is wrong in itself; nothing was changed.
	ExitUsage = 2
	// ExitUnreachable: no agent could be asked, or none reaches etcd; nothing was changed.
	ExitUnreachable = 3
	// ExitUnknown: the change may or may not have been made.
	ExitUnknown = 4
	// ExitFailed: the operation ended, but not well.
	ExitFailed = 5
	// ExitStillRunning: waiting ended before the operation did; it goes on.
	ExitStillRunning = 6
)

// exitHelp is the text of `holdfast help exit-codes`.
const exitHelp = `0  done
1  refused: the pool said no, or there is no such thing. Nothing was changed
2  usage: the command, a value or a configuration file is wrong in itself. Nothing was changed
3  unreachable: no agent answered, or none of them reaches etcd. Nothing was changed
4  unknown: the change was sent, and its answer was lost. Read before you repeat
5  the operation was accepted and then failed or was cancelled
6  the operation still runs: --timeout passed, or waiting was interrupted. It goes on

Where one command changes several things, the code is the most urgent one of
4, 3, 5, 6, 2, 1: what is uncertain first.`

// urgency orders exit codes for commands that do several things.
var urgency = []int{ExitOK, ExitRefused, ExitUsage, ExitStillRunning, ExitFailed, ExitUnreachable, ExitUnknown}

// worse returns the more urgent of two exit codes.
func worse(a, b int) int {
	if slices.Index(urgency, b) > slices.Index(urgency, a) {
		return b
	}
	return a
}

// usageError is a mistake in the words of the command line. help says how it is written.
type usageError struct {
	err  error
	help string
}

func (u *usageError) Error() string { return u.err.Error() }
func (u *usageError) Unwrap() error { return u.err }

func usagef(format string, args ...any) error { return &usageError{err: fmt.Errorf(format, args...)} }

// exitError ends the program with a code when everything has been said already.
type exitError struct{ code int }

func (e *exitError) Error() string { return fmt.Sprintf("exit %d", e.code) }

// Code returns the exit code that an error stands for.
func Code(err error) int {
	var exit *exitError
	var usage *usageError
	switch {
	case err == nil:
		return ExitOK
	case errors.As(err, &exit):
		return exit.code
	case errors.As(err, &usage), errors.Is(err, pool.ErrInvalid):
		return ExitUsage
	case errors.Is(err, pool.ErrOutcomeUnknown):
		return ExitUnknown
	case errors.Is(err, pool.ErrUnavailable), status.Code(err) == codes.DeadlineExceeded:
		return ExitUnreachable
	}
	return ExitRefused
}

// report says on w what went wrong, in a fixed form: one line for the reason and, where there is one, a second for
// the way out. subject is the VM or server that it is about, or empty.
func report(w io.Writer, subject string, err error) {
	var exit *exitError
	if err == nil || errors.As(err, &exit) {
		return
	}
	head := "holdfast: "
	if subject != "" {
		head += text.Clean(subject) + ": "
	}
	var u *rpc.Unreachable
	if errors.As(err, &u) {
		reportUnreachable(w, head, u, err)
		return
	}
	reason, wayOut := explain(err)
	fmt.Fprintln(w, head+text.Clean(reason))
	if wayOut != "" {
		fmt.Fprintln(w, "  way out: "+text.Clean(wayOut))
	}
}

// reportUnreachable lists the agents that were asked, one a line, and where their addresses came from.
func reportUnreachable(w io.Writer, head string, u *rpc.Unreachable, err error) {
	what, _, _ := strings.Cut(u.Error(), ":")
	fmt.Fprintln(w, head+what)
	for _, t := range u.Tried {
		fmt.Fprintln(w, "  "+text.Clean(t.Agent+": "+withoutKind(strings.TrimPrefix(t.Err.Error(), "dial tcp "+t.Agent+": connect: "))))
	}
	var from *fromWhere
	if errors.As(err, &from) {
		fmt.Fprintln(w, "  asked: "+text.Clean(from.why))
	}
}

// explain splits an error into what is the matter and what to do about it.
func explain(err error) (reason, wayOut string) {
	if r, ok := rpc.RefusalOf(err); ok {
		return "refused: " + r.Reason, r.Remedy
	}
	reason = err.Error()
	var usage *usageError
	switch {
	case errors.As(err, &usage):
		wayOut = usage.help
	case errors.Is(err, context.Canceled) || status.Code(err) == codes.Canceled:
		return "interrupted", ""
	case errors.Is(err, pool.ErrStale):
		wayOut = "somebody changed it at the same moment; look, and ask again"
	case status.Code(err) == codes.PermissionDenied, status.Code(err) == codes.Unauthenticated:
		reason = "not permitted: " + reason
	}
	return withoutKind(reason), wayOut
}

// withoutKind takes the kind of an error off its end: the exit code tells it.
func withoutKind(s string) string {
	for _, kind := range []error{pool.ErrInvalid, pool.ErrNotFound, pool.ErrExists, pool.ErrUnavailable} {
		if head, ok := strings.CutSuffix(s, ": "+kind.Error()); ok {
			return withoutKind(head)
		}
	}
	return s
}
