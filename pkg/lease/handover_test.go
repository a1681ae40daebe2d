package lease_test

import (
	"context"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/holdfast-ha/holdfast/pkg/kv"
	"github.com/holdfast-ha/holdfast/pkg/lease/leasetest"
	"github.com/holdfast-ha/holdfast/pkg/pool"
)

const grace = time.Minute

func TestPlannedStopKeepsTheSessionForTheNextAgent(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		a := r.start()
		r.sleep(time.Second)
		before := r.session(a)
		began := r.clock.Now()
		if err := a.Handover(t.Context(), grace); err != nil {
			t.Fatal(err)
		}
		if err := <-a.done; err != nil {
			t.Errorf("Run returned %v", err)
		}
		if got, want := r.guard.lease(before.Session).KillAt, began.Add(grace-time.Second); got != want {
			t.Errorf("the guard's stop time is %v, want %v", got, want)
		}
		r.sleep(40 * time.Second)
		b := r.start()
		r.sleep(100 * time.Millisecond)
		if after := r.session(b); after.Session != before.Session {
			t.Errorf("session %d became %d", before.Session, after.Session)
		}
	})
}

// After a planned restart the key must not live on the grace lease for long: a server that dies then would be waited
// for. And the guard must hear of the shorter life before the key moves.
func TestAfterAPlannedRestartTheKeyMovesBackToAShortLease(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		a := r.start()
		r.sleep(time.Second)
		session := r.session(a).Session
		if err := a.Handover(t.Context(), grace); err != nil {
			t.Fatal(err)
		}
		b := r.start()
		r.sleep(5 * time.Second)
		if !b.Allows(r.clock.Now()) {
			t.Error("starts are not allowed after the restart")
		}
		r.client.SetFault(leasetest.Cut)
		killAt := r.guard.lease(session).KillAt
		r.sleep(ttl + 100*time.Millisecond)
		if _, ok := r.etcd.Peek(r.memberKey()); ok {
			t.Error("the member key still lives by the grace lease")
		}
		if !killAt.Before(r.clock.Now()) {
			t.Error("the guard still goes by the grace lease")
		}
	})
}

func TestKeyStaysOnTheGraceLeaseWhileTheGuardDoesNotAnswer(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		a := r.start()
		r.sleep(time.Second)
		if err := a.Handover(t.Context(), grace); err != nil {
			t.Fatal(err)
		}
		key, _ := r.etcd.Peek(r.memberKey())
		r.guard.setFault(func(context.Context, func()) error { return errGuardDown })
		r.start()
		r.sleep(30 * time.Second)
		if now, ok := r.etcd.Peek(r.memberKey()); !ok || now.Lease != key.Lease {
			t.Errorf("the key moved from lease %x to %x although the guard goes by the old one", key.Lease, now.Lease)
		}
	})
}

// The agent gives up on a write of its member record, hands the session over, and then the write arrives. It must
// not bring the key back to the lease that ends first.
func TestLateRecordCannotUndoAHandover(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		a := r.start()
		r.sleep(time.Second)
		r.client.SetFault(leasetest.Only("txn", func(ctx context.Context, c leasetest.Call, do func() error) error {
			go func() {
				_ = r.clock.Sleep(t.Context(), 3*time.Second)
				_ = do()
			}()
			return leasetest.Cut(ctx, c, nil)
		}))
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := a.UpdateMember(ctx, func(kv.LeaseID) []byte { return []byte("late") }); err == nil {
			t.Fatal("the write was acknowledged")
		}
		r.client.SetFault(nil)
		if err := a.Handover(t.Context(), grace); err != nil {
			t.Fatal(err)
		}
		r.sleep(grace / 2)
		if _, ok := r.etcd.Peek(r.memberKey()); !ok {
			t.Error("the member key fell back to the old lease and went with it")
		}
	})
}

// The planned stop loses etcd's answer and the agent exits; its write lands while the next agent is at work.
func TestMoveThatLandsInTheNextAgentsLifeChangesNothing(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		a := r.start()
		r.sleep(time.Second)
		session := r.session(a).Session
		var late atomic.Bool
		r.client.SetFault(leasetest.Only("txn", func(ctx context.Context, c leasetest.Call, do func() error) error {
			if !late.Swap(true) {
				go func() {
					_ = r.clock.Sleep(t.Context(), 2*time.Second)
					_ = do()
				}()
			}
			return leasetest.Cut(ctx, c, nil)
		}))
		ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
		defer cancel()
		if err := a.Handover(ctx, grace); err == nil {
			t.Fatal("the hand-over succeeded without an answer")
		}
		r.client.SetFault(nil)
		b := r.start()
		r.sleep(100 * time.Second)
		info := r.session(b)
		key, ok := r.etcd.Peek(r.memberKey())
		if info.Session != session || !ok || key.Lease != info.LeaseID {
			t.Errorf("session %+v, key %+v", info, key)
		}
	})
}

func TestShorterLeaseOfThePoolIsTakenWithoutLosingTheSession(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		a := r.start()
		r.sleep(time.Second)
		before := r.session(a)
		for _, ttl := range []time.Duration{3 * time.Second, 20 * time.Second} {
			timing, err := pool.NewTiming(ttl)
			if err != nil {
				t.Fatal(err)
			}
			a.SetTiming(timing)
			r.sleep(30 * time.Second)
			info := r.session(a)
			if info.Session != before.Session || info.Deadline.Sub(info.Sent) != ttl {
				t.Errorf("with lease_ttl %v: %+v", ttl, info)
			}
		}
	})
}

func TestKeyDoesNotMoveToAShorterLeaseBeforeTheGuardKnows(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		r.timing, _ = pool.NewTiming(20 * time.Second)
		a := r.start()
		r.sleep(time.Second)
		key, _ := r.etcd.Peek(r.memberKey())
		r.guard.setFault(func(context.Context, func()) error { return errGuardDown })
		short, _ := pool.NewTiming(3 * time.Second)
		a.SetTiming(short)
		r.sleep(10 * time.Second)
		if now, _ := r.etcd.Peek(r.memberKey()); now.Lease != key.Lease {
			t.Error("the key moved although the guard goes by the longer lease")
		}
		r.guard.setFault(nil)
		r.sleep(10 * time.Second)
		if now, _ := r.etcd.Peek(r.memberKey()); now.Lease == key.Lease {
			t.Error("the key did not move once the guard was back")
		}
	})
}

// The guard's answer to a renewal of the longer lease arrives after the move to the shorter one.
func TestSlowAnswerOfTheGuardDoesNotRaiseTheStopTimeAgain(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		r.timing, _ = pool.NewTiming(20 * time.Second)
		a := r.start()
		r.sleep(time.Second)
		var slow atomic.Bool
		r.guard.setFault(func(ctx context.Context, do func()) error {
			do()
			if !slow.Swap(true) {
				return r.clock.Sleep(ctx, 400*time.Millisecond)
			}
			return nil
		})
		short, _ := pool.NewTiming(3 * time.Second)
		a.SetTiming(short)
		for before := r.session(a).LeaseID; r.session(a).LeaseID == before; {
			r.sleep(time.Millisecond)
		}
		r.client.SetFault(leasetest.Cut)
		r.sleep(4 * time.Second)
		if _, ok := r.etcd.Peek(r.memberKey()); ok || a.Allows(r.clock.Now()) {
			t.Errorf("member key there: %v, starts allowed: %v", ok, a.Allows(r.clock.Now()))
		}
	})
}

// Whatever goes wrong, while the guard lets a session's VMs run, its member key is there: nobody else may have them.
func TestMemberKeyOutlivesEveryDeadlineThatTheGuardWasGiven(t *testing.T) {
	for seed := range uint64(60) {
		if !inWeather(t, seed, 4*time.Minute) {
			return
		}
	}
}

// inWeather lets one server's agent live, die and restart for d while etcd and guard answer late, twice or never.
func inWeather(t *testing.T, seed uint64, d time.Duration) bool {
	t.Helper()
	var starts atomic.Int64
	inBubble(t, func(t *testing.T, r *rig) {
		dice := &dice{rand: rand.New(rand.NewPCG(seed, 1))}
		r.client.SetFault(func(ctx context.Context, c leasetest.Call, do func() error) error {
			return dice.weather(ctx, t.Context(), r.clock, func() error { return do() }, func() error { return leasetest.Cut(ctx, c, nil) })
		})
		r.guard.setFault(func(ctx context.Context, do func()) error {
			return dice.weather(ctx, t.Context(), r.clock, func() error { do(); return nil }, func() error { <-ctx.Done(); return ctx.Err() })
		})
		a := r.start()
		end := r.clock.Now().Add(d)
		for r.clock.Now().Before(end) {
			r.sleep(20 * time.Millisecond)
			now := r.clock.Now()
			key, ok := r.etcd.Peek(r.memberKey())
			for _, s := range r.guard.promised() {
				if !ok || pool.Session(key.CreateRevision) != s {
					t.Fatalf("seed %d: VMs of session %d run until %v, but at %v the member key is %+v", seed, s, r.guard.lease(s).KillAt, now, key)
				}
			}
			if a.Allows(now) {
				starts.Add(1)
				if info := r.session(a); !ok || pool.Session(key.CreateRevision) != info.Session {
					t.Fatalf("seed %d: starts are allowed under session %d, key %+v", seed, info.Session, key)
				}
			}
			switch dice.roll(700) {
			case 0:
				a.kill()
				a = r.start()
			case 1:
				ctx, cancel := context.WithTimeout(context.Background(), time.Duration(dice.roll(4000))*time.Millisecond)
				_ = a.Handover(ctx, grace)
				cancel()
				a.kill()
				r.sleep(time.Duration(dice.roll(8)) * time.Second)
				a = r.start()
			case 2:
				r.timing, _ = pool.NewTiming(time.Duration(3+dice.roll(10)) * time.Second)
				a.SetTiming(r.timing)
			case 3:
				ctx, cancel := context.WithTimeout(context.Background(), time.Second)
				_ = a.UpdateMember(ctx, func(kv.LeaseID) []byte { return []byte{byte(dice.roll(256))} })
				cancel()
			case 4:
				dice.turn()
			}
		}
		a.kill()
		r.client.SetFault(nil)
	})
	if starts.Load() == 0 && !t.Failed() {
		t.Errorf("seed %d: starts were never allowed; the test shows nothing", seed)
	}
	return !t.Failed()
}

// dice is shared by goroutines.
type dice struct {
	mu    sync.Mutex
	rand  *rand.Rand
	storm bool
}

func (d *dice) roll(n int) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.rand.IntN(n)
}

// turn changes between fair weather and storm.
func (d *dice) turn() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.storm = !d.storm
}

func (d *dice) weather(ctx, test context.Context, c leasetest.Clock, do, lost func() error) error {
	d.mu.Lock()
	storm := d.storm
	d.mu.Unlock()
	pick, wait := d.roll(100), time.Duration(d.roll(900))*time.Millisecond
	if !storm {
		pick += 92
	}
	switch {
	case pick < 15: // never arrives
		return lost()
	case pick < 30: // arrives, the answer does not
		_ = do()
		return lost()
	case pick < 45: // arrives when nobody waits for it any more
		go func() {
			_ = c.Sleep(test, 3*wait)
			_ = do()
		}()
		return lost()
	case pick < 70: // slow
		if c.Sleep(ctx, wait) != nil {
			return lost()
		}
		err := do()
		if c.Sleep(ctx, wait/2) != nil {
			return lost()
		}
		return err
	}
	return do()
}
