package plan

import (
	"fmt"
	"testing"
	"time"

	"github.com/holdfast-ha/holdfast/pkg/plan/plantest"
	"github.com/holdfast-ha/holdfast/pkg/pool"
)

// large is a pool of 100 servers and 10,000 VMs, all running.
func large() *plantest.World {
	w := plantest.New()
	for i := range 100 {
		w.Join(pool.ServerID(fmt.Sprintf("s%03d", i)), 512*gib, 64)
	}
	for i := range 10000 {
		v := pool.DefaultVM(pool.VMID(fmt.Sprintf("vm%05d", i)))
		v.HA, v.DiskLocks, v.Desired, v.MemoryBytes, v.CPUs = true, true, pool.DesiredRunning, 4*gib, 2
		w.PutVM(v)
		on := pool.ServerID(fmt.Sprintf("s%03d", i%100))
		w.PutClaim(pool.Claim{VM: v.ID, Server: on, Session: w.Members[on].Session, Epoch: 1, Phase: pool.PhaseHeld, Armed: true})
		w.PutState(pool.VMState{VM: v.ID, Server: on, Epoch: 1, State: pool.RunRunning})
	}
	return w
}

func afterLoss(w *plantest.World) Input {
	w.Lose("s007")
	return Input{Snapshot: w.Snapshot(), Leader: w.Leader, Now: pool.Instant(time.Hour), Wall: plantest.Start,
		Lost: map[pool.ServerID]Sight{"s007": {Since: pool.Instant(time.Hour - time.Second), Revision: w.Revision}}}
}

func BenchmarkPlanOneDeadServerWith100VMsAmong10000(b *testing.B) {
	in := afterLoss(large())
	for b.Loop() {
		if r := Plan(in); len(r.Actions) != 102 {
			b.Fatalf("%d actions", len(r.Actions))
		}
	}
}

func BenchmarkPlanIdlePoolOf10000(b *testing.B) {
	w := large()
	in := Input{Snapshot: w.Snapshot(), Leader: w.Leader, Now: pool.Instant(time.Hour), Wall: plantest.Start}
	for b.Loop() {
		if r := Plan(in); len(r.Actions) != 0 {
			b.Fatalf("%d actions", len(r.Actions))
		}
	}
}

func BenchmarkViewOf10000(b *testing.B) {
	s := large().Snapshot()
	for b.Loop() {
		v := NewView(s)
		for id := range s.VMs.All() {
			v.VM(id)
		}
	}
}

func BenchmarkLookAt10000(b *testing.B) {
	s := large().Snapshot()
	for b.Loop() {
		Look(nil, s, 1)
	}
}
