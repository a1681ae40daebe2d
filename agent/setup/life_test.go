package setup

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"github.com/holdfast-ha/holdfast/agent/etcd"
	"github.com/holdfast-ha/holdfast/pkg/config"
	"github.com/holdfast-ha/holdfast/pkg/pool"
)

// settled is a server of the life "old", with etcd data.
func settled(t *testing.T) config.Config {
	t.Helper()
	c := config.Default()
	c.Server, c.Pool, c.StateDir = "srv-2", "prod", t.TempDir()
	data, err := json.Marshal(Origin{Pool: "prod", Incarnation: "old", Earlier: []string{"oldest"}})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(c.StateDir, "pool.json"), data, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(c.EtcdDir(), "data", "member", "wal"), 0o700); err != nil {
		t.Fatal(err)
	}
	return c
}

func TestAServerLeavesItsLifeOnceAndItsEtcdDataIsPutAside(t *testing.T) {
	c := settled(t)
	for i, want := range []bool{true, false} {
		changed, err := ChangeLife(c, "old", "new", []string{"old", "oldest"}, []string{"https://10.0.0.1:2379"})
		if err != nil || changed != want {
			t.Fatalf("call %d: changed %v, %v", i, changed, err)
		}
	}
	o, err := LoadOrigin(c.StateDir)
	if err != nil || o.Incarnation != "new" || !slices.Equal(o.Earlier, []string{"old", "oldest"}) {
		t.Errorf("%+v, %v", o, err)
	}
	if _, err := os.Stat(filepath.Join(c.EtcdDir(), "data")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the old data can be served: %v", err)
	}
	if _, err := os.Stat(filepath.Join(c.EtcdDir(), "data.of-old", "member", "wal")); err != nil {
		t.Errorf("the old data is not kept: %v", err)
	}
	if urls, err := etcd.LoadEndpoints(c.EtcdDir()); err != nil || !slices.Equal(urls, []string{"https://10.0.0.1:2379"}) {
		t.Errorf("endpoints %v, %v", urls, err)
	}
	for _, back := range []string{"old", "oldest"} {
		if _, err := ChangeLife(c, "new", back, []string{"new"}, nil); !errors.Is(err, pool.ErrRefused) {
			t.Errorf("back to %s: %v", back, err)
		}
	}
}

func TestOfTwoRebuildsAtOnceAServerFollowsOne(t *testing.T) {
	c := settled(t)
	var wait sync.WaitGroup
	errs := make([]error, 2)
	for i, to := range []string{"new-a", "new-b"} {
		wait.Go(func() { _, errs[i] = ChangeLife(c, "old", to, []string{"old", "oldest"}, nil) })
	}
	wait.Wait()
	if (errs[0] == nil) == (errs[1] == nil) {
		t.Fatalf("both or none: %v", errs)
	}
	o, err := LoadOrigin(c.StateDir)
	if err != nil {
		t.Fatal(err)
	}
	// A third one that knows how things stand goes on from there.
	if changed, err := ChangeLife(c, o.Incarnation, "new-c", []string{o.Incarnation, "old", "oldest"}, nil); err != nil || !changed {
		t.Errorf("changed %v, %v", changed, err)
	}
}
