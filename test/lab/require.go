package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// tools are the programs that the engine and the servers run, and the Debian
// package that brings each.
var tools = [][2]string{
	{"libvirtd", "libvirt-daemon-system"}, {"virsh", "libvirt-clients"}, {qemuPath, "qemu-system-x86"},
	{"ip", "iproute2"}, {"nft", "nftables"}, {"nsenter", "util-linux"}, {"go", "golang, or go.dev"},
}

// Check says why a lab cannot run here, naming what to install; nil if it can.
func Check() error {
	if os.Geteuid() != 0 {
		return errors.New("it needs root")
	}
	var packages []string
	for _, t := range tools {
		if _, err := exec.LookPath(t[0]); err != nil {
			packages = append(packages, t[1])
		}
	}
	if len(packages) > 0 {
		return fmt.Errorf("missing packages: apt-get install %s", strings.Join(packages, " "))
	}
	if _, _, err := qemuUser(); err != nil {
		return err
	}
	if _, err := cgroupRoot(); err != nil {
		return err
	}
	return nil
}

// Require skips the test, saying why and how to run it, unless the lab tests are
// switched on (EnvEnable) and this machine can run a lab. Switched on and unable
// is a failure: a test that was asked for must not vanish.
func Require(t testing.TB) {
	t.Helper()
	if os.Getenv(EnvEnable) == "" {
		t.Skipf("SKIPPED: a lab test with real libvirt servers; run it as root with `make lab-test` or %s=1 go test", EnvEnable)
	}
	if err := Check(); err != nil {
		t.Fatalf("%s is set, but no lab can run here: %v", EnvEnable, err)
	}
}

// Start brings a lab of n servers up for a test and takes it down when the test
// ends. It waits for its turn if another test binary has the lab.
func Start(t testing.TB, n int) *Lab {
	t.Helper()
	Require(t)
	l, err := Open(Options{})
	if err != nil {
		t.Fatalf("open the lab: %v", err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if t.Failed() {
			t.Logf("logs of the servers' processes, last lines:\n%s", l.Tails(15))
		}
		if err := l.Down(ctx); err != nil {
			t.Errorf("take the lab down: %v", err)
		}
	})
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	if err := l.Up(ctx, n); err != nil {
		t.Fatalf("bring the lab up: %v", err)
	}
	return l
}

// Watched starts a Watcher that fails the test if a VM ever executes twice, and
// prints its timeline if the test fails.
func Watched(t testing.TB, l *Lab) *Watcher {
	t.Helper()
	w := l.Watch(context.Background())
	t.Cleanup(func() {
		w.Stop()
		for _, o := range w.Overlaps() {
			t.Errorf("TWO AT ONCE: %s", o)
		}
		if t.Failed() {
			t.Logf("who executed what:\n%s", w)
		}
	})
	return w
}

// Tails returns the last lines of every process's log on every server.
func (l *Lab) Tails(lines int) string {
	var b strings.Builder
	for _, s := range l.Servers() {
		for _, name := range []string{"init", Libvirtd, Etcd, Guard, Agent} {
			raw, err := os.ReadFile(s.LogFile(name))
			if err != nil || len(raw) == 0 {
				continue
			}
			all := strings.Split(strings.TrimRight(string(raw), "\n"), "\n")
			fmt.Fprintf(&b, "--- %s %s\n%s\n", s.Name(), name, strings.Join(all[max(0, len(all)-lines):], "\n"))
		}
	}
	return b.String()
}
