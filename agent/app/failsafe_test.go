package app

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-ha/holdfast/agent/failsafe"
	"github.com/holdfast-ha/holdfast/pkg/kv"
	"github.com/holdfast-ha/holdfast/pkg/plan"
	"github.com/holdfast-ha/holdfast/pkg/pool"
)

// roster writes who may lead.
func (b *bed) roster(standing map[pool.ServerID]pool.Standing) {
	b.t.Helper()
	b.write(b.keys.PutRoster(pool.Roster{Standing: standing}))
}

// leads waits for an agent to lead, at most for d, and reports whether it does.
func (b *bed) leads(a *Agent, d time.Duration) bool {
	b.t.Helper()
	for ; d > 0; d -= 100 * time.Millisecond {
		b.pass(100 * time.Millisecond)
		a.mu.Lock()
		lead := a.lead
		a.mu.Unlock()
		if lead != nil {
			if _, ok := lead.Leading(); ok {
				return true
			}
		}
	}
	return false
}

func TestAnAgentThatHasJustStartedLeadsOnlyAfterTPlusLWhereThereIsARoster(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBed(t)
		b.roster(map[pool.ServerID]pool.Standing{"srv-1": pool.StandingInForce})
		a := b.agent(nil)
		end := b.run(a)
		if b.leads(a, 5600*time.Millisecond) {
			t.Error("leads before T + L have passed")
		}
		if !b.leads(a, 3*time.Second) {
			t.Error("does not lead after T + L")
		}
		_ = end()
	})
}

func TestWithoutARosterTheFirstLeaderNeedNotWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBed(t)
		a := b.agent(nil)
		end := b.run(a)
		if !b.leads(a, 2*time.Second) {
			t.Error("does not lead")
		}
		b.pass(3 * time.Second)
		if r := a.Snapshot().Roster; !r.InForce("srv-1") {
			t.Errorf("the roster is %+v", r)
		}
		if m, _ := a.Snapshot().Members.Get("srv-1"); m.RosterRevision != a.Snapshot().Roster.Revision || !m.Failsafe {
			t.Errorf("acknowledged %d of %d", m.RosterRevision, a.Snapshot().Roster.Revision)
		}
		_ = end()
	})
}

func TestAServerThatIsNotInForceDoesNotLead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBed(t)
		b.roster(map[pool.ServerID]pool.Standing{"srv-1": pool.StandingPending, "srv-2": pool.StandingInForce})
		a := b.agent(nil)
		end := b.run(a)
		if b.leads(a, time.Minute) {
			t.Error("leads though it is only pending")
		}
		b.roster(map[pool.ServerID]pool.Standing{"srv-1": pool.StandingInForce, "srv-2": pool.StandingInForce})
		if !b.leads(a, 10*time.Second) {
			t.Error("does not lead though it is in force")
		}
		_ = end()
	})
}

// The winner of an election reads the roster itself: its snapshot may be older than the vacancy.
func TestTheWinnerOfAnElectionReadsTheRosterItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBed(t)
		a := b.agent(nil)
		if ok, err := a.confirmLead(t.Context()); !ok || err != nil {
			t.Errorf("without a roster: %v, %v", ok, err)
		}
		b.pass(time.Minute)
		for standing, want := range map[pool.Standing]bool{pool.StandingPending: false, pool.StandingInForce: true} {
			b.roster(map[pool.ServerID]pool.Standing{"srv-1": standing})
			if ok, err := a.confirmLead(t.Context()); ok != want || err != nil {
				t.Errorf("%v: %v, %v", standing, ok, err)
			}
		}
		b.write(kv.Put(b.keys.Roster(), []byte("{")))
		if ok, err := a.confirmLead(t.Context()); ok || err != nil {
			t.Errorf("a roster that cannot be read: %v, %v", ok, err)
		}
	})
}

// overtaken is an etcd in which somebody else's write lands just before the next transaction, so that its author
// cannot have seen it.
type overtaken struct {
	kv.Store
	by atomic.Pointer[func()]
}

func (o *overtaken) Txn(ctx context.Context, t kv.Txn) (kv.Result, error) {
	if first := o.by.Swap(nil); first != nil {
		(*first)()
	}
	return o.Store.Txn(ctx, t)
}

// idleLeader is a leader that decides nothing by itself, so that a test alone writes as leader.
func idleLeader(plan.Input) plan.Result { return plan.Result{} }

func TestEveryLeaderWriteComparesTheRoster(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBed(t)
		b.roster(map[pool.ServerID]pool.Standing{"srv-1": pool.StandingInForce})
		store := &overtaken{Store: b.etcd}
		a := b.agent(func(_ *Config, e *Edges) { e.Store, e.Rules.Plan = store, idleLeader })
		end := b.run(a)
		if !b.leads(a, 10*time.Second) {
			t.Fatal("does not lead")
		}
		b.pass(5 * time.Second)
		office, _ := a.lead.Leading()
		note := []pool.Change{{Alerts: []pool.Alert{{ID: "x", Kind: "TEST", Text: "x"}}}}
		if errs := a.data.Commit(t.Context(), office, note); errs[0] != nil {
			t.Fatalf("an ordinary write: %v", errs[0])
		}
		change := func() {
			b.roster(map[pool.ServerID]pool.Standing{"srv-1": pool.StandingInForce, "srv-2": pool.StandingInForce})
		}
		store.by.Store(&change)
		if errs := a.data.Commit(t.Context(), office, note); !errors.Is(errs[0], pool.ErrStale) {
			t.Errorf("a write under an old roster: %v", errs[0])
		}
		_ = end()
	})
}

func TestWritesAfterAChangeOfTheRosterCompareTheNewOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBed(t)
		b.roster(map[pool.ServerID]pool.Standing{"srv-1": pool.StandingInForce})
		a := b.agent(func(_ *Config, e *Edges) { e.Rules.Plan = idleLeader })
		end := b.run(a)
		if !b.leads(a, 10*time.Second) {
			t.Fatal("does not lead")
		}
		b.pass(5 * time.Second)
		office, _ := a.lead.Leading()
		grow := pool.Roster{Standing: map[pool.ServerID]pool.Standing{"srv-1": pool.StandingInForce, "srv-2": pool.StandingPending}}
		more := pool.Roster{Standing: map[pool.ServerID]pool.Standing{"srv-1": pool.StandingInForce}}
		errs := a.data.Commit(t.Context(), office, []pool.Change{
			{Alerts: []pool.Alert{{ID: "x", Kind: "TEST", Text: "x"}}}, {Roster: &grow}, {Alerts: []pool.Alert{{ID: "y", Kind: "TEST", Text: "y"}}}, {Roster: &more}})
		if i := slices.IndexFunc(errs, func(err error) bool { return err != nil }); i >= 0 {
			t.Errorf("change %d: %v", i, errs[i])
		}
		_ = end()
	})
}

// unread is an etcd whose single reads fail while it is down.
type unread struct {
	kv.Store
	down atomic.Bool
}

func (u *unread) Get(ctx context.Context, key string) (kv.KeyValue, bool, error) {
	if u.down.Load() {
		return kv.KeyValue{}, false, errors.New("no leader")
	}
	return u.Store.Get(ctx, key)
}

func TestABoundAgentWritesNothingAsLeader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBed(t)
		store := &unread{Store: b.etcd}
		a := b.agent(func(_ *Config, e *Edges) { e.Store = store })
		end := b.run(a)
		if !b.leads(a, 5*time.Second) {
			t.Fatal("does not lead")
		}
		office, _ := a.lead.Leading()
		store.down.Store(true)
		if ok, why := a.Promise(t.Context(), life, 6*time.Second); !ok {
			t.Fatalf("no promise: %s", why)
		}
		if _, leads := a.lead.Leading(); leads {
			t.Error("leads though it has promised not to")
		}
		errs := a.data.Commit(t.Context(), office, []pool.Change{{Alerts: []pool.Alert{{ID: "x", Kind: "TEST", Text: "x"}}}})
		if !errors.Is(errs[0], pool.ErrLostLeadership) {
			t.Errorf("a write of a bound leader: %v", errs[0])
		}
		store.down.Store(false)
		b.pass(6 * time.Second)
		if again, leads := a.lead.Leading(); !leads || again != office {
			until, bound := a.promises.Bound(b.clock.Now())
			t.Errorf("does not lead on after the promise: bound %v for %v, by %+v, was %+v", bound, until.Sub(b.clock.Now()), again, office)
		}
		_ = end()
	})
}

func TestAPromiseForAnotherLifeOfThePoolIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBed(t)
		a := b.agent(nil)
		if ok, why := a.Promise(t.Context(), "22222222-0000-4000-8000-000000000000", time.Second); ok || why == "" {
			t.Errorf("promised %v, %q", ok, why)
		}
	})
}

func TestAServerThatHasLeftALifeOfThePoolPromisesForEverNotToLeadThat(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBed(t)
		const former = "22222222-0000-4000-8000-000000000000"
		a := b.agent(func(c *Config, _ *Edges) { c.Left = []string{former} })
		end := b.run(a)
		if !b.leads(a, 5*time.Second) {
			t.Fatal("does not lead")
		}
		if ok, why := a.Promise(t.Context(), former, time.Hour); !ok {
			t.Errorf("no promise for a life that it can never act in again: %s", why)
		}
		if _, leads := a.lead.Leading(); !leads {
			t.Error("a promise for the former life binds it in this one")
		}
		_ = end()
	})
}

// keptRoster is what an earlier agent left.
type keptRoster struct{ known failsafe.Known }

func (k keptRoster) Load() (failsafe.Known, bool, error) { return k.known, true, nil }
func (k keptRoster) Save(failsafe.Known) error           { return nil }

func TestAnAgentThatStartsWithoutEtcdKnowsWhomToAsk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBed(t)
		known := failsafe.Known{Roster: pool.Roster{Standing: map[pool.ServerID]pool.Standing{"srv-2": pool.StandingInForce}, Revision: 9},
			ReadAt: 12, Incarnation: life, TTL: 8 * time.Second, Addresses: map[pool.ServerID]string{"srv-2": "10.0.0.2:7443"}}
		a := b.agent(func(_ *Config, e *Edges) { e.Roster = keptRoster{known} })
		d := a.Directory()
		if s, ok := d.Servers.Get("srv-2"); !ok || s.Address != "10.0.0.2:7443" || d.Config.Incarnation != life {
			t.Errorf("it knows %+v", d.Servers)
		}
		if got := a.timing().TTL; got != 8*time.Second {
			t.Errorf("it goes by a lease of %v", got)
		}
	})
}
