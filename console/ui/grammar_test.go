package ui

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-ha/holdfast/console/cli"
)

func TestThePaletteHasTheCommandLinesOwnWords(t *testing.T) {
	// What only a console has.
	alone := []string{"quit", "help", "use", "theme", "capacity"}
	for _, name := range commandNames() {
		if slices.Contains(alone, name) {
			continue
		}
		words := strings.Fields(name)
		if last := words[len(words)-1]; last == "on" || last == "off" {
			words = words[:len(words)-1] // an argument
		}
		var out, errs strings.Builder
		env := cli.Env{In: strings.NewReader(""), Out: &out, Err: &errs, Getenv: func(string) string { return "" }, Now: time.Now}
		if code := cli.Main(t.Context(), env, append(words, "--help")); code != cli.ExitOK || !strings.Contains(out.String(), "holdfast "+strings.Join(words, " ")) {
			t.Errorf("the command line has no %q: exit %d\n%s%s", name, code, out.String(), errs.String())
		}
	}
}
