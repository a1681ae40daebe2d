package lab_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-ha/holdfast/test/lab"
)

// Everything else the lab shows rests on this: a VM that does run twice is seen,
// by the watcher and by the guests themselves.
func TestVMThatRunsTwiceIsSeenByWatcherAndGuests(t *testing.T) {
	l := lab.Start(t, 2)
	w := l.Watch(t.Context())
	defer w.Stop()
	// A shareable disk switches QEMU's image lock off.
	domain := strings.Replace(create(t, l, lab.VM{Name: "vm-1"}), "<target dev='vda'", "<shareable/><target dev='vda'", 1)
	start(t, l.Servers()[0], domain)
	rising(t, l, "vm-1")
	if found := w.Overlaps(); len(found) > 0 {
		t.Fatalf("overlaps of a VM that runs once: %v", found)
	}
	start(t, l.Servers()[1], domain)
	if err := w.Until(within(t, 20*time.Second), func([]lab.Life) bool { return len(w.Executing("vm-1")) == 2 }); err != nil {
		t.Fatal(err)
	}
	if servers, err := l.Executing("vm-1"); err != nil || len(servers) != 2 {
		t.Errorf("Executing = %v, %v; want both servers", servers, err)
	}
	before, err := lab.ReadRecord(l.Disk("vm-1"))
	if err != nil {
		t.Fatal(err)
	}
	deadline := within(t, 30*time.Second)
	for r := before; r.Foreign == 0; {
		if r, err = lab.WaitCounter(deadline, l.Disk("vm-1"), 1); err != nil {
			t.Fatalf("the guests did not notice each other: %v, last record %+v", err, r)
		}
	}
	found := w.Overlaps()
	if len(found) != 1 || found[0].VM != "vm-1" || found[0].For <= 0 {
		t.Errorf("overlaps = %v, want one of vm-1", found)
	}
}

// fakeAgent stands in for holdfast-agent: it says what it was called with and stays.
const fakeAgent = `#!/bin/sh
echo "called with: $*"
trap 'echo asked to stop; exit 0' TERM
while :; do sleep 0.05; done
`

func TestProcessesOfAServerAreStartedSignalledAndBroughtBackAtPowerOn(t *testing.T) {
	agent := filepath.Join(t.TempDir(), "holdfast-agent")
	if err := os.WriteFile(agent, []byte(fakeAgent), 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv(lab.EnvAgent, agent)
	l := lab.Start(t, 1)
	s := l.Servers()[0]
	ctx := within(t, time.Minute)
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	running := func(when string, want ...string) {
		t.Helper()
		states, err := s.Processes()
		must(err)
		var got []string
		for _, p := range states {
			if p.Running() {
				got = append(got, p.Name)
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: %v run, want %v (all: %+v)", when, got, want, states)
		}
	}
	running("new", lab.Libvirtd)
	must(s.Enable(lab.Agent, lab.Guard))
	must(s.Start(lab.Agent))
	running("agent started", lab.Libvirtd, lab.Agent)
	if err := s.Start(lab.Agent); err == nil {
		t.Error("a second agent starts beside the first")
	}
	must(s.Kill(ctx, lab.Agent))
	running("agent killed", lab.Libvirtd)
	if err := s.Kill(ctx, lab.Agent); err == nil {
		t.Error("a dead agent is killed without complaint")
	}
	must(s.Start(lab.Agent))
	must(s.Hang(lab.Agent))
	running("agent hung", lab.Libvirtd, lab.Agent)
	must(s.Resume(lab.Agent))
	must(s.Stop(ctx, lab.Agent))
	running("agent stopped", lab.Libvirtd)
	_, err := s.PowerOff(ctx)
	must(err)
	if err := s.Start(lab.Agent); err == nil {
		t.Error("an agent starts on a server without power")
	}
	must(s.PowerOn(ctx))
	running("power back", lab.Libvirtd, lab.Guard, lab.Agent)
	logged := func() bool { // its program may not have come to write yet
		log, err := os.ReadFile(s.LogFile(lab.Guard))
		return err == nil && strings.Contains(string(log), "called with: guard")
	}
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !logged() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatal("the guard's log does not say how it was started")
		}
	}
	must(s.Disable(lab.Guard))
	if err := s.Enable("nonsense"); err == nil {
		t.Error("an unknown process is enabled")
	}
}

func TestServersOwnTheirFilesAndShareTheStorage(t *testing.T) {
	l := lab.Start(t, 2)
	a, b := l.Servers()[0], l.Servers()[1]
	ctx := within(t, time.Minute)
	for _, dir := range []string{"/run/holdfast", "/etc/holdfast", "/var/lib/holdfast", "/var/lib/libvirt"} {
		if _, err := a.Exec(ctx, "sh", "-c", `mkdir -p "$1" && echo mine > "$1/f"`, "sh", dir); err != nil {
			t.Fatal(err)
		}
		if out, err := b.Exec(ctx, "cat", dir+"/f"); err == nil {
			t.Errorf("%s of one server is seen on the other: %q", dir, out)
		}
		if raw, err := os.ReadFile(a.Path(dir + "/f")); err != nil || string(raw) != "mine\n" {
			t.Errorf("%s/f outside: %q, %v", dir, raw, err)
		}
	}
	shared := filepath.Join(l.SharedDir(), "f")
	if _, err := a.Exec(ctx, "sh", "-c", `echo ours > "$1"`, "sh", shared); err != nil {
		t.Fatal(err)
	}
	if out, err := b.Exec(ctx, "cat", shared); err != nil || out != "ours\n" {
		t.Errorf("shared storage on the other server: %q, %v", out, err)
	}
	if _, err := a.PowerOff(ctx); err != nil {
		t.Fatal(err)
	}
	if err := a.PowerOn(ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := a.Exec(ctx, "cat", "/run/holdfast/f"); err == nil {
		t.Error("/run outlived the power cut")
	}
	if out, err := a.Exec(ctx, "cat", "/var/lib/holdfast/f"); err != nil || out != "mine\n" {
		t.Errorf("/var/lib/holdfast after the power cut: %q, %v", out, err)
	}
	if out, err := a.Exec(ctx, "hostname"); err != nil || out != "srv-1\n" {
		t.Errorf("host name %q, %v", out, err)
	}
}
