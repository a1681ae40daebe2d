package scenarios

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/holdfast-ha/holdfast/agent/sim"
	"github.com/holdfast-ha/holdfast/agent/sim/scenario"
)

// seeds is how often each scenario is played; once with -short.
const seeds = 3

// TestScenarios plays every scenario below this folder with several seeds. A failure shows the time line that led to it.
func TestScenarios(t *testing.T) {
	runs := seeds
	if testing.Short() {
		runs = 1
	}
	for _, name := range files(t) {
		t.Run(strings.TrimSuffix(name, ".scenario"), func(t *testing.T) {
			t.Parallel()
			text, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			for seed := range runs {
				f, err := scenario.Parse(name, string(text))
				if err != nil {
					t.Fatal(err)
				}
				if r := sim.Run(f, sim.Options{Seed: uint64(seed)}); r.Err != nil {
					t.Fatalf("seed %d: %v\n%s", seed, r.Err, timeLine(name, string(text), uint64(seed)))
				}
			}
		})
	}
}

// timeLine plays a scenario once more, the same way, and returns what happened.
func timeLine(name, text string, seed uint64) string {
	f, err := scenario.Parse(name, text)
	if err != nil {
		return err.Error()
	}
	var b strings.Builder
	sim.Run(f, sim.Options{Seed: seed, Sink: func(l sim.Line) { fmt.Fprintln(&b, l) }})
	return b.String()
}

// TestEveryScenarioReadsLikeAnIncidentReport asks for a comment on top that tells the story, and for expectations.
func TestEveryScenarioReadsLikeAnIncidentReport(t *testing.T) {
	all := files(t)
	if len(all) < 80 {
		t.Errorf("only %d scenarios", len(all))
	}
	for _, name := range all {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.HasPrefix(string(text), "# ") {
			t.Errorf("%s does not begin with its story", name)
		}
		f, err := scenario.Parse(name, string(text))
		if err != nil {
			t.Fatal(err)
		}
		expects := len(f.Never)
		for _, st := range f.Lines {
			if st.Kind != scenario.Fault && st.Kind != scenario.Command {
				expects++
			}
		}
		if expects == 0 {
			t.Errorf("%s expects nothing", name)
		}
	}
}

// files lists the scenarios, by folder and name.
func files(t *testing.T) []string {
	t.Helper()
	var out []string
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() && strings.HasSuffix(path, ".scenario") {
			out = append(out, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}
