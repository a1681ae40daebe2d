package plan_test

import (
	"strings"
	"testing"
	"time"

	"github.com/holdfast-ha/holdfast/pkg/plan"
	"github.com/holdfast-ha/holdfast/pkg/plan/plantest"
	"github.com/holdfast-ha/holdfast/pkg/pool"
)

// strangers is a pool whose leader has seen a claim of a VM on s2 turn into one of s3.
type strangers struct {
	t       *testing.T
	world   *plantest.World
	before  pool.Claim
	foreign []pool.Foreign
	doubt   bool
	wall    time.Time
}

func newStrangers(t *testing.T) *strangers {
	w := plantest.New()
	for _, s := range []pool.ServerID{"s1", "s2", "s3"} {
		w.Join(s, 16<<30, 8)
	}
	vm := pool.DefaultVM("web")
	vm.MemoryBytes, vm.CPUs, vm.Desired, vm.HA, vm.DiskLocks = 1<<30, 1, pool.DesiredRunning, true, true
	w.PutVM(vm)
	s := &strangers{t: t, world: w, wall: plantest.Start, doubt: true}
	s.before = pool.Claim{VM: "web", Server: "s2", Session: w.Members["s2"].Session, Epoch: 3, Phase: pool.PhaseHeld, Armed: true, LastServer: "s2"}
	w.PutClaim(s.before)
	s.before = w.Claims["web"]
	w.PutClaim(pool.Claim{VM: "web", Server: "s3", Session: w.Members["s3"].Session, Epoch: 4, Phase: pool.PhaseAssigned, LastServer: "s2"})
	s.foreign = []pool.Foreign{{Key: "claims/web", Server: "s3", VM: "web", Revision: w.Claims["web"].Revision, Text: "it was HELD by s2 and is ASSIGNED by s3", Before: &s.before}}
	return s
}

// plan applies what the leader decides, and returns it.
func (s *strangers) plan() []plan.Action {
	s.t.Helper()
	snap := s.world.Snapshot()
	for _, f := range s.foreign {
		if !s.doubt {
			f.Before = nil
		}
		snap.Foreign = snap.Foreign.With(f.Key, f)
	}
	res := plan.Plan(plan.Input{Snapshot: snap, Leader: s.world.Leader, Now: pool.Instant(time.Hour), Wall: s.wall, Foreign: s.foreign})
	for _, a := range res.Actions {
		if err := s.world.Apply(s.world.Leader, a.Change); err != nil {
			s.t.Fatalf("%s: %v", a.Key, err)
		}
	}
	return res.Actions
}

func kinds(actions []plan.Action) string {
	var out []string
	for _, a := range actions {
		out = append(out, string(a.Kind))
	}
	return strings.Join(out, " ")
}

func TestAClaimThatAStrangerChangedIsWrittenAsItWas(t *testing.T) {
	s := newStrangers(t)
	forged := s.world.Claims["web"].Revision
	if got := kinds(s.plan()); got != "restore-claim raise-alert" {
		t.Errorf("actions: %s", got)
	}
	c := s.world.Claims["web"]
	if !c.SameRight(s.before) || c.Replaces != forged {
		t.Errorf("claim: %+v", c)
	}
	s.doubt = false
	if got := kinds(s.plan()); got != "" {
		t.Errorf("once more: %s", got)
	}
}

func TestAClaimThatAStrangerDeletedIsWrittenAsItWas(t *testing.T) {
	s := newStrangers(t)
	delete(s.world.Claims, "web")
	s.plan()
	if c := s.world.Claims["web"]; !c.SameRight(s.before) || !c.Armed || c.Replaces != 0 {
		t.Errorf("claim: %+v", c)
	}
}

func TestAStrangersWriteIsReportedOnceAndShownForADay(t *testing.T) {
	s := newStrangers(t)
	s.plan()
	s.doubt = false
	a, ok := s.world.Alerts["foreign-claims-web"]
	if !ok || a.Kind != plan.AlertForeign || a.VM != "web" {
		t.Fatalf("alerts: %+v", s.world.Alerts)
	}
	for _, part := range []string{"claims/web: it was HELD by s2 and is ASSIGNED by s3", "somebody who is not Holdfast", "find out who may write"} {
		if !strings.Contains(a.Text, part) {
			t.Errorf("%q does not say %q", a.Text, part)
		}
	}
	events := 0
	for _, e := range s.world.Events {
		if e.Kind == "FOREIGN_WRITE" {
			events++
		}
	}
	if events != 1 {
		t.Errorf("%d lines of history", events)
	}
	s.foreign = nil // no news any more, or another leads who has not seen it
	s.wall = s.wall.Add(plan.ForeignShown - time.Second)
	if got := kinds(s.plan()); got != "" {
		t.Errorf("within a day: %s", got)
	}
	s.wall = s.wall.Add(time.Second)
	if got := kinds(s.plan()); got != "clear-alert" {
		t.Errorf("after a day: %s", got)
	}
}
