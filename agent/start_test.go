package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/holdfast-ha/holdfast/agent/setup"
)

// fakeSystemctl writes down how it was called, and fails if asked to.
func fakeSystemctl(t *testing.T, exit string) (called func() string) {
	t.Helper()
	dir := t.TempDir()
	record := filepath.Join(dir, "called")
	script := "#!/bin/sh\necho \"$@\" >> " + record + "\nexit " + exit + "\n"
	if err := os.WriteFile(filepath.Join(dir, "systemctl"), []byte(script), 0o700); err != nil { //nolint:gosec // it must run
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	return func() string {
		data, err := os.ReadFile(record)
		if err != nil {
			return ""
		}
		return strings.TrimSpace(string(data))
	}
}

func TestStartRunsTheServicesThatASetUpNamesAsNext(t *testing.T) {
	done := setup.Result{Pool: "prod", Server: "srv-1", Address: "10.0.0.1:7400", Files: []string{"/etc/holdfast/config.yaml"}}
	for name, tt := range map[string]struct {
		witness, start bool
		want           string
	}{
		"a server":         {false, true, "enable --now holdfast-etcd holdfast-guard holdfast-agent"},
		"a witness":        {true, true, "enable --now holdfast-etcd"},
		"without the wish": {false, false, ""},
	} {
		t.Run(name, func(t *testing.T) {
			called := fakeSystemctl(t, "0")
			var out bytes.Buffer
			cmd := &cobra.Command{}
			cmd.SetOut(&out)
			cmd.SetContext(t.Context())
			r := done
			r.Witness = tt.witness
			if err := tell(cmd, "Made pool %s with %s as its first server.\n", r, tt.start); err != nil {
				t.Fatal(err)
			}
			if got := called(); got != tt.want {
				t.Errorf("systemctl %q, want %q", got, tt.want)
			}
			if !tt.start && !strings.Contains(out.String(), "Next: systemctl enable --now holdfast-etcd") {
				t.Errorf("it says %q", out.String())
			}
		})
	}
	fakeSystemctl(t, "1")
	cmd := &cobra.Command{}
	cmd.SetOut(&bytes.Buffer{})
	cmd.SetContext(t.Context())
	if err := tell(cmd, "%s %s\n", done, true); err == nil || !strings.Contains(err.Error(), "the set-up is complete, but its services do not start") {
		t.Errorf("services that do not start: %v", err)
	}
}

// The README promises few commands: at most two on the first server, two on each further one, one for each VM, the
// installation of the package included.
func TestTheReadmesInstallationIsAsShortAsItPromises(t *testing.T) {
	data, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	text := string(data)
	for _, part := range []struct {
		from, to string
		most     int
	}{
		{"On the\nfirst server:", "On the second server", 2},
		{"On the second server", "on the third", 2},
		{"on the third", "and for each VM", 2},
		{"and for each VM", "Then look:", 1},
	} {
		_, rest, ok := strings.Cut(text, part.from)
		section, _, ok2 := strings.Cut(rest, part.to)
		if !ok || !ok2 {
			t.Fatalf("README.md has no part from %q to %q", part.from, part.to)
		}
		commands := 0
		for line := range strings.Lines(section) {
			if words := strings.Fields(line); strings.HasPrefix(line, "    ") && len(words) > 1 {
				commands++
				switch words[0] {
				case "apt", "holdfast":
				case "holdfast-agent":
					cmd, flags, err := root().Find(words[1:])
					if err == nil {
						err = cmd.ParseFlags(flags)
					}
					if err != nil {
						t.Errorf("%s: %v", line, err)
					}
				default:
					t.Errorf("no such command: %s", line)
				}
			}
		}
		if commands == 0 || commands > part.most {
			t.Errorf("%q: %d commands, at most %d", part.from, commands, part.most)
		}
	}
}
