package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/holdfast-ha/holdfast/agent/check"
)

func TestWhoHoldsTheWatchdogIsNamed(t *testing.T) {
	proc := t.TempDir()
	fd := filepath.Join(proc, "77", "fd")
	if err := os.MkdirAll(fd, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(proc, "77", "comm"), []byte("watchdog-mux\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := holderOf(proc, "/dev/watchdog"); got != "" {
		t.Errorf("nobody holds it, got %q", got)
	}
	if err := os.Symlink("/dev/watchdog0", filepath.Join(fd, "3")); err != nil {
		t.Fatal(err)
	}
	if got := holderOf(proc, "/dev/watchdog", "/dev/watchdog0"); got != "watchdog-mux (77)" {
		t.Errorf("got %q", got)
	}
}

func TestLinksOfABondAreFoundThroughABridge(t *testing.T) {
	sys := t.TempDir()
	for _, dir := range []string{"br0/bridge", "br0/lower_bond0", "br0/lower_vnet3", "bond0/bonding", "br1/bridge", "br1/lower_eth5", "br1/lower_vnet4", "eth5"} {
		if err := os.MkdirAll(filepath.Join(sys, dir), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(sys, "bond0/bonding/slaves"), []byte("eth0 eth1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := linksOf(sys, "br0"); !slices.Equal(got, []string{"eth0", "eth1"}) {
		t.Errorf("bond below a bridge: %v", got)
	}
	if got := linksOf(sys, "br1"); len(got) > 1 {
		t.Errorf("one link below a bridge: %v", got)
	}
}

func TestTheCheckSaysWhatToDo(t *testing.T) {
	lines := []check.Line{{Name: "clocks", Verdict: check.OK, Text: "fine"}, {Name: "guard", Verdict: check.Fail, Text: "no answer", Fix: "restart it"}}
	var out bytes.Buffer
	if err := printCheck(&out, lines, false); err != nil || !strings.Contains(out.String(), "fail") || !strings.Contains(out.String(), "-> restart it") {
		t.Errorf("%v\n%s", err, &out)
	}
	out.Reset()
	var back []check.Line
	if err := printCheck(&out, lines, true); err != nil || json.Unmarshal(out.Bytes(), &back) != nil || !slices.Equal(back, lines) {
		t.Errorf("%v\n%s", err, &out)
	}
}
