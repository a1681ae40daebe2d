package cli

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/holdfast-ha/holdfast/console/cli/fakepool"
	"github.com/holdfast-ha/holdfast/console/cli/text"
	pb "github.com/holdfast-ha/holdfast/proto/holdfast/v1"
)

var rewrite = flag.Bool("update", false, "rewrite the golden files")

// bench runs the command line in this process against a fake pool.
type bench struct {
	t    *testing.T
	pool *fakepool.Pool
	env  map[string]string
	// width and height of the terminal; 0: no terminal.
	width, height int
	stdin         string
	answers       bool
}

func newBench(t *testing.T, state *pb.Snapshot, agents int) *bench {
	t.Helper()
	p := fakepool.New(state)
	t.Cleanup(p.Close)
	addresses, err := p.Start(agents)
	if err != nil {
		t.Fatal(err)
	}
	return &bench{t: t, pool: p, env: map[string]string{"HOME": t.TempDir(), "HOLDFAST_AGENTS": strings.Join(addresses, ",")}}
}

// ran is what a command did.
type ran struct {
	code     int
	out, err string
}

func (b *bench) run(args ...string) ran {
	b.t.Helper()
	return b.runCtx(b.t.Context(), args...)
}

func (b *bench) runCtx(ctx context.Context, args ...string) ran {
	b.t.Helper()
	var out, errs lockedBuffer
	code := b.start(ctx, &out, &errs, args...)
	return ran{code, out.String(), errs.String()}
}

func (b *bench) start(ctx context.Context, out, errs *lockedBuffer, args ...string) int {
	env := Env{
		In: strings.NewReader(b.stdin), Out: out, Err: errs, InTerminal: b.answers,
		Getenv: func(k string) string { return b.env[k] }, Now: func() time.Time { return fakepool.Now },
		ServerFile: filepath.Join(b.env["HOME"], "none.yaml"), Version: "v0.0.0-test",
	}
	if b.width > 0 {
		env.OutTerminal = &Terminal{Size: func() (int, int) { return b.width, b.height }}
	}
	return Main(ctx, env, args)
}

// must runs a command that has to end with that code.
func (b *bench) must(code int, args ...string) ran {
	b.t.Helper()
	r := b.run(args...)
	if r.code != code {
		b.t.Fatalf("holdfast %s: exit %d, want %d\nstdout: %s\nstderr: %s", strings.Join(args, " "), r.code, code, r.out, r.err)
	}
	return r
}

func contains(t *testing.T, what, s string, want ...string) {
	t.Helper()
	for _, w := range want {
		if !strings.Contains(s, w) {
			t.Errorf("%s does not contain %q:\n%s", what, w, s)
		}
	}
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", "golden", name)
	if *rewrite {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("%v (go test ./console/cli -update writes it)", err)
	}
	if got != string(want) {
		t.Errorf("%s differs (go test ./console/cli -update rewrites it); got:\n%s\nwant:\n%s", path, got, want)
	}
}

// lockedBuffer is written by one goroutine and read by another.
type lockedBuffer struct {
	mu      sync.Mutex
	b       bytes.Buffer
	changed chan struct{}
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.changed != nil {
		close(l.changed)
		l.changed = nil
	}
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	s, _ := l.look()
	return s
}

// look returns what was written and a channel that is closed at the next write.
func (l *lockedBuffer) look() (string, <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.changed == nil {
		l.changed = make(chan struct{})
	}
	return l.b.String(), l.changed
}

// await waits until everything wanted was written and returns all of it.
func (l *lockedBuffer) await(t *testing.T, want ...string) string {
	t.Helper()
	limit := time.After(20 * time.Second)
	for {
		s, changed := l.look()
		missing := ""
		for _, w := range want {
			if !strings.Contains(s, w) {
				missing = w
			}
		}
		if missing == "" {
			return s
		}
		select {
		case <-changed:
		case <-limit:
			t.Fatalf("%q did not come; so far:\n%s", missing, s)
		}
	}
}

func TestListsFitTheTerminal(t *testing.T) {
	for _, name := range []string{"status", "servers", "vms", "operations", "events", "alerts"} {
		for _, width := range []int{60, 80, 120, 200} {
			t.Run(fmt.Sprintf("%s-%d", name, width), func(t *testing.T) {
				b := newBench(t, fakepool.Troubled(), 1)
				b.width, b.height, b.env["NO_COLOR"] = width, 40, "1"
				r := b.must(ExitOK, name)
				for line := range strings.SplitSeq(r.out, "\n") {
					if w := text.Width(line); w >= width {
						t.Errorf("line of %d cells on a terminal of %d: %q", w, width, line)
					}
					if strings.ContainsRune(line, '\x1b') {
						t.Errorf("escape in %q", line)
					}
				}
				golden(t, fmt.Sprintf("%s-%d.txt", name, width), r.out)
			})
		}
	}
}

func TestWideAndScriptFormatsCutNothing(t *testing.T) {
	for _, name := range []string{"status", "servers", "vms", "operations", "events", "alerts"} {
		for _, format := range []string{"wide", "json", "yaml"} {
			t.Run(name+"-"+format, func(t *testing.T) {
				b := newBench(t, fakepool.Troubled(), 1)
				b.env["COLUMNS"] = "80"
				r := b.must(ExitOK, name, "-o", format)
				if strings.ContainsRune(r.out, '\x1b') {
					t.Error("an escape character from a name reached the output")
				}
				golden(t, name+"-"+format+".txt", r.out)
			})
		}
	}
}

func TestOneThingInFull(t *testing.T) {
	for _, args := range []string{"vm show web-gpu", "vm show db-main", "server show hv-02", "server show hv-06", "pool show", "operation show op-1"} {
		t.Run(args, func(t *testing.T) {
			b := newBench(t, fakepool.Troubled(), 1)
			b.width, b.height, b.env["NO_COLOR"] = 80, 40, "1"
			golden(t, strings.ReplaceAll(args, " ", "-")+".txt", b.must(ExitOK, strings.Fields(args)...).out)
		})
	}
}

func TestAHealthyPoolSaysSo(t *testing.T) {
	b := newBench(t, fakepool.Healthy(), 1)
	b.width, b.height, b.env["NO_COLOR"] = 80, 24, "1"
	golden(t, "status-healthy.txt", b.must(ExitOK, "status").out)
}

func TestColoursOnlyOnATerminalThatWantsThem(t *testing.T) {
	b := newBench(t, fakepool.Troubled(), 1)
	if r := b.must(ExitOK, "vms"); strings.Contains(r.out, "\x1b[") {
		t.Error("colours without a terminal")
	}
	b.width, b.height = 100, 40
	if r := b.must(ExitOK, "vms"); !strings.Contains(r.out, "\x1b[") {
		t.Error("no colours on a terminal")
	}
	b.env["NO_COLOR"] = "1"
	if r := b.must(ExitOK, "vms"); strings.Contains(r.out, "\x1b[") {
		t.Error("colours despite NO_COLOR")
	}
}
