package pool

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

func TestTheStateModelInTheDocumentsIsTheTable(t *testing.T) {
	b, err := os.ReadFile("../../docs/state-model.md")
	if err != nil {
		t.Fatal(err)
	}
	var documented []string
	for line := range strings.Lines(string(b)) {
		if f := strings.Split(strings.TrimSpace(line), "|"); len(f) == 6 && strings.ToUpper(f[1]) == f[1] && strings.Contains(line, "`") {
			documented = append(documented, strings.TrimSpace(line))
		}
	}
	name := func(p Phase) string {
		if p == PhaseUnspecified {
			return "-"
		}
		return p.String()
	}
	var want []string
	for _, tr := range Transitions {
		want = append(want, fmt.Sprintf("| `%s` | `%s` | %s | %s |", name(tr.From), name(tr.To), tr.By, tr.When))
	}
	if got, w := strings.Join(documented, "\n"), strings.Join(want, "\n"); got != w {
		t.Errorf("docs/state-model.md has\n%s\nwant\n%s", got, w)
	}
}

func TestNoTransitionLetsAnotherServerInWithoutProof(t *testing.T) {
	for _, tr := range Transitions {
		if tr.From.Owned() && tr.By == WriterLeader && tr.To != PhaseReleasing && tr.To != PhaseMigrating && !strings.Contains(tr.When, "fenced") {
			t.Errorf("the leader may take a VM %v -> %v when %q", tr.From, tr.To, tr.When)
		}
	}
}
