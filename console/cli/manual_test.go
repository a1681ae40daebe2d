package cli

import (
	"os"
	"strings"
	"testing"

	"github.com/holdfast-ha/holdfast/console/cli/fakepool"
)

func manual(t *testing.T) string {
	t.Helper()
	data, err := os.ReadFile("../../docs/cli.md")
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func TestTheManualKnowsEveryCommand(t *testing.T) {
	text := manual(t)
	b := newBench(t, fakepool.Healthy(), 1)
	for line := range strings.SplitSeq(b.must(ExitOK, "__complete", "").out, "\n") {
		name, _, _ := strings.Cut(line, "\t")
		if strings.HasPrefix(name, ":") || name == "" || name == "help" {
			continue
		}
		if !strings.Contains(text, "`"+name) && !strings.Contains(text, "holdfast "+name) {
			t.Errorf("docs/cli.md does not mention %s", name)
		}
	}
}

func TestTheManualListsTheSameExitCodesAsTheHelp(t *testing.T) {
	text := manual(t)
	for line := range strings.SplitSeq(exitHelp, "\n") {
		code, meaning, ok := strings.Cut(line, "  ")
		if !ok {
			continue
		}
		found := false
		for row := range strings.SplitSeq(text, "\n") {
			found = found || strings.ReplaceAll(row, "`", "") == "| "+code+" | "+meaning+" |"
		}
		if !found {
			t.Errorf("docs/cli.md has no row %s: %s", code, meaning)
		}
	}
}
