package store_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"testing"
	"time"

	"github.com/holdfast-ha/holdfast/pkg/clock"
	"github.com/holdfast-ha/holdfast/pkg/kv"
	"github.com/holdfast-ha/holdfast/pkg/pool"
	"github.com/holdfast-ha/holdfast/pkg/store"
	"github.com/holdfast-ha/holdfast/test/etcdtest"
	"github.com/holdfast-ha/holdfast/test/stopwatch"
)

const life = "11111111-1111-1111-1111-111111111111"

// real is a pool on a real etcd with a running mirror.
type real struct {
	t      *testing.T
	etcd   *etcdtest.Cluster
	store  *store.Store
	keys   store.Keys
	mirror *store.Mirror
	ended  chan error
}

func start(t *testing.T, members int) *real {
	t.Helper()
	c := etcdtest.Start(t, members)
	keys := store.NewKeys("lab")
	r := &real{t: t, etcd: c, keys: keys, store: store.New(c.Open(), keys), ended: make(chan error, 1)}
	r.commit(keys.PutConfig(pool.DefaultConfig("lab", life)))
	r.mirror = store.NewMirror(r.store, clock.Real(), life, slog.New(slog.NewTextHandler(io.Discard, nil)))
	ctx, cancel := context.WithCancel(context.Background())
	stopped := make(chan struct{})
	go func() { defer close(stopped); r.ended <- r.mirror.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-stopped })
	r.at(1)
	return r
}

// commit tries until it is applied; its writes may happen twice.
func (r *real) commit(ops ...kv.Op) pool.Revision {
	r.t.Helper()
	end, cancel := context.WithTimeout(r.t.Context(), 30*time.Second)
	defer cancel()
	for {
		ctx, cancel := context.WithTimeout(end, 2*time.Second)
		rev, err := r.store.Commit(ctx, kv.Txn{Then: ops})
		cancel()
		if err == nil {
			return rev
		}
		if end.Err() != nil {
			r.t.Fatalf("commit: %v", err)
		}
		<-time.After(50 * time.Millisecond)
	}
}

func (r *real) at(rev pool.Revision) *pool.Snapshot {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.t.Context(), 30*time.Second)
	defer cancel()
	snap, err := r.mirror.WaitFor(ctx, rev)
	if err != nil {
		r.t.Fatalf("wait for revision %d: %v", rev, err)
	}
	return snap
}

func (r *real) claim(vm string, epoch int) kv.Op {
	return r.keys.PutClaim(pool.Claim{VM: pool.VMID(vm), Server: "srv-1", Session: 5, Epoch: pool.Epoch(epoch),
		Phase: pool.PhaseHeld, Incarnation: life})
}

// agrees compares the mirror with a fresh read.
func (r *real) agrees(rev pool.Revision) {
	r.t.Helper()
	got := r.at(rev)
	want, err := r.store.Load(r.t.Context(), life)
	if err != nil {
		r.t.Fatal(err)
	}
	if got.Claims.Len() != want.Claims.Len() {
		r.t.Fatalf("%d claims, want %d", got.Claims.Len(), want.Claims.Len())
	}
	for vm, c := range want.Claims.All() {
		if have, _ := got.Claims.Get(vm); have != c {
			r.t.Errorf("claim %s: %+v, want %+v", vm, have, c)
		}
	}
}

func TestTheMirrorSurvivesARestartAndCompactionOfEtcd(t *testing.T) {
	t.Parallel()
	r := start(t, 1)
	r.at(r.commit(r.claim("a", 1)))
	r.etcd.Member(0).RefuseClients() // the mirror is cut off, and history moves on
	other := store.New(r.etcd.OpenDirect(), r.keys)
	for i := range 20 {
		if _, err := other.Commit(t.Context(), kv.Txn{Then: []kv.Op{r.claim(fmt.Sprint("vm-", i), i)}}); err != nil {
			t.Fatal(err)
		}
	}
	rev, err := other.Commit(t.Context(), kv.Txn{Then: []kv.Op{r.keys.DeleteClaim("a")}})
	if err != nil {
		t.Fatal(err)
	}
	r.etcd.Compact(rev)
	if r.mirror.Snapshot().Claims.Len() != 1 {
		t.Fatal("the mirror was not cut off")
	}
	r.etcd.Member(0).PassClients()
	r.agrees(rev)
	r.etcd.Member(0).Stop()
	r.etcd.Member(0).Restart()
	r.agrees(r.commit(r.claim("b", 1)))
}

func TestTheMirrorMovesOnWhenItsMemberFreezes(t *testing.T) {
	t.Parallel()
	r := start(t, 3)
	r.at(r.commit(r.claim("a", 1)))
	round := 0
	stopwatch.Within(t, 12*time.Second, "to move on", func() time.Duration {
		round++
		r.etcd.Member(0).Freeze() // the preferred one
		took := stopwatch.Of(func() { r.agrees(r.commit(r.claim("a", 1+round))) })
		r.freshSoon()
		r.etcd.Member(0).Thaw()
		r.agrees(r.commit(r.claim("b", round)))
		return took
	})
}

// freshSoon waits until the mirror says that it works.
func (r *real) freshSoon() {
	r.t.Helper()
	for end := time.Now().Add(30 * time.Second); !r.mirror.Fresh(); {
		if time.Now().After(end) {
			r.t.Fatal("the mirror works and says that it does not")
		}
		<-time.After(50 * time.Millisecond)
	}
}

func TestTheMirrorStopsWhenEtcdWasSetBack(t *testing.T) {
	t.Parallel()
	// Younger, though of the same incarnation, as after restoring a backup.
	replaced(t, life, 0)
}

func TestTheMirrorStopsAtAnotherPoolsEtcdThatIsFurtherOn(t *testing.T) {
	t.Parallel()
	// A watch from the last revision on would show nothing strange.
	replaced(t, "22222222-2222-2222-2222-222222222222", 50)
}

// replaced puts another etcd, of that incarnation and with so many more writes, at the address of the mirror's.
func replaced(t *testing.T, incarnation string, writes int) {
	t.Helper()
	r := start(t, 1)
	for i := range 10 {
		r.at(r.commit(r.claim("a", i)))
	}
	other := etcdtest.Start(t, 1)
	there := store.New(other.Open(), r.keys)
	ops := []kv.Op{r.keys.PutConfig(pool.DefaultConfig("lab", incarnation))}
	for i := range writes + 1 {
		if _, err := there.Commit(t.Context(), kv.Txn{Then: ops}); err != nil {
			t.Fatal(err)
		}
		ops = []kv.Op{r.claim("a", i)}
	}
	r.etcd.Member(0).Redirect(other.Member(0))
	select {
	case err := <-r.ended:
		if !errors.Is(err, store.ErrOtherLife) {
			t.Errorf("Run: %v, want %v", err, store.ErrOtherLife)
		}
	case <-time.After(30 * time.Second):
		t.Error("the mirror goes on")
	}
}
