package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	tea "github.com/charmbracelet/bubbletea"
	"github.com/muesli/termenv"

	"github.com/holdfast-ha/holdfast/console/ui"
)

func env(m map[string]string) func(string) string { return func(k string) string { return m[k] } }

func TestTheTerminalIsJudgedByItsEnvironmentAlone(t *testing.T) {
	for _, c := range []struct {
		env   map[string]string
		want  termenv.Profile
		ascii bool
	}{
		{map[string]string{"TERM": "xterm-256color", "LANG": "en_GB.UTF-8"}, termenv.ANSI256, false},
		{map[string]string{"TERM": "xterm-256color", "NO_COLOR": "1", "LANG": "en_GB.UTF-8"}, termenv.Ascii, false},
		{map[string]string{"TERM": "dumb"}, termenv.Ascii, true},
		{map[string]string{"TERM": "xterm", "LC_ALL": "C"}, termenv.ANSI, true},
	} {
		o, err := program{getenv: env(c.env)}.flags()
		if err != nil {
			t.Fatal(err)
		}
		if o.look.Profile != c.want || o.look.ASCII != c.ascii {
			t.Errorf("%v: profile %v, ascii %v", c.env, o.look.Profile, o.look.ASCII)
		}
	}
}

func TestMistakesInTheFlagsAreNamed(t *testing.T) {
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"--theme", "pink"}, "there are default"},
		{[]string{"start", "web-01"}, "commands are those of holdfast"},
		{[]string{"--agents", "127.0.0.1:1"}, "this needs a terminal"},
	} {
		var errs bytes.Buffer
		p := program{args: c.args, err: &errs, out: &errs, getenv: env(nil), terminal: func() bool { return false }}
		if code := p.run(); code != exitUsage || !strings.Contains(errs.String(), c.want) {
			t.Errorf("%v: exit %d, %s", c.args, code, errs.String())
		}
	}
}

func TestACrashEndsInOrderAndIsWrittenDown(t *testing.T) {
	c := &crash{file: filepath.Join(t.TempDir(), "crash.txt")}
	g := guarded{ui.Program{}, c} // without a Model everything fails
	_, cmd := g.Update(tea.KeyMsg{Type: tea.KeyEnter})
	if cmd == nil || !c.happened() {
		t.Fatal("a panic got through")
	}
	if _, quits := cmd().(tea.QuitMsg); !quits {
		t.Error("the program goes on")
	}
	data, err := os.ReadFile(c.file)
	if err != nil || !strings.Contains(string(data), "goroutine") {
		t.Errorf("written down: %v\n%s", err, data)
	}
	if !strings.Contains(c.notice(), c.file) || !strings.Contains(c.notice(), "The pool is not concerned") {
		t.Errorf("notice %q", c.notice())
	}
}

func TestCopyingIsAnEscapeSequenceOfBase64(t *testing.T) {
	var out bytes.Buffer
	program{out: &out}.copy("web-01\x1b[2J")
	if got := out.String(); got != "\x1b]52;c;d2ViLTAxG1sySg==\x07" {
		t.Errorf("%q", got)
	}
}
