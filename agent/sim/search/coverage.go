package search

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/holdfast-ha/holdfast/agent/sim"
	"github.com/holdfast-ha/holdfast/agent/sim/scenario"
	"github.com/holdfast-ha/holdfast/pkg/plan"
	"github.com/holdfast-ha/holdfast/pkg/pool"
)

// Coverage counts what runs have shown.
type Coverage struct {
	// Faults and Commands by their words.
	Faults, Commands map[string]int
	// Phases of claims (with the cause if no server owns the VM), and statuses of VMs and servers: how often entered.
	Phases, VMs, Servers map[string]int
	// Proofs by which servers were fenced.
	Proofs map[string]int
	// Decisions of the leaders that were carried out, by kind.
	Decisions map[string]int
}

func newCoverage() *Coverage {
	return &Coverage{Faults: map[string]int{}, Commands: map[string]int{}, Phases: map[string]int{}, VMs: map[string]int{},
		Servers: map[string]int{}, Proofs: map[string]int{}, Decisions: map[string]int{}}
}

func (c *Coverage) tables() []map[string]int {
	return []map[string]int{c.Faults, c.Commands, c.Phases, c.VMs, c.Servers, c.Proofs, c.Decisions}
}

func (c *Coverage) add(o *Coverage) {
	for i, t := range o.tables() {
		for k, n := range t {
			c.tables()[i][k] += n
		}
	}
}

// statements counts what a scenario does.
func (c *Coverage) statements(f *scenario.File, skipped []int) {
	for _, st := range f.Lines {
		switch {
		case slices.Contains(skipped, st.Line):
		case st.Kind == scenario.Fault:
			c.Faults[st.Verb]++
		case st.Kind == scenario.Command:
			c.Commands[st.Verb]++
		}
	}
}

// watch counts the states that a pool enters.
func (c *Coverage) watch(p *sim.Pool) {
	vms := map[pool.VMID]string{}
	servers := map[pool.ServerID]string{}
	p.OnDecision(func(a plan.Action) { c.Decisions[string(a.Kind)]++ })
	p.OnChange(func(k sim.Change) {
		for id := range k.After.Claims.ChangedSince(k.Before.Claims) {
			if now, ok := k.After.Claims.Get(id); ok {
				word := now.Phase.String()
				if now.Phase == pool.PhaseUnassigned {
					word += " (" + now.Cause.String() + ")"
				}
				c.Phases[word]++
			}
		}
		for id := range k.After.Fences.ChangedSince(k.Before.Fences) {
			if f, ok := k.After.Fences.Get(id); ok && f.Proof != pool.ProofNone {
				c.Proofs[f.Proof.String()]++
			}
		}
		view := plan.NewView(k.After)
		for id := range k.After.VMs.All() {
			if s, _ := view.VM(id); vms[id] != s.String() {
				vms[id] = s.String()
				c.VMs[s.String()]++
			}
		}
		for id := range k.After.Servers.All() {
			states, _ := view.Server(id)
			var words []string
			for _, s := range states {
				words = append(words, s.String())
			}
			if now := strings.Join(words, "+"); servers[id] != now {
				servers[id] = now
				c.Servers[now]++
			}
		}
	})
}

// Report is what a search came to.
type Report struct {
	Runs int
	// Unsettled runs did not reach time 0 and checked nothing.
	Unsettled int
	// Virtual is how long all pools lived together.
	Virtual time.Duration
	Events  uint64
	*Coverage
	// Found are the failures, by seed.
	Found []Find
}

// Write prints the figures.
func (r *Report) Write(w io.Writer) {
	fmt.Fprintf(w, "%d runs, %.1f virtual hours, %d events, %d failures, %d set-ups that did not settle\n",
		r.Runs, r.Virtual.Hours(), r.Events, len(r.Found), r.Unsettled)
	for i, name := range []string{"faults", "commands", "claims", "VMs", "servers", "fenced by", "decisions"} {
		t := r.tables()[i]
		var words []string
		for _, k := range slices.Sorted(maps.Keys(t)) {
			words = append(words, fmt.Sprintf("%s %d", k, t[k]))
		}
		fmt.Fprintf(w, "%s: %s\n", name, strings.Join(words, ", "))
	}
}
