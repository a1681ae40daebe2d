package main

import (
	"context"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/etcdutl/v3/snapshot"
	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"

	"github.com/holdfast-ha/holdfast/pkg/kv"
	"github.com/holdfast-ha/holdfast/pkg/pool"
	"github.com/holdfast-ha/holdfast/pkg/store"
)

// stranger is an etcd that somebody else runs, with one member.
type stranger struct {
	t    *testing.T
	ip   string
	dir  string
	etcd *embed.Etcd
}

func newStranger(t *testing.T) *stranger {
	s := &stranger{t: t, ip: loopback(t), dir: filepath.Join(t.TempDir(), "data")}
	s.start()
	t.Cleanup(func() { s.etcd.Close() })
	return s
}

func (s *stranger) url(port int) string { return "http://" + s.ip + ":" + strconv.Itoa(port) }

func (s *stranger) start() {
	s.t.Helper()
	cfg := embed.NewConfig()
	cfg.Name, cfg.Dir = "theirs", s.dir
	for port, to := range map[int][]*[]url.URL{2379: {&cfg.ListenClientUrls, &cfg.AdvertiseClientUrls}, 2380: {&cfg.ListenPeerUrls, &cfg.AdvertisePeerUrls}} {
		u, err := url.Parse(s.url(port))
		if err != nil {
			s.t.Fatal(err)
		}
		*to[0], *to[1] = []url.URL{*u}, []url.URL{*u}
	}
	cfg.InitialCluster = "theirs=" + s.url(2380)
	cfg.UnsafeNoFsync = true
	cfg.ZapLoggerBuilder = embed.NewZapLoggerBuilder(zap.NewNop())
	e, err := embed.StartEtcd(cfg)
	if err != nil {
		s.t.Fatal(err)
	}
	s.etcd = e
	select {
	case <-e.Server.ReadyNotify():
	case <-s.t.Context().Done():
	}
}

// restart stops it, has its data changed, and starts it again.
func (s *stranger) restart(change func()) {
	s.t.Helper()
	s.etcd.Close()
	change()
	s.start()
}

func (s *stranger) wipe() {
	if err := os.RemoveAll(s.dir); err != nil {
		s.t.Fatal(err)
	}
}

func (s *stranger) client() *clientv3.Client {
	s.t.Helper()
	c, err := clientv3.New(clientv3.Config{Endpoints: []string{s.url(2379)}, DialTimeout: 10 * time.Second, Logger: zap.NewNop()})
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { c.Close() })
	return c
}

// save is etcdctl snapshot save FILE.
func (s *stranger) save() (file string) {
	s.t.Helper()
	file = filepath.Join(s.t.TempDir(), "empty.db")
	ctx, cancel := context.WithTimeout(s.t.Context(), time.Minute)
	defer cancel()
	r, err := s.client().Snapshot(ctx)
	if err != nil {
		s.t.Fatal(err)
	}
	defer r.Close()
	data, err := io.ReadAll(r)
	if err != nil {
		s.t.Fatal(err)
	}
	if err := os.WriteFile(file, data, 0o600); err != nil {
		s.t.Fatal(err)
	}
	return file
}

// restore is etcdutl snapshot restore FILE --bump-revision N --mark-compacted.
func (s *stranger) restore(file string, bump uint64) {
	s.t.Helper()
	err := snapshot.NewV3(zap.NewNop()).Restore(snapshot.RestoreConfig{SnapshotPath: file, Name: "theirs", OutputDataDir: s.dir, PeerURLs: []string{s.url(2380)},
		InitialCluster: "theirs=" + s.url(2380), InitialClusterToken: "anew", RevisionBump: bump, MarkCompacted: true})
	if err != nil {
		s.t.Fatal(err)
	}
}

func TestAnExternalEtcdThatWasWipedIsFilledOnlyOnceItIsNotBehind(t *testing.T) {
	t.Parallel()
	e := newStranger(t)
	s := newSite(t, 2, e.url(2379), func(k store.Keys) []kv.Op { return registered(k, runningOn("web", "srv-2", 4)) })
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
	e.restart(e.wipe)
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
	file := e.save()
	e.restart(func() {
		e.wipe()
		e.restore(file, bump)
	})
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
	e := newStranger(t)
	s := newSite(t, 2, e.url(2379), func(k store.Keys) []kv.Op { return registered(k, runningOn("web", "srv-2", 4)) })
	s.server(2).runs("web", 4)
	file := filepath.Join(t.TempDir(), "prod.json")
	if _, err := s.server(1).command(backupCommand, file); err != nil {
		t.Fatal(err)
	}
	for _, m := range s.servers {
		m.stopAgent()
	}
	// All is deleted but one key, as when a rebuild broke off before the policy.
	c := e.client()
	if _, err := c.Delete(t.Context(), "/holdfast/v1/prod/", clientv3.WithPrefix()); err != nil {
		t.Fatal(err)
	}
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
	if _, err := c.Delete(t.Context(), "/holdfast/v1/prod/", clientv3.WithPrefix()); err != nil {
		t.Fatal(err)
	}
	if _, err := restore(); err != nil {
		t.Fatal(err)
	}
	s.follows(s.servers...)
	claimed(t, s.state(), "web", "srv-2", 4)
}
