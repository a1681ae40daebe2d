package cli

import (
	"fmt"
	"io/fs"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-ha/holdfast/console/cli/fakepool"
)

func TestWithoutACommandOnATerminalTheConsoleIsStartedWithTheSameFlags(t *testing.T) {
	b := newBench(t, fakepool.Healthy(), 1)
	run := func(terminal bool, outcome error, args ...string) (flags []string, out string) {
		var o, e strings.Builder
		env := Env{
			In: strings.NewReader(""), Out: &o, Err: &e, Getenv: func(k string) string { return b.env[k] }, InTerminal: terminal,
			Console: func(f []string) error { flags = append(f, "started"); return outcome },
		}
		if terminal {
			env.OutTerminal = &Terminal{Size: func() (int, int) { return 80, 24 }}
		}
		env.Now = func() time.Time { return fakepool.Now }
		if code := Main(t.Context(), env, args); code != ExitOK {
			t.Errorf("exit %d: %s", code, e.String())
		}
		return flags, o.String()
	}
	if flags, _ := run(false, nil, "--read-only"); flags != nil {
		t.Error("started although this is no terminal")
	}
	if flags, _ := run(true, nil, "--read-only", "--agents", "127.0.0.1:1"); strings.Join(flags, " ") != "--agents 127.0.0.1:1 --read-only started" {
		t.Errorf("started with %q", flags)
	}
	if _, out := run(true, fmt.Errorf("none here: %w", fs.ErrNotExist)); !strings.Contains(out, "healthy") {
		t.Errorf("without a console the status is not shown:\n%s", out)
	}
}
