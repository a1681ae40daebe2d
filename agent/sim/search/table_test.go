package search

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/holdfast-ha/holdfast/agent/app"
	"github.com/holdfast-ha/holdfast/agent/guard"
	"github.com/holdfast-ha/holdfast/agent/local"
	"github.com/holdfast-ha/holdfast/agent/sim"
	"github.com/holdfast-ha/holdfast/pkg/kv"
	"github.com/holdfast-ha/holdfast/pkg/plan"
	"github.com/holdfast-ha/holdfast/pkg/pool"
)

// ofClaims are the rules by which claims and domains change.
var ofClaims = []mutant{
	{name: "etcd's transactions without compare-and-swap", runs: 400,
		tamper: txns(func(ctx context.Context, t kv.Txn, real txnFunc) (kv.Result, error) {
			if len(t.Then) > 0 {
				t.If = nil
			}
			return real(ctx, t)
		})},
	{name: "leader writes without the guard of the election key", runs: 400,
		tamper: txns(func(ctx context.Context, t kv.Txn, real txnFunc) (kv.Result, error) {
			return real(ctx, unless(t, func(c kv.Compare) bool { return below(c.Key, "leader") && len(puts(t, "leader")) == 0 }))
		})},
	{name: "armed is cleared after the guard let go", alone: true, runs: 300,
		aim: aim{fencing: "guard", incident: switchedOff},
		tamper: agents(func(_ string, e *app.Edges) {
			if e.Guard == nil {
				return
			}
			e.Store = otherStore{e.Store, func(ctx context.Context, t kv.Txn, real txnFunc) (kv.Result, error) {
				for _, op := range puts(t, "claims", `PHASE_HELD"`) {
					if len(puts(kv.Txn{Then: []kv.Op{op}}, "claims", `"armed"`)) == 0 {
						_ = e.Guard.LetGo(ctx, pool.VMID(op.Key[strings.LastIndex(op.Key, "/")+1:]))
					}
				}
				return real(ctx, t)
			}}
		})},
	{name: "created running instead of paused", alone: true, runs: 300,
		aim: aim{fencing: "none", incident: startAndCut},
		tamper: agents(func(_ string, e *app.Edges) {
			h := e.Hypervisor
			e.Hypervisor = eager{Hypervisor: h, create: func(ctx context.Context, xml string, m local.Marker) (local.Domain, error) {
				d, err := h.Create(ctx, xml, m)
				if err == nil {
					err = h.Resume(ctx, m.VM, m)
				}
				return d, err
			}}
		})},
	{name: "CPUs started on reading ASSIGNED", alone: true, runs: 300,
		aim: aim{fencing: "none", incident: startAndCut},
		tamper: agents(func(_ string, e *app.Edges) {
			e.Rules.Decide = func(v local.View) local.Decision {
				d := local.Decide(v)
				if d.Step == local.StepWriteHeld && v.Claim.Phase == pool.PhaseAssigned && v.Domain != nil && v.Domain.Marker != nil && !v.Domain.Marker.Started {
					d.Step = local.StepResume
				}
				return d
			}
		})},
	{name: "a claim that no writer of Holdfast's can have written is obeyed", runs: 100, alone: true,
		story: forged,
		tamper: decides(func(v *local.View, _ func() local.Decision) local.Decision {
			trusting := *v
			trusting.Foreign, trusting.Unseen = false, false
			return local.Decide(trusting)
		})},
	{name: "a write whose outcome is unknown is taken for done", alone: true, runs: 300,
		aim: aim{fencing: "none", incident: startAndCut},
		tamper: txns(func(ctx context.Context, t kv.Txn, real txnFunc) (kv.Result, error) {
			res, err := real(ctx, t)
			if errors.Is(err, pool.ErrOutcomeUnknown) && len(puts(t, "claims", `PHASE_HELD"`)) > 0 {
				return kv.Result{Applied: true, Revision: 1 << 40}, nil
			}
			return res, err
		})},
	{name: "a claim is released before the process is seen dead", runs: 400,
		tamper: agents(func(_ string, e *app.Edges) {
			h := e.Hypervisor
			e.Hypervisor = eager{Hypervisor: h, dead: true, kill: func(_ context.Context, p guard.Process) error {
				e.Clock.Go("kill", func() { _ = h.Kill(context.Background(), p) })
				return nil
			}}
		})},
	{name: "a paused VM runs on without a re-assert", alone: true, runs: 300,
		aim:    aim{fencing: "guard", pool: "on-isolation=pause", incident: shortCut},
		tamper: agents(func(_ string, e *app.Edges) { e.Store = resumer{e.Store, e} })},
	{name: "adopted as the agent remembers the claim, without a linearizable look at it", alone: true, runs: 100,
		story: homeAgain, world: oldView,
		tamper: agents(func(server string, e *app.Edges) { e.Store = &believesMemory{Store: e.Store, server: server} })},
}

// ofLeases are the rules of deadlines, guards and proofs.
var ofLeases = []mutant{
	{name: "no guard: its kills do nothing", alone: true, runs: 400,
		tamper: sim.Tamper{Kills: func(p guard.Processes) guard.Processes { return toothless{p} }}},
	{name: "deadlines counted from the reply instead of the request", alone: true, runs: 300,
		aim: aim{fencing: "guard", incident: lateReply},
		tamper: agents(func(_ string, e *app.Edges) {
			b := &byReply{Leases: e.Leases, Client: e.Guard, clock: e.Clock}
			e.Leases = b
			if e.Guard != nil {
				e.Guard = b
			}
		})},
	{name: "a renewal that failed counts as one that did not", alone: true, runs: 400,
		tamper: agents(func(_ string, e *app.Edges) { e.Leases = hopeful{e.Leases} })},
	{name: "no L: the leader acts as soon as the lease is gone (watchdog as proof)", runs: 400,
		aim: aim{fencing: "watchdog", vm: "disks=block", incident: frozenGuard},
		tamper: plans(func(in *plan.Input) {
			lost := map[pool.ServerID]plan.Sight{}
			for id, s := range in.Lost {
				s.Since = 1
				lost[id] = s
			}
			in.Lost = lost
		})},
	{name: "a watchdog that is said to be armed and is not", runs: 400,
		aim: aim{fencing: "watchdog", vm: "disks=block", incident: frozenGuard},
		tamper: sim.Tamper{Guard: func(c *guard.LoopConfig) {
			if c.Watchdog != nil {
				c.Watchdog = idleDog{10 * time.Second}
			}
		}}},
	{name: "an unarmed VM is failed over", alone: true, runs: 400,
		tamper: plans(func(in *plan.Input) {
			s := *in.Snapshot
			for id, c := range s.Claims.All() {
				if c.Phase.Owned() && !c.Armed {
					c.Armed = true
					s.Claims = s.Claims.With(id, c)
				}
			}
			in.Snapshot = &s
		})},
	{name: "disk locks forced", runs: 300, tamper: sim.Tamper{NoLocks: true},
		aim: aim{fencing: "guard", incident: frozenGuard}},
	{name: "a power-off counts before the device says off", alone: true, runs: 400,
		aim:    aim{fencing: "power", incident: outage},
		tamper: agents(func(_ string, e *app.Edges) { e.Fencer = believer{e.Fencer, e.Clock} })},
	{name: "a restarted guard does not read back what it held", alone: true, runs: 300,
		aim:    aim{fencing: "guard", incident: guardRestart},
		tamper: sim.Tamper{Guard: func(c *guard.LoopConfig) { c.Memory = nil }}},
	{name: "the guard's hold is not waited for", alone: true, runs: 300,
		aim: aim{fencing: "guard", incident: startAndCut},
		tamper: agents(func(_ string, e *app.Edges) {
			if e.Guard != nil {
				e.Guard = &hurried{looseHand{Client: e.Guard, loose: map[guard.Process]guard.Held{}}, e.Clock}
			}
		})},
	{name: "a power proof used for a later session", alone: true, runs: 100,
		story: cutAgain, world: lateAnswer(15 * time.Second),
		tamper: plans(func(in *plan.Input) {
			power := map[pool.ServerID]plan.Power{}
			for id, p := range in.Power {
				p.Session = pool.Session(in.Snapshot.Revision)
				power[id] = p
			}
			in.Power = power
		})},
	{name: "the member key is overwritten, so that a later life has the session of an earlier one", alone: true, runs: 100,
		story: backAtOnce, world: lateAnswer(6 * time.Second),
		tamper: agents(func(server string, e *app.Edges) {
			e.Store = &overwriter{Store: e.Store, server: server, mine: map[kv.LeaseID]bool{}}
		})},
}
