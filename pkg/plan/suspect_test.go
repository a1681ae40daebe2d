package plan

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/holdfast-ha/holdfast/pkg/plan/plantest"
	"github.com/holdfast-ha/holdfast/pkg/pool"
)

// crowd is a pool of n servers, each with a power switch and a protected VM.
func crowd(n int) (*plantest.World, Input) {
	w := plantest.New()
	for i := range n {
		id := pool.ServerID(fmt.Sprintf("s%d", i+1))
		w.PutServer(pool.Server{ID: id, Fence: []pool.FenceDevice{{Agent: "fence_test"}}})
		session := w.Join(id, 64*gib, 16)
		v := pool.DefaultVM(pool.VMID("on-" + string(id)))
		v.HA, v.DiskLocks, v.Desired, v.MemoryBytes, v.CPUs = true, true, pool.DesiredRunning, gib, 1
		w.PutVM(v)
		w.PutClaim(pool.Claim{VM: v.ID, Server: id, Session: session, Epoch: 1, Phase: pool.PhaseHeld, Armed: true})
	}
	return w, Input{Leader: w.Leader, Now: pool.Instant(time.Hour), Wall: plantest.Start, Lost: map[pool.ServerID]Sight{},
		Power: map[pool.ServerID]Power{}, Suspects: map[pool.ServerID]Suspicion{}}
}

func TestASuspectNeedsTheLeaderAndMostOfTheOthers(t *testing.T) {
	w, _ := crowd(5)
	s := w.Snapshot()
	long, some := 2*time.Second, time.Second
	others := func(list ...pool.ServerID) map[pool.ServerID]time.Duration {
		out := map[pool.ServerID]time.Duration{}
		for _, id := range list {
			out[id] = some
		}
		return out
	}
	for _, c := range []struct {
		name    string
		own     time.Duration
		others  map[pool.ServerID]time.Duration
		suspect bool
	}{
		{"all agree", long, others("s2", "s3", "s4"), true},
		{"two of three agree", long, others("s2", "s4"), true},
		{"one of three agrees", long, others("s2"), false},
		{"nobody was asked", long, nil, false},
		{"the leader has not listened for long", long - 1, others("s2", "s3", "s4"), false},
		{"the others have not listened for long", long, map[pool.ServerID]time.Duration{"s2": some - 1, "s3": some - 1, "s4": some - 1}, false},
		{"the leader's own word, and the silent one's, do not count", long, others("s1", "s5", "s2"), false},
		{"strangers do not count", long, others("s7", "s8", "s9"), false},
	} {
		got := Suspects(s, "s1", map[pool.ServerID]Silence{"s5": {Own: c.own, Others: c.others}})
		if _, suspect := got["s5"]; suspect != c.suspect || len(got) > 1 {
			t.Errorf("%s: suspects %v", c.name, got)
		}
	}
}

func TestAPoolOfTwoSuspectsNobody(t *testing.T) {
	w, _ := crowd(2)
	if got := Suspects(w.Snapshot(), "s1", map[pool.ServerID]Silence{"s2": {Own: time.Hour}}); len(got) > 0 {
		t.Errorf("suspects %v: nobody else can tell whose cable is cut", got)
	}
}

func TestNeverMoreThanAMinorityIsFencedOnSuspicion(t *testing.T) {
	for n := 2; n <= 7; n++ {
		for lost := range n {
			for suspects := range n - lost {
				w, in := crowd(n)
				for i := range lost {
					w.Lose(pool.ServerID(fmt.Sprintf("s%d", n-i)))
				}
				for i := range suspects {
					id := pool.ServerID(fmt.Sprintf("s%d", n-lost-i))
					in.Suspects[id] = Suspicion{Session: w.Members[id].Session}
				}
				in.Snapshot = w.Snapshot()
				got := len(Plan(in).Urgent)
				want := suspects
				if 2*(lost+suspects) >= n {
					want = 0
				}
				if got != want {
					t.Errorf("%d servers, %d lost, %d suspects: the power of %d is cut, want %d", n, lost, suspects, got, want)
				}
			}
		}
	}
}

func TestAPowerOffProvesNothingAboutALaterSession(t *testing.T) {
	w, in := crowd(4)
	before := w.Revision
	w.Lose("s4")
	w.Join("s4", 64*gib, 16) // its agent has not re-asserted its claim yet
	in.Suspects["s4"] = Suspicion{Session: w.Members["s4"].Session}
	in.Power["s4"] = Power{Session: pool.Session(before), Off: true, Evidence: "fence_test says off"}
	in.Snapshot = w.Snapshot()
	for _, a := range Plan(in).Actions {
		if a.Kind == RecordFence || a.Kind == Recover {
			t.Errorf("%s: %s", a.Kind, a.Why)
		}
	}
}

func TestASuspicionOfAnEarlierSessionIsOver(t *testing.T) {
	w, in := crowd(4)
	in.Suspects["s4"] = Suspicion{Session: w.Members["s4"].Session}
	w.Lose("s4")
	w.Join("s4", 64*gib, 16)
	c := w.Claims["on-s4"]
	c.Session = w.Members["s4"].Session
	w.PutClaim(c)
	in.Snapshot = w.Snapshot()
	if r := Plan(in); len(r.PowerOff) > 0 {
		t.Errorf("power off %v", r.PowerOff)
	}
}

func TestNoVMIsPutOnASuspect(t *testing.T) {
	w, in := crowd(3)
	in.Suspects["s2"] = Suspicion{Session: w.Members["s2"].Session}
	w.PutClaim(pool.Claim{VM: "on-s1", Epoch: 1, Phase: pool.PhaseUnassigned, LastServer: "s2", Revision: w.Claims["on-s1"].Revision})
	in.Snapshot = w.Snapshot()
	for _, a := range Plan(in).Actions {
		for _, c := range a.Change.Claims {
			if c.Server == "s2" {
				t.Errorf("%s: %s", a.Kind, a.Why)
			}
		}
	}
}

func TestOnlyServersWithProtectedVMsAreListenedTo(t *testing.T) {
	w, _ := crowd(4)
	v := w.VMs["on-s3"]
	v.HA = false
	w.PutVM(v)
	s4 := w.Servers["s4"]
	s4.Fence = nil
	w.PutServer(s4)
	got, fenceable := Watched(w.Snapshot(), "s1")
	if !slices.Equal(got, []pool.ServerID{"s2", "s4"}) || !fenceable["s2"] || fenceable["s4"] {
		t.Errorf("watched %v, fenceable %v", got, fenceable)
	}
	w.Config.Frozen = true
	if got, _ := Watched(w.Snapshot(), "s1"); len(got) > 0 {
		t.Errorf("frozen, and watched %v", got)
	}
}

func TestAServerIsSwitchedOnAgainThreeTimesADay(t *testing.T) {
	w, in := crowd(3)
	w.Lose("s3")
	delete(w.Claims, "on-s3")
	delete(w.VMs, "on-s3")
	at := plantest.Start
	for i, c := range []struct {
		ago  []time.Duration
		want bool
	}{
		{nil, true},
		{[]time.Duration{time.Hour, time.Minute}, true},
		{[]time.Duration{3 * time.Hour, time.Hour, time.Minute}, false},
		{[]time.Duration{25 * time.Hour, time.Hour, time.Minute}, true},
	} {
		f := pool.Fence{Server: "s3", Session: pool.Session(w.Revision), Proof: pool.ProofPower, At: at}
		for _, ago := range c.ago {
			f.SwitchedOn = append(f.SwitchedOn, at.Add(-ago))
		}
		w.PutFence(f)
		in.Snapshot = w.Snapshot()
		r := Plan(in)
		on := slices.ContainsFunc(r.Actions, func(a Action) bool { return a.Kind == SwitchOn })
		stays := slices.ContainsFunc(r.Actions, func(a Action) bool { return a.Kind == RaiseAlert && a.Change.Alerts[0].Kind == AlertPowerOn })
		if on != c.want || stays == c.want || len(r.PowerOn) > 0 {
			t.Errorf("case %d: switched on %v, alert %v, command before the record %v", i, on, stays, r.PowerOn)
		}
	}
}

func TestAServerInSomebodysHandsIsNotSwitchedOn(t *testing.T) {
	for name, change := range map[string]func(*plantest.World, *pool.Server, *pool.Fence){
		"maintenance":       func(_ *plantest.World, s *pool.Server, _ *pool.Fence) { s.Maintenance = true },
		"being removed":     func(_ *plantest.World, s *pool.Server, _ *pool.Fence) { s.Removing = true },
		"power-on=off":      func(w *plantest.World, _ *pool.Server, _ *pool.Fence) { w.Config.PowerOn = false },
		"frozen":            func(w *plantest.World, _ *pool.Server, _ *pool.Fence) { w.Config.Frozen = true },
		"confirmed by hand": func(_ *plantest.World, _ *pool.Server, f *pool.Fence) { f.Proof = pool.ProofConfirmed },
		"decided long ago": func(_ *plantest.World, _ *pool.Server, f *pool.Fence) {
			f.At = f.At.Add(-time.Hour)
			f.SwitchedOn = []time.Time{f.At}
		},
		"another switch-on":     func(_ *plantest.World, s *pool.Server, _ *pool.Fence) { s.ShuttingDown = true },
		"no devices any longer": func(_ *plantest.World, s *pool.Server, _ *pool.Fence) { s.Fence = nil },
	} {
		w, in := crowd(3)
		w.Lose("s3")
		delete(w.Claims, "on-s3")
		delete(w.VMs, "on-s3")
		s, f := w.Servers["s3"], pool.Fence{Server: "s3", Session: pool.Session(w.Revision), Proof: pool.ProofPower, At: plantest.Start}
		change(w, &s, &f)
		w.PutServer(s)
		w.PutFence(f)
		in.Snapshot = w.Snapshot()
		r := Plan(in)
		if len(r.PowerOn) > 0 || slices.ContainsFunc(r.Actions, func(a Action) bool { return a.Kind == SwitchOn }) {
			t.Errorf("%s: it is switched on", name)
		}
	}
}
