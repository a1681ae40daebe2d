package plan

import (
	"fmt"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/holdfast-ha/holdfast/pkg/plan/plantest"
	"github.com/holdfast-ha/holdfast/pkg/pool"
)

// outage is a pool whose s2 is gone with some protected VMs.
func outage(vms ...pool.VMID) (*plantest.World, Input) {
	w := plantest.New()
	var session pool.Session
	for _, id := range []pool.ServerID{"s1", "s2", "s3"} {
		if s := w.Join(id, 64<<30, 16); id == "s2" {
			session = s
		}
	}
	for _, id := range vms {
		v := pool.DefaultVM(id)
		v.MemoryBytes, v.CPUs, v.HA, v.DiskLocks, v.Desired = 1<<30, 1, true, true, pool.DesiredRunning
		w.PutVM(v)
		w.PutClaim(pool.Claim{VM: id, Server: "s2", Session: session, Epoch: 1, Phase: pool.PhaseHeld, Armed: true, LastServer: "s2"})
		w.PutState(pool.VMState{VM: id, Server: "s2", Epoch: 1, State: pool.RunRunning})
	}
	w.Lose("s2")
	return w, Input{Leader: w.Leader, Now: pool.Instant(100 * time.Second), Wall: plantest.Start, Lost: map[pool.ServerID]Sight{}}
}

// lead plans and applies until nothing is to be done at this instant; records are kept only if told.
func lead(t *testing.T, w *plantest.World, in *Input, records bool) {
	t.Helper()
	for range 10 {
		in.Snapshot = w.Snapshot()
		in.Lost = Look(in.Lost, in.Snapshot, in.Now)
		actions := Plan(*in).Actions
		if len(actions) == 0 && records {
			actions = Incidents(*in).Actions
		}
		if len(actions) == 0 {
			return
		}
		for _, a := range actions {
			if err := w.Apply(w.Leader, a.Change); err != nil {
				t.Fatal(err)
			}
		}
	}
	t.Fatal("there is always something left to do")
}

func later(in *Input, d time.Duration) {
	in.Now, in.Wall = in.Now.Add(d), in.Wall.Add(d)
}

// runs has the new owners report that every VM runs.
func runs(w *plantest.World, in *Input) {
	for id, c := range w.Claims {
		if c.Phase == pool.PhaseAssigned {
			c.Phase, c.Armed, c.Since = pool.PhaseHeld, true, in.Wall
			w.PutClaim(c)
			w.PutState(pool.VMState{VM: id, Server: c.Server, Epoch: c.Epoch, State: pool.RunRunning, Since: in.Wall})
		}
	}
}

func TestARecordGrowsAndEndsAndIsThenLeftAlone(t *testing.T) {
	w, in := outage("a", "b")
	lead(t, w, &in, true)
	if len(w.Incidents) != 1 {
		t.Fatalf("%d records at the loss", len(w.Incidents))
	}
	later(&in, time.Second)
	lead(t, w, &in, true)
	later(&in, 2*time.Second)
	runs(w, &in)
	lead(t, w, &in, true)
	for _, i := range w.Incidents {
		if i.Open() || len(i.VMs) != 2 || i.Servers[0].Proof != pool.ProofGuard || i.By != "leader s1" {
			t.Fatalf("%+v", i)
		}
		// Lost at once, its lease was good for T before, and they ran 3 s later.
		if v := i.VMs[0]; v.Downtime != 8*time.Second || v.Recovery != pool.RecoveryRestarted {
			t.Errorf("%+v", v)
		}
	}
	rev := w.Revision
	later(&in, time.Hour)
	lead(t, w, &in, true)
	if w.Revision != rev {
		t.Error("a pool in which nothing happens writes records")
	}
}

func TestALeaderThatFindsARecoveryWithoutARecordWritesIt(t *testing.T) {
	w, in := outage("a", "b", "c")
	lead(t, w, &in, false)
	later(&in, time.Second)
	lead(t, w, &in, false)
	runs(w, &in)
	w.Lead("s3")
	in.Leader, in.Lost = w.Leader, nil
	later(&in, 5*time.Second)
	lead(t, w, &in, true)
	if len(w.Incidents) != 1 {
		t.Fatalf("%d records: %+v", len(w.Incidents), w.Incidents)
	}
	for _, i := range w.Incidents {
		if i.Open() || len(i.VMs) != 3 || len(i.Servers) != 1 || i.Servers[0].Proof != pool.ProofGuard || i.By != "leader s3" {
			t.Fatalf("%+v", i)
		}
		for _, v := range i.VMs {
			if v.From != "s2" || v.To == "" || v.Why == "" || v.Downtime != 6*time.Second {
				t.Errorf("%+v", v)
			}
		}
	}
}

func TestRecordsFollowFromTheSnapshotAlone(t *testing.T) {
	w, in := outage("a", "b", "c")
	lead(t, w, &in, false)
	later(&in, time.Second)
	lead(t, w, &in, false)
	in.Snapshot = w.Snapshot()
	first := Incidents(in)
	for range 5 {
		in.Snapshot = w.Clone().Snapshot()
		if again := Incidents(in); !reflect.DeepEqual(first, again) {
			t.Fatalf("%+v\n%+v", first, again)
		}
	}
}

func TestAServerThatReturnsInTimeEndsTheRecordWithoutARestart(t *testing.T) {
	w, in := outage("a")
	lead(t, w, &in, true)
	session := w.Join("s2", 64<<30, 16)
	c := w.Claims["a"]
	c.Session = session
	w.PutClaim(c)
	later(&in, 300*time.Millisecond)
	lead(t, w, &in, true)
	later(&in, incidentPace)
	lead(t, w, &in, true)
	for _, i := range w.Incidents {
		if i.Open() || i.VMs[0].Recovery != pool.RecoveryRanOn || i.VMs[0].Downtime != 0 || i.Servers[0].Back.IsZero() {
			t.Errorf("%+v", i)
		}
	}
}

func TestOldRecordsAreDroppedInBatchesAndNeverOpenOnes(t *testing.T) {
	w := plantest.New()
	w.Join("s1", 64<<30, 16)
	for n := range IncidentsKept + 15 {
		at := plantest.Start.Add(time.Duration(n) * time.Minute)
		i := pool.Incident{ID: pool.IncidentID(at.Format("20060102T150405") + "-x"), Began: at, Ended: at, VMs: []pool.IncidentVM{{VM: "gone", Recovery: pool.RecoveryRestarted}}}
		if n == 0 {
			i.Ended, i.VMs[0].Recovery = time.Time{}, pool.RecoveryPending
			w.PutVM(pool.VM{ID: "gone", HA: true, Desired: pool.DesiredRunning})
		}
		if err := w.Apply(w.Leader, pool.Change{Incidents: []pool.Incident{i}}); err != nil {
			t.Fatal(err)
		}
	}
	in := Input{Snapshot: w.Snapshot(), Leader: w.Leader, Now: 1, Wall: plantest.Start.Add(24 * time.Hour)}
	n := slices.IndexFunc(Incidents(in).Actions, func(a Action) bool { return a.Kind == TrimHistory })
	if n < 0 {
		t.Fatal("nothing is dropped")
	}
	drop := Incidents(in).Actions[n].Change.RemoveIncidents
	if len(drop) != 15 || slices.ContainsFunc(drop, pool.Incident.Open) {
		t.Errorf("drops %d", len(drop))
	}
}

func TestARecordHasRoomForSoManyVMsAndTheOthersHaveAnother(t *testing.T) {
	var vms []pool.VMID
	for n := range incidentVMs + 7 {
		vms = append(vms, pool.VMID(fmt.Sprintf("vm%05d", n)))
	}
	w, in := outage(vms...)
	in.Snapshot = w.Snapshot()
	in.Lost = Look(in.Lost, in.Snapshot, in.Now)
	for _, a := range Plan(in).Actions {
		if a.Kind == RaiseAlert {
			if err := w.Apply(w.Leader, a.Change); err != nil {
				t.Fatal(err)
			}
		}
	}
	in.Snapshot = w.Snapshot()
	got := Incidents(in).Actions
	if len(got) != 2 || len(got[0].Change.Incidents[0].VMs) != incidentVMs || len(got[1].Change.Incidents[0].VMs) != 7 {
		t.Fatalf("%d records", len(got))
	}
	if got[0].Change.Incidents[0].ID == got[1].Change.Incidents[0].ID {
		t.Error("they share a name")
	}
}
