package terminal

import (
	"testing"
	"time"
)

// playing is a demo pool that plays a scenario file, or its own pool if there is none, until the test ends.
func playing(t testing.TB, file string) *Demo {
	t.Helper()
	demo, err := StartDemo(t.Context(), t.TempDir(), file)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := demo.Close(); err != nil {
			t.Error(err)
		}
	})
	return demo
}

// TestAScenarioFileIsPlayedInRealTimeInTheConsolesPool watches a scenario file happen, at its own times.
func TestAScenarioFileIsPlayedInRealTimeInTheConsolesPool(t *testing.T) {
	t.Parallel()
	demo := playing(t, "testdata/lock.scenario")
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

// TestAServerIsEvacuatedAndFilledAgainOnTheRealTerminal goes by what the screens say alone: the preview, the same table come
// alive, its end, and the preview of the way home.
func TestAServerIsEvacuatedAndFilledAgainOnTheRealTerminal(t *testing.T) {
	t.Parallel()
	demo := playing(t, "testdata/evacuation.scenario")
	b := open(t, demo.Address(), 100, 30)
	b.sees("* live", "running 3")
	b.press("2", "g", "M")
	b.sees("Maintenance of srv-1", "2 VMs: 2 move live", "PREVIEW, nothing has started")
	b.press("new disks", "enter", "tab", "enter")
	b.sees("Maintenance of srv-1", "under way")
	b.sees("2 of 2", "srv-1 in maintenance, safe to power off")
	b.press("esc")
	b.row("srv-1", "maintenance", "safe to")
	b.press("M")
	b.sees("End maintenance of srv-1", "2 VMs come back, live", "db goes home to srv-1", "by local: new disks")
	b.press("tab", "enter")
	b.row("srv-1", "up ", "  2 ")
	b.press("3")
	b.row("db", "srv-1    running")
	b.row("web", "srv-1    running")
	b.press("q")
	b.ends(0)
}

// TestAConsoleThatWasToldOneAgentFindsTheOthers when that one dies: the pool itself names them.
func TestAConsoleThatWasToldOneAgentFindsTheOthers(t *testing.T) {
	t.Parallel()
	demo := playing(t, "testdata/lock.scenario")
	b := open(t, demo.Agents[0], 100, 30)
	b.sees("* live", "running 2")
	if err := demo.Tell("agent kill srv-1"); err != nil {
		t.Fatal(err)
	}
	b.sees("back after")
	b.sees("* live")
	b.press("q")
	b.ends(0)
}
