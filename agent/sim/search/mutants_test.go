package search

import (
	"context"
	"slices"

	"github.com/holdfast-ha/holdfast/agent/app"
	"github.com/holdfast-ha/holdfast/agent/failsafe"
	"github.com/holdfast-ha/holdfast/agent/local"
	"github.com/holdfast-ha/holdfast/agent/sim"
	"github.com/holdfast-ha/holdfast/pkg/kv"
	"github.com/holdfast-ha/holdfast/pkg/plan"
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
	// world is what the scenario language has no words for and the story needs, with the defence on or off: an answer
	// that comes late, say.
	world sim.Tamper
	// both are two defences that stand behind each other: harm is found with both switched off, and the same run holds
	// with either of them on.
	both []sim.Tamper
}

func (m mutant) options() Options {
	t := m.world.And(m.tamper)
	for _, b := range m.both {
		t = t.And(b)
	}
	t.NoLocks = t.NoLocks || m.alone
	a := m.aim
	a.guarded = a.guarded || m.alone
	return Options{Seed: 1, Runs: m.runs, Tamper: t, aim: a}
}

// harmless is the same search without the mutation.
func (m mutant) harmless() Options {
	o := m.options()
	o.Tamper = m.world.And(sim.Tamper{NoLocks: m.alone})
	return o
}

// harmlessAlone are the runs that must hold: without the mutation, and with only one of two defences switched off.
func (m mutant) harmlessAlone() []sim.Tamper {
	all := []sim.Tamper{m.harmless().Tamper}
	for _, b := range m.both {
		all = append(all, m.harmless().Tamper.And(b))
	}
	return all
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

// decides mutates what an agent does about a VM: other may change the view, and the decision that follows from it.
func decides(other func(v *local.View, real func() local.Decision) local.Decision) sim.Tamper {
	return agents(func(_ string, e *app.Edges) {
		e.Rules.Decide = func(v local.View) local.Decision {
			return other(&v, func() local.Decision { return local.Decide(v) })
		}
	})
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
var mutants = slices.Concat(ofClaims, ofLeases, ofFailsafe, ofMigration, behindEachOther)
