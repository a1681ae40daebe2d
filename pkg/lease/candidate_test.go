package lease_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"testing"
	"time"

	"github.com/holdfast-ha/holdfast/pkg/kv"
	"github.com/holdfast-ha/holdfast/pkg/lease"
	"github.com/holdfast-ha/holdfast/pkg/lease/leasetest"
	"github.com/holdfast-ha/holdfast/pkg/pool"
)

// voter is one server with a session and a candidate.
type voter struct {
	*rig
	agent *agent
	*lease.Candidate
	barred atomic.Bool
}

func (r *rig) stand() *voter {
	v := &voter{rig: r, agent: r.start()}
	v.Candidate = lease.NewCandidate(lease.CandidateConfig{
		Server: r.name, Prefix: prefix + "leader/", MemberKey: r.memberKey(), Session: v.agent.Session,
		MayLead: func(context.Context) bool { return !v.barred.Load() },
		Store:   r.client, Clock: r.clock, Timing: r.timing, Log: r.log,
	})
	ctx, cancel := context.WithCancel(context.Background())
	go func() { _ = v.Run(ctx) }()
	r.t.Cleanup(cancel)
	return v
}

// voters starts n servers, a second apart, so that the first one leads.
func voters(t *testing.T, r *rig, n int) []*voter {
	t.Helper()
	all := []*voter{r.stand()}
	for i := 2; i <= n; i++ {
		r.sleep(time.Second)
		all = append(all, newRig(t, r.etcd, pool.ServerID(fmt.Sprintf("srv-%d", i))).stand())
	}
	r.sleep(time.Second)
	return all
}

// leaders returns who believes to lead.
func leaders(all []*voter) (names []pool.ServerID) {
	for _, v := range all {
		if l, ok := v.Leading(); ok {
			names = append(names, l.Server)
		}
	}
	return names
}

func wantLeader(t *testing.T, all []*voter, want pool.ServerID) {
	t.Helper()
	if got := leaders(all); len(got) != 1 || got[0] != want {
		t.Fatalf("leading: %v, want %s alone", got, want)
	}
}

func TestFirstCandidateLeadsUnderItsKeysCreateRevision(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		all := voters(t, r, 2)
		wantLeader(t, all, "srv-1")
		l, _ := all[0].Leading()
		key, ok := r.etcd.Peek(l.Key)
		info := r.session(all[0].agent)
		if !ok || key.CreateRevision != l.Revision || string(key.Value) != "srv-1" || key.Lease != info.LeaseID {
			t.Errorf("leader %+v, its key %+v", l, key)
		}
		if want := fmt.Sprintf("%sleader/%x", prefix, int64(info.LeaseID)); l.Key != want {
			t.Errorf("election key %q, want %q", l.Key, want)
		}
		writes := all[0].client.Count("txn") + all[1].client.Count("txn")
		r.sleep(time.Hour)
		if now := all[0].client.Count("txn") + all[1].client.Count("txn"); now != writes {
			t.Errorf("an idle hour made %d writes", now-writes)
		}
	})
}

func TestLeaderThatResignsIsFollowedAtOnceAndDoesNotStandAgain(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		all := voters(t, r, 2)
		told := r.clock.NewSignal()
		all[0].Subscribe(told)
		if err := all[0].Resign(t.Context()); err != nil {
			t.Fatal(err)
		}
		if !told.Wait(t.Context(), 0) {
			t.Error("nobody was told that the leadership ended")
		}
		r.sleep(10 * time.Millisecond)
		wantLeader(t, all, "srv-2")
		r.sleep(time.Minute)
		if err := all[1].Resign(t.Context()); err != nil {
			t.Fatal(err)
		}
		r.sleep(time.Minute)
		if got := leaders(all); len(got) != 0 {
			t.Errorf("%v leads after both resigned", got)
		}
		all[0].Stand()
		r.sleep(100 * time.Millisecond)
		wantLeader(t, all, "srv-1")
	})
}

func TestLeaderWhoseKeyIsRemovedKnowsAndStandsAgain(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		all := voters(t, r, 2)
		l, _ := all[0].Leading()
		r.etcd.Remove(l.Key)
		r.sleep(time.Second)
		wantLeader(t, all, "srv-2")
		if n, _, _ := r.client.List(t.Context(), prefix+"leader/"); len(n) != 2 {
			t.Errorf("%d candidates, want 2", len(n))
		}
	})
}

func TestLeaderThatIsCutOffCeasesToLeadBeforeAnotherCan(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		all := voters(t, r, 3)
		r.client.SetFault(leasetest.Cut)
		for range 1000 {
			r.sleep(10 * time.Millisecond)
			if got := leaders(all); len(got) > 1 {
				t.Fatalf("%v lead at once", got)
			}
		}
		wantLeader(t, all, "srv-2")
		r.client.SetFault(nil)
		r.sleep(10 * time.Second)
		wantLeader(t, all, "srv-2")
	})
}

func TestServerThatMayNotLeadDoesNotStand(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		all := voters(t, r, 2)
		all[0].barred.Store(true)
		r.sleep(2 * ttl)
		wantLeader(t, all, "srv-2")
		all[0].barred.Store(false)
		r.sleep(2 * ttl)
		wantLeader(t, all, "srv-2")
	})
}

func TestRestartedAgentLeadsOnByTheSameKey(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		all := voters(t, r, 2)
		before, _ := all[0].Leading()
		all[0].agent.kill()
		r.sleep(time.Second)
		again := r.stand()
		r.sleep(time.Second)
		after, ok := again.Leading()
		if !ok || after != before {
			t.Errorf("leader %+v became %+v", before, after)
		}
	})
}

func TestStandingAgainAfterALostReplyNeedsNoSecondKey(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		a := r.start()
		r.sleep(time.Second)
		_ = a
		a.kill()
		r.client.SetFault(leasetest.Only("txn", func(ctx context.Context, c leasetest.Call, do func() error) error {
			if len(c.Txn.Then) == 1 && c.Txn.Then[0].Key != r.memberKey() {
				return leasetest.LoseReply(ctx, c, do)
			}
			return do()
		}))
		v := r.stand()
		r.sleep(3 * time.Second)
		if n := len(mustList(t, r, prefix+"leader/")); n != 1 {
			t.Errorf("%d election keys", n)
		}
		wantLeader(t, []*voter{v}, "srv-1")
	})
}

func mustList(t *testing.T, r *rig, prefix string) []kv.KeyValue {
	t.Helper()
	all, _, err := r.etcd.Client().List(t.Context(), prefix)
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// In any weather, who believes to lead holds the oldest election key at that moment, so at most one does.
func TestWhoeverLeadsHoldsTheOldestKey(t *testing.T) {
	for seed := range uint64(20) {
		var led atomic.Int64
		inBubble(t, func(t *testing.T, r *rig) {
			dice := &dice{rand: rand.New(rand.NewPCG(seed, 2))}
			all := voters(t, r, 3)
			for _, v := range all {
				v.client.SetFault(func(ctx context.Context, c leasetest.Call, do func() error) error {
					return dice.weather(ctx, t.Context(), r.clock, do, func() error { return leasetest.Cut(ctx, c, nil) })
				})
			}
			for range 6000 {
				r.sleep(20 * time.Millisecond)
				for _, v := range all {
					l, ok := v.Leading()
					if !ok {
						continue
					}
					led.Add(1)
					for _, k := range mustList(t, r, prefix+"leader/") {
						if k.CreateRevision < l.Revision {
							t.Fatalf("seed %d: %s leads by revision %d, yet there is %+v", seed, v.name, l.Revision, k)
						}
					}
					if len(leaders(all)) > 1 {
						t.Fatalf("seed %d: %v lead at once", seed, leaders(all))
					}
				}
				switch dice.roll(400) {
				case 0:
					dice.turn()
				case 1:
					v := all[dice.roll(3)]
					ctx, cancel := context.WithTimeout(context.Background(), time.Second)
					_ = v.Resign(ctx)
					cancel()
					v.Stand()
				}
			}
			for _, v := range all {
				v.client.SetFault(nil)
			}
		})
		if t.Failed() {
			return
		}
		if led.Load() == 0 {
			t.Fatalf("seed %d: nobody ever led; the test shows nothing", seed)
		}
	}
}
