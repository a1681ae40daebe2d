package main

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/holdfast-ha/holdfast/console/cli/fakepool"
	"github.com/holdfast-ha/holdfast/pkg/pool"
	pb "github.com/holdfast-ha/holdfast/proto/holdfast/v1"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"holdfast": func() { os.Exit(run()) }})
}

// TestScriptsDriveTheRealProgram runs testdata/script: the program as a process of its own against a pool of
// agents that live in this test. Besides testscript's commands there are `pool`, `exit` and `calls`.
func TestScriptsDriveTheRealProgram(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script", RequireExplicitExec: true,
		Setup: func(e *testscript.Env) error {
			e.Values[poolKey{}] = new(*fakepool.Pool)
			e.Setenv("HOME", e.WorkDir)
			e.Setenv("NO_COLOR", "1")
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"pool": cmdPool, "calls": cmdCalls, "exit": cmdExit},
	})
}

type poolKey struct{}

// poolOf returns the pool of this script.
func poolOf(ts *testscript.TestScript) *fakepool.Pool {
	p, ok := ts.Value(poolKey{}).(**fakepool.Pool)
	if !ok || *p == nil {
		ts.Fatalf("no pool yet: pool start N [troubled]")
	}
	return *p
}

// cmdPool: pool start N [troubled] | kill N | refuse METHOD REASON REMEDY | unavailable METHOD | die METHOD [done] |
// script VM OUTCOME ERROR.
func cmdPool(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) < 2 {
		ts.Fatalf("pool: say what to do")
	}
	switch args[0] {
	case "start":
		startPool(ts, args[1:])
	case "kill":
		n, err := strconv.Atoi(args[1])
		ts.Check(err)
		ts.Check(poolOf(ts).Kill(n))
	case "refuse":
		poolOf(ts).Fail(args[1], fakepool.Fault{Err: pool.Refuse("TEST", args[3], "%s", args[2])})
	case "unavailable":
		poolOf(ts).Fail(args[1], fakepool.Fault{Err: fmt.Errorf("etcd cannot be reached: %w", pool.ErrUnavailable)})
	case "die":
		poolOf(ts).Fail(args[1], fakepool.Fault{Die: true, Done: len(args) > 2})
	case "script":
		outcome, ok := pb.OperationOutcome_value["OPERATION_OUTCOME_"+strings.ToUpper(args[2])]
		if !ok {
			ts.Fatalf("no outcome %s", args[2])
		}
		poolOf(ts).Script(args[1], &pb.Operation{Outcome: pb.OperationOutcome(outcome), Phase: "scripted", Error: args[3]})
	default:
		ts.Fatalf("pool: unknown %q", args[0])
	}
}

func startPool(ts *testscript.TestScript, args []string) {
	n, err := strconv.Atoi(args[0])
	ts.Check(err)
	state := fakepool.Healthy()
	if len(args) > 1 {
		state = fakepool.Troubled()
	}
	p := fakepool.New(state)
	ts.Defer(p.Close)
	addresses, err := p.Start(n)
	ts.Check(err)
	slot, ok := ts.Value(poolKey{}).(**fakepool.Pool)
	if !ok {
		ts.Fatalf("the script has no place for a pool")
	}
	*slot = p
	ts.Setenv("HOLDFAST_AGENTS", strings.Join(addresses, ","))
	ts.Setenv("AGENT0", addresses[0])
}

// cmdCalls: calls METHOD N fails unless the pool saw so many calls of it.
func cmdCalls(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) != 2 {
		ts.Fatalf("usage: calls METHOD N")
	}
	if got := strconv.Itoa(len(poolOf(ts).Calls(args[0]))); got != args[1] {
		ts.Fatalf("%s calls of %s, want %s", got, args[0], args[1])
	}
}

// cmdExit: exit CODE WORD... runs the words and compares the exit code; stdout and stderr are kept.
func cmdExit(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) < 2 {
		ts.Fatalf("usage: exit CODE WORD...")
	}
	err := ts.Exec(args[1], args[2:]...)
	code := 0
	var exit interface{ ExitCode() int }
	if errors.As(err, &exit) {
		code = exit.ExitCode()
	} else if err != nil {
		ts.Fatalf("%v", err)
	}
	if got := strconv.Itoa(code); got != args[0] {
		ts.Fatalf("exit %s, want %s", got, args[0])
	}
}
