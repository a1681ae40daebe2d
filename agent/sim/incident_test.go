package sim

import (
	"slices"
	"testing"
	"time"

	"github.com/holdfast-ha/holdfast/pkg/plan"
	"github.com/holdfast-ha/holdfast/pkg/pool"
)

// incidentsOf plays a scenario and returns the records that the pool keeps afterwards.
func incidentsOf(t *testing.T, text string) (*Pool, []pool.Incident) {
	t.Helper()
	p := settled(t, text)
	if err := p.Play(NewChecker(p)); err != nil {
		t.Fatal(err)
	}
	var out []pool.Incident
	for _, i := range p.Snapshot().Incidents.All() {
		out = append(out, i)
		for _, s := range plan.Timeline(i) {
			t.Logf("%s  %s %-9s %s", i.ID, s.At.Format("05.000"), s.Kind, s.Text)
		}
	}
	return p, out
}

// wallAt is what a right clock shows at a virtual time; servers are up to 0.3 s off.
func (p *Pool) wallAt(at time.Duration) time.Time {
	return p.World.Options().Epoch.Add(p.trace.zero + at)
}

func near(t *testing.T, what string, got, want time.Time, early, late time.Duration) {
	t.Helper()
	if d := got.Sub(want); d < -early || d > late {
		t.Errorf("%s: %v after what happened, want between %v before and %v after", what, d, early, late)
	}
}

func oneIncident(t *testing.T, all []pool.Incident) pool.Incident {
	t.Helper()
	if len(all) != 1 {
		t.Fatalf("%d incidents, want 1: %+v", len(all), all)
	}
	return all[0]
}

const outagePool = "servers s1 s2 s3\nleader s1\nvm web on=s2\nvm db on=s2 priority=high\nvm lab on=s2 ha=off\nvm other on=s3\n"

func TestAFailoverLeavesOneRecordWithProofAndDowntimeOfEachVM(t *testing.T) {
	p, all := incidentsOf(t, outagePool+"at 10s power off s2\nby 30s expect web running and db running\nat 60s power on s2\nby 90s expect s2 up\n")
	i := oneIncident(t, all)
	if i.Open() || len(i.Servers) != 1 || len(i.VMs) != 3 {
		t.Fatalf("%+v", i)
	}
	s := i.Servers[0]
	if s.Server != "s2" || s.Proof != pool.ProofGuard || s.Evidence == "" || s.FencedBy != "leader s1" || s.Back.IsZero() || !s.Lost.Before(s.Fenced) {
		t.Errorf("%+v", s)
	}
	// The last renewal was sent up to T/5 before the plug was pulled.
	near(t, "last sign", s.LastSign, p.wallAt(10*time.Second), 1500*time.Millisecond, 500*time.Millisecond)
	for _, v := range i.VMs {
		if v.VM == "lab" {
			if v.Recovery != pool.RecoveryLeft || v.To != "" {
				t.Errorf("lab: %+v", v)
			}
			continue
		}
		if v.From != "s2" || v.To == "s2" || v.To == "" || v.Recovery != pool.RecoveryRestarted || v.Why == "" || v.Assigned.Before(s.Fenced) {
			t.Errorf("%+v", v)
		}
		away := v.Started.Sub(p.wallAt(10 * time.Second))
		if d := v.Downtime - away; d < -time.Second || d > 2*time.Second || v.Downtime > 12*time.Second {
			t.Errorf("%s was away for %v, the record says %v", v.VM, away, v.Downtime)
		}
	}
}

func TestARecordSurvivesTheLeaderThatBeganIt(t *testing.T) {
	for _, at := range []string{"15200ms", "15700ms", "16s", "16500ms", "17s"} {
		t.Run(at, func(t *testing.T) {
			_, all := incidentsOf(t, outagePool+"at 10s power off s2\nat "+at+" power off s1\nby 60s expect web running and db running\n")
			told := map[pool.VMID]int{}
			for _, i := range all {
				if i.Open() {
					t.Errorf("still open: %+v", i)
				}
				for _, v := range i.VMs {
					if v.From == "s2" && v.Recovery == pool.RecoveryRestarted {
						told[v.VM]++
					}
				}
				for _, s := range i.Servers {
					if s.Server == "s2" && s.Proof != pool.ProofGuard {
						t.Errorf("proof of %s: %+v", s.Server, s)
					}
				}
			}
			if told["web"] != 1 || told["db"] != 1 {
				t.Errorf("records tell of %v", told)
			}
		})
	}
}

func TestServersLostInOneOutageShareARecord(t *testing.T) {
	_, all := incidentsOf(t, "servers s1 s2 s3 s4 s5\nleader s1\nvm a on=s2\nvm b on=s3\nat 10s power off s2\nat 12s power off s3\nby 60s expect a running and b running\n")
	i := oneIncident(t, all)
	if len(i.Servers) != 2 || len(i.VMs) != 2 || i.Open() {
		t.Errorf("%+v", i)
	}
}

func TestWhatWaitsKeepsTheRecordOpenAndSaysWhy(t *testing.T) {
	_, all := incidentsOf(t, "server s1 memory=4G\nserver s2 memory=16G\nserver s3 memory=4G\nleader s3\nvm big on=s2 memory=12G\nat 10s power off s2\nby 30s expect big waiting\n")
	i := oneIncident(t, all)
	if !i.Open() || len(i.VMs) != 1 || len(i.VMs[0].Waited) == 0 || i.VMs[0].To != "" {
		t.Errorf("%+v", i)
	}
}

func TestACrashOfOneVMIsAnIncidentOfItsOwn(t *testing.T) {
	p, all := incidentsOf(t, outagePool+"at 10s vm crash web\nby 30s expect web running\n")
	i := oneIncident(t, all)
	if len(i.Servers) != 0 || len(i.VMs) != 1 || i.Open() {
		t.Fatalf("%+v", i)
	}
	v := i.VMs[0]
	if v.VM != "web" || v.From != "s2" || v.Recovery != pool.RecoveryRestarted || v.Downtime <= 0 || v.Downtime > 5*time.Second {
		t.Errorf("%+v", v)
	}
	near(t, "down", v.Down, p.wallAt(10*time.Second), 500*time.Millisecond, 3*time.Second)
}

func TestPowerFencingOnSuspicionIsTheRecordsProof(t *testing.T) {
	_, all := incidentsOf(t, "server s1 fencing=power\nserver s2 fencing=power\nserver s3 fencing=power\nleader s1\nvm web on=s2\nat 10s power off s2\nby 40s expect web running\n")
	i := oneIncident(t, all)
	if len(i.Servers) != 1 || i.Servers[0].Proof != pool.ProofPower || i.Servers[0].Suspected.IsZero() || !i.Servers[0].Lost.IsZero() || i.VMs[0].Downtime > 8*time.Second {
		t.Errorf("%+v", i.Servers)
	}
}

func TestAQuietPoolAndPlannedWorkLeaveNoRecord(t *testing.T) {
	_, all := incidentsOf(t, outagePool+"at 10s maintenance enter s2\nby 120s expect not web running on s2\nat 150s stop db\nby 200s expect db stopped\n")
	if len(all) != 0 {
		t.Errorf("%+v", all)
	}
}

func TestARecordIsWrittenSparingly(t *testing.T) {
	p := settled(t, outagePool+"at 10s power off s2\nby 30s expect web running and db running\n")
	var writes []time.Duration
	p.OnChange(func(c Change) {
		for id := range c.After.Incidents.ChangedSince(c.Before.Incidents) {
			t.Logf("%v: %s", p.Now(), id)
			writes = append(writes, p.Now())
		}
	})
	if err := p.Play(NewChecker(p)); err != nil {
		t.Fatal(err)
	}
	if len(writes) == 0 || len(writes) > 6 || !slices.IsSorted(writes) {
		t.Errorf("written at %v", writes)
	}
}
