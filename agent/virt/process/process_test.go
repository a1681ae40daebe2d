package process

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/holdfast-ha/holdfast/agent/guard"
)

const testUUID = "0b7f4e0e-6f0c-4a6e-9a53-7e0b9c5d1f01"

// fakeQEMU is a shell that sleeps under a QEMU's command line.
func fakeQEMU(t *testing.T, name, uuid string, more ...string) *exec.Cmd {
	t.Helper()
	args := append([]string{"-c", "read x", "-name", "guest=" + name + ",debug-threads=on", "-uuid", uuid}, more...)
	cmd := exec.Command("sh", args...)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { in.Close(); _ = cmd.Process.Kill(); _ = cmd.Wait() })
	return cmd
}

// found waits for the process to have become what it will be.
func found(t *testing.T, table Table, name, uuid string) QEMU {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); {
		if q, err := table.Find(name, uuid); err == nil {
			return q
		}
	}
	t.Fatalf("%s was not found", name)
	return QEMU{}
}

func TestProcessIsFoundByPIDFileOrCommandLine(t *testing.T) {
	cmd := fakeQEMU(t, "web,,1", testUUID, "-incoming", "defer", "-qmp", "unix:/run/a,,b,server=on")
	run := t.TempDir()
	table := Table{Run: run}
	for _, pidfile := range []string{"", strconv.Itoa(cmd.Process.Pid), strconv.Itoa(os.Getpid()), "x"} {
		if err := os.WriteFile(filepath.Join(run, "web,1.pid"), []byte(pidfile), 0o600); err != nil {
			t.Fatal(err)
		}
		q := found(t, table, "web,1", testUUID)
		if q.PID != cmd.Process.Pid || !q.Incoming || len(q.Monitors) != 1 || q.Monitors[0] != "/run/a,b" || q.StartTicks == 0 {
			t.Errorf("PID file %q: got %+v, want pid %d", pidfile, q, cmd.Process.Pid)
		}
	}
	if _, err := table.Find("web,1", "another"); !errors.Is(err, ErrNone) {
		t.Errorf("another UUID: %v", err)
	}
	if absent, err := table.Absent(t.Context(), testUUID); absent || err != nil {
		t.Errorf("absent while it runs: %v, %v", absent, err)
	}
}

func TestKilledProcessIsSeenDeadBeforeItIsReaped(t *testing.T) {
	fakeQEMU(t, "vm", testUUID)
	table := Table{Run: t.TempDir()}
	p := found(t, table, "vm", testUUID).Process
	if dead, err := table.Dead(p); dead || err != nil {
		t.Fatalf("dead at first: %v, %v", dead, err)
	}
	h, err := table.Open(p)
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	watched := make(chan error, 1)
	go func() { watched <- h.Wait(t.Context()) }()
	if err := table.Kill(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	if err := <-watched; err != nil {
		t.Errorf("watcher: %v", err)
	}
	// It is a zombie now: the test has not waited for it.
	if dead, err := table.Dead(p); !dead || err != nil {
		t.Errorf("dead after the kill: %v, %v", dead, err)
	}
	if absent, err := table.Absent(t.Context(), testUUID); !absent || err != nil {
		t.Errorf("absent after the kill: %v, %v", absent, err)
	}
	if err := table.Kill(t.Context(), p); err != nil {
		t.Errorf("killing the dead: %v", err)
	}
}

func TestPIDThatIsUsedAgainIsNeitherKilledNorTakenForTheOldProcess(t *testing.T) {
	cmd := fakeQEMU(t, "vm", testUUID)
	table := Table{Run: t.TempDir()}
	p := found(t, table, "vm", testUUID).Process
	older := guard.Process{PID: p.PID, StartTicks: p.StartTicks - 1}
	if dead, err := table.Dead(older); !dead || err != nil {
		t.Errorf("got %v, %v", dead, err)
	}
	if err := table.Kill(t.Context(), older); err != nil {
		t.Error(err)
	}
	if dead, err := table.Dead(p); dead || err != nil {
		t.Errorf("pid %d died with its predecessor: %v, %v", cmd.Process.Pid, dead, err)
	}
}

func TestWaitingEndsWithItsContext(t *testing.T) {
	fakeQEMU(t, "vm", testUUID)
	table := Table{Run: t.TempDir()}
	h, err := table.Open(found(t, table, "vm", testUUID).Process)
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := h.Wait(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func TestUsageIsThatOfTheProcess(t *testing.T) {
	p, err := (Table{}).read(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	var cpu time.Duration
	for end := time.Now().Add(10 * time.Second); cpu == 0 && time.Now().Before(end); {
		var memory int64
		if cpu, memory, err = (Table{}).Usage(p.Process); err != nil || memory < 1<<20 {
			t.Fatalf("%v, %d bytes, %v", cpu, memory, err)
		}
	}
	if cpu == 0 {
		t.Error("no CPU time in 10 s")
	}
	p.StartTicks++
	if _, _, err := (Table{}).Usage(p.Process); !errors.Is(err, ErrNone) {
		t.Errorf("another process of that PID: %v", err)
	}
}

func TestNoProcessAtAllIsRefused(t *testing.T) {
	for _, pid := range []int{0, 1, -1} {
		if err := (Table{}).Kill(t.Context(), guard.Process{PID: pid}); err == nil || errors.Is(err, ErrNone) {
			t.Errorf("pid %d: %v", pid, err)
		}
		if dead, err := (Table{}).Dead(guard.Process{PID: pid}); dead || err == nil {
			t.Errorf("pid %d: %v, %v", pid, dead, err)
		}
	}
}

// A process whose first thread has ended is a zombie without a command line, yet its other threads may write.
func TestDyingProcessWithThreadsLeftIsNotAbsent(t *testing.T) {
	proc := t.TempDir()
	dir := filepath.Join(proc, "77")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	write := func(file, text string) {
		if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("cmdline", "")
	write("stat", "77 (qemu) x) Z 1 77 77 0 -1 4228108 0 0 0 0 0 0 0 0 20 0 2 0 4242 0 0")
	if absent, err := (Table{Proc: proc}).Absent(t.Context(), testUUID); absent || err == nil {
		t.Errorf("with a thread left: %v, %v", absent, err)
	}
	write("stat", "77 (qemu) x) Z 1 77 77 0 -1 4228108 0 0 0 0 0 0 0 0 20 0 1 0 4242 0 0")
	if absent, err := (Table{Proc: proc}).Absent(t.Context(), testUUID); !absent || err != nil {
		t.Errorf("all threads ended: %v, %v", absent, err)
	}
}
