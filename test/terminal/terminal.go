package terminal

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/creack/pty"
	"github.com/hinshun/vt10x"
)

// Terminal is an emulated terminal with a program on it. Its methods are safe for concurrent use.
type Terminal struct {
	cmd  *exec.Cmd
	pty  *os.File
	done chan struct{}
	err  error

	mu      sync.Mutex
	vt      vt10x.Terminal
	bytes   int
	changed chan struct{}
}

// Start runs a program on a terminal of that size. env is added to a bare environment.
func Start(ctx context.Context, width, height int, env []string, program string, args ...string) (*Terminal, error) {
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Env = append([]string{"TERM=xterm-256color", "LANG=C.UTF-8", "HOME=" + os.TempDir(), "PATH=" + os.Getenv("PATH")}, env...)
	f, err := pty.StartWithSize(cmd, &pty.Winsize{Cols: uint16(width), Rows: uint16(height)}) //nolint:gosec // terminals are small
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", program, err)
	}
	t := &Terminal{cmd: cmd, pty: f, done: make(chan struct{}), changed: make(chan struct{})}
	// The emulator answers what the program asks of its terminal.
	t.vt = vt10x.New(vt10x.WithWriter(f), vt10x.WithSize(width, height))
	go t.read()
	return t, nil
}

// read feeds the emulator until the program ends.
func (t *Terminal) read() {
	defer close(t.done)
	buf := make([]byte, 64<<10)
	for {
		n, err := t.pty.Read(buf)
		t.mu.Lock()
		t.bytes += n
		if _, e := t.vt.Write(buf[:n]); e != nil && err == nil {
			err = e
		}
		close(t.changed)
		t.changed = make(chan struct{})
		t.mu.Unlock()
		if err != nil {
			if !errors.Is(err, io.EOF) && !errors.Is(err, syscall.EIO) { // how Linux says that the other end is gone
				t.err = err
			}
			t.err = errors.Join(t.err, t.cmd.Wait())
			return
		}
	}
}

// keys by the names that tests use.
var keys = map[string]string{
	"enter": "\r", "esc": "\x1b", "tab": "\t", "backspace": "\x7f", "up": "\x1b[A", "down": "\x1b[B", "right": "\x1b[C", "left": "\x1b[D",
	"space": " ", "shift+tab": "\x1b[Z", "ctrl+c": "\x03", "ctrl+z": "\x1a", "pgdown": "\x1b[6~", "pgup": "\x1b[5~",
}

// Press sends keys, each by its name or as what it types. An Esc is given the time that tells it from the beginning of
// another key.
func (t *Terminal) Press(names ...string) error {
	for _, n := range names {
		s, ok := keys[n]
		if !ok {
			s = n
		}
		if _, err := io.WriteString(t.pty, s); err != nil {
			return fmt.Errorf("press %s: %w", n, err)
		}
		if n == "esc" {
			t.pause(100 * time.Millisecond)
		}
	}
	return nil
}

// pause waits for d or the program's end.
func (t *Terminal) pause(d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-t.done:
	}
}

// Resize changes the terminal's size.
func (t *Terminal) Resize(width, height int) error {
	t.mu.Lock()
	t.vt.Resize(width, height)
	t.mu.Unlock()
	return pty.Setsize(t.pty, &pty.Winsize{Cols: uint16(width), Rows: uint16(height)}) //nolint:gosec // terminals are small
}

// Signal sends a signal to the program.
func (t *Terminal) Signal(s os.Signal) error { return t.cmd.Process.Signal(s) }

// Screen is what the terminal shows, a line each, without blanks at their ends.
func (t *Terminal) Screen() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.screen()
}

func (t *Terminal) screen() string {
	w, h := t.vt.Size()
	var out []string
	for y := range h {
		var b strings.Builder
		for x := range w {
			if c := t.vt.Cell(x, y).Char; c != 0 {
				b.WriteRune(c)
			} else {
				b.WriteByte(' ')
			}
		}
		out = append(out, strings.TrimRight(b.String(), " "))
	}
	return strings.Join(out, "\n")
}

// WaitFor waits until the screen satisfies ok; it fails with the last screen when ctx ends first.
func (t *Terminal) WaitFor(ctx context.Context, what string, ok func(screen string) bool) error {
	for {
		t.mu.Lock()
		screen, changed := t.screen(), t.changed
		t.mu.Unlock()
		if ok(screen) {
			return nil
		}
		select {
		case <-changed:
		case <-t.done:
			return fmt.Errorf("waiting for %s: the program ended: %w\n%s", what, errors.Join(t.err, errEnded), screen)
		case <-ctx.Done():
			return fmt.Errorf("waiting for %s: %w; the screen was:\n%s", what, ctx.Err(), screen)
		}
	}
}

var errEnded = errors.New("no program")

// Shows waits until the screen contains all of these texts.
func (t *Terminal) Shows(ctx context.Context, want ...string) error {
	return t.WaitFor(ctx, fmt.Sprintf("%q", want), func(s string) bool {
		for _, w := range want {
			if !strings.Contains(s, w) {
				return false
			}
		}
		return true
	})
}

// Bytes is how much the program has written.
func (t *Terminal) Bytes() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.bytes
}

// Restored reports whether the terminal is as a shell expects it: the normal screen, a visible cursor.
func (t *Terminal) Restored() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.vt.Mode()&vt10x.ModeAltScreen == 0 && t.vt.CursorVisible()
}

// Done is closed once the program has ended.
func (t *Terminal) Done() <-chan struct{} { return t.done }

// ExitCode is the program's, once Done.
func (t *Terminal) ExitCode() int { return t.cmd.ProcessState.ExitCode() }

// Process is the program's process.
func (t *Terminal) Process() *os.Process { return t.cmd.Process }

// Close kills the program and frees the terminal.
func (t *Terminal) Close() {
	_ = t.cmd.Process.Kill() // it may have ended
	<-t.done
	_ = t.pty.Close() // nothing more is read
}

// Build builds the console into a folder and returns its path.
func Build(ctx context.Context, dir string) (string, error) {
	path := filepath.Join(dir, "holdfast-console")
	cmd := exec.CommandContext(ctx, "go", "build", "-o", path, "github.com/holdfast-ha/holdfast/console/tui")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build the console: %w\n%s", err, out)
	}
	return path, nil
}
