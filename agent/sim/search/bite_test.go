package search

import (
	"context"
	"strings"
	"testing"

	"github.com/holdfast-ha/holdfast/agent/guard"
	"github.com/holdfast-ha/holdfast/agent/sim"
	"github.com/holdfast-ha/holdfast/pkg/kv"
)

// toothless is a guard whose kills do nothing.
type toothless struct{ guard.Processes }

func (toothless) Kill(guard.Process) error { return nil }

// careless is etcd without compare-and-swap: every transaction takes effect.
type careless struct{ kv.Store }

func (c careless) Txn(ctx context.Context, txn kv.Txn) (kv.Result, error) {
	if len(txn.Then) > 0 {
		txn.If = nil
	}
	return c.Store.Txn(ctx, txn)
}

func TestTheSearchBitesWhenADefenceIsSwitchedOff(t *testing.T) {
	if testing.Short() {
		t.Skip("a search: run in full without the race detector")
	}
	for name, tamper := range map[string]sim.Tamper{
		"a guard that does not kill":       {Kills: func(p guard.Processes) guard.Processes { return toothless{p} }},
		"an etcd without compare-and-swap": {Store: func(s kv.Store) kv.Store { return careless{s} }},
	} {
		t.Run(name, func(t *testing.T) {
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
		})
	}
}
