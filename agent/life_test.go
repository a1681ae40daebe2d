package main

import (
	"slices"
	"testing"

	"github.com/holdfast-ha/holdfast/agent/etcd"
	"github.com/holdfast-ha/holdfast/agent/guard"
	"github.com/holdfast-ha/holdfast/agent/local"
	"github.com/holdfast-ha/holdfast/agent/rebuild"
	"github.com/holdfast-ha/holdfast/pkg/pool"
	pb "github.com/holdfast-ha/holdfast/proto/holdfast/v1"
)

func TestLivesOfThePoolAreOrderedByWhoHasLeftWhich(t *testing.T) {
	answer := func(now string, earlier ...string) rebuild.Answer {
		return rebuild.Answer{Standing: &pb.LifeStanding{Incarnation: now, Earlier: earlier}}
	}
	for name, c := range map[string]struct {
		answers []rebuild.Answer
		want    []string
	}{
		"all in one":                    {[]rebuild.Answer{answer("b", "a"), answer("b", "a")}, []string{"b", "a"}},
		"one is behind":                 {[]rebuild.Answer{answer("a"), answer("b", "a")}, []string{"b", "a"}},
		"a rebuild died half-way":       {[]rebuild.Answer{answer("b", "a"), answer("c", "b", "a"), answer("a")}, []string{"c", "b", "a"}},
		"two rebuilds died at one time": {[]rebuild.Answer{answer("b", "a"), answer("c", "a")}, []string{"b", "c", "a"}},
	} {
		if got := lives(c.answers); !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}

func TestAServerThatWasAwayLearnsFromTheOthersWhereEtcdHasMoved(t *testing.T) {
	dir := t.TempDir()
	if err := etcd.SaveEndpoints(dir, []string{"https://srv-1:2379", "https://srv-2:2379"}); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name    string
		answers bool
		urls    []string
		news    bool
		want    []string
	}{
		{"one that does not reach etcd either", false, []string{"https://srv-5:2379"}, false, []string{"https://srv-1:2379", "https://srv-2:2379"}},
		{"one with an external etcd", true, nil, false, []string{"https://srv-1:2379", "https://srv-2:2379"}},
		{"the same in its own order", true, []string{"https://srv-2:2379", "https://srv-1:2379"}, false, []string{"https://srv-1:2379", "https://srv-2:2379"}},
		{"etcd has moved", true, []string{"https://srv-5:2379", "https://srv-4:2379"}, true, []string{"https://srv-5:2379", "https://srv-4:2379"}},
	} {
		news, err := learnEndpoints(dir, &pb.LifeStanding{EtcdAnswers: c.answers, Endpoints: c.urls})
		have, lerr := etcd.LoadEndpoints(dir)
		if err != nil || lerr != nil || news != c.news || !slices.Equal(have, c.want) {
			t.Errorf("%s: news %v, keeps %v, want %v, %v (%v, %v)", c.name, news, have, c.news, c.want, err, lerr)
		}
	}
}

func TestAServerTellsOfEveryProcessAVMHasThere(t *testing.T) {
	marker := &local.Marker{Pool: "prod", Incarnation: "old", VM: "web", Epoch: 4, Started: true}
	arriving := &local.Marker{Pool: "prod", Incarnation: "old", VM: "db", Epoch: 7, Operation: "op"}
	got := presentVMs([]local.Domain{
		{VM: "web", UUID: "u1", Process: guard.Process{PID: 7}, State: local.DomainPaused, Marker: marker},
		{VM: "db", UUID: "u2", State: local.DomainIncoming, Marker: arriving},
		{VM: "stray", UUID: "u3", State: local.DomainIncoming},
		{VM: "lab", UUID: "u4", State: local.DomainRunning},
		{VM: "ended", UUID: "u5", State: local.DomainGone, Marker: marker},
	}, []pool.VMID{"web"})
	if len(got) != 4 {
		t.Fatalf("%d VMs: %v", len(got), got)
	}
	web, db, stray, lab := got[0], got[1], got[2], got[3]
	if !web.GetPausedByGuard() || web.GetRunning() || !web.GetStarted() || web.GetEpoch() != 4 || web.GetPool() != "prod" {
		t.Errorf("paused by the guard: %v", web)
	}
	if db.GetOperation() != "op" || db.GetStarted() || db.GetRunning() {
		t.Errorf("a copy that arrives: %v", db)
	}
	if stray.GetOperation() == "" || stray.GetPool() != "" {
		t.Errorf("a copy that arrives from nobody: %v", stray)
	}
	if !lab.GetRunning() || lab.GetPool() != "" || lab.GetUuid() != "u4" {
		t.Errorf("somebody else's VM: %v", lab)
	}
}
