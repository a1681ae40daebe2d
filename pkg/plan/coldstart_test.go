package plan

import (
	"testing"

	"github.com/holdfast-ha/holdfast/pkg/plan/plantest"
	"github.com/holdfast-ha/holdfast/pkg/pool"
)

func TestAColdStartIsToldFromTheLossOfServersThatSomebodyWatched(t *testing.T) {
	w := plantest.New()
	sessions := map[pool.ServerID]pool.Session{}
	for _, s := range []pool.ServerID{"s1", "s2", "s3"} {
		sessions[s] = w.Join(s, 64*gib, 16)
		v := pool.DefaultVM(pool.VMID("vm-" + s))
		v.Desired, v.HA = pool.DesiredRunning, true
		w.PutVM(v)
		w.PutClaim(pool.Claim{VM: v.ID, Server: s, Session: sessions[s], Epoch: 1, Phase: pool.PhaseHeld, Armed: true})
	}
	w.Lose("s1")
	w.Lose("s2")
	w.Lose("s3")
	w.Join("s1", 64*gib, 16)
	if !ColdStart(w.Snapshot(), nil) {
		t.Error("three servers ran VMs under sessions that nobody saw live: a cold start")
	}
	if ColdStart(w.Snapshot(), map[pool.Session]bool{sessions["s2"]: true}) {
		t.Error("one of the sessions was seen live: no cold start")
	}
	w.PutClaim(pool.Claim{VM: "vm-s1", Phase: pool.PhaseUnassigned, LastServer: "s1", Cause: pool.CauseServerRestarted})
	if !ColdStart(w.Snapshot(), nil) {
		t.Error("the first to boot has let its VM go already: still a cold start")
	}
	for _, s := range []pool.VMID{"vm-s1", "vm-s2"} {
		w.PutClaim(pool.Claim{VM: s, Phase: pool.PhaseUnassigned, Cause: pool.CauseStopped})
	}
	if ColdStart(w.Snapshot(), nil) {
		t.Error("only one server ran VMs: an ordinary failure")
	}
}

func TestAPoolThatWasRebuiltGivesItsServersTimeToComeEvenIfOneIsMissing(t *testing.T) {
	w := plantest.New()
	mine := w.Join("s1", 64*gib, 16)
	w.Join("s2", 64*gib, 16)
	w.Lose("s2")
	for _, s := range []pool.ServerID{"s1", "s2"} {
		v := pool.DefaultVM(pool.VMID("vm-" + s))
		v.Desired, v.HA = pool.DesiredRunning, true
		w.PutVM(v)
	}
	w.PutClaim(pool.Claim{VM: "vm-s1", Server: "s1", Session: mine, Epoch: 1, Phase: pool.PhaseHeld})
	w.PutClaim(pool.Claim{VM: "vm-s2", Server: "s2", Session: pool.FormerLife, Epoch: 1, Phase: pool.PhaseHeld})
	if !ColdStart(w.Snapshot(), map[pool.Session]bool{mine: true}) {
		t.Error("a server that has not come to the rebuilt pool yet is fenced at once")
	}
	w.Join("s2", 64*gib, 16)
	if ColdStart(w.Snapshot(), map[pool.Session]bool{mine: true}) {
		t.Error("all have come, and still it counts as a cold start")
	}
}
