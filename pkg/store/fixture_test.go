package store

import (
	"context"
	"io"
	"log/slog"
	"testing"
	"time"

	"github.com/holdfast-ha/holdfast/pkg/clock"
	"github.com/holdfast-ha/holdfast/pkg/kv"
	"github.com/holdfast-ha/holdfast/pkg/kv/kvtest"
	"github.com/holdfast-ha/holdfast/pkg/pool"
)

const life = "11111111-1111-1111-1111-111111111111"

// bubbleClock takes its instants from package time, which testing/synctest replaces.
type bubbleClock struct{ clock.Clock }

func (bubbleClock) Now() pool.Instant { return pool.Instant(time.Now().UnixNano()) }

// bench is a pool in memory with a running mirror.
type bench struct {
	t     testing.TB
	keys  Keys
	mem   *kvtest.Memory
	store *Store
	clock clock.Clock
}

func newBench(t testing.TB) *bench {
	c := bubbleClock{clock.Real()}
	mem := kvtest.NewMemory(c)
	keys := NewKeys("lab")
	b := &bench{t: t, keys: keys, mem: mem, store: New(mem, keys), clock: c}
	b.commit(keys.PutConfig(pool.DefaultConfig("lab", life)))
	return b
}

func (b *bench) commit(ops ...kv.Op) pool.Revision {
	b.t.Helper()
	rev, err := b.store.Commit(b.t.Context(), kv.Txn{Then: ops})
	if err != nil {
		b.t.Fatalf("commit: %v", err)
	}
	return rev
}

// run starts a mirror and returns it with a function that stops it and returns Run's error.
func (b *bench) run() (*Mirror, func() error) {
	ctx, cancel := context.WithCancel(b.t.Context())
	m := NewMirror(b.store, b.clock, life, slog.New(slog.NewTextHandler(io.Discard, nil)))
	ended := make(chan error, 1)
	go func() { ended <- m.Run(ctx) }()
	return m, func() error {
		cancel()
		return <-ended
	}
}

func (b *bench) at(m *Mirror, rev pool.Revision) *pool.Snapshot {
	b.t.Helper()
	snap, err := m.WaitFor(b.t.Context(), rev)
	if err != nil {
		b.t.Fatalf("wait for revision %d: %v", rev, err)
	}
	return snap
}

func heldClaim(vm pool.VMID, server pool.ServerID, session pool.Session) pool.Claim {
	return pool.Claim{VM: vm, Server: server, Session: session, Epoch: 1, Phase: pool.PhaseHeld, Incarnation: life}
}
