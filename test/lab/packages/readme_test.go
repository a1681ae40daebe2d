package packages

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-ha/holdfast/test/lab"
	"github.com/holdfast-ha/holdfast/test/lab/holdfast"

	pb "github.com/holdfast-ha/holdfast/proto/holdfast/v1"
)

// commands returns the README's commands between two of its phrases, as they stand there, without remarks.
func commands(t *testing.T, from, to string) []string {
	t.Helper()
	data, err := os.ReadFile("../../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, ok := strings.Cut(string(data), from)
	section, _, ok2 := strings.Cut(rest, to)
	if !ok || !ok2 {
		t.Fatalf("README.md has no part from %q to %q", from, to)
	}
	var out []string
	for line := range strings.Lines(section) {
		if command, indented := strings.CutPrefix(line, "    "); indented {
			command, _, _ = strings.Cut(command, " #")
			out = append(out, strings.TrimSpace(command))
		}
	}
	if len(out) == 0 {
		t.Fatalf("README.md has no command from %q to %q", from, to)
	}
	return out
}

// formsAPool makes a pool of three servers of a lab and protects a VM, by the README's commands and with these programs,
// and pulls the plug of the VM's server. The installation is done: a lab's servers share what is installed.
func formsAPool(t *testing.T, programs string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	l, err := lab.Open(lab.Options{Name: "pkg", Agent: filepath.Join(programs, "holdfast-agent")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("logs of the servers' processes, last lines:\n%s", l.Tails(25))
		}
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := l.Down(ctx); err != nil {
			t.Error(err)
		}
	})
	if err := l.Up(ctx, 3); err != nil {
		t.Fatal(err)
	}
	servers := l.Servers()
	for _, s := range servers {
		playSystemd(t, s)
	}
	var tokens []string
	for line := range strings.Lines(typed(t, servers[0], commands(t, "On the\nfirst server:", "On the second server"), "")) {
		if token, ok := strings.CutPrefix(strings.TrimSpace(line), "holdfast-agent join "); ok {
			tokens = append(tokens, strings.TrimSuffix(token, " --start"))
		}
	}
	if len(tokens) != 2 {
		t.Fatalf("%d tokens, want one for each further server", len(tokens))
	}
	typed(t, servers[1], commands(t, "On the second server", "on the third"), tokens[0])
	typed(t, servers[2], commands(t, "on the third", "and for each VM"), tokens[1])

	p, err := holdfast.Open(l)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	w := lab.Watched(t, l)
	xml, err := l.Create(ctx, lab.VM{Name: "web-01"})
	if err != nil {
		t.Fatal(err)
	}
	home := servers[1]
	if err := home.StartTransient(ctx, xml); err != nil {
		t.Fatal(err)
	}
	typed(t, home, commands(t, "and for each VM", "Then look:"), "")
	if _, err := p.UntilVM(ctx, "web-01", "is protected", func(v *pb.VMView) bool { return v.GetProtected() && v.GetClaim().GetArmed() }); err != nil {
		t.Fatal(err)
	}
	if _, err := lab.WaitCounter(ctx, l.Disk("web-01"), 3); err != nil {
		t.Fatal(err)
	}
	if out := typed(t, servers[0], commands(t, "Then look:", "docs/operations.md"), ""); !strings.Contains(out, "web-01") {
		t.Error("what is looked at shows nothing of web-01")
	}
	if err := errors.Join(p.UntilUp(ctx), p.UntilVoters(ctx, 3)); err != nil {
		t.Fatal(err)
	}
	at, err := home.PowerOff(ctx)
	if err != nil {
		t.Fatal(err)
	}
	life, err := w.UntilExecuting(ctx, "web-01", at)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("web-01 executes on %s %v after %s lost power", life.Server, life.Spans[0].From.Sub(at).Round(time.Millisecond), home.Name())
}

// typed runs commands on a server as root's shell would, shows them, and returns what they print. The installation of
// the package is left out.
func typed(t *testing.T, s *lab.Server, lines []string, token string) string {
	t.Helper()
	var all strings.Builder
	for _, line := range lines {
		if strings.HasPrefix(line, "apt install ") {
			continue
		}
		line = strings.ReplaceAll(line, "TOKEN", token)
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
		out, err := s.Exec(ctx, "sh", "-c", "PATH="+toolsDir+":$PATH; "+line)
		cancel()
		t.Logf("%s# %s\n%s", s.Name(), line, out)
		if err != nil {
			t.Fatal(err)
		}
		all.WriteString(out)
	}
	return all.String()
}

// toolsDir is where a server of the lab finds its systemctl.
const toolsDir = "/etc/holdfast/lab-tools"

// playSystemd stands in for systemd, which the servers of a lab do not have: a systemctl there asks, and this starts what
// it names.
func playSystemd(t *testing.T, s *lab.Server) {
	t.Helper()
	dir := s.Path(toolsDir)
	script := fmt.Sprintf("#!/bin/sh\necho \"$*\" > %[1]s/asked.new && mv %[1]s/asked.new %[1]s/asked\nwhile [ ! -e %[1]s/done ]; do sleep 0.05; done\nrm %[1]s/done\n", toolsDir)
	if err := errors.Join(os.MkdirAll(dir, 0o755), os.WriteFile(filepath.Join(dir, "systemctl"), []byte(script), 0o755)); err != nil { //nolint:gosec // it must run
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	t.Cleanup(func() { cancel(); <-ended })
	go func() {
		defer close(ended)
		tick := time.NewTicker(50 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			asked, err := os.ReadFile(filepath.Join(dir, "asked"))
			if err != nil {
				continue
			}
			if want := "enable --now holdfast-etcd holdfast-guard holdfast-agent"; strings.TrimSpace(string(asked)) != want {
				t.Errorf("systemctl %s on %s, want %s", asked, s.Name(), want)
			}
			err = errors.Join(os.Remove(filepath.Join(dir, "asked")), holdfast.Configure(s), s.Enable(lab.Etcd, lab.Guard, lab.Agent))
			for _, process := range []string{lab.Etcd, lab.Guard, lab.Agent} {
				err = errors.Join(err, s.Start(process))
			}
			if err := errors.Join(err, os.WriteFile(filepath.Join(dir, "done"), nil, 0o600)); err != nil {
				t.Errorf("start the services of %s: %v", s.Name(), err)
			}
		}
	}()
}
