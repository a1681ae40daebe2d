package etcdtest

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/holdfast-ha/holdfast/pkg/kv"
	"github.com/holdfast-ha/holdfast/pkg/pool"
)

func put(t *testing.T, s kv.Store, key string, limit time.Duration) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	_, err := s.Txn(ctx, kv.Txn{Then: []kv.Op{kv.Put(key, []byte("x"))}})
	return err
}

func TestAStoppedMemberKeepsItsDataAcrossARestart(t *testing.T) {
	t.Parallel()
	c := Start(t, 1)
	e := c.Open()
	if err := put(t, e, "a", 5*time.Second); err != nil {
		t.Fatalf("put: %v", err)
	}
	c.Member(0).Stop()
	if err := put(t, e, "b", time.Second); !errors.Is(err, pool.ErrUnavailable) {
		t.Errorf("put while stopped: %v, want %v", err, pool.ErrUnavailable)
	}
	c.Member(0).Restart()
	c.Leader()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	for { // the connection needs a moment
		_, ok, err := e.Get(ctx, "a")
		if err == nil && ok {
			break
		}
		if ctx.Err() != nil {
			t.Fatalf("get after the restart: %v, %v", ok, err)
		}
	}
}

func TestAFrozenLeaderIsReplacedAndComesBackAsFollower(t *testing.T) {
	t.Parallel()
	c := Start(t, 3)
	old := c.Leader()
	c.Member(old).Freeze()
	limit := time.After(20 * time.Second)
	for c.leader() == old || c.leader() < 0 {
		select {
		case <-limit:
			t.Fatal("no new leader")
		case <-time.After(Heartbeat):
		}
	}
	e := c.Open()
	if err := put(t, e, "a", 10*time.Second); err != nil && !errors.Is(err, pool.ErrOutcomeUnknown) {
		t.Errorf("put with a frozen member: %v", err)
	}
	if err := put(t, e, "a", 10*time.Second); err != nil {
		t.Errorf("second put with a frozen member: %v", err)
	}
	c.Member(old).Thaw()
	if got := c.Leader(); got == old {
		t.Errorf("the thawed member leads again")
	}
}
