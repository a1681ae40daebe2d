package app

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/holdfast-ha/holdfast/pkg/clock"
	"github.com/holdfast-ha/holdfast/pkg/kv"
	"github.com/holdfast-ha/holdfast/pkg/pki"
	"github.com/holdfast-ha/holdfast/pkg/pool"
	"github.com/holdfast-ha/holdfast/pkg/rpc"
	"github.com/holdfast-ha/holdfast/pkg/store"
	pb "github.com/holdfast-ha/holdfast/proto/holdfast/v1"
	"github.com/holdfast-ha/holdfast/test/etcdtest"
)

// What the benchmark asks for: so many live migrations at a time, by so many callers at once.
const (
	moved   = 100
	callers = 16
)

// BenchmarkAdmittedMigrations measures how many live migrations one agent admits in a second, on an etcd of three members on
// this machine: from the request at the API to the leader's transaction that gives the claim to the operation. Nobody
// carries them out. "accepted/s" counts the answers of the API alone.
func BenchmarkAdmittedMigrations(b *testing.B) {
	f := newFloor(b)
	var accepted time.Duration
	b.ResetTimer()
	n := 0
	for ; n < b.N; n += moved {
		accepted += f.migrateAll()
		b.StopTimer()
		f.takeBack()
		b.StartTimer()
	}
	b.StopTimer()
	b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "admitted/s")
	b.ReportMetric(float64(n)/accepted.Seconds(), "accepted/s")
}

// floor is a pool of an agent that leads it, three more servers that do nothing, and VMs on one of them.
type floor struct {
	b     *testing.B
	store *store.Store
	keys  store.Keys
	agent *Agent
	ctx   context.Context
}

func newFloor(b *testing.B) *floor {
	b.Helper()
	etcd := etcdtest.Start(b, 3).Open()
	c := clock.Real()
	f := &floor{b: b, store: store.New(etcd, store.NewKeys("prod")), keys: store.NewKeys("prod"), ctx: rpc.WithIdentity(b.Context(), pki.Identity{Name: "kim", Role: pki.RoleOperator})}
	cfg := pool.DefaultConfig("prod", life)
	cfg.HA, cfg.Migrations, cfg.MigrationsPerServer = true, 2*moved, 2*moved
	f.commit(f.keys.PutConfig(cfg))
	for _, id := range []pool.ServerID{"srv-1", "srv-2", "srv-3", "srv-4"} {
		f.commit(f.keys.PutServer(pool.Server{ID: id, Address: "127.0.0.1:7400"}))
	}
	m := &machine{changed: c.NewSignal()}
	a, err := New(Config{Pool: "prod", Server: "srv-1", Version: "1.0.0", Incarnation: life},
		Edges{Clock: c, Store: etcd, Leases: etcd, LeaseState: &kept{}, Hypervisor: m, Needs: m, Capacity: m.capacity,
			CanLoseOne: func(context.Context) error { return nil }, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		b.Fatal(err)
	}
	f.agent = a
	ctx, cancel := context.WithCancel(b.Context())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	b.Cleanup(func() {
		cancel()
		<-done //nolint:errcheck // the end of its context
	})
	lease, err := etcd.Grant(b.Context(), time.Hour)
	if err != nil {
		b.Fatal(err)
	}
	for _, id := range []pool.ServerID{"srv-2", "srv-3", "srv-4"} {
		f.commit(f.keys.PutMember(pool.Member{Server: id, Version: "1.0.0", MemoryBytes: 1 << 40, CPUs: 64, Guard: true, Incarnation: life}, lease))
	}
	f.wait("a leader", func(s *pool.Snapshot) bool { return s.Leader.Server == "srv-1" && s.Members.Len() == 4 })
	from, _ := f.agent.Snapshot().Members.Get("srv-2")
	for i := range moved {
		vm := pool.DefaultVM(pool.VMID(fmt.Sprintf("vm-%03d", i)))
		vm.UUID, vm.HA, vm.DiskLocks, vm.Movable, vm.Desired, vm.MemoryBytes, vm.CPUs = fmt.Sprintf("uuid-%d", i), true, true, true, pool.DesiredRunning, 1<<30, 1
		f.commit(f.keys.PutVM(vm), f.keys.PutClaim(pool.Claim{VM: vm.ID, Server: "srv-2", Session: from.Session, Epoch: 1, Phase: pool.PhaseHeld, Armed: true, Incarnation: life}),
			f.keys.PutState(pool.VMState{VM: vm.ID, Server: "srv-2", Epoch: 1, State: pool.RunRunning}))
	}
	f.wait("the VMs", func(s *pool.Snapshot) bool { return s.Claims.Len() == moved && s.States.Len() == moved })
	return f
}

func (f *floor) commit(ops ...kv.Op) {
	f.b.Helper()
	if _, err := f.store.Commit(f.b.Context(), kv.Txn{Then: ops}); err != nil {
		f.b.Fatal(err)
	}
}

// wait waits for a snapshot.
func (f *floor) wait(what string, ok func(*pool.Snapshot) bool) {
	f.b.Helper()
	c := clock.Real()
	sig := c.NewSignal()
	defer f.agent.Subscribe(sig)()
	ctx, cancel := context.WithTimeout(f.b.Context(), time.Minute)
	defer cancel()
	for !ok(f.agent.Snapshot()) {
		if ctx.Err() != nil {
			f.b.Fatalf("waited in vain for %s", what)
		}
		sig.Wait(ctx, time.Second)
	}
}

// migrateAll asks for the migration of every VM and waits until the leader has begun them all. It returns how long the
// requests took.
func (f *floor) migrateAll() time.Duration {
	f.b.Helper()
	began := time.Now()
	var all sync.WaitGroup
	for c := range callers {
		all.Go(func() {
			for i := c; i < moved; i += callers {
				if _, err := f.agent.API().MigrateVM(f.ctx, &pb.MigrateVMRequest{Vm: fmt.Sprintf("vm-%03d", i)}); err != nil {
					f.b.Errorf("vm-%03d: %v", i, err)
				}
			}
		})
	}
	all.Wait()
	took := time.Since(began)
	if f.b.Failed() {
		f.b.FailNow()
	}
	f.wait("the migrations", func(s *pool.Snapshot) bool {
		n := 0
		for _, c := range s.Claims.All() {
			if c.Phase == pool.PhaseMigrating {
				n++
			}
		}
		return n == moved
	})
	return took
}

// takeBack ends the migrations as their source would: the VMs run on there.
func (f *floor) takeBack() {
	f.b.Helper()
	for _, c := range f.agent.Snapshot().Claims.All() {
		c.Phase, c.Incoming, c.Operation, c.Detail = pool.PhaseHeld, nil, "", "taken back"
		f.commit(f.keys.PutClaim(c))
	}
	f.wait("the operations to end", func(s *pool.Snapshot) bool {
		for _, op := range s.Operations.All() {
			if op.Outcome == pool.OutcomeRunning {
				return false
			}
		}
		return true
	})
}
