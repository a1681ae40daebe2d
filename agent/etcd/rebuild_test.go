package etcd

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/holdfast-ha/holdfast/pkg/clock"
	"github.com/holdfast-ha/holdfast/pkg/kv"
	kvetcd "github.com/holdfast-ha/holdfast/pkg/kv/etcd"
	"github.com/holdfast-ha/holdfast/pkg/pki"
	"github.com/holdfast-ha/holdfast/pkg/pool"
)

// machine is one machine's etcd settings, with an identity, on free ports.
func machine(t *testing.T) Config {
	t.Helper()
	c := Config{Name: "srv-1", Dir: t.TempDir(), Heartbeat: 50 * time.Millisecond, Election: 500 * time.Millisecond, History: time.Hour,
		QuotaBytes: 1 << 30, LogLevel: slog.LevelError, Poll: 100 * time.Millisecond, NoSync: true}
	if err := c.listenLocally(); err != nil {
		t.Fatal(err)
	}
	ca, err := pki.NewAuthority("prod", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	pair, err := ca.Issue(pki.Request{Name: "srv-1", Role: pki.RoleServer, Hosts: []string{"127.0.0.1"}}, time.Now(), 0)
	if err != nil {
		t.Fatal(err)
	}
	own, err := ca.PEM()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	c.Identity = pki.Files{CA: filepath.Join(dir, "ca.crt"), Cert: filepath.Join(dir, "server.crt"), Key: filepath.Join(dir, "server.key")}
	if err := pki.Save(c.Identity, own.Cert, pair); err != nil {
		t.Fatal(err)
	}
	return c
}

func put(key, value string) func(context.Context, Access) error {
	return func(ctx context.Context, a Access) error {
		edge, err := kvetcd.Open(kvetcd.Options{Endpoints: a.Endpoints, TLS: a.TLS})
		if err != nil {
			return err
		}
		defer edge.Close()
		_, err = edge.Txn(ctx, kv.Txn{Then: []kv.Op{kv.Put(key, []byte(value))}})
		return err
	}
}

// read waits until the machine's etcd answers, and returns the key.
func read(ctx context.Context, t *testing.T, c Config, key string) kv.KeyValue {
	t.Helper()
	id, err := pki.Open(c.Identity)
	if err != nil {
		t.Fatal(err)
	}
	edge, err := kvetcd.Open(kvetcd.Options{Endpoints: []string{c.ClientURL}, TLS: id.Client(pki.ServerHost)})
	if err != nil {
		t.Fatal(err)
	}
	defer edge.Close()
	for {
		found, ok, err := edge.Get(ctx, key)
		if err == nil && ok {
			return found
		}
		if clock.Real().Sleep(ctx, 50*time.Millisecond) != nil {
			t.Fatalf("%s: found %v, %v", key, ok, err)
		}
	}
}

func TestARebuiltEtcdTakesThePlaceOfTheOldOneAndItsRevisionsComeAfterAllBefore(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	c, log := machine(t), slog.New(slog.DiscardHandler)
	if err := Bootstrap(ctx, c, "old", log, put("k", "old")); err != nil {
		t.Fatal(err)
	}
	run, stop := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- Run(run, c, clock.Real(), log) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	if got := read(ctx, t, c, "k"); string(got.Value) != "old" {
		t.Fatalf("%q", got.Value)
	}
	if err := PutAside(c.Dir, "old-life", []string{c.ClientURL}); err != nil {
		t.Fatal(err)
	}
	for {
		pending, err := AsidePending(c.Dir)
		if err != nil {
			t.Fatal(err)
		}
		if !pending {
			break
		}
		if clock.Real().Sleep(ctx, 20*time.Millisecond) != nil {
			t.Fatal("the process does not put its data aside")
		}
	}
	if _, err := os.Stat(filepath.Join(c.Dir, "data.of-old-life", "member", "wal")); err != nil {
		t.Errorf("the old data is not kept: %v", err)
	}
	const before = pool.Revision(1_000_000)
	place, discard, err := Rebuild(ctx, c, "new", before, log, put("k", "new"))
	if err != nil {
		t.Fatal(err)
	}
	defer discard()
	if err := place(); err != nil {
		t.Fatal(err)
	}
	if got := read(ctx, t, c, "k"); string(got.Value) != "new" || got.ModRevision > before {
		t.Errorf("%q at %d", got.Value, got.ModRevision)
	}
	if err := put("later", "x")(ctx, access(t, c)); err != nil {
		t.Fatal(err)
	}
	if got := read(ctx, t, c, "later"); got.ModRevision <= before || got.CreateRevision <= before {
		t.Errorf("a new revision %d is not after %d", got.ModRevision, before)
	}
	if err := place(); err == nil {
		t.Error("an etcd is put in the place of another")
	}
}

func access(t *testing.T, c Config) Access {
	t.Helper()
	id, err := pki.Open(c.Identity)
	if err != nil {
		t.Fatal(err)
	}
	return Access{Endpoints: []string{c.ClientURL}, TLS: id.Client(pki.ServerHost)}
}

func TestDataThatIsToBePutAsideIsNeverServedAgain(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	c := machine(t)
	if err := Bootstrap(ctx, c, "old", slog.New(slog.DiscardHandler), put("k", "old")); err != nil {
		t.Fatal(err)
	}
	// No process runs: it is done at once, and a second time finds nothing to do.
	for range 2 {
		if err := PutAside(c.Dir, "old-life", []string{"https://127.0.0.1:1"}); err != nil {
			t.Fatal(err)
		}
	}
	if l, err := c.local(); err != nil || l.HasData || l.ClusterID != 0 {
		t.Errorf("data %v of %x, %v", l.HasData, l.ClusterID, err)
	}
	if urls, err := LoadEndpoints(c.Dir); err != nil || len(urls) != 1 || urls[0] != "https://127.0.0.1:1" {
		t.Errorf("endpoints %v, %v", urls, err)
	}
	if _, err := os.Stat(filepath.Join(c.Dir, "data.of-old-life", "member", "wal")); err != nil {
		t.Errorf("the old data is not kept: %v", err)
	}
}

// Other servers ask for the endpoints as soon as this one has left its life; its process puts the data aside a little later.
func TestWhereEtcdWillBeIsKnownBeforeTheOldDataIsAside(t *testing.T) {
	dir := t.TempDir()
	if err := SaveEndpoints(dir, []string{"https://srv-1:2379", "https://srv-2:2379"}); err != nil {
		t.Fatal(err)
	}
	unlock, free, err := lockDir(dir) // as the process that runs
	if err != nil || !free {
		t.Fatal(free, err)
	}
	if err := PutAside(dir, "old-life", []string{"https://srv-4:2379"}); err != nil {
		t.Fatal(err)
	}
	known := func() {
		t.Helper()
		if urls, err := LoadEndpoints(dir); err != nil || !slices.Equal(urls, []string{"https://srv-4:2379"}) {
			t.Errorf("endpoints %v, %v", urls, err)
		}
	}
	if pending, err := AsidePending(dir); err != nil || !pending {
		t.Errorf("pending %v, %v", pending, err)
	}
	known()
	unlock()
	if err := clearAside(dir); err != nil {
		t.Fatal(err)
	}
	known()
}
