package lab_test

import (
	"errors"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-ha/holdfast/test/lab"
)

func TestFenceAgentSwitchesAServerOffAndOnFromAnother(t *testing.T) {
	l := lab.Start(t, 2)
	b, err := l.ServeBMC(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	from, target := l.Servers()[0], l.Servers()[1]
	fence := func(action string) (string, error) {
		t.Helper()
		cmd, done, err := from.Command(within(t, 30*time.Second), l.FenceAgent())
		if err != nil {
			t.Fatal(err)
		}
		defer done()
		cmd.Stdin = strings.NewReader("# comment\naction=" + action + "\nplug=" + target.Name() + "\n")
		out, err := cmd.CombinedOutput()
		return strings.TrimSpace(string(out)), err
	}
	if err := target.Cut(within(t, 10*time.Second), lab.CutAll); err != nil {
		t.Fatal(err)
	}
	if out, err := fence("status"); err != nil || out != "on" {
		t.Errorf("status of a server that is on: %q, %v", out, err)
	}
	if out, err := fence("off"); err != nil || target.On() {
		t.Errorf("off: %q, %v; on afterwards: %v", out, err, target.On())
	}
	out, err := fence("status")
	if exit := (*exec.ExitError)(nil); !errors.As(err, &exit) || exit.ExitCode() != 2 || out != "off" {
		t.Errorf("status of a server that is off: %q, %v; want exit status 2", out, err)
	}
	if out, err := fence("on"); err != nil || !target.On() {
		t.Errorf("on: %q, %v", out, err)
	}
	if err := target.SetFence(true, 0); err != nil {
		t.Fatal(err)
	}
	if out, err := fence("off"); err == nil || !target.On() || !strings.Contains(out, "does not work") {
		t.Errorf("off through a broken switch: %q, %v; on afterwards: %v", out, err, target.On())
	}
}
