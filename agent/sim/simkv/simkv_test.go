package simkv

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-ha/holdfast/agent/sim/simnet"
	"github.com/holdfast-ha/holdfast/agent/sim/vtime"
	"github.com/holdfast-ha/holdfast/pkg/kv"
	"github.com/holdfast-ha/holdfast/pkg/pool"
)

type bed struct {
	t   *testing.T
	s   *vtime.Scheduler
	net *simnet.Network
	c   *Cluster
}

func newBed(t *testing.T, o Options) *bed {
	t.Helper()
	s := vtime.New(1)
	t.Cleanup(s.Close)
	net := simnet.New(s)
	return &bed{t, s, net, New(s, net, o)}
}

func (b *bed) client(server string) (*vtime.Proc, *Client) {
	p := b.s.NewProc(server, vtime.Timepiece{Boot: time.Hour})
	return p, b.c.Client(p, server)
}

func (b *bed) run(until time.Duration) {
	b.t.Helper()
	if err := b.s.Run(until); err != nil {
		b.t.Fatal(err)
	}
}

// do runs f as a coroutine and waits for its end.
func (b *bed) do(p *vtime.Proc, f func()) {
	b.t.Helper()
	done := false
	p.Go("test", func() { f(); done = true })
	for !done {
		if ok, err := b.s.Step(); !ok || err != nil {
			b.t.Fatalf("idle: %v", err)
		}
	}
}

func TestATransactionWhoseReplyIsLostHasTakenEffect(t *testing.T) {
	b := newBed(t, Options{})
	p, cl := b.client("s1")
	b.net.CutOneWay(simnet.Site, "s1", simnet.All)
	var err error
	b.do(p, func() {
		ctx, cancel := p.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_, err = cl.Txn(ctx, kv.Txn{If: []kv.Compare{kv.Absent("/a")}, Then: []kv.Op{kv.Put("/a", []byte("1"))}})
	})
	if !errors.Is(err, pool.ErrOutcomeUnknown) || errors.Is(err, pool.ErrUnavailable) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("err = %v, want outcome unknown", err)
	}
	if v, ok := b.c.Value("/a"); !ok || string(v.Value) != "1" {
		t.Error("the transaction did not take effect")
	}
}

func TestARequestThatTimedOutMayLandWhenTheNetworkHeals(t *testing.T) {
	landed := 0
	for seed := range 40 {
		s := vtime.New(uint64(seed))
		net := simnet.New(s)
		b := &bed{t, s, net, New(s, net, Options{})}
		p, cl := b.client("s1")
		net.Cut("s1", simnet.All)
		b.do(p, func() {
			ctx, cancel := p.WithTimeout(context.Background(), time.Second)
			defer cancel()
			if _, err := cl.Txn(ctx, kv.Txn{Then: []kv.Op{kv.Put("/a", nil)}}); !errors.Is(err, pool.ErrOutcomeUnknown) {
				t.Errorf("err = %v", err)
			}
		})
		if _, ok := b.c.Value("/a"); ok {
			t.Fatal("the request passed through a cut network")
		}
		b.run(3 * time.Second)
		net.HealAll()
		b.run(10 * time.Second)
		if _, ok := b.c.Value("/a"); ok {
			landed++
		}
		s.Close()
	}
	if landed == 0 || landed == 40 {
		t.Errorf("%d of 40 late requests landed, want some", landed)
	}
}

func TestALeaseExpiresLateButNeverEarly(t *testing.T) {
	for seed := range 50 {
		s := vtime.New(uint64(seed))
		net := simnet.New(s)
		b := &bed{t, s, net, New(s, net, Options{})}
		p, cl := b.client("s1")
		var renewed time.Duration
		b.do(p, func() {
			id, _ := cl.Grant(context.Background(), 5*time.Second)
			_, _ = cl.Txn(context.Background(), kv.Txn{Then: []kv.Op{kv.PutLeased("/m", nil, id)}})
			_ = p.Sleep(context.Background(), 2*time.Second)
			renewed = s.Now()
			if err := cl.KeepAlive(context.Background(), id, 1); err != nil {
				t.Error(err)
			}
		})
		var gone time.Duration
		b.c.OnCommit(func(c Commit) { gone = s.Now() })
		b.run(time.Minute)
		if d := gone - renewed; d < 5*time.Second || d > 5*time.Second+510*time.Millisecond {
			t.Errorf("seed %d: the key went %v after the renewal was sent", seed, d)
		}
		s.Close()
	}
}

func TestRenewingAnExpiredLeaseFails(t *testing.T) {
	b := newBed(t, Options{})
	p, cl := b.client("s1")
	b.do(p, func() {
		id, _ := cl.Grant(context.Background(), 5*time.Second)
		_ = p.Sleep(context.Background(), 5*time.Second)
		if err := cl.KeepAlive(context.Background(), id, 0); !errors.Is(err, kv.ErrLeaseNotFound) {
			t.Errorf("err = %v", err)
		}
		if _, err := cl.Txn(context.Background(), kv.Txn{Then: []kv.Op{kv.PutLeased("/m", nil, id)}}); !errors.Is(err, kv.ErrLeaseNotFound) {
			t.Errorf("put: err = %v", err)
		}
	})
}

func TestLeasesStandStillWithoutQuorumAndThenHaveAFullLife(t *testing.T) {
	b := newBed(t, Options{})
	p, cl := b.client("s1")
	b.do(p, func() {
		id, _ := cl.Grant(context.Background(), 5*time.Second)
		_, _ = cl.Txn(context.Background(), kv.Txn{Then: []kv.Op{kv.PutLeased("/m", nil, id)}})
	})
	b.c.Down()
	b.run(time.Minute)
	if _, ok := b.c.Value("/m"); !ok {
		t.Fatal("the key went while there was no quorum")
	}
	b.c.Up()
	b.run(65 * time.Second)
	if _, ok := b.c.Value("/m"); !ok {
		t.Error("the key went before a full life had passed")
	}
	b.run(70 * time.Second)
	if _, ok := b.c.Value("/m"); ok {
		t.Error("the key never went")
	}
}

func TestAFrozenClientStillRenews(t *testing.T) {
	b := newBed(t, Options{})
	p, cl := b.client("s1")
	var id kv.LeaseID
	b.do(p, func() { id, _ = cl.Grant(context.Background(), 5*time.Second) })
	b.c.Freeze("s1")
	b.do(p, func() {
		ctx, cancel := p.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if err := cl.KeepAlive(ctx, id, 0); err != nil {
			t.Errorf("renewal: %v", err)
		}
		if _, _, err := cl.Get(ctx, "/a"); !errors.Is(err, pool.ErrUnavailable) {
			t.Errorf("read: %v", err)
		}
	})
	b.c.Thaw("s1")
	b.do(p, func() {
		if _, _, err := cl.Get(context.Background(), "/a"); err != nil {
			t.Errorf("read after the thaw: %v", err)
		}
	})
}

func TestAWatchDeliversEveryChangeInOrderAcrossACut(t *testing.T) {
	b := newBed(t, Options{})
	p, cl := b.client("s1")
	w, writer := b.client("s2")
	var got []string
	p.Go("watch", func() {
		wt, err := cl.Watch(context.Background(), "/k/", 1)
		for err == nil {
			var batch kv.Batch
			if batch, err = wt.Next(context.Background()); err == nil {
				for _, e := range batch.Events {
					got = append(got, e.Key)
				}
			}
		}
		t.Error(err)
	})
	b.s.After(5*time.Second, func() { b.net.Cut("s1", simnet.All) })
	b.s.After(20*time.Second, func() { b.net.Heal("s1") })
	b.do(w, func() {
		for i := range 300 {
			_, _ = writer.Txn(context.Background(), kv.Txn{Then: []kv.Op{kv.Put(fmt.Sprintf("/k/%03d", i), nil), kv.Put("/other", nil)}})
			_ = w.Sleep(context.Background(), 100*time.Millisecond)
		}
	})
	b.run(time.Minute)
	if len(got) != 300 {
		t.Fatalf("%d events, want 300", len(got))
	}
	for i, k := range got {
		if k != fmt.Sprintf("/k/%03d", i) {
			t.Fatalf("event %d is %s", i, k)
		}
	}
}

func TestAWatchFromCompactedHistoryFailsWithTheOldestRevision(t *testing.T) {
	b := newBed(t, Options{})
	p, cl := b.client("s1")
	b.do(p, func() {
		for range 10 {
			_, _ = cl.Txn(context.Background(), kv.Txn{Then: []kv.Op{kv.Put("/a", nil)}})
		}
		b.c.Compact(8)
		w, err := cl.Watch(context.Background(), "/", 3)
		if err == nil {
			_, err = w.Next(context.Background())
		}
		var c *kv.CompactedError
		if !errors.As(err, &c) || c.Oldest != 8 {
			t.Errorf("err = %v", err)
		}
	})
}

func TestEmbeddedEtcdLivesWithAMajorityOfItsVoters(t *testing.T) {
	b := newBed(t, Options{Voters: []string{"s1", "s2", "s3"}})
	p, cl := b.client("s4")
	put := func() error {
		var err error
		b.do(p, func() {
			ctx, cancel := p.WithTimeout(context.Background(), 5*time.Second)
			defer cancel()
			_, err = cl.Txn(ctx, kv.Txn{Then: []kv.Op{kv.Put("/a", nil)}})
		})
		return err
	}
	if err := put(); err != nil {
		t.Fatal(err)
	}
	was := b.c.Leader()
	b.c.SetAlive(was, false)
	if err := put(); err != nil {
		t.Errorf("one voter of three died: %v", err)
	}
	if b.c.Leader() == was || b.c.Leader() == "" {
		t.Errorf("leader = %q after the death of %s", b.c.Leader(), was)
	}
	b.c.SetAlive(b.c.Leader(), false)
	if err := put(); !errors.Is(err, pool.ErrOutcomeUnknown) {
		t.Errorf("two voters of three died: %v", err)
	}
	b.c.SetAlive(was, true)
	if err := put(); err != nil {
		t.Errorf("a voter came back: %v", err)
	}
}

func TestACutOffVoterServesNobodyButTheOthersGoOn(t *testing.T) {
	b := newBed(t, Options{Voters: []string{"s1", "s2", "s3"}})
	_, _ = b.client("s1")
	lead := b.c.Leader()
	b.net.Cut(lead, simnet.All)
	b.run(10 * time.Second)
	if b.c.Leader() == lead || b.c.Leader() == "" {
		t.Errorf("leader = %q, was %s", b.c.Leader(), lead)
	}
	if b.c.Reaches(lead) {
		t.Errorf("%s is cut off, yet reaches etcd", lead)
	}
	if !b.c.Reaches("s9") {
		t.Error("a server without a voter does not reach etcd")
	}
}

func TestTransactionsAreCheckedAsEtcdDoes(t *testing.T) {
	b := newBed(t, Options{})
	p, cl := b.client("s1")
	b.do(p, func() {
		ctx := context.Background()
		_, err := cl.Txn(ctx, kv.Txn{Then: []kv.Op{kv.Put("/a", nil), kv.Delete("/a")}})
		if !errors.Is(err, pool.ErrInvalid) || !strings.Contains(err.Error(), "/a") {
			t.Errorf("duplicate key: %v", err)
		}
		res, err := cl.Txn(ctx, kv.Txn{Then: []kv.Op{kv.Put("/a", []byte("1"))}})
		if err != nil || !res.Applied {
			t.Fatal(res, err)
		}
		rev := res.Revision
		res, err = cl.Txn(ctx, kv.Txn{If: []kv.Compare{kv.ModIs("/a", rev-1)}, Then: []kv.Op{kv.Put("/a", []byte("2"))}, Read: []string{"/a", "/b"}})
		if err != nil || res.Applied || len(res.Found) != 1 || string(res.Found[0].Value) != "1" {
			t.Errorf("stale write: %+v %v", res, err)
		}
		res, _ = cl.Txn(ctx, kv.Txn{If: []kv.Compare{kv.CreatedAt("/a", rev), kv.Absent("/b")}, Then: []kv.Op{kv.Put("/a", []byte("3"))}})
		v, ok, err := cl.Get(ctx, "/a")
		if !res.Applied || !ok || err != nil || v.CreateRevision != rev || v.ModRevision != rev+1 {
			t.Errorf("%+v %v %v", v, ok, err)
		}
	})
}
