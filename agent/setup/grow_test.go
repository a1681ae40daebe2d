package setup

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/holdfast-ha/holdfast/agent/etcd"
	"github.com/holdfast-ha/holdfast/pkg/clock"
	"github.com/holdfast-ha/holdfast/pkg/pool"
)

func TestThreeServersFormAPoolThatSurvivesTheLossOfOne(t *testing.T) {
	a := found(t, "srv-1")
	members, err := a.cluster().Members(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := etcd.CheckSurvivesLoss(members); !errors.Is(err, pool.ErrRefused) || !strings.Contains(err.Error(), "srv-1") {
		t.Errorf("one server: %v, want a refusal that names it", err)
	}
	b := a.admit("srv-2", false)
	c := a.admit("srv-3", false)
	stop := a.lead(a, b, c)
	a.votes(a.cluster(), 3, 0)
	if members, err = a.cluster().Members(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := etcd.CheckSurvivesLoss(members); err != nil {
		t.Errorf("three servers: %v", err)
	}
	stop()

	// Every server finds all voters by itself, and so survives the loss of the one that admitted it.
	for _, n := range []*node{a, b, c} {
		if !eventually(t, func() bool {
			eps, err := etcd.LoadEndpoints(n.settings.EtcdDir())
			return err == nil && len(eps) == 3
		}) {
			t.Errorf("%s does not know all voters", n.settings.Server)
		}
	}
	a.kill()
	survivor := open(t, c.m)
	if !survivor.writes(t) {
		t.Fatal("no write is accepted after the loss of one of three")
	}
	snap, err := survivor.store.Load(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	if got := snap.Servers.Keys(); len(got) != 3 {
		t.Errorf("registered servers: %v", got)
	}
	if snap.Config.HA || snap.Config.Incarnation == "" {
		t.Errorf("policy of a new pool: %+v", snap.Config)
	}
	votes := 0
	for _, e := range snap.Events.All() {
		if e.Kind == etcd.EventVotes {
			votes++
		}
	}
	if votes != 4 {
		t.Errorf("%d changes of votes are in the history, want 4: two added, two promoted", votes)
	}

	// It comes back from its own data.
	a.start()
	a.votes(survivor.cluster(), 3, 0)
	if !eventually(t, func() bool {
		all, err := survivor.cluster().Members(t.Context())
		healthy := 0
		for _, m := range all {
			if m.Healthy {
				healthy++
			}
		}
		return err == nil && healthy == 3
	}) {
		t.Error("the lost member did not come back")
	}
}

func TestTwoServersNeedAWitness(t *testing.T) {
	a := found(t, "srv-1")
	b := a.admit("srv-2", false)
	a.lead(a, b)
	cluster := a.cluster()
	a.votes(cluster, 1, 1)
	w := a.admit("wit-1", true)
	a.votes(cluster, 3, 0)
	if w.id == nil || w.settings.Server != "wit-1" {
		t.Errorf("witness: %+v", w.settings)
	}
	b.kill()
	if !a.writes(t) {
		t.Error("no write is accepted with one server and the witness")
	}
	snap, err := a.store.Load(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	if snap.Servers.Has("wit-1") {
		t.Error("the witness is registered as a server: it would be given VMs")
	}
}

func TestAVoteMovesOffAServerThatIsRemovedAndItsDataIsPutAside(t *testing.T) {
	a := found(t, "srv-1")
	b, c := a.admit("srv-2", false), a.admit("srv-3", false)
	a.lead(a, b, c)
	cluster := a.cluster()
	a.votes(cluster, 3, 0)
	if _, err := a.store.Commit(t.Context(), remove(a, "srv-3")); err != nil {
		t.Fatal(err)
	}
	a.votes(cluster, 1, 1)
	if !eventually(t, func() bool {
		seats, err := etcd.ListSeats(t.Context(), a.store)
		return err == nil && len(seats) == 2
	}) {
		t.Error("the removed server's seat is still there")
	}
	cfg, err := etcd.FromSettings(c.settings)
	if err != nil {
		t.Fatal(err)
	}
	if !eventually(t, func() bool { return !exist(cfg.Dir+"/data") && exist(cfg.Dir+"/data.old") }) {
		t.Error("the removed member's data is still in place")
	}
	if !a.writes(t) {
		t.Error("no write is accepted afterwards")
	}
}

func TestAMemberWhoseDataIsLostIsAddedAnew(t *testing.T) {
	a := found(t, "srv-1")
	b, c := a.admit("srv-2", false), a.admit("srv-3", false)
	a.lead(a, b, c)
	cluster := a.cluster()
	a.votes(cluster, 3, 0)
	before, err := cluster.View(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	c.kill()
	wipe(t, c)
	c.start()
	if !eventually(t, func() bool {
		v, err := cluster.View(t.Context())
		return err == nil && etcd.HasVote(v.Members, "srv-3") && idOf(v, "srv-3") != idOf(before, "srv-3")
	}) {
		t.Error("srv-3 has no vote under a new ID")
	}
}

func TestADeposedLeaderMovesNoVote(t *testing.T) {
	a := found(t, "srv-1")
	b, c := a.admit("srv-2", false), a.admit("srv-3", false)
	a.lead(a, b, c)
	cluster := a.cluster()
	a.votes(cluster, 3, 0)
	leader, ok, err := a.store.ReadLeader(t.Context())
	if err != nil || !ok {
		t.Fatal(ok, err)
	}
	stale := leader
	stale.Revision--
	leading := func() (pool.Leader, bool) { return stale, true }
	registry := etcd.Registry{Store: a.store, Leading: leading, Snapshot: func() *pool.Snapshot { return &pool.Snapshot{} }}
	touched := &counting{Membership: cluster}
	k := etcd.NewKeeper(clock.Real(), touched, gone{registry, c.settings.Server}, &etcd.EventAnnouncer{Store: a.store, Clock: clock.Real(), Leading: leading}, a.m.Log)
	if act, err := k.Step(t.Context()); !errors.Is(err, pool.ErrLostLeadership) || act.Kind != etcd.ActionRemove {
		t.Errorf("step %+v, %v: want a removal stopped by ErrLostLeadership", act, err)
	}
	if touched.changes != 0 {
		t.Errorf("%d changes were made", touched.changes)
	}
	if err := registry.Forget(t.Context(), "srv-2"); !errors.Is(err, pool.ErrLostLeadership) {
		t.Errorf("forget a seat: %v", err)
	}
}

// gone makes one seat look removed.
type gone struct {
	etcd.Registry
	name string
}

func (g gone) Seats(ctx context.Context) ([]etcd.Seat, error) {
	all, err := g.Registry.Seats(ctx)
	for i := range all {
		if all[i].Name == g.name {
			all[i].Standing = etcd.StandingGone
		}
	}
	return all, err
}

// counting counts changes of the membership.
type counting struct {
	etcd.Membership
	changes int
}

func (c *counting) Remove(context.Context, uint64) error { c.changes++; return nil }
func (c *counting) Add(context.Context, string) error    { c.changes++; return nil }

func TestAServerIsHeldToThePoolItWasSetUpIn(t *testing.T) {
	a := found(t, "srv-1")
	o, err := LoadOrigin(a.settings.StateDir)
	if err != nil {
		t.Fatal(err)
	}
	if err := CheckPool(t.Context(), a.edge, o); err != nil {
		t.Errorf("its own pool: %v", err)
	}
	for name, other := range map[string]Origin{
		"another pool":         {Pool: "test", Incarnation: o.Incarnation},
		"another life of ours": {Pool: o.Pool, Incarnation: "00000000-0000-4000-8000-000000000000"},
	} {
		if err := CheckPool(t.Context(), a.edge, other); !errors.Is(err, pool.ErrRefused) {
			t.Errorf("%s: %v, want a refusal", name, err)
		}
	}
	if _, err := LoadOrigin(t.TempDir()); err == nil {
		t.Error("an origin was read from nowhere")
	}
}
