package plan

import (
	"slices"
	"testing"

	"github.com/holdfast-ha/holdfast/pkg/plan/plantest"
	"github.com/holdfast-ha/holdfast/pkg/pool"
)

// placed is a VM that runs.
type placed struct {
	vm  pool.VMID
	on  pool.ServerID
	gib int64
}

// roomy is a pool of servers with 16 GiB each, on which VMs run.
func roomy(servers int, vms ...placed) *plantest.World {
	w := plantest.New()
	for i := range servers {
		w.Join(pool.ServerID(string(rune('a'+i))), 16*gib, 8)
	}
	for _, p := range vms {
		v := pool.DefaultVM(p.vm)
		v.MemoryBytes, v.CPUs, v.HA, v.DiskLocks, v.Desired = p.gib*gib, 1, true, true, pool.DesiredRunning
		w.PutVM(v)
		on := p.on
		w.PutClaim(pool.Claim{VM: v.ID, Server: on, Session: w.Members[on].Session, Epoch: 1, Phase: pool.PhaseHeld, Armed: true})
		w.PutState(pool.VMState{VM: v.ID, Server: on, Epoch: 1, State: pool.RunRunning})
	}
	return w
}

func TestCapacityJudgesEveryServersLoss(t *testing.T) {
	for name, c := range map[string]struct {
		world    *plantest.World
		tolerate int
		verdict  CapacityVerdict
		risk     []pool.ServerID
	}{
		"room for all":                         {roomy(3, placed{"x", "a", 8}, placed{"y", "b", 8}), 0, CapacityOK, nil},
		"one server's VMs fit nowhere":         {roomy(3, placed{"x", "a", 12}, placed{"y", "b", 8}, placed{"z", "c", 8}), 0, CapacityAtRisk, []pool.ServerID{"a"}},
		"any one may go, two together may not": {roomy(3, placed{"x", "a", 9}, placed{"y", "b", 4}, placed{"z", "c", 4}), 2, CapacityAtRisk, []pool.ServerID{"a", "b", "c"}},
		"two may go":                           {roomy(3, placed{"x", "a", 5}, placed{"y", "b", 5}, placed{"z", "c", 5}), 2, CapacityOK, nil},
	} {
		c.world.Config.Tolerate = c.tolerate
		got := PoolCapacity(c.world.Snapshot())
		if got.Verdict != c.verdict || !slices.Equal(got.AtRisk, c.risk) || got.Text == "" {
			t.Errorf("%s: %+v", name, got)
		}
	}
	w := roomy(2, placed{"x", "a", 8})
	w.Config.HA = false
	if got := PoolCapacity(w.Snapshot()); got.Verdict != CapacityNone {
		t.Errorf("HA off: %+v", got)
	}
}

func TestAForecastIsWhatTheLeaderDoes(t *testing.T) {
	w := roomy(3, placed{"big", "a", 10}, placed{"small", "a", 2}, placed{"y", "b", 4}, placed{"z", "c", 8})
	low := w.VMs["big"]
	low.Priority = pool.PriorityHigh
	w.PutVM(low)
	losses, after := Lose(w.Snapshot(), []pool.ServerID{"a"})
	if len(losses) != 2 || losses[0].VM.ID != "big" || losses[0].To != "b" || losses[1].VM.ID != "small" || losses[1].Fate != FateRestarts {
		t.Fatalf("%+v", losses)
	}
	timing, _ := pool.NewTiming(w.Config.LeaseTTL)
	if losses[0].After < timing.TTL+timing.Settle {
		t.Errorf("big runs %v after the loss, before its server is fenced", losses[0].After)
	}
	// The same on the pool itself: the server is lost, and the leader plans until nothing is left to do.
	w.Lose("a")
	in := Input{Snapshot: w.Snapshot(), Leader: w.Leader, Now: 1, Wall: plantest.Start}
	in.Lost = Look(nil, in.Snapshot, in.Now)
	in.Now = in.Now.Add(timing.Settle)
	for _, act := range Plan(in).Actions {
		if err := w.Apply(w.Leader, act.Change); err != nil {
			t.Fatal(err)
		}
	}
	for _, l := range losses {
		c, _ := after.Claims.Get(l.VM.ID)
		if got := w.Claims[l.VM.ID]; got.Server != l.To || c.Server != l.To {
			t.Errorf("%s: forecast %s, done %s", l.VM.ID, l.To, got.Server)
		}
	}
}

func TestAForecastSaysWhatWaitsAndWhy(t *testing.T) {
	w := roomy(3, placed{"x", "a", 15}, placed{"y", "b", 8}, placed{"z", "c", 8}, placed{"u", "a", 1})
	c := w.Claims["u"]
	c.Armed = false
	w.PutClaim(c)
	losses, _ := Lose(w.Snapshot(), []pool.ServerID{"a"})
	fate := map[pool.VMID]Loss{}
	for _, l := range losses {
		fate[l.VM.ID] = l
	}
	if fate["x"].Fate != FateWaits || fate["x"].Why == "" || fate["u"].Fate != FateUnfenced || fate["u"].Why == "" {
		t.Errorf("%+v", losses)
	}
}
