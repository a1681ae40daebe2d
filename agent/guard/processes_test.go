package guard_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/holdfast-ha/holdfast/agent/guard"
	"github.com/holdfast-ha/holdfast/pkg/clock"
	"github.com/holdfast-ha/holdfast/pkg/pool"
)

// TestMain lets this binary be a guard or an agent in a process of its own, so that tests can kill and stop it.
func TestMain(m *testing.M) {
	switch os.Getenv("GUARD_TEST_ROLE") {
	case "guard":
		os.Exit(guardMain(os.Getenv("GUARD_TEST_DIR")))
	case "agent":
		os.Exit(agentMain(os.Getenv("GUARD_TEST_DIR")))
	}
	os.Exit(m.Run())
}

func guardMain(dir string) int {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	err := guard.Run(ctx, guard.Config{Socket: socketIn(dir), Dir: filepath.Join(dir, "guard"), BootID: "this-boot",
		Log: slog.New(slog.NewTextHandler(os.Stderr, nil)), Harden: os.Getenv("GUARD_TEST_HARDEN") != ""})
	if err != nil && !errors.Is(err, context.Canceled) {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// agentMain renews session 7 every 50 ms and prints a line for each acknowledged renewal.
func agentMain(dir string) int {
	c := clock.Real()
	client := guard.NewClient(socketIn(dir), c)
	for {
		if err := client.Extend(context.Background(), shortLease(7, life)); err == nil {
			fmt.Println("renewed")
		}
		_ = c.Sleep(context.Background(), 50*time.Millisecond)
	}
}

// life is how long a renewal lasts in these tests: long against the scheduling delays of a busy machine.
const life = 2 * time.Second

func socketIn(dir string) string { return filepath.Join(dir, "guard.sock") }

// shortLease is one sent now, with its stop time life ahead.
func shortLease(s pool.Session, life time.Duration) guard.Lease {
	now := clock.Real().Now()
	return guard.Lease{Session: s, Sent: now, KillAt: now.Add(life), Deadline: now.Add(life + 500*time.Millisecond)}
}

// child is a process of the test: a guard, an agent or a stand-in for QEMU.
type child struct {
	cmd  *exec.Cmd
	done chan struct{}

	mu    sync.Mutex
	died  pool.Instant
	lines int
}

// Write counts lines of output.
func (c *child) Write(b []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.lines += strings.Count(string(b), "\n")
	return len(b), nil
}

func (c *child) renewals() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.lines
}

func spawn(t *testing.T, cmd *exec.Cmd) *child {
	t.Helper()
	c := &child{cmd: cmd, done: make(chan struct{})}
	if cmd.Stdout == nil {
		cmd.Stdout = c
	}
	must(t, cmd.Start())
	go func() {
		_ = cmd.Wait()
		c.mu.Lock()
		c.died = clock.Real().Now()
		c.mu.Unlock()
		close(c.done)
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-c.done
	})
	return c
}

func role(t *testing.T, dir, role string) *child {
	t.Helper()
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), "GUARD_TEST_ROLE="+role, "GUARD_TEST_DIR="+dir)
	cmd.Stderr = os.Stderr
	if !testing.Verbose() {
		cmd.Stderr = nil
	}
	return spawn(t, cmd)
}

// qemu starts a stand-in for a VM's process.
func qemu(t *testing.T) *child {
	t.Helper()
	return spawn(t, exec.Command("sleep", "600"))
}

func (c *child) process(t *testing.T) guard.Process {
	t.Helper()
	ticks, err := guard.StartTicks(c.cmd.Process.Pid)
	must(t, err)
	return guard.Process{PID: c.cmd.Process.Pid, StartTicks: ticks}
}

// diedAt waits for its end.
func (c *child) diedAt(t *testing.T) pool.Instant {
	t.Helper()
	select {
	case <-c.done:
	case <-time.After(10 * time.Second):
		t.Fatalf("pid %d is still alive", c.cmd.Process.Pid)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.died
}

func (c *child) alive() bool {
	select {
	case <-c.done:
		return false
	default:
		return true
	}
}

func (c *child) signal(t *testing.T, s syscall.Signal) {
	t.Helper()
	must(t, c.cmd.Process.Signal(s))
}

// eventually polls until ok; it fails the test after ten seconds.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for range 2000 {
		if ok() {
			return
		}
		pause(t, 5*time.Millisecond)
	}
	t.Fatalf("never: %s", what)
}

func pause(t *testing.T, d time.Duration) {
	t.Helper()
	must(t, clock.Real().Sleep(t.Context(), d))
}

// realGuard starts a guard in a process of its own and waits until it answers.
func realGuard(t *testing.T, dir string) (*child, *guard.SocketClient) {
	t.Helper()
	g := role(t, dir, "guard")
	client := guard.NewClient(socketIn(dir), clock.Real())
	eventually(t, "the guard answers", func() bool {
		st, err := client.Status(t.Context())
		return err == nil && st.Armed
	})
	return g, client
}

// hold has the guard hold a new process for each VM, and returns them.
func hold(t *testing.T, client guard.Client, s pool.Session, vms ...pool.VMID) []*child {
	t.Helper()
	var all []*child
	for _, vm := range vms {
		c := qemu(t)
		must(t, client.Hold(t.Context(), guard.Held{VM: vm, Process: c.process(t), Session: s}))
		all = append(all, c)
	}
	return all
}

// wantDead checks that all died at the stop time and not before, and returns how long after it the last one did.
func wantDead(t *testing.T, l guard.Lease, all ...*child) time.Duration {
	t.Helper()
	var last pool.Instant
	for _, c := range all {
		died := c.diedAt(t)
		if died < l.KillAt {
			t.Errorf("pid %d died %v before the stop time", c.cmd.Process.Pid, l.KillAt.Sub(died))
		}
		last = max(last, died)
	}
	return last.Sub(l.KillAt)
}
