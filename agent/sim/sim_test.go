package sim

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/holdfast-ha/holdfast/agent/sim/scenario"
)

func parse(t *testing.T, text string) *scenario.File {
	t.Helper()
	f, err := scenario.Parse("test.scenario", text)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// settled returns a pool at time 0.
func settled(t *testing.T, text string) *Pool {
	t.Helper()
	p, err := NewPool(parse(t, text), 1, nil, Agents)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	if err := p.Settle(); err != nil {
		t.Fatal(err)
	}
	return p
}

func TestStoriesEndAsExpected(t *testing.T) {
	files, err := filepath.Glob("testdata/*.scenario")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	for _, name := range files {
		t.Run(strings.TrimSuffix(filepath.Base(name), ".scenario"), func(t *testing.T) {
			f, err := load(name)
			if err != nil {
				t.Fatal(err)
			}
			for seed := range uint64(3) {
				if r := Run(f, Options{Seed: seed}); r.Err != nil {
					t.Errorf("seed %d: %v", seed, r.Err)
				}
			}
		})
	}
}

func TestTheSameSeedGivesTheSameTimeLine(t *testing.T) {
	line := func(seed string) string {
		var out, errs bytes.Buffer
		if code := Main([]string{"-v", "--logs", "--seed", seed, "testdata/split.scenario"}, &out, &errs); code != ExitHeld {
			t.Fatalf("exit %d: %s%s", code, out.String(), errs.String())
		}
		return out.String()
	}
	a, b, c := line("7"), line("7"), line("8")
	if a != b {
		t.Error("two runs with one seed differ")
	}
	if a == c {
		t.Error("two seeds give the same time line")
	}
	if strings.Count(a, "\n") < 40 {
		t.Errorf("the time line is only %d lines long", strings.Count(a, "\n"))
	}
}

func write(t *testing.T, dir, name, text string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestExitStatusTellsWhetherEverythingHeld(t *testing.T) {
	dir := t.TempDir()
	good := write(t, dir, "good.scenario", "servers s1 s2\nvm web on=s1\nat 1s expect web running on s1\n")
	bad := write(t, dir, "bad.scenario", "servers s1 s2\nvm web on=s1\n\nat 1s expect web running on s2\n")
	wrong := write(t, t.TempDir(), "wrong.scenario", "servers s1\nfrobnicate\n")
	for _, c := range []struct {
		args     []string
		code     int
		out, err string
	}{
		{[]string{good}, ExitHeld, "ok", ""},
		{[]string{bad}, ExitFailed, "bad.scenario:4: at 1.000s: expected web running on s2; seen: web executes on s1", ""},
		{[]string{wrong}, ExitWrong, "", `wrong.scenario:2: unknown statement "frobnicate"`},
		{[]string{good, wrong}, ExitWrong, "", "frobnicate"},
		{[]string{dir}, ExitFailed, "1 passed, 1 failed", ""},
		{[]string{good, "--seeds", "3"}, ExitHeld, "3 seeds", ""},
		{[]string{"--seeds", "3", bad}, ExitFailed, "seed 1", ""},
		{[]string{filepath.Join(dir, "absent")}, ExitWrong, "", "no such file"},
		{[]string{"--colour", good}, ExitWrong, "", "colour"},
		{[]string{"--seeds", "0", good}, ExitWrong, "", "at least 1"},
		{nil, ExitWrong, "", "no file given"},
		{[]string{"--help"}, ExitHeld, "usage", ""},
	} {
		var out, errs bytes.Buffer
		code := Main(c.args, &out, &errs)
		if code != c.code || !strings.Contains(out.String(), c.out) || !strings.Contains(errs.String(), c.err) {
			t.Errorf("%v: exit %d, want %d\n%s%s", c.args, code, c.code, out.String(), errs.String())
		}
	}
}

func TestJSONNamesWhatFailed(t *testing.T) {
	path := write(t, t.TempDir(), "x.scenario", "servers s1 s2\nvm web on=s1\nat 2s power off s1\nexpect web running\n")
	var out bytes.Buffer
	if code := Main([]string{"--json", "-v", path}, &out, &out); code != ExitFailed {
		t.Fatalf("exit %d: %s", code, out.String())
	}
	var o outcome
	if err := json.Unmarshal(out.Bytes(), &o); err != nil {
		t.Fatal(err)
	}
	if o.Passed || o.Failure == nil || o.Failure.Line != 4 || o.Failure.At != 2 || len(o.Lines) == 0 || o.Events == 0 {
		t.Errorf("%+v", o)
	}
}

func TestByEndsAsSoonAsItIsTrueAndHoldAtItsEnd(t *testing.T) {
	for text, want := range map[string]string{
		"at 5s power off s1\nby 60s expect web running on s2\nafter 1s expect web running on s2": "",
		"at 5s power off s1\nby 6s expect web running on s2":                                     "by 6s expect",
		"at 5s hold 10s web running on s1\nafter 1s power off s1":                                "",
		"at 5s hold 10s web running on s1\nat 8s power off s1":                                   "hold 10s",
		"at 5s power off s1\nnever web running on s2":                                            "never web",
		"at 5s inbound-lock on s2\nexpect accepted\nat 6s stop web\nby 20s expect operation done\nat 21s start web\nafter 5s expect web waiting or web running": "",
		"at 5s start web\nexpect accepted and not refused": "",
		"at 5s confirm-fenced s1\nexpect refused \"lost\"": "",
		"at 5s confirm-fenced s1\nexpect accepted":         "expected accepted",
	} {
		r := Run(parse(t, "servers s1 s2 s3\nvm web on=s1 require=s1,s2\n"+text+"\n"), Options{Seed: 3})
		switch {
		case want == "" && r.Err != nil:
			t.Errorf("%q: %v", text, r.Err)
		case want != "" && (r.Err == nil || !strings.Contains(r.Err.Error(), want)):
			t.Errorf("%q: %v, want a failure of %q", text, r.Err, want)
		}
	}
}
