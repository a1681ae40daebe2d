package main

import (
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/holdfast-ha/holdfast/pkg/kv"
	"github.com/holdfast-ha/holdfast/pkg/pool"
	"github.com/holdfast-ha/holdfast/pkg/store"
	"github.com/holdfast-ha/holdfast/test/etcdtest"
)

func TestAnExternalEtcdThatWasWipedIsFilledOnlyOnceItIsNotBehind(t *testing.T) {
	t.Parallel()
	e := etcdtest.Start(t, 1)
	s := newSite(t, 2, e.Endpoints()[0], func(k store.Keys) []kv.Op { return registered(k, runningOn("web", "srv-2", 4)) })
	s.server(2).runs("web", 4)
	// The pool lives for a while.
	k, before := store.NewKeys("prod"), pool.Revision(0)
	for range 20 {
		before = s.commit(k.PutClaim(runningOn("web", "srv-2", 4)))
	}
	s.copied(before)
	if _, err := s.server(1).command(rebuildCommand, "--yes"); err == nil || !strings.Contains(err.Error(), "delete everything below /holdfast/v1/prod/") {
		t.Errorf("over a pool that is there: %v", err)
	}
	e.Member(0).Stop()
	e.Member(0).Wipe()
	e.Member(0).Restart()
	// What it refuses changes nothing.
	out, err := s.server(1).command(rebuildCommand, "--yes")
	if err == nil || !strings.Contains(err.Error(), "nothing was changed") {
		t.Fatal(err)
	}
	contains(t, out, "revisions must not repeat")
	for i, life := range s.origins() {
		if life != oldLife {
			t.Errorf("srv-%d has left its life for %s", i+1, life)
		}
	}
	// The way out, as it says.
	way := regexp.MustCompile(`etcdutl snapshot restore FILE --bump-revision (\d+) --mark-compacted`).FindStringSubmatch(out)
	if way == nil {
		t.Fatal("it does not say what to do")
	}
	bump, err := strconv.ParseUint(way[1], 10, 63)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "empty.db")
	e.Save(file)
	e.Member(0).Stop()
	e.Member(0).Wipe()
	e.Member(0).Restore(file, bump)
	e.Member(0).Restart()
	// A backup is still to be had, from the servers' copies.
	out, err = s.server(1).command(backupCommand, filepath.Join(t.TempDir(), "late.json"))
	if err != nil {
		t.Error(err)
	}
	contains(t, out, "from the copy of")
	out, err = s.server(1).command(rebuildCommand, "--yes")
	if err != nil {
		t.Fatal(err)
	}
	contains(t, out, "runs on srv-2", "is rebuilt")
	s.follows(s.servers...)
	after := s.state()
	claimed(t, after, "web", "srv-2", 4)
	if c, _ := after.Claims.Get("web"); c.Revision <= before || after.Config.Incarnation == oldLife {
		t.Errorf("claim %+v of life %s, the pool had seen %d", c, after.Config.Incarnation, before)
	}
}

func TestAnExternalEtcdWithKeysOfThePoolIsNotFilled(t *testing.T) {
	t.Parallel()
	e := etcdtest.Start(t, 1)
	s := newSite(t, 2, e.Endpoints()[0], func(k store.Keys) []kv.Op { return registered(k, runningOn("web", "srv-2", 4)) })
	s.server(2).runs("web", 4)
	file := filepath.Join(t.TempDir(), "prod.json")
	if _, err := s.server(1).command(backupCommand, file); err != nil {
		t.Fatal(err)
	}
	for _, m := range s.servers {
		m.stopAgent()
	}
	// All is deleted but one key, as when a rebuild broke off before the policy.
	e.DeletePrefix("/holdfast/v1/prod/")
	k := store.NewKeys("prod")
	s.commit(k.PutClaim(runningOn("web", "srv-1", 9)))
	for _, m := range s.servers {
		m.startAgent()
	}
	restore := func() (string, error) { return s.server(1).command(restoreCommand, file, "--yes") }
	out, err := restore()
	if err == nil || !strings.Contains(err.Error(), "nothing was changed") {
		t.Fatal(err)
	}
	contains(t, out, "has 1 keys of pool prod, without its policy", "etcdctl del --prefix /holdfast/v1/prod/")
	for i, life := range s.origins() {
		if life != oldLife {
			t.Errorf("srv-%d has left its life for %s", i+1, life)
		}
	}
	e.DeletePrefix("/holdfast/v1/prod/")
	if _, err := restore(); err != nil {
		t.Fatal(err)
	}
	s.follows(s.servers...)
	claimed(t, s.state(), "web", "srv-2", 4)
}
