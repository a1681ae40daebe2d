package cli

import (
	"fmt"
	"strings"
	"testing"

	"github.com/holdfast-ha/holdfast/console/cli/fakepool"
	"github.com/holdfast-ha/holdfast/console/cli/text"
)

func TestPlansFitTheTerminalAndSayWhatMatters(t *testing.T) {
	for line, words := range map[string][]string{
		"maintenance enter hv-02 --dry-run": {"plan 8812", "1 live", "1 waits", "1 stays", "AT RISK (hv-04)", "79% -> 91%", "gpu-1", "hv-05"},
		"plan maintenance hv-02":            {"plan 8812"},
		"maintenance exit hv-02 --dry-run":  {"plan 8813", "1 of 2 VMs", "1 VM that did not leave: gpu-1", "AT RISK (hv-04) -> OK", "91% -> 79%", "web-01", "yes", "db-r2", "no"},
		"plan return hv-02":                 {"plan 8813"},
		"plan lose hv-02":                   {"1 restarts", "1 waits", "web-01", "hv-01", "batch-3"},
		"capacity":                          {"AT RISK (hv-04)", "NO", "fits", "db-r2"},
	} {
		for _, width := range []int{60, 80, 160} {
			t.Run(fmt.Sprintf("%s-%d", strings.ReplaceAll(line, " ", "-"), width), func(t *testing.T) {
				b := newBench(t, fakepool.Healthy(), 1)
				b.width, b.height, b.env["NO_COLOR"] = width, 40, "1"
				r := b.must(ExitOK, strings.Fields(line)...)
				for l := range strings.SplitSeq(r.out, "\n") {
					if text.Width(l) >= width {
						t.Errorf("line of %d cells on a terminal of %d: %q", text.Width(l), width, l)
					}
				}
				if width >= 80 {
					contains(t, "stdout", r.out, words...)
				}
			})
		}
		b := newBench(t, fakepool.Healthy(), 1)
		r := b.must(ExitOK, append(strings.Fields(line), "-o", "json")...)
		if !strings.HasPrefix(strings.TrimSpace(r.out), "{") {
			t.Errorf("%s -o json prints %q", line, r.out)
		}
	}
}

func TestADryRunChangesNothing(t *testing.T) {
	b := newBench(t, fakepool.Healthy(), 1)
	b.must(ExitOK, "maintenance", "enter", "hv-02", "--dry-run")
	b.must(ExitOK, "maintenance", "exit", "hv-02", "--dry-run")
	for _, call := range []string{"EnterMaintenance", "ExitMaintenance"} {
		if n := len(b.pool.Calls(call)); n != 0 {
			t.Errorf("%d calls of %s", n, call)
		}
	}
}

func TestAnEvacuationIsFollowedToItsEnd(t *testing.T) {
	b := newBench(t, fakepool.Healthy(), 1)
	r := b.must(ExitOK, "maintenance", "enter", "hv-02")
	contains(t, "stdout", r.out, "hv-02: in maintenance and empty")
	r = b.must(ExitOK, "maintenance", "exit", "hv-02")
	contains(t, "stdout", r.out, "coming back: web-01")
}
