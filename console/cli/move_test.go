package cli

import (
	"testing"

	"github.com/holdfast-ha/holdfast/console/cli/fakepool"
)

func TestAMigrationsPlanTellsOfEveryServer(t *testing.T) {
	for _, line := range [][]string{{"migrate", "web-01", "--dry-run"}, {"plan", "migrate", "web-01"}} {
		b := newBench(t, fakepool.Healthy(), 1)
		r := b.must(ExitOK, line...)
		contains(t, "stdout", r.out, "web-01, now on hv-01, plan 4711", "hv-02", "best", "hv-03", "hv-03 is not up")
		if n := len(b.pool.Calls("MigrateVM")); n != 0 {
			t.Errorf("%d calls of MigrateVM, want none", n)
		}
	}
}

func TestWatchingAnOperationEndsWithIt(t *testing.T) {
	b := newBench(t, fakepool.Troubled(), 1)
	contains(t, "stdout", b.must(ExitOK, "operation", "watch", "op-2").out, "done")
}

func TestAMigrationIsFollowedToItsEnd(t *testing.T) {
	b := newBench(t, fakepool.Healthy(), 1)
	contains(t, "stdout", b.must(ExitOK, "migrate", "web-01", "hv-02").out, "web-01: migrated")
}
