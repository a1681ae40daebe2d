package store

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-ha/holdfast/pkg/kv"
	"github.com/holdfast-ha/holdfast/pkg/pool"
)

func TestTheMirrorFollowsEveryChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.commit(b.keys.PutClaim(heldClaim("a", "srv-1", 5)))
		m, stop := b.run()
		snap := b.at(m, 1)
		if c, ok := snap.Claims.Get("a"); !ok || c.Server != "srv-1" || c.Revision == 0 {
			t.Fatalf("after the list: claim %+v, %v", c, ok)
		}
		rev := b.commit(b.keys.PutClaim(heldClaim("a", "srv-2", 6)))
		snap = b.at(m, rev)
		if c, _ := snap.Claims.Get("a"); c.Server != "srv-2" || c.Revision != rev || snap.Revision != rev {
			t.Errorf("after the change at %d: claim %+v, snapshot %d", rev, c, snap.Revision)
		}
		rev = b.commit(b.keys.DeleteClaim("a"))
		if snap = b.at(m, rev); snap.Claims.Has("a") {
			t.Error("the claim is still there after its deletion")
		}
		if err := stop(); err != nil {
			t.Errorf("Run: %v", err)
		}
	})
}

func TestMembersTakeTheirSessionFromTheKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		m, stop := b.run()
		lease, err := b.mem.Grant(t.Context(), 5*time.Second)
		if err != nil {
			t.Fatal(err)
		}
		created := b.commit(b.keys.PutMember(pool.Member{Server: "srv-1", Incarnation: life}, lease))
		rev := b.commit(b.keys.PutMember(pool.Member{Server: "srv-1", Guard: true, Incarnation: life}, lease))
		got, _ := b.at(m, rev).Members.Get("srv-1")
		if got.Session != pool.Session(created) || got.Revision != rev || !got.Guard || got.LeaseID != int64(lease) {
			t.Errorf("got %+v, want session %d, revision %d", got, created, rev)
		}
		time.Sleep(6 * time.Second) //nolint:forbidigo // virtual time of the bubble
		synctest.Wait()
		if m.Snapshot().Members.Has("srv-1") {
			t.Error("the member is still there after its lease expired")
		}
		_ = stop()
	})
}

func TestTheCandidateWithTheLowestCreateRevisionLeads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		m, stop := b.run()
		var leases []kv.LeaseID
		for range 3 {
			l, _ := b.mem.Grant(t.Context(), 60*time.Second)
			leases = append(leases, l)
		}
		first := b.commit(b.keys.PutLeader("srv-3", leases[2]))
		second := b.commit(b.keys.PutLeader("srv-1", leases[0]))
		want := pool.Leader{Server: "srv-3", Revision: first, Key: b.keys.Leader(leases[2])}
		if got := b.at(m, second).Leader; got != want {
			t.Errorf("leader %+v, want %+v", got, want)
		}
		if err := b.mem.Revoke(t.Context(), leases[2]); err != nil {
			t.Fatal(err)
		}
		if got := b.at(m, second+1).Leader; got.Server != "srv-1" || got.Revision != second {
			t.Errorf("after the first left: leader %+v, want srv-1 at %d", got, second)
		}
		read, ok, err := b.store.ReadLeader(t.Context())
		if err != nil || !ok || read != m.Snapshot().Leader {
			t.Errorf("read %+v, %v, %v, mirror has %+v", read, ok, err, m.Snapshot().Leader)
		}
		_ = stop()
	})
}

func TestTheMirrorListsAnewAfterCompaction(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		m, stop := b.run()
		b.at(m, 1)
		b.mem.Break(pool.ErrUnavailable)
		time.Sleep(time.Second) //nolint:forbidigo // virtual time of the bubble
		b.mem.Break(nil)
		b.commit(b.keys.PutClaim(heldClaim("a", "srv-1", 5)))
		b.commit(b.keys.PutClaim(heldClaim("b", "srv-1", 5)))
		rev := b.commit(b.keys.DeleteClaim("a"))
		if err := b.mem.Compact(rev); err != nil {
			t.Fatal(err)
		}
		snap := b.at(m, rev)
		if snap.Claims.Has("a") || !snap.Claims.Has("b") {
			t.Errorf("claims %v, want only b", snap.Claims.Keys())
		}
		_ = stop()
	})
}

func TestContactGetsOldOnlyWhileEtcdIsOutOfReach(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		m, stop := b.run()
		b.at(m, 1)
		time.Sleep(time.Minute) //nolint:forbidigo // virtual time of the bubble
		if !m.Fresh() {
			t.Errorf("quiet for a minute: contact is %v old", b.clock.Now().Sub(m.LastContact()))
		}
		b.mem.Break(pool.ErrUnavailable)
		time.Sleep(2 * patience) //nolint:forbidigo // virtual time of the bubble
		if m.Fresh() {
			t.Error("still fresh although etcd is out of reach")
		}
		b.mem.Break(nil)
		time.Sleep(2 * longDelay) //nolint:forbidigo // virtual time of the bubble
		if !m.Fresh() {
			t.Error("not fresh although etcd is back")
		}
		_ = stop()
	})
}

func TestSubscribersWakeAtEachChangeUntilTheyCancel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		m, stop := b.run()
		b.at(m, 1)
		sig := b.clock.NewSignal()
		cancel := m.Subscribe(sig)
		b.at(m, b.commit(b.keys.PutClaim(heldClaim("a", "srv-1", 5))))
		if !sig.Wait(t.Context(), 0) {
			t.Error("not woken by a change")
		}
		cancel()
		b.at(m, b.commit(b.keys.DeleteClaim("a")))
		synctest.Wait()
		if sig.Wait(t.Context(), 0) {
			t.Error("woken after cancelling")
		}
		_ = stop()
	})
}

func TestTheMirrorStopsAtAnotherLifeOfThePool(t *testing.T) {
	other := pool.DefaultConfig("lab", "22222222-2222-2222-2222-222222222222")
	for name, spoil := range map[string]func(b *bench){
		"replaced while watched": func(b *bench) { b.commit(b.keys.PutConfig(other)) },
		"removed while watched":  func(b *bench) { b.commit(kv.Delete(b.keys.Config())) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t)
				b.t = t
				m, stop := b.run()
				b.at(m, 1)
				spoil(b)
				_, err := m.WaitFor(t.Context(), 1000)
				if !errors.Is(err, ErrOtherLife) {
					t.Errorf("WaitFor: %v, want %v", err, ErrOtherLife)
				}
				if err := stop(); !errors.Is(err, ErrOtherLife) || !strings.Contains(err.Error(), "etcd holds another life of the pool") {
					t.Errorf("Run: %v", err)
				}
			})
		})
	}
}

func TestTheMirrorRefusesAnEtcdThatHoldsNoPool(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.commit(kv.Delete(b.keys.Config()))
		_, stop := b.run()
		synctest.Wait()
		if err := stop(); !errors.Is(err, ErrOtherLife) {
			t.Errorf("Run: %v, want %v", err, ErrOtherLife)
		}
	})
}

func TestWaitForEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		m, stop := b.run()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := m.WaitFor(ctx, 1000); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v, want %v", err, context.DeadlineExceeded)
		}
		_ = stop()
	})
}

func TestSecretsAndTokensNeverEnterASnapshot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		m, stop := b.run()
		rev := b.commit(b.keys.PutSecret("a", []byte("hush")), b.keys.PutToken("t1", []byte("hush"), 0))
		if snap := b.at(m, rev); snap.Corrupt.Len() != 0 {
			t.Errorf("corrupt: %v", snap.Corrupt.Keys())
		}
		_ = stop()
	})
}
