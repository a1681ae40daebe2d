package terminal

import (
	"testing"
	"time"
)

// TestAScenarioFileIsPlayedInRealTimeInTheConsolesPool watches a scenario file happen, at its own times.
func TestAScenarioFileIsPlayedInRealTimeInTheConsolesPool(t *testing.T) {
	t.Parallel()
	demo, err := StartDemo(t.Context(), t.TempDir(), "testdata/lock.scenario")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := demo.Close(); err != nil {
			t.Error(err)
		}
	})
	b := open(t, demo.Address(), 100, 30)
	b.sees("* live", "running 2")
	b.press("2")
	b.row("srv-2", "up, locked")
	locked := time.Now()
	b.row("srv-1", "maintenance")
	// Much less than what the file says, since a busy machine may show the first late.
	if after := time.Since(locked); after < 2*time.Second {
		t.Errorf("what the file has 8 s later came after %s", after)
	}
	b.press("5")
	b.sees("inbound lock", "maintenance")
}
