package lease_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-ha/holdfast/pkg/kv"
	"github.com/holdfast-ha/holdfast/pkg/lease"
	"github.com/holdfast-ha/holdfast/pkg/lease/leasetest"
	"github.com/holdfast-ha/holdfast/pkg/pool"
)

func TestSessionIsNumberedByTheMemberKeysCreateRevision(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		a := r.start()
		r.sleep(time.Second)
		info := r.session(a)
		key, ok := r.etcd.Peek(r.memberKey())
		if !ok || pool.Session(key.CreateRevision) != info.Session || key.Lease != info.LeaseID {
			t.Errorf("member key %+v, session %+v", key, info)
		}
		r.sleep(time.Hour)
		if later := r.session(a); later.Session != info.Session {
			t.Errorf("session %d became %d in a quiet hour", info.Session, later.Session)
		}
		if n := r.client.Count("txn"); n != 1 {
			t.Errorf("an idle hour made %d writes, want only the member key", n)
		}
	})
}

// The request reaches etcd at once and the reply takes 0.7 s. Counted from the reply, the deadline would lie after
// the moment at which the member key goes.
func TestDeadlineIsCountedFromBeforeTheRenewalWasSent(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		a := r.start()
		r.sleep(100 * time.Millisecond)
		r.client.SetFault(leasetest.Only("keepalive", func(ctx context.Context, _ leasetest.Call, do func() error) error {
			err := do()
			_ = r.clock.Sleep(ctx, 700*time.Millisecond)
			return err
		}))
		r.sleep(30 * time.Second)
		r.client.SetFault(leasetest.Cut)
		r.sleep(2 * time.Second)
		info := r.session(a)
		for {
			if _, ok := r.etcd.Peek(r.memberKey()); !ok {
				break
			}
			r.sleep(time.Millisecond)
		}
		if gone := r.clock.Now(); gone.Before(info.Deadline) {
			t.Errorf("the member key went %v before the deadline", info.Deadline.Sub(gone))
		}
		if info.KillAt != info.Sent.Add(r.timing.Stop) || info.Deadline != info.Sent.Add(r.timing.TTL) {
			t.Errorf("deadlines %+v do not follow from Sent", info)
		}
	})
}

func TestFirstDeadlineIsCountedFromBeforeTheLeaseWasGranted(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		r.client.SetFault(func(ctx context.Context, c leasetest.Call, do func() error) error {
			if c.Kind == "keepalive" {
				return leasetest.Cut(ctx, c, do)
			}
			err := do()
			if c.Kind == "grant" || c.Kind == "txn" {
				_ = r.clock.Sleep(ctx, 600*time.Millisecond)
			}
			return err
		})
		began := r.clock.Now()
		a := r.start()
		r.sleep(1300 * time.Millisecond)
		if info := r.session(a); info.Sent != began {
			t.Errorf("first deadline is counted from %v after the grant was sent", info.Sent.Sub(began))
		}
	})
}

func TestLostReplyOfTheMemberKeysCreationIsReadBack(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		r.client.SetFault(leasetest.Only("txn", leasetest.LoseReply))
		a := r.start()
		r.sleep(2 * time.Second)
		if _, ok := a.Current(); ok {
			t.Fatal("a session without any acknowledged write")
		}
		r.client.SetFault(nil)
		r.sleep(time.Second)
		key, _ := r.etcd.Peek(r.memberKey())
		if info := r.session(a); pool.Session(key.CreateRevision) != info.Session {
			t.Errorf("session %d, member key %+v", info.Session, key)
		}
	})
}

func TestCreationThatLandsAfterItWasGivenUpIsStillOurs(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		var first atomic.Bool
		r.client.SetFault(leasetest.Only("txn", func(ctx context.Context, c leasetest.Call, do func() error) error {
			if first.Swap(true) {
				return do()
			}
			go func() {
				_ = r.clock.Sleep(t.Context(), 850*time.Millisecond)
				_ = do()
			}()
			return leasetest.Cut(ctx, c, nil)
		}))
		a := r.start()
		r.sleep(2 * time.Second)
		key, _ := r.etcd.Peek(r.memberKey())
		if info := r.session(a); pool.Session(key.CreateRevision) != info.Session {
			t.Errorf("session %d, member key %+v", info.Session, key)
		}
	})
}

func TestMemberThatHangsIsLeftForTheNext(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		a := r.start()
		r.sleep(100 * time.Millisecond)
		r.client.SetFault(leasetest.Only("keepalive", func(ctx context.Context, c leasetest.Call, do func() error) error {
			if c.Attempt%3 == 0 {
				return leasetest.Cut(ctx, c, do)
			}
			return do()
		}))
		before := r.session(a)
		for range 3000 {
			r.sleep(10 * time.Millisecond)
			if !a.Allows(r.clock.Now()) {
				t.Fatal("the stop time passed although two members of three answer")
			}
		}
		if after := r.session(a); after.Session != before.Session {
			t.Errorf("session changed from %d to %d", before.Session, after.Session)
		}
	})
}

func TestLostLeaseEndsTheSessionAndANewOneBegins(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		a := r.start()
		told := r.clock.NewSignal()
		a.Subscribe(told)
		r.sleep(time.Second)
		told.Wait(t.Context(), 0)
		old := r.session(a)
		r.client.SetFault(leasetest.Cut)
		r.sleep(ttl + time.Second)
		if a.Allows(r.clock.Now()) {
			t.Error("starts are allowed past the stop time")
		}
		r.client.SetFault(nil)
		if !told.Wait(t.Context(), 3*time.Second) {
			t.Fatal("nobody was told")
		}
		r.sleep(time.Second)
		if info := r.session(a); info.Session <= old.Session {
			t.Errorf("session %d after the lost one %d", info.Session, old.Session)
		}
		if !a.Allows(r.clock.Now()) {
			t.Error("starts are not allowed under the new session")
		}
	})
}

// Replies are lost for longer than P, but the renewals arrive: the key was there all the time.
func TestRenewalThatSucceedsPastTheStopTimeContinuesTheSession(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		a := r.start()
		r.sleep(time.Second)
		before := r.session(a)
		r.client.SetFault(leasetest.Only("keepalive", leasetest.LoseReply))
		r.sleep(10 * time.Second)
		if a.Allows(r.clock.Now()) {
			t.Error("starts are allowed without an answer for longer than P")
		}
		r.client.SetFault(nil)
		r.sleep(time.Second)
		if after := r.session(a); after.Session != before.Session || !a.Allows(r.clock.Now()) {
			t.Errorf("session %d became %d, allowed %v", before.Session, after.Session, a.Allows(r.clock.Now()))
		}
	})
}

func TestSessionKeptByAnAgentThatDiedIsTakenOver(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		a := r.start()
		r.sleep(time.Second)
		before := r.session(a)
		a.kill()
		r.sleep(2 * time.Second)
		began := r.clock.Now()
		b := r.start()
		r.sleep(100 * time.Millisecond)
		after := r.session(b)
		if after.Session != before.Session || after.LeaseID != before.LeaseID {
			t.Errorf("session %+v became %+v", before, after)
		}
		if after.Sent < began {
			t.Error("deadlines go by what the earlier agent sent")
		}
		if !b.Allows(r.clock.Now()) {
			t.Error("starts are not allowed after the guard answered")
		}
	})
}

func TestSessionThatEndedMeanwhileIsNotTakenOver(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		a := r.start()
		r.sleep(time.Second)
		before := r.session(a)
		a.kill()
		r.sleep(2 * ttl)
		b := r.start()
		r.sleep(time.Second)
		if after := r.session(b); after.Session <= before.Session {
			t.Errorf("session %d after %d", after.Session, before.Session)
		}
	})
}

func TestMemberKeyOfAnUnknownLifeIsWaitedFor(t *testing.T) {
	for name, spoil := range map[string]func(r *rig){
		"state file lost":       func(r *rig) { r.state.state = lease.State{} },
		"state file unreadable": func(r *rig) { r.state.fail = errors.New("input/output error") },
		"other incarnation":     func(r *rig) { r.incarnation = "two" },
		"other lease":           func(r *rig) { r.state.state.Lease++ },
		"other session":         func(r *rig) { r.state.state.Session++ },
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, r *rig) {
				a := r.start()
				r.sleep(1100 * time.Millisecond)
				before := r.session(a)
				a.kill()
				spoil(r)
				b := r.start()
				r.sleep(3 * time.Second)
				if _, ok := b.Current(); ok {
					t.Fatal("a session that was not its own was taken over")
				}
				if key, ok := r.etcd.Peek(r.memberKey()); !ok || pool.Session(key.CreateRevision) != before.Session {
					t.Fatalf("the key was touched: %+v", key)
				}
				r.sleep(ttl)
				if after := r.session(b); after.Session <= before.Session {
					t.Errorf("session %d after %d", after.Session, before.Session)
				}
			})
		})
	}
}

func TestStartsWaitForTheGuardAndRenewalsDoNot(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		r.guard.setFault(func(context.Context, func()) error { return errGuardDown })
		a := r.start()
		r.sleep(time.Minute)
		before := r.session(a)
		if a.Allows(r.clock.Now()) {
			t.Error("starts are allowed without the guard")
		}
		told := r.clock.NewSignal()
		a.Subscribe(told)
		r.guard.setFault(nil)
		if !told.Wait(t.Context(), time.Second) || !a.Allows(r.clock.Now()) {
			t.Error("starts are not allowed although the guard is back")
		}
		if after := r.session(a); after.Session != before.Session {
			t.Error("the session ended because the guard was down")
		}
	})
}

func TestSlowGuardDelaysNoRenewal(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		r.guard.setFault(func(ctx context.Context, _ func()) error { <-ctx.Done(); return ctx.Err() })
		r.start()
		r.sleep(20*r.timing.Renew + 10*time.Millisecond)
		if n := r.client.Count("keepalive"); n != 20 {
			t.Errorf("%d renewals in 20 intervals", n)
		}
	})
}

func TestStartsEndAtTheStopTimeThatTheGuardAcknowledged(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		a := r.start()
		r.sleep(1100 * time.Millisecond)
		r.guard.setFault(func(context.Context, func()) error { return errGuardDown })
		acked := r.guard.lease(r.session(a).Session).KillAt
		r.sleep(acked.Sub(r.clock.Now()) - time.Millisecond)
		if !a.Allows(r.clock.Now()) {
			t.Error("starts ended early")
		}
		r.sleep(time.Millisecond)
		if a.Allows(r.clock.Now()) {
			t.Error("starts are allowed by a renewal that the guard does not know")
		}
	})
}

func TestUpdateMemberKeepsSessionAndLease(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		a := r.start()
		r.sleep(time.Second)
		before, _ := r.etcd.Peek(r.memberKey())
		value := func(kv.LeaseID) []byte { return []byte("new") }
		for range 2 {
			if err := a.UpdateMember(t.Context(), value); err != nil {
				t.Fatal(err)
			}
		}
		after, _ := r.etcd.Peek(r.memberKey())
		if string(after.Value) != "new" || after.CreateRevision != before.CreateRevision || after.Lease != before.Lease {
			t.Errorf("member key %+v became %+v", before, after)
		}
		if n := r.client.Count("txn"); n != 2 {
			t.Errorf("%d writes, want none for an unchanged record", n-1)
		}
	})
}

func TestUpdateMemberFindsOutThatTheKeyIsGone(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		a := r.start()
		r.sleep(time.Second)
		before := r.session(a)
		r.etcd.Remove(r.memberKey())
		err := a.UpdateMember(t.Context(), func(kv.LeaseID) []byte { return []byte("new") })
		if !errors.Is(err, pool.ErrLostSession) {
			t.Errorf("got %v, want ErrLostSession", err)
		}
		r.sleep(time.Second)
		if after := r.session(a); after.Session == before.Session {
			t.Error("the session goes on without its key")
		}
	})
}

func TestReleaseRemovesKeyAndLease(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		a := r.start()
		r.sleep(time.Second)
		info := r.session(a)
		if err := a.Release(t.Context()); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if _, ok := r.etcd.Peek(r.memberKey()); ok || r.etcd.Lives(info.LeaseID) {
			t.Error("key or lease is still there")
		}
		if _, ok := a.Current(); ok || a.Allows(r.clock.Now()) {
			t.Error("the session is still current")
		}
		if err := <-a.done; err != nil {
			t.Errorf("Run returned %v", err)
		}
	})
}
