package search

import (
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/holdfast-ha/holdfast/agent/guard"
	"github.com/holdfast-ha/holdfast/agent/sim"
	"github.com/holdfast-ha/holdfast/agent/sim/scenario"
)

var table = flag.Bool("search.table", false, "write the mutation table of docs/safety.md anew")

// The table stands in safetyDoc between these lines.
const (
	safetyDoc  = "../../../docs/safety.md"
	tableBegin = "| defence switched off, or rule reversed | runs until found | what broke |\n|---|---|---|\n"
	tableEnd   = "\n\n"
)

// TestEveryMutantIsFound is the mutation table of docs/safety.md: with any one defence switched off, the search finds
// a violation, and the same run with the defence on finds none.
func TestEveryMutantIsFound(t *testing.T) {
	if testing.Short() {
		t.Skip("a search: run in full without the race detector")
	}
	var mu sync.Mutex
	rows := make([]string, len(mutants))
	t.Run("search", func(t *testing.T) {
		for i, m := range mutants {
			t.Run(m.name, func(t *testing.T) {
				t.Parallel()
				f, ok := m.find()
				if !ok {
					t.Fatalf("%s: nothing found in %d runs", m.name, m.runs)
				}
				t.Logf("%s: found in run %d: %s", m.name, f.Seed, f.Message)
				mu.Lock()
				defer mu.Unlock()
				rows[i] = row(m, f)
			})
		}
	})
	if *table && !t.Failed() {
		writeTable(t, rows)
	}
}

// find returns the first violation that comes from the mutation alone: without it the same run must hold.
func (m mutant) find() (Find, bool) {
	if m.story != nil {
		return m.tell()
	}
	for o := m.options(); o.Runs > 0; {
		r := Run(o)
		if len(r.Found) == 0 {
			break
		}
		f := r.Found[0]
		if was := m.harmless().play(f.Seed); len(was.Found) == 0 {
			return f, true
		}
		o.Runs -= int(f.Seed-o.Seed) + 1
		o.Seed = f.Seed + 1
	}
	return Find{}, false
}

// tell is find for a mutant with a story.
func (m mutant) tell() (Find, bool) {
	for n := range uint64(m.runs) {
		play := func(t sim.Tamper) *sim.Failure {
			f, err := scenario.Parse("story", m.story(n))
			if err != nil {
				return &sim.Failure{Seen: err.Error()}
			}
			return failureOf(sim.Run(f, sim.Options{Seed: n, Tamper: t, Lenient: true}))
		}
		fail := play(m.options().Tamper)
		breaks := func(t sim.Tamper) bool { return play(t) != nil }
		if fail != nil && !slices.ContainsFunc(m.harmlessAlone(), breaks) {
			return Find{Seed: n + 1, Invariant: fail.Invariant, Message: fail.Error()}, true
		}
	}
	return Find{}, false
}

// row is a mutant's line in the table.
func row(m mutant, f Find) string {
	broke := "trouble of the simulation"
	if f.Invariant > 0 {
		broke = fmt.Sprintf("%d, %s", f.Invariant, sim.Invariants[f.Invariant])
	}
	return fmt.Sprintf("| %s | %d | %s |", m.name, f.Seed, broke)
}

func writeTable(t *testing.T, rows []string) {
	t.Helper()
	text, err := os.ReadFile(safetyDoc)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(string(text), tableBegin)
	_, after, ended := strings.Cut(rest, tableEnd)
	if !ok || !ended {
		t.Fatalf("%s has no mutation table", safetyDoc)
	}
	if err := os.WriteFile(safetyDoc, []byte(before+tableBegin+strings.Join(rows, "\n")+tableEnd+after), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestTheMutationTableIsInTheDocumentation(t *testing.T) {
	text, err := os.ReadFile(safetyDoc)
	if err != nil {
		t.Fatal(err)
	}
	_, rest, ok := strings.Cut(string(text), tableBegin)
	rows, _, ended := strings.Cut(rest, tableEnd)
	if !ok || !ended {
		t.Fatalf("%s has no mutation table", safetyDoc)
	}
	for _, m := range mutants {
		if !strings.Contains(rows, "| "+m.name+" | ") {
			t.Errorf("the table lacks %q; write it anew: go test ./agent/sim/search -run TestEveryMutantIsFound -search.table", m.name)
		}
	}
	if n := strings.Count(rows, "\n") + 1; n != len(mutants) {
		t.Errorf("the table has %d rows, there are %d mutants", n, len(mutants))
	}
	if len(mutants) < 20 {
		t.Errorf("%d mutants, want at least 20", len(mutants))
	}
}

func TestAFindIsShrunkToASmallScenario(t *testing.T) {
	if testing.Short() {
		t.Skip("a search: run in full without the race detector")
	}
	tamper := sim.Tamper{Kills: func(p guard.Processes) guard.Processes { return toothless{p} }}
	r := Run(Options{Seed: 1, Runs: 1000, Workers: 2, ShrinkRuns: 200, Dir: t.TempDir(), Tamper: tamper})
	if len(r.Found) == 0 {
		t.Fatalf("nothing found in %d runs", r.Runs)
	}
	f := r.Found[0]
	if f.Invariant < 1 || f.Invariant > 4 {
		t.Errorf("found a violation of invariant %d, want one of 1 to 4", f.Invariant)
	}
	if n, was := len(f.Shrunk), len(Generate(f.Seed)); n > was+400 || strings.Contains(f.Shrunk, "skipped") {
		t.Errorf("shrunk to %d bytes from %d", n, was)
	}
	t.Logf("found after %d runs:\n%s", r.Runs, f)
}
