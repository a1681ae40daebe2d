package cli

import (
	"slices"
	"strings"
	"testing"

	"github.com/holdfast-ha/holdfast/console/cli/fakepool"
	"github.com/holdfast-ha/holdfast/pkg/pool"
)

// completions returns the words that the shell would offer, without their descriptions.
func (b *bench) completions(args ...string) []string {
	b.t.Helper()
	r := b.must(ExitOK, append([]string{"__complete"}, args...)...)
	var out []string
	for line := range strings.SplitSeq(strings.TrimSpace(r.out), "\n") {
		word, _, _ := strings.Cut(line, "\t")
		if !strings.HasPrefix(word, ":") {
			out = append(out, word)
		}
	}
	return out
}

func TestCompletionKnowsTheNamesOfThePool(t *testing.T) {
	tests := []struct {
		line string
		want []string
	}{
		{"start|", []string{"db-main", "old", "web-01", "web-02"}},
		{"start|web-01|", []string{"db-main", "old", "web-02"}},
		{"vm|show|", []string{"db-main", "old", "web-01", "web-02"}},
		{"vm|show|old|", nil},
		{"ha|", []string{"on", "off"}},
		{"ha|on|", []string{"db-main", "old", "web-01", "web-02"}},
		{"inbound-lock|on|", []string{"hv-01", "hv-02", "hv-03"}},
		{"inbound-lock|on|hv-01|", nil},
		{"confirm-fenced|", []string{"hv-01", "hv-02", "hv-03"}},
		{"remove-server|", []string{"hv-01", "hv-02", "hv-03"}},
		{"set|", []string{"pool", "db-main", "old", "web-01", "web-02"}},
		{"vms|--server|", []string{"hv-01", "hv-02", "hv-03"}},
		{"events|--vm|", []string{"db-main", "old", "web-01", "web-02"}},
		{"vms|-o|", []string{"table", "wide", "json", "yaml"}},
		{"alerts|--server|", []string{"hv-01", "hv-02", "hv-03"}},
		{"set|web-01|priority=", []string{"priority=high", "priority=medium", "priority=low"}},
		{"set|web-01|restart-on-guest-shutdown=", []string{"restart-on-guest-shutdown=on", "restart-on-guest-shutdown=off"}},
		{"set|web-01|prefer=hv-01,", []string{"prefer=hv-01,hv-01", "prefer=hv-01,hv-02", "prefer=hv-01,hv-03"}},
		{"set|pool|on-isolation=", []string{"on-isolation=stop", "on-isolation=pause"}},
		{"vm|register|x|--set|priority=", []string{"priority=high", "priority=medium", "priority=low"}},
	}
	for _, tt := range tests {
		b := newBench(t, fakepool.Healthy(), 1)
		if got := b.completions(strings.Split(tt.line, "|")...); !slices.Equal(got, tt.want) {
			t.Errorf("%s: %q, want %q", tt.line, got, tt.want)
		}
	}
}

func TestEverySettingIsCompleted(t *testing.T) {
	b := newBench(t, fakepool.Healthy(), 1)
	check := func(all [][2]string, args ...string) {
		t.Helper()
		got := b.completions(args...)
		for _, s := range all {
			if !slices.Contains(got, s[0]+"=") {
				t.Errorf("%s: no %s= in %q", strings.Join(args, " "), s[0], got)
			}
		}
		if len(got) != len(all) {
			t.Errorf("%s: %d words, want %d", strings.Join(args, " "), len(got), len(all))
		}
	}
	check(pool.VMSettings(), "vm", "set", "web-01", "")
	check(pool.VMSettings(), "set", "web-01", "")
	check(pool.PoolSettings(), "pool", "set", "")
	check(pool.PoolSettings(), "set", "pool", "")
}

func TestEverySettingOfThePoolIsShown(t *testing.T) {
	b := newBench(t, fakepool.Healthy(), 1)
	out := b.must(ExitOK, "pool", "show").out
	for _, s := range pool.PoolSettings() {
		if !strings.Contains(out, "\n  "+s[0]+"=") {
			t.Errorf("pool show does not show %s:\n%s", s[0], out)
		}
	}
}

func TestCompletionWithoutAPoolOffersNothingAndSaysNothing(t *testing.T) {
	b := newBench(t, fakepool.Healthy(), 1)
	b.pool.Close()
	if got := b.completions("start", ""); got != nil {
		t.Errorf("completions %q, want none", got)
	}
}

func TestEachShellGetsItsScript(t *testing.T) {
	b := newBench(t, fakepool.Healthy(), 1)
	for _, shell := range []string{"bash", "zsh", "fish"} {
		contains(t, shell, b.must(ExitOK, "completion", shell).out, "holdfast")
	}
}
