package lab_test

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-ha/holdfast/test/lab"
)

// within bounds a step of a lab test.
func within(t *testing.T, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

func create(t *testing.T, l *lab.Lab, vm lab.VM) string {
	t.Helper()
	domain, err := l.Create(within(t, time.Minute), vm)
	if err != nil {
		t.Fatalf("make VM %s: %v", vm.Name, err)
	}
	return domain
}

func start(t *testing.T, s *lab.Server, domain string) {
	t.Helper()
	if err := s.StartTransient(within(t, time.Minute), domain); err != nil {
		t.Fatalf("start a VM on %s: %v", s.Name(), err)
	}
}

func rising(t *testing.T, l *lab.Lab, vm string) {
	t.Helper()
	r, err := lab.WaitCounter(within(t, time.Minute), l.Disk(vm), 5)
	if err != nil {
		t.Fatal(err)
	}
	if r.Foreign != 0 {
		t.Fatalf("VM %s noticed %d foreign writes to its disk", vm, r.Foreign)
	}
}

func TestLabBootsServersAndGuestsAndSurvivesAPowerCut(t *testing.T) {
	l := lab.Start(t, 3)
	w := lab.Watched(t, l)
	servers := l.Servers()
	vms := []string{"vm-1", "vm-2", "vm-3"}
	for i, s := range servers {
		start(t, s, create(t, l, lab.VM{Name: vms[i]}))
	}
	for i, vm := range vms {
		rising(t, l, vm)
		boots, err := lab.ReadBoots(l.Disk(vm))
		if err != nil || len(boots) != 1 || boots[0].Mark != servers[i].Name() {
			t.Errorf("boots of %s: %+v, %v; want one on %s", vm, boots, err, servers[i].Name())
		}
	}

	at, err := servers[0].PowerOff(within(t, 10*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	stopped, err := w.UntilStopped(within(t, 10*time.Second), "vm-1")
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("guest dead %s after the power cut", stopped.Sub(at).Round(time.Millisecond/10))
	if took := stopped.Sub(at); took > 5*time.Second {
		t.Errorf("the guest outlived the power cut by %s", took)
	}
	rising(t, l, "vm-2")
	rising(t, l, "vm-3")

	if err := servers[0].PowerOn(within(t, 30*time.Second)); err != nil {
		t.Fatal(err)
	}
	if err := servers[0].WaitLibvirt(within(t, time.Minute)); err != nil {
		t.Fatal(err)
	}
	if out, err := servers[0].Virsh(within(t, 10*time.Second), "list", "--all", "--name"); err != nil || out != "" {
		t.Errorf("after the power cut libvirt knows %q, %v; want no domain", out, err)
	}
	start(t, servers[0], create(t, l, lab.VM{Name: "vm-1"}))
	rising(t, l, "vm-1")
	r, err := lab.ReadRecord(l.Disk("vm-1"))
	if err != nil || r.Boots != 2 {
		t.Errorf("record of vm-1 after the second start: %+v, %v; want 2 boots", r, err)
	}
}

func TestLabDownLeavesNothingBehind(t *testing.T) {
	lab.Require(t)
	l := lab.Start(t, 2)
	start(t, l.Servers()[0], create(t, l, lab.VM{Name: "vm-1"}))
	rising(t, l, "vm-1")
	truths, err := l.Look()
	if err != nil || len(truths) != 1 || !truths[0].Executing {
		t.Fatalf("before: %+v, %v; want one executing guest", truths, err)
	}
	data := filepath.Dir(l.SharedDir())
	if err := l.Down(within(t, 30*time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(data); !os.IsNotExist(err) {
		t.Errorf("%s is still there: %v", data, err)
	}
	run := strings.Replace(data, "/var/lib", "/run", 1)
	for what, argv := range map[string][]string{
		"a mount":  {"grep", run + "\\|" + data, "/proc/self/mountinfo"},
		"a cgroup": {"find", "/sys/fs/cgroup", "-type", "d", "-name", filepath.Base(data)},
		"a link":   {"sh", "-c", `ip -o link | grep " hfbr$1:\| hf$1v[0-9]*@"`, "sh", os.Getenv(lab.EnvName)},
		"a file":   {"find", "/run", "-maxdepth", "1", "-name", filepath.Base(run)},
	} {
		out, _ := exec.CommandContext(t.Context(), argv[0], argv[1:]...).Output() // grep fails when it finds nothing
		if len(out) > 0 {
			t.Errorf("%s is left:\n%s", what, out)
		}
	}
	lines, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil || len(lines) == 0 {
		t.Fatalf("no processes in /proc: %v", err)
	}
	for _, file := range lines {
		line, err := os.ReadFile(file) // a process may end meanwhile
		if err == nil && (bytes.Contains(line, []byte(run+"/")) || bytes.Contains(line, []byte(data+"/"))) {
			t.Errorf("a process is left: %q", line)
		}
	}
}

func TestLabComesUpOverWhatACrashLeft(t *testing.T) {
	l := lab.Start(t, 1)
	start(t, l.Servers()[0], create(t, l, lab.VM{Name: "vm-1"}))
	old, err := l.Servers()[0].QEMUs()
	if err != nil || len(old) != 1 {
		t.Fatalf("QEMUs = %v, %v", old, err)
	}
	// The lab tool dies here, and its notes are lost with it.
	run := strings.Replace(filepath.Dir(l.SharedDir()), "/var/lib", "/run", 1)
	if err := os.Remove(filepath.Join(run, "lab.json")); err != nil {
		t.Fatal(err)
	}
	if err := l.Up(within(t, time.Minute), 2); err != nil {
		t.Fatal(err)
	}
	if truths, err := l.Look(); err != nil || len(truths) != 0 {
		t.Errorf("the new lab runs %v, %v", truths, err)
	}
	if len(l.Servers()) != 2 {
		t.Errorf("%d servers, want 2", len(l.Servers()))
	}
}

func TestDiskLockRefusesASecondStartOfTheSameImage(t *testing.T) {
	l := lab.Start(t, 2)
	w := lab.Watched(t, l)
	domain := create(t, l, lab.VM{Name: "vm-1"})
	first, second := l.Servers()[0], l.Servers()[1]
	start(t, first, domain)
	rising(t, l, "vm-1")

	refused := func(when string) {
		t.Helper()
		err := second.StartTransient(within(t, time.Minute), domain)
		if err == nil || !strings.Contains(err.Error(), `Failed to get "write" lock`) {
			t.Fatalf("%s, a second start of the same image: %v; want a refusal by the image lock", when, err)
		}
	}
	refused("while the guest runs")
	if _, err := first.Virsh(within(t, 10*time.Second), "suspend", "vm-1"); err != nil {
		t.Fatal(err)
	}
	refused("while the guest is paused")
	if err := first.Freeze(within(t, 10*time.Second), true); err != nil {
		t.Fatal(err)
	}
	refused("while the whole server hangs")
	if err := first.Freeze(within(t, 10*time.Second), false); err != nil {
		t.Fatal(err)
	}
	if _, err := first.Virsh(within(t, 10*time.Second), "resume", "vm-1"); err != nil {
		t.Fatal(err)
	}
	rising(t, l, "vm-1")
	if got := w.Starts("vm-1"); got != 1 {
		t.Errorf("vm-1 was started %d times, want once", got)
	}

	if _, err := first.PowerOff(within(t, 10*time.Second)); err != nil {
		t.Fatal(err)
	}
	start(t, second, domain)
	rising(t, l, "vm-1")
}

func TestGuestSwitchesOffAtThePowerButton(t *testing.T) {
	l := lab.Start(t, 1)
	w := lab.Watched(t, l)
	s := l.Servers()[0]
	start(t, s, create(t, l, lab.VM{Name: "vm-1"}))
	rising(t, l, "vm-1")
	if _, err := s.Virsh(within(t, 10*time.Second), "shutdown", "vm-1"); err != nil {
		t.Fatal(err)
	}
	if _, err := w.UntilStopped(within(t, 10*time.Second), "vm-1"); err != nil {
		t.Fatal(err)
	}
}
