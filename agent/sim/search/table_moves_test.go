package search

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/holdfast-ha/holdfast/agent/app"
	"github.com/holdfast-ha/holdfast/agent/failsafe"
	"github.com/holdfast-ha/holdfast/agent/guard"
	"github.com/holdfast-ha/holdfast/agent/local"
	"github.com/holdfast-ha/holdfast/pkg/kv"
	"github.com/holdfast-ha/holdfast/pkg/plan"
	"github.com/holdfast-ha/holdfast/pkg/pool"
	"github.com/holdfast-ha/holdfast/pkg/store"
)

// ofFailsafe are the rules of promises and of the roster.
var ofFailsafe = []mutant{
	{name: "failsafe: only one other server on the roster is asked", alone: true, runs: 300,
		aim: aim{fencing: "guard", incident: halved},
		tamper: failsafes(failsafe.Rules{Asked: func(r pool.Roster, self pool.ServerID) []pool.ServerID {
			for _, id := range slices.Sorted(maps.Keys(r.Standing)) {
				if id != self {
					return []pool.ServerID{id}
				}
			}
			return nil
		}})},
	{name: "failsafe: a promise binds nobody", alone: true, runs: 300,
		story:  regained(false),
		tamper: failsafes(failsafe.Rules{Bound: func(failsafe.Promise, pool.Instant) bool { return false }})},
	{name: "failsafe: a promise is dropped when etcd is back", alone: true, runs: 300,
		story: regained(false),
		tamper: failsafes(failsafe.Rules{Bound: func(p failsafe.Promise, now pool.Instant) bool {
			return now.Before(p.Until) && p.Contact < p.Given
		}})},
	{name: "failsafe: an agent that has just started does not wait", alone: true, runs: 300,
		story:  regained(true),
		tamper: failsafes(failsafe.Rules{Wait: func(time.Duration) time.Duration { return 0 }})},
	{name: "failsafe: a roster that grows in one step", alone: true, runs: 300,
		story: newcomer,
		tamper: agents(func(_ string, e *app.Edges) {
			e.Rules.Plan = func(in plan.Input) plan.Result {
				res := plan.Plan(in)
				for _, a := range res.Actions {
					if r := a.Change.Roster; r != nil {
						for id := range r.Standing {
							r.Standing[id] = pool.StandingInForce
						}
					}
				}
				return res
			}
		})},
	{name: "failsafe: a pending server may lead", alone: true, runs: 300,
		story: newcomer,
		tamper: failsafes(failsafe.Rules{Leads: func(r pool.Roster, self pool.ServerID) bool { return r.Revision == 0 || r.Standing[self] != 0 }}).
			And(plans(func(in *plan.Input) {
				s := *in.Snapshot
				if _, on := s.Roster.Standing[in.Leader.Server]; !on {
					return
				}
				s.Roster.Standing = maps.Clone(s.Roster.Standing)
				s.Roster.Standing[in.Leader.Server] = pool.StandingInForce
				in.Snapshot = &s
			}))},
	{name: "failsafe: somebody leads at once when confirm-fenced has ended the roster", alone: true, runs: 100,
		story:  endedRoster,
		tamper: failsafes(failsafe.Rules{Anew: func(time.Duration) time.Duration { return 0 }})},
	{name: "failsafe: a roster in force that nobody has acknowledged", alone: true, runs: 300,
		story: newcomer,
		tamper: plans(func(in *plan.Input) {
			s := *in.Snapshot
			for id, m := range s.Members.All() {
				m.RosterRevision = s.Roster.Revision
				s.Members = s.Members.With(id, m)
			}
			in.Snapshot = &s
		})},
}

// ofMigration are the rules of the hand-over.
var ofMigration = []mutant{
	{name: "migration: a hand-over that does not compare the claim and the members", runs: 300,
		story: lateHandOver,
		tamper: txns(func(ctx context.Context, t kv.Txn, real txnFunc) (kv.Result, error) {
			if len(puts(t, "claims", `PHASE_HANDED_OVER"`)) > 0 {
				t.If = nil
			}
			return real(ctx, t)
		})},
	{name: "migration: hand-over by the destination", runs: 300, alone: true,
		story: breaksAtTheEnd,
		tamper: agents(func(server string, e *app.Edges) {
			st := store.New(e.Store, store.NewKeys("pool"))
			e.Hypervisor = arrivals{e.Hypervisor, func(ctx context.Context, d local.Domain) {
				c, ok, err := st.ReadClaim(ctx, d.VM)
				if err != nil || !ok || c.Phase != pool.PhaseMigrating || c.Incoming == nil || string(c.Incoming.Server) != server {
					return
				}
				next := c
				next.Server, next.Session, next.Epoch, next.Phase = c.Incoming.Server, c.Incoming.Session, c.Epoch+1, pool.PhaseHandedOver
				next.Incoming, next.LastServer = nil, c.Server
				_, _ = st.Commit(ctx, kv.Txn{If: []kv.Compare{st.Keys().ClaimIs(c.VM, c.Revision)}, Then: []kv.Op{st.Keys().PutClaim(next)}})
			}}
		})},
	{name: "migration: resume on \"paused\" alone", runs: 300, alone: true,
		story: breaksAtTheEnd,
		tamper: agents(func(_ string, e *app.Edges) {
			h := e.Hypervisor
			e.Hypervisor = arrivals{h, func(ctx context.Context, d local.Domain) { _ = h.Resume(ctx, d.VM, *d.Marker) }}
		})},
	{name: "migration: resume of the expected copy, before the hand-over", runs: 300, alone: true,
		story: breaksAtTheEnd,
		tamper: agents(func(server string, e *app.Edges) {
			h, st := e.Hypervisor, store.New(e.Store, store.NewKeys("pool"))
			e.Hypervisor = arrivals{h, func(ctx context.Context, d local.Domain) {
				c, ok, err := st.ReadClaim(ctx, d.VM)
				if err == nil && ok && c.Phase == pool.PhaseMigrating && c.Incoming != nil && string(c.Incoming.Server) == server && c.Operation == d.Marker.Operation {
					_ = h.Resume(ctx, d.VM, *d.Marker)
				}
			}}
		})},
	{name: "migration: resume outside HANDED_OVER, because the claim names the server", runs: 300, alone: true,
		story: staleCopy,
		tamper: decides(func(v *local.View, real func() local.Decision) local.Decision {
			d := v.Domain
			named := v.HasClaim && v.Claim.Server == v.Me && v.Claim.Session == v.Session && v.Claim.Phase != pool.PhaseHandedOver
			if !named || d == nil || d.State != local.DomainPaused || d.Marker == nil || d.Marker.Operation == "" || d.Marker.Started || !v.MayStart {
				return real()
			}
			return local.Decision{Step: local.StepResume, Why: "the claim names this server"}
		})},
	{name: "migration: \"its QEMU is gone\" is proof enough for the hand-over", runs: 300, alone: true,
		story: goesOnAndDies,
		tamper: agents(func(_ string, e *app.Edges) {
			e.Rules.Decide = func(v local.View) local.Decision {
				v.Moving.Clean = v.Moving.Clean || v.Claim.Phase == pool.PhaseMigrating && v.Moving.Operation == v.Claim.Operation && !v.Moving.Running
				return local.Decide(v)
			}
		})},
	{name: "migration: the guard of the destination does not hold the copy", runs: 100, alone: true,
		story: movedAndCut,
		tamper: agents(func(_ string, e *app.Edges) {
			if e.Guard != nil {
				e.Guard = &looseHand{Client: e.Guard, h: e.Hypervisor, loose: map[guard.Process]guard.Held{}}
			}
		})},
}
