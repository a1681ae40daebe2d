package search

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/holdfast-ha/holdfast/agent/app"
	"github.com/holdfast-ha/holdfast/agent/failsafe"
	"github.com/holdfast-ha/holdfast/agent/guard"
	"github.com/holdfast-ha/holdfast/agent/local"
	"github.com/holdfast-ha/holdfast/agent/sim"
	"github.com/holdfast-ha/holdfast/pkg/kv"
	"github.com/holdfast-ha/holdfast/pkg/plan"
	"github.com/holdfast-ha/holdfast/pkg/pool"
	"github.com/holdfast-ha/holdfast/pkg/store"
)

// mutant is Holdfast with one defence switched off, or one rule reversed.
type mutant struct {
	// name stands in the table of docs/safety.md.
	name   string
	tamper sim.Tamper
	// alone: the disk locks stop nobody, so that the defence stands alone. The same search without the mutation finds
	// nothing.
	alone bool
	aim   aim
	// story makes up the scenario of a run, in place of the search.
	story func(n uint64) string
	// runs is how many runs at most it may take.
	runs int
}

func (m mutant) options() Options {
	t := m.tamper
	t.NoLocks = t.NoLocks || m.alone
	a := m.aim
	a.guarded = a.guarded || m.alone
	return Options{Seed: 1, Runs: m.runs, Tamper: t, aim: a}
}

// harmless is the same search without the mutation.
func (m mutant) harmless() Options {
	o := m.options()
	o.Tamper = sim.Tamper{NoLocks: m.alone}
	return o
}

// agents mutates every agent.
func agents(f func(server string, e *app.Edges)) sim.Tamper { return sim.Tamper{Agent: f} }

// txns mutates every transaction of every agent.
func txns(f func(ctx context.Context, t kv.Txn, real txnFunc) (kv.Result, error)) sim.Tamper {
	return sim.Tamper{Store: func(s kv.Store) kv.Store { return otherStore{s, f} }}
}

// failsafes mutates rules of the failsafe.
func failsafes(r failsafe.Rules) sim.Tamper {
	return agents(func(_ string, e *app.Edges) { e.Rules.Failsafe = r })
}

// plans mutates what the leader's plan looks at.
func plans(f func(*plan.Input)) sim.Tamper {
	return agents(func(_ string, e *app.Edges) {
		e.Rules.Plan = func(in plan.Input) plan.Result {
			f(&in)
			return plan.Plan(in)
		}
	})
}

// mutants is the mutation table.
var mutants = []mutant{
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
	{name: "a power-off counts before the device says off", alone: true, runs: 400,
		aim:    aim{fencing: "power", incident: outage},
		tamper: agents(func(_ string, e *app.Edges) { e.Fencer = believer{e.Fencer, e.Clock} })},
	{name: "a restarted guard does not read back what it held", alone: true, runs: 300,
		aim:    aim{fencing: "guard", incident: guardRestart},
		tamper: sim.Tamper{Guard: func(c *guard.LoopConfig) { c.Memory = nil }}},

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
	{name: "migration: resume on \"paused\" alone, before the hand-over", runs: 300, alone: true,
		story: breaksAtTheEnd,
		tamper: agents(func(_ string, e *app.Edges) {
			h := e.Hypervisor
			e.Hypervisor = arrivals{h, func(ctx context.Context, d local.Domain) { _ = h.Resume(ctx, d.VM, *d.Marker) }}
		})},
}

// after lets a time pass that lies between two bounds.
func (m *maker) after(from, to time.Duration) {
	m.at += (from + time.Duration(m.Int64N(int64(to-from)+1))).Round(time.Millisecond)
}

// lateReply: a renewal's answer comes, and the agent reads it only seconds later, when its server is cut off.
func lateReply(m *maker) {
	s := pick(m, m.up)
	m.say("slow %s %v", s, pick(m, []time.Duration{100 * time.Millisecond, 200 * time.Millisecond}))
	m.after(time.Second, 3*time.Second)
	m.say("agent hang %s", s)
	m.after(100*time.Millisecond, 3*time.Second)
	m.say("cut %s", s)
	m.after(0, time.Second)
	m.say("agent resume %s", s)
}

// frozenGuard: a guard stands still just before its server is cut off.
func frozenGuard(m *maker) {
	s := pick(m, m.up)
	m.say("guard hang %s", s)
	m.after(0, 200*time.Millisecond)
	m.say("cut %s", s)
	m.after(20*time.Second, 30*time.Second)
}

// guardRestart: a guard is restarted while its agent is dead and its server cut off.
func guardRestart(m *maker) {
	s := pick(m, m.up)
	m.say("agent kill %s", s)
	m.say("guard kill %s", s)
	m.say("guard start %s", s)
	m.say("cut %s", s)
	m.after(20*time.Second, 30*time.Second)
}

// switchedOff: HA of a VM goes off and on again while its server is cut off.
func switchedOff(m *maker) {
	s, vm := pick(m, m.up), pick(m, m.vms)
	off, on := "ha off "+vm, "ha on "+vm
	if m.chance(40) {
		off, on = "freeze", "unfreeze"
	}
	m.say("%s", off)
	if m.chance(50) {
		m.after(0, 20*time.Millisecond)
	}
	m.say("cut %s", s)
	m.after(0, 10*time.Millisecond)
	m.say("%s", on)
	m.after(15*time.Second, 20*time.Second)
}

// startAndCut: a server is cut off while it starts a VM.
func startAndCut(m *maker) {
	s, vm := pick(m, m.up), pick(m, m.vms)
	m.say("restart %s", vm)
	m.after(0, 8*time.Second)
	m.say("cut %s", s)
	m.after(15*time.Second, 30*time.Second)
	m.say("heal %s", s)
}

// shortCut: a server is cut off for a little longer than its lease.
func shortCut(m *maker) {
	s := pick(m, m.up)
	m.say("cut %s", s)
	m.after(4*time.Second, 20*time.Second)
	m.say("heal %s", s)
}

// outage: a server is lost, comes back, and is cut off later.
func outage(m *maker) {
	s := pick(m, m.up)
	m.say("cut %s", s)
	m.after(8*time.Second, 20*time.Second)
	m.say("heal %s", s)
	m.say("power on %s", s)
	m.after(time.Second, 10*time.Second)
	m.say("restart %s", pick(m, m.vms))
	m.after(time.Second, 5*time.Second)
	m.say("cut %s", s)
	m.after(10*time.Second, 20*time.Second)
}

// halved: a partition, with etcd in one part of it; a server may have come shortly before.
func halved(m *maker) {
	if m.chance(40) {
		s := pick(m, m.up)
		m.say("power off %s", s)
		m.after(8*time.Second, 15*time.Second)
		m.say("power on %s", s)
		m.after(time.Second, 4*time.Second)
	}
	if len(m.servers) < 3 {
		return
	}
	m.split()
	m.after(8*time.Second, 25*time.Second)
	m.say("heal all")
	m.after(time.Second, 10*time.Second)
}

// regained: all lose their way to etcd, and one finds it again while the others still let their VMs run on its promise; it
// may have been restarted just before.
func regained(restarted bool) func(uint64) string {
	return func(n uint64) string {
		again := 10*time.Second + time.Duration(n)*170*time.Millisecond
		text := "servers s1 s2 s3\nleader s1\nvm a on=s2\nat 3s cut s1 etcd\nat 3s cut s2 etcd\nat 3s cut s3 etcd\n"
		if restarted {
			text += fmt.Sprintf("at %v agent kill s1\nat %v agent start s1\n", again-200*time.Millisecond, again-100*time.Millisecond)
		}
		return text + fmt.Sprintf("at %v heal s1\nat 60s heal all\n", again)
	}
}

// newcomer: a server joins while another can read nothing, and then is the only one that reaches etcd.
func newcomer(n uint64) string {
	cut := 10*time.Second + time.Duration(n)*300*time.Millisecond
	return fmt.Sprintf("servers s1 s2 s3\nserver s4 up=no\nleader s1\nvm a on=s2\nat 3s etcd freeze s2\nat 5s power on s4\n"+
		"at %[1]v cut s1 etcd\nat %[1]v cut s2 etcd\nat %[1]v cut s3 etcd\nat 60s heal all\n", cut)
}

// ending is about when the copy of a VM of 256 MB ends that begins at 3 s, moved on a little with each run.
func ending(n uint64) time.Duration {
	return 5500*time.Millisecond + time.Duration(n)*12*time.Millisecond
}

const twoHomes = "servers s1 s2 s3\nleader s3\nvm a on=s1 memory=256M dirty-rate=1M require=s1,s2\nat 3s migrate a s2\n"

// lateHandOver: the write of the hand-over hangs; meanwhile the source is lost and the VM starts on a third server.
func lateHandOver(n uint64) string {
	at := ending(n % 64)
	return "servers s1 s2 s3 s4\nleader s3\nvm a on=s1 memory=256M dirty-rate=1M\nat 3s migrate a s2\nat 4s inbound-lock on s2\n" +
		fmt.Sprintf("at %v etcd freeze s1\nat %v agent kill s1\nat %v etcd thaw s1\n", at, at+500*time.Millisecond, at+11*time.Second)
}

// breaksAtTheEnd: the source's libvirt dies, or the way between the two ends, around the end of the copy.
func breaksAtTheEnd(n uint64) string {
	what := "libvirtd kill s1"
	if n%2 == 0 {
		what = "cut s1 from s2"
	}
	return twoHomes + fmt.Sprintf("at %v %s\nat 60s heal all\nat 60s libvirtd start s1\n", ending(n), what)
}
