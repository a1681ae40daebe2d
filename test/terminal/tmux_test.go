package terminal

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// tmux is a tmux server of this test alone, with the console in a shell in it.
type tmux struct {
	t      *testing.T
	socket string
}

func (x *tmux) run(args ...string) string {
	x.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, "tmux", append([]string{"-S", x.socket, "-f", "/dev/null"}, args...)...).CombinedOutput()
	if err != nil {
		x.t.Fatalf("tmux %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// sees waits until the captured screen contains all of these texts.
func (x *tmux) sees(want ...string) string {
	x.t.Helper()
	screen := ""
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); {
		screen = x.run("capture-pane", "-p")
		all := true
		for _, w := range want {
			all = all && strings.Contains(screen, w)
		}
		if all {
			return screen
		}
		// capture-pane is the wait: tmux answers in its own time. A channel that nobody signals bounds the pace.
		select {
		case <-time.After(50 * time.Millisecond):
		case <-x.t.Context().Done():
		}
	}
	x.t.Fatalf("tmux does not show %q:\n%s", want, screen)
	return ""
}

// TestTheConsoleInTmux drives the real program in tmux: keys, sizes, suspending and resuming in a shell, and the end.
// What tmux shows is what the program meant to draw.
func TestTheConsoleInTmux(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("tmux"); err != nil {
		t.Skip("THE TMUX RUN IS SKIPPED: no tmux here; as root on Debian: .ci/deps build")
	}
	pool, agents := fake(t, 1)
	pool.Steady()
	x := &tmux{t: t, socket: filepath.Join(t.TempDir(), "tmux.sock")}
	x.run("new-session", "-d", "-x", "80", "-y", "24", "env HOME="+t.TempDir()+" PS1='shell> ' LANG=C.UTF-8 bash --norc --noprofile -i")
	t.Cleanup(func() { x.run("kill-server") })
	x.sees("shell>")
	command := fmt.Sprintf("%s --ascii --agents %s", binary(t), agents)
	x.run("send-keys", "NO_COLOR=1 "+command, "Enter")
	x.sees("[1 Over]", "* live", "hv-03 *")
	x.run("send-keys", "3", "/", "web", "Enter")
	screen := x.sees("[3 VMs 11]", "filter: web", "7 of 11")
	for _, line := range strings.Split(strings.TrimRight(screen, "\n"), "\n") {
		if len([]rune(line)) > 79 {
			t.Errorf("the last column is used: %q", line)
		}
	}
	for _, size := range [][2]string{{"120", "40"}, {"200", "60"}, {"60", "16"}} {
		x.run("resize-window", "-x", size[0], "-y", size[1])
		x.sees("filter: web", "web-01")
	}
	x.run("resize-window", "-x", "40", "-y", "8")
	x.sees("too small")
	x.run("resize-window", "-x", "80", "-y", "24")
	x.sees("filter: web")
	x.sameFrames(agents)
	x.run("send-keys", "C-z")
	x.sees("Stopped", "shell>")
	x.run("send-keys", "fg", "Enter")
	x.sees("filter: web", "* live")
	x.run("send-keys", "?")
	x.sees("HELP")
	x.run("send-keys", "Escape")
	x.sees("filter: web", "7 of 11", "help") // an Esc right before another key would be that key with Alt
	x.run("send-keys", "q")
	x.sees("shell>")
	x.run("send-keys", "echo left with $?", "Enter")
	x.sees("left with 0")
}

// sameFrames compares what tmux shows of the console with what the very same program, told the same, draws on an
// emulated terminal: whole frames, of several screens and sizes. Both displays are frozen meanwhile.
func (x *tmux) sameFrames(agents string) {
	x.t.Helper()
	x.run("send-keys", "Escape")
	x.sees("batch-3", "help")
	for _, size := range [][2]int{{80, 24}, {60, 16}} {
		ctx, cancel := context.WithTimeout(x.t.Context(), time.Minute)
		twin, err := Start(ctx, size[0], size[1], []string{"NO_COLOR=1"}, binary(x.t), "--ascii", "--agents", agents)
		if err != nil {
			x.t.Fatal(err)
		}
		if err := twin.Shows(ctx, "* live", "hv-03 *", "%"); err != nil {
			x.t.Fatal(err)
		}
		x.run("resize-window", "-x", fmt.Sprint(size[0]), "-y", fmt.Sprint(size[1]))
		x.run("send-keys", "f")
		x.sees("display frozen")
		if err := twin.Press("f"); err != nil {
			x.t.Fatal(err)
		}
		for _, key := range []string{"2", "3", "4", "5", "7", "A"} {
			x.run("send-keys", key)
			if err := twin.Press(key); err != nil {
				x.t.Fatal(err)
			}
			x.same(ctx, key, twin)
		}
		x.run("send-keys", "Escape")
		x.sees("[7")
		x.run("send-keys", "f", "3")
		x.sees("[3 VMs 11]", "* live")
		twin.Close()
		cancel()
	}
	x.run("resize-window", "-x", "80", "-y", "24")
	x.run("send-keys", "/", "web", "Enter")
	x.sees("filter: web", "7 of 11")
}

// same waits until both show the same.
func (x *tmux) same(ctx context.Context, what string, twin *Terminal) {
	x.t.Helper()
	var shown, meant string
	for ctx.Err() == nil {
		shown = strings.TrimRight(x.run("capture-pane", "-p"), "\n")
		if meant = strings.TrimRight(twin.Screen(), "\n"); shown == meant {
			return
		}
		twin.pause(50 * time.Millisecond)
	}
	x.t.Fatalf("after %s tmux shows\n%s\nand was meant to show\n%s", what, shown, meant)
}
