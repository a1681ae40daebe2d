package store

import (
	"errors"
	"testing"
	"testing/synctest"

	"github.com/holdfast-ha/holdfast/pkg/kv"
	"github.com/holdfast-ha/holdfast/pkg/pool"
)

func TestADeletedConfigLeavesTheLastOneInForceFrozenUntilItIsWrittenAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		cfg := pool.DefaultConfig("lab", life)
		cfg.HA, cfg.Tolerate = true, 1
		b.commit(b.keys.PutServer(pool.Server{ID: "srv-1"}), b.keys.PutConfig(cfg))
		m, stop := b.run()
		b.at(m, 1)
		snap := b.at(m, b.commit(kv.Delete(b.keys.Config())))
		if c := snap.Config; c.Incarnation != life || c.Tolerate != 1 || !c.HA || !c.Frozen || c.Revision != 0 {
			t.Errorf("the config in force is %+v", c)
		}
		if !snap.Corrupt.Has(b.keys.Config()) {
			t.Errorf("nothing says what is wrong: %v", snap.Corrupt.Keys())
		}
		// Other changes come through, and change nothing of that.
		snap = b.at(m, b.commit(b.keys.PutServer(pool.Server{ID: "srv-2"})))
		if !snap.Config.Frozen || !snap.Corrupt.Has(b.keys.Config()) || !snap.Servers.Has("srv-2") {
			t.Errorf("after another change: %+v", snap.Config)
		}
		// The way out: what is in force is written, as the key that is absent.
		next := snap.Config
		next.Frozen = false
		change := b.keys.FromPool(pool.Change{Config: &next})
		rev, err := b.store.Commit(t.Context(), kv.Txn{If: change.If, Then: change.Then})
		if err != nil {
			t.Fatal(err)
		}
		if snap = b.at(m, rev); snap.Config.Frozen || snap.Config.Revision != rev || snap.Corrupt.Len() != 0 {
			t.Errorf("written anew: %+v, %v", snap.Config, snap.Corrupt.Keys())
		}
		// One of another life is refused as ever.
		b.commit(kv.Delete(b.keys.Config()))
		b.commit(b.keys.PutConfig(pool.DefaultConfig("lab", "22222222-2222-2222-2222-222222222222")))
		if _, err := m.WaitFor(t.Context(), 1000); !errors.Is(err, ErrOtherLife) {
			t.Errorf("another life after a deletion: %v", err)
		}
		_ = stop()
	})
}

func TestAWatchThatBreaksWhileTheConfigIsGoneGoesOnWithTheSameEtcdOnly(t *testing.T) {
	b := newBench(t)
	b.commit(b.keys.PutServer(pool.Server{ID: "srv-1"}))
	f := newFold(b.keys, life)
	if err := b.store.load(t.Context(), f); err != nil {
		t.Fatal(err)
	}
	server := kv.KeyValue{Key: f.witness(), ModRevision: 2}
	if err := f.same([]kv.KeyValue{server}, f.snap.Revision+1); err != nil {
		t.Errorf("the config alone is gone: %v", err)
	}
	if err := f.same(nil, f.snap.Revision+1); !errors.Is(err, ErrOtherLife) {
		t.Errorf("nothing of the pool is there: %v", err)
	}
}

func TestAPoolOfWhichNothingIsLeftIsAnotherLife(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.commit(b.keys.PutServer(pool.Server{ID: "srv-1"}))
		m, stop := b.run()
		b.at(m, 1)
		b.commit(kv.Delete(b.keys.Config()), kv.Delete(b.keys.Server("srv-1")))
		if _, err := m.WaitFor(t.Context(), 1000); !errors.Is(err, ErrOtherLife) {
			t.Errorf("got %v, want %v", err, ErrOtherLife)
		}
		_ = stop()
	})
}

func TestAnAgentThatNeverSawAConfigDoesNotGoOnWithout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.commit(b.keys.PutServer(pool.Server{ID: "srv-1"}))
		b.commit(kv.Delete(b.keys.Config()))
		_, stop := b.run()
		synctest.Wait()
		if err := stop(); !errors.Is(err, ErrOtherLife) {
			t.Errorf("got %v, want %v", err, ErrOtherLife)
		}
	})
}
