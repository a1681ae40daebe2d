package failsafe_test

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-ha/holdfast/agent/failsafe"
	"github.com/holdfast-ha/holdfast/agent/guard"
	"github.com/holdfast-ha/holdfast/pkg/clock"
	"github.com/holdfast-ha/holdfast/pkg/pool"
)

const ttl = 5 * time.Second

// bubbleClock is the time of the test's bubble.
type bubbleClock struct{ clock.Clock }

func (bubbleClock) Now() pool.Instant { return pool.Instant(time.Now().UnixNano()) }

// rig is server s1 with VMs that its guard holds, among servers that answer as the test says.
type rig struct {
	t     *testing.T
	clock clock.Clock
	book  *failsafe.Book
	keep  *failsafe.Keeper

	mu      sync.Mutex
	trouble bool
	// answers say how each server answers; nil: it promises at once.
	answers map[pool.ServerID]func(ctx context.Context) (bool, string, error)
	asked   []pool.ServerID
	hold    time.Duration
	held    []pool.Session
	told    []guard.Lease
	refuse  error
	// stop is the stop time of the lease; outages are what the keeper told of.
	stop    pool.Instant
	outages []failsafe.Outage
}

func newRig(t *testing.T, standing map[pool.ServerID]pool.Standing) *rig {
	t.Helper()
	r := &rig{t: t, clock: bubbleClock{clock.Real()}, trouble: true, held: []pool.Session{7}, answers: map[pool.ServerID]func(context.Context) (bool, string, error){}}
	book, err := failsafe.NewBook("s1", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.book = book
	if err := book.Learn(snapshot(20, 10, standing), 7); err != nil {
		t.Fatal(err)
	}
	r.keep = failsafe.NewKeeper(failsafe.Config{Server: "s1", Clock: r.clock, Asker: r, Guard: r, Book: book,
		Trouble: func() bool { r.mu.Lock(); defer r.mu.Unlock(); return r.trouble }, Timing: timing,
		StopTime: func() pool.Instant { return r.stop }, Ended: func(o failsafe.Outage) { r.outages = append(r.outages, o) }, Log: slog.New(slog.DiscardHandler)})
	return r
}

func timing() pool.Timing {
	t, _ := pool.NewTiming(ttl)
	return t
}

func snapshot(rev, roster pool.Revision, standing map[pool.ServerID]pool.Standing) *pool.Snapshot {
	cfg := pool.DefaultConfig("test", "life")
	servers := map[pool.ServerID]pool.Server{}
	for id := range standing {
		servers[id] = pool.Server{ID: id, Address: string(id) + ":7443"}
	}
	return &pool.Snapshot{Revision: rev, Config: cfg, Roster: pool.Roster{Standing: standing, Revision: roster}, Servers: pool.NewTable(servers)}
}

func three() map[pool.ServerID]pool.Standing {
	return map[pool.ServerID]pool.Standing{"s1": pool.StandingInForce, "s2": pool.StandingInForce, "s3": pool.StandingInForce}
}

func (r *rig) AskPromise(ctx context.Context, s pool.ServerID, hold time.Duration) (bool, string, error) {
	r.mu.Lock()
	r.asked, r.hold = append(r.asked, s), hold
	f := r.answers[s]
	r.mu.Unlock()
	if f == nil {
		return true, "", nil
	}
	return f(ctx)
}

func (r *rig) Extend(_ context.Context, l guard.Lease) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.told = append(r.told, l)
	return r.refuse
}

func (r *rig) Hold(context.Context, guard.Held) error { return errors.New("not asked for") }
func (r *rig) LetGo(context.Context, pool.VMID) error { return errors.New("not asked for") }
func (r *rig) Status(context.Context) (guard.Status, error) {
	st := guard.Status{Armed: true}
	for _, s := range r.held {
		st.Held = append(st.Held, guard.Held{VM: "v", Session: s})
	}
	return st, nil
}

// step makes one round and returns how the failsafe stands after it.
func (r *rig) step() failsafe.State {
	r.t.Helper()
	r.keep.Step(r.t.Context())
	return r.keep.State()
}

func inBubble(t *testing.T, f func(t *testing.T)) { t.Helper(); synctest.Test(t, f) }

func TestAllOthersOnTheRosterAreAskedAndTheGuardIsToldFromWhenTheyWereAsked(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newRig(t, three())
		r.answers["s3"] = func(context.Context) (bool, string, error) { pass(400 * time.Millisecond); return true, "", nil }
		asked := r.clock.Now()
		if st := r.step(); st.Word != failsafe.Holds || !strings.Contains(st.Text, "VMs keep running, nothing can be changed or recovered") {
			t.Errorf("it stands at %+v", st)
		}
		slices.Sort(r.asked)
		if !slices.Equal(r.asked, []pool.ServerID{"s2", "s3"}) {
			t.Errorf("asked %v, want every server but itself", r.asked)
		}
		if want := timing().TTL + timing().Settle; r.hold != want {
			t.Errorf("asked for %v, want T + L = %v", r.hold, want)
		}
		want := guard.Lease{Session: 7, Sent: asked, KillAt: asked.Add(timing().Stop), Deadline: asked.Add(ttl), Promised: true}
		if len(r.told) != 1 || r.told[0] != want {
			t.Errorf("the guard was told %+v, want %+v", r.told, want)
		}
	})
}

func TestOneMissingOrDifferentAnswerProlongsNothing(t *testing.T) {
	for name, answer := range map[string]func(ctx context.Context) (bool, string, error){
		"reaches etcd": func(context.Context) (bool, string, error) { return false, "it reaches etcd", nil },
		"refuses":      func(context.Context) (bool, string, error) { return false, "", errors.New("connection refused") },
		"is silent":    func(ctx context.Context) (bool, string, error) { <-ctx.Done(); return true, "", ctx.Err() },
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				r := newRig(t, three())
				r.answers["s2"] = answer
				r.step()
				pass(2 * time.Second)
				if st := r.step(); st.Word != failsafe.Fails || !strings.Contains(st.Text, "s2: ") {
					t.Errorf("it stands at %+v", st)
				}
				if len(r.told) != 0 {
					t.Errorf("the guard was told %+v", r.told)
				}
				if r.keep.Prolonged(r.clock.Now()) {
					t.Error("it says that VMs are prolonged")
				}
			})
		})
	}
}

func TestASilentServerHoldsARoundUpForItsLimitOnly(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newRig(t, three())
		r.answers["s2"] = func(ctx context.Context) (bool, string, error) { <-ctx.Done(); return false, "", ctx.Err() }
		began := time.Now()
		r.step()
		if took := time.Since(began); took > timing().Renew {
			t.Errorf("a round took %v, want at most %v", took, timing().Renew)
		}
	})
}

func TestAPendingServerMustBeAskedToo(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		standing := three()
		standing["s4"] = pool.StandingPending
		r := newRig(t, standing)
		r.answers["s4"] = func(context.Context) (bool, string, error) { return false, "it reaches etcd", nil }
		r.step()
		if len(r.told) != 0 {
			t.Errorf("the guard was told %+v", r.told)
		}
	})
}

func TestWithoutARosterNothingIsProlonged(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newRig(t, three())
		if err := r.book.Learn(snapshot(30, 0, nil), 7); err != nil {
			t.Fatal(err)
		}
		r.step()
		if len(r.told) != 0 || len(r.asked) != 0 {
			t.Errorf("asked %v, told the guard %+v", r.asked, r.told)
		}
	})
}

// A session is a create revision. A roster read before it began may lack somebody who was put in force while this
// server was lost.
func TestASessionYoungerThanTheKnownRosterIsNotProlonged(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newRig(t, three())
		r.held = []pool.Session{7, 21}
		r.step()
		for _, l := range r.told {
			if l.Session != 7 {
				t.Errorf("the guard was told %+v", l)
			}
		}
		if err := r.book.Learn(snapshot(25, 10, three()), 21); err != nil {
			t.Fatal(err)
		}
		r.told = nil
		pass(2 * time.Second)
		if r.step(); len(r.told) != 2 {
			t.Errorf("with a roster read since, the guard was told %+v", r.told)
		}
	})
}

func TestNobodyIsAskedWhileRenewalsSucceed(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newRig(t, three())
		r.step()
		r.mu.Lock()
		r.trouble, r.asked = false, nil
		r.mu.Unlock()
		if st := r.step(); st.Word != failsafe.Idle || len(r.asked) != 0 || r.keep.Prolonged(r.clock.Now()) {
			t.Errorf("it stands at %+v, asked %v", st, r.asked)
		}
	})
}

func TestRoundsFollowEachOtherAsLongAsTheTroubleLasts(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newRig(t, three())
		ctx, cancel := context.WithCancel(t.Context())
		go func() { _ = r.keep.Run(ctx) }()
		for range 3600 {
			pass(time.Second)
			if !r.keep.Prolonged(r.clock.Now()) {
				t.Fatalf("nothing is prolonged: %+v", r.keep.State())
			}
		}
		cancel()
		synctest.Wait()
		if n := len(r.told); n < 3000 || n > 4000 {
			t.Errorf("the guard was told %d times in an hour", n)
		}
	})
}

func TestWhatTheGuardRefusesIsSaid(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newRig(t, three())
		r.refuse = guard.ErrLate
		r.step()
		pass(2 * time.Second)
		if st := r.step(); st.Word != failsafe.Fails || !strings.Contains(st.Text, "stop time is not ahead") {
			t.Errorf("it stands at %+v", st)
		}
	})
}

// play makes rounds for d, as Run does, and then lets etcd answer.
func (r *rig) play(d time.Duration) {
	r.t.Helper()
	end := r.clock.Now().Add(d)
	for r.clock.Now().Before(end) {
		pass(max(r.keep.Step(r.t.Context()), time.Millisecond))
	}
	r.set(false)
	r.step()
}

func (r *rig) set(trouble bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.trouble = trouble
}

func TestAnOutageThatVMsLivedThroughIsToldOfOnceWhenItIsOver(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newRig(t, three())
		r.stop = r.clock.Now().Add(3 * time.Second)
		r.play(time.Minute)
		if len(r.outages) != 1 {
			t.Fatalf("told of %+v", r.outages)
		}
		o := r.outages[0]
		if o.Lasted < time.Minute || o.Lasted > 62*time.Second || o.Ended != 0 || !slices.Equal(o.VMs, []pool.VMID{"v"}) || !slices.Equal(o.By, []pool.ServerID{"s2", "s3"}) {
			t.Errorf("told of %+v", o)
		}
		r.step()
		if len(r.outages) != 1 {
			t.Errorf("told again: %+v", r.outages)
		}
	})
}

func TestAnOutageThatTheLeaseOutlivedIsNotToldOf(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newRig(t, three())
		r.stop = r.clock.Now().Add(3 * time.Second)
		r.play(2 * time.Second)
		r.set(true)
		r.held, r.stop = nil, r.clock.Now()
		r.play(time.Minute) // nothing is held
		if len(r.outages) != 0 {
			t.Errorf("told of %+v", r.outages)
		}
	})
}

func TestAnOutageInWhichPromisesEndedTellsWhenAndWhy(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newRig(t, three())
		r.stop = r.clock.Now().Add(3 * time.Second)
		silent := r.clock.Now().Add(30 * time.Second)
		back := r.clock.Now().Add(50 * time.Second)
		r.answers["s3"] = func(context.Context) (bool, string, error) {
			now := r.clock.Now()
			if now.Before(silent) {
				return true, "", nil
			}
			if !now.Before(silent.Add(timing().Stop)) {
				r.mu.Lock()
				r.held = nil // the guard has killed
				r.mu.Unlock()
			}
			return !now.Before(back), "it reaches etcd", nil
		}
		r.play(time.Minute)
		if len(r.outages) != 1 {
			t.Fatalf("told of %+v", r.outages)
		}
		o := r.outages[0]
		if o.Ended < 30*time.Second || o.Ended > 30*time.Second+timing().Stop || o.Why != "s3: it reaches etcd" || !slices.Equal(o.VMs, []pool.VMID{"v"}) {
			t.Errorf("told of %+v", o)
		}
	})
}

// pass lets the bubble's time go by.
func pass(d time.Duration) { _ = clock.Real().Sleep(context.Background(), d) }
