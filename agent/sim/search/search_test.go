package search

import (
	"flag"
	"os"
	"runtime"
	"strings"
	"testing"

	"github.com/holdfast-ha/holdfast/agent/sim/scenario"
)

// make soak sets these.
var (
	runs  = flag.Int("search.runs", 0, "scenarios to play; 0 for the share that make test plays")
	first = flag.Uint64("search.seed", 1, "seed of the first scenario")
	dir   = flag.String("search.dir", "", "where minimal scenarios are written; a temporary folder if empty")
	most  = flag.Int("search.found", 1, "failures after which the search ends")
)

func TestSearchFindsNoViolation(t *testing.T) {
	o := Options{Seed: *first, Runs: *runs, Workers: runtime.GOMAXPROCS(0), MaxFound: *most, ShrinkRuns: 600, Dir: *dir,
		Tell: func(s string) { t.Error(s) }}
	switch {
	case o.Runs > 0:
	case testing.Short():
		o.Runs = 40
	default:
		o.Runs = 2000
	}
	if o.Dir == "" {
		tmp, err := os.MkdirTemp("", "holdfast-search-")
		if err != nil {
			t.Fatal(err)
		}
		o.Dir = tmp
	}
	r := Run(o)
	var b strings.Builder
	r.Write(&b)
	t.Log(b.String())
	if len(r.Found) == 0 && *dir == "" {
		if err := os.Remove(o.Dir); err != nil {
			t.Error(err)
		}
	}
	if r.Unsettled*20 > r.Runs {
		t.Errorf("%d of %d set-ups did not settle", r.Unsettled, r.Runs)
	}
}

func TestGeneratedScenariosAreReadHonestAndMadeBySeedAlone(t *testing.T) {
	seen := map[string]bool{}
	for seed := range uint64(500) {
		text := Generate(seed)
		f, err := scenario.Parse("generated", text)
		if err != nil {
			t.Fatalf("seed %d: %v\n%s", seed, err, text)
		}
		if !Honest(f) {
			t.Errorf("seed %d: somebody lies to the pool:\n%s", seed, text)
		}
		if text != Generate(seed) {
			t.Errorf("seed %d gives two texts", seed)
		}
		for _, st := range f.Lines {
			seen[st.Verb] = true
		}
	}
	for _, verb := range []string{"power off", "cut", "cut etcd", "cut peers", "cut from", "cut to", "cut to etcd", "cut etcd to", "split", "etcd down", "etcd freeze", "agent kill",
		"agent hang", "agent stop", "agent restart", "guard kill", "guard hang", "libvirtd kill", "storage off", "fence fails", "slow", "vm crash",
		"guest shutdown", "guest panic", "start", "stop", "kill", "restart", "clear", "remove", "add", "ha on", "ha off", "freeze", "unfreeze",
		"inbound-lock on", "inbound-lock off", "migrate", "relocate", "maintenance enter", "maintenance exit", "shutdown", "reboot", "remove-server", "confirm-fenced", "set", "set pool"} {
		if !seen[verb] {
			t.Errorf("no scenario of 500 has %s", verb)
		}
	}
}
