package search

import (
	"context"
	"strings"
	"time"

	"github.com/holdfast-ha/holdfast/agent/app"
	"github.com/holdfast-ha/holdfast/agent/failsafe"
	"github.com/holdfast-ha/holdfast/agent/local"
	"github.com/holdfast-ha/holdfast/agent/sim"
	"github.com/holdfast-ha/holdfast/pkg/kv"
	"github.com/holdfast-ha/holdfast/pkg/plan"
	"github.com/holdfast-ha/holdfast/pkg/pool"
	"github.com/holdfast-ha/holdfast/pkg/store"
)

// behindEachOther are rules that stand behind another one: neither does harm alone, as far as anybody has found. Each
// row switches off two, shows harm, and that the same run holds with either of them on. docs/safety.md says which covers
// which.
var behindEachOther = []mutant{
	{name: "a deadline per server instead of per session, and the leader takes VMs from a server that is back", alone: true, runs: 100,
		story: outlived, world: stuckReassert,
		both: []sim.Tamper{
			agents(func(_ string, e *app.Edges) {
				if e.Guard != nil {
					e.Guard = perServer{e.Guard}
				}
			}),
			agents(func(_ string, e *app.Edges) { e.Rules.Plan = impatient() }),
		}},
	{name: "failsafe: promises of T only, and no L", runs: 100,
		story: frozenBehind,
		both: []sim.Tamper{
			failsafes(failsafe.Rules{Hold: func(ttl, _ time.Duration) time.Duration { return ttl }}),
			plans(noSettling),
		}},
	{name: "failsafe: an extension permits a start, and CPUs started on reading ASSIGNED", alone: true, runs: 100,
		story: lateCreate,
		both: []sim.Tamper{
			failsafes(failsafe.Rules{Starts: func(lease, promised bool) bool { return lease || promised }}),
			agents(func(_ string, e *app.Edges) { e.Rules.Decide = onAssigned }),
		}},
	{name: "migration: the source goes on without its own write, and hands over before its QEMU is dead", runs: 300, alone: true,
		story: diesInBetween, world: slowHandOver,
		both: []sim.Tamper{
			decides(func(v *local.View, real func() local.Decision) local.Decision {
				d := real()
				switch {
				case d.Step != local.StepEndMigration || v.Domain == nil:
				case v.Domain.State == local.DomainPostMigrate:
					d.Step = local.StepResume
				default:
					d.Step = local.StepNone
				}
				return d
			}),
			agents(func(server string, e *app.Edges) {
				e.Hypervisor = &hasty{Hypervisor: e.Hypervisor, e: e, server: server}
			}),
		}},
}

// noSettling makes the leader act as soon as a lease is gone.
func noSettling(in *plan.Input) {
	lost := map[pool.ServerID]plan.Sight{}
	for id, s := range in.Lost {
		s.Since = 1
		lost[id] = s
	}
	in.Lost = lost
}

// onAssigned lets CPUs run on reading ASSIGNED.
func onAssigned(v local.View) local.Decision {
	d := local.Decide(v)
	if d.Step == local.StepWriteHeld && v.Claim.Phase == pool.PhaseAssigned && v.Domain != nil && v.Domain.Marker != nil && !v.Domain.Marker.Started {
		d.Step = local.StepResume
	}
	return d
}

// impatient plans as ever, and takes VMs from a server that is back with a new session and has not moved their claims to
// it for L.
func impatient() func(plan.Input) plan.Result {
	since := map[pool.VMID]pool.Instant{}
	return func(in plan.Input) plan.Result {
		res, s := plan.Plan(in), in.Snapshot
		for id, c := range s.Claims.All() {
			m, back := s.Members.Get(c.Server)
			if !c.Phase.Owned() || !c.Armed || !back || m.Session <= c.Session {
				delete(since, id)
				continue
			}
			if since[id] == 0 {
				since[id] = in.Now
			}
			t, err := pool.NewTiming(s.Config.LeaseTTL)
			to, ok := elsewhere(s, c.Server)
			if err != nil || !ok || in.Now.Sub(since[id]) < t.Settle {
				continue
			}
			f, _ := s.Fences.Get(c.Server)
			f.Server, f.Session, f.Proof, f.Evidence = c.Server, c.Session, pool.ProofGuard, "its session has ended"
			next := c
			next.Server, next.Session, next.Epoch, next.Phase, next.Armed, next.Watchdog, next.LastServer = to.Server, to.Session, c.Epoch+1, pool.PhaseAssigned, false, 0, c.Server
			res.Actions = append(res.Actions, plan.Action{Kind: plan.Recover, Key: "impatient " + string(id), VM: id, Server: to.Server, Why: "its session has ended",
				Change: pool.Change{Fences: []pool.Fence{f}, Claims: []pool.Claim{next}, Members: []pool.Member{to}}})
		}
		return res
	}
}

// elsewhere returns the first member that is not server.
func elsewhere(s *pool.Snapshot, server pool.ServerID) (pool.Member, bool) {
	for id, m := range s.Members.All() {
		if id != server {
			return m, true
		}
	}
	return pool.Member{}, false
}

// stuckReassert: no write that moves a claim to another session of the same server gets through.
var stuckReassert = agents(func(server string, e *app.Edges) {
	first := pool.Revision(0)
	e.Store = otherStore{e.Store, func(ctx context.Context, t kv.Txn, real txnFunc) (kv.Result, error) {
		for _, c := range t.If {
			if len(puts(t, "claims")) == 0 || c.Target != kv.TargetCreate || !strings.HasSuffix(c.Key, "/members/"+server) {
				continue
			}
			if first == 0 {
				first = c.Equals
			}
			if c.Equals != first {
				_ = e.Clock.Sleep(ctx, time.Minute)
				return kv.Result{}, pool.ErrOutcomeUnknown
			}
		}
		return real(ctx, t)
	}}
})

// slowHandOver: the write of a hand-over takes 3 s on its way to etcd.
var slowHandOver = agents(func(_ string, e *app.Edges) {
	e.Store = otherStore{e.Store, func(ctx context.Context, t kv.Txn, real txnFunc) (kv.Result, error) {
		if len(puts(t, "claims", `PHASE_HANDED_OVER"`)) > 0 {
			if err := e.Clock.Sleep(ctx, 3*time.Second); err != nil {
				return kv.Result{}, pool.ErrOutcomeUnknown
			}
		}
		return real(ctx, t)
	}}
})

// hasty hands a VM over as soon as its copy is complete, while its own QEMU still stands still.
type hasty struct {
	local.Hypervisor
	e      *app.Edges
	server string
	done   map[pool.OperationID]bool
}

func (h *hasty) Domains(ctx context.Context) ([]local.Domain, error) {
	all, err := h.Hypervisor.Domains(ctx)
	for _, d := range all {
		if d.State != local.DomainPostMigrate {
			continue
		}
		h.e.Clock.Go("hand over", func() { h.handOver(d) })
	}
	return all, err
}

func (h *hasty) handOver(d local.Domain) {
	ctx, st := context.Background(), store.New(h.e.Store, store.NewKeys("pool"))
	c, ok, err := st.ReadClaim(ctx, d.VM)
	if err != nil || !ok || c.Phase != pool.PhaseMigrating || c.Incoming == nil || string(c.Server) != h.server || h.done[c.Operation] {
		return
	}
	if h.done == nil {
		h.done = map[pool.OperationID]bool{}
	}
	h.done[c.Operation] = true
	next := c
	next.Server, next.Session, next.Epoch, next.Phase = c.Incoming.Server, c.Incoming.Session, c.Epoch+1, pool.PhaseHandedOver
	next.Incoming, next.LastServer = nil, c.Server
	_, _ = st.Commit(ctx, kv.Txn{If: []kv.Compare{st.Keys().ClaimIs(c.VM, c.Revision)}, Then: []kv.Op{st.Keys().PutClaim(next)}})
}
