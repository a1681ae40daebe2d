package place

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/holdfast-ha/holdfast/pkg/pool"
)

// Choice is what was decided for one VM of a batch.
type Choice struct {
	VM pool.VMID
	// Server is where it should run; empty if no server can take it.
	Server pool.ServerID
	// Why is one sentence without a final full stop: what decided for the server, or why there is none.
	Why string
	// Gist is Why without figures that change from moment to moment; set only if there is no server.
	Gist string
}

// Best chooses a server for one VM. It promises nothing.
func (l *Load) Best(r Request) Choice {
	if s, k, n := l.best([]*Request{&r}); s != nil {
		return Choice{VM: r.VM.ID, Server: s.server.ID, Why: l.why(k, &r, n)}
	}
	why, gist := l.refusal(&r)
	return Choice{VM: r.VM.ID, Why: why, Gist: gist}
}

// Batch chooses servers for all requests together: high priority first, then more memory first, then by name. VMs
// of one together group are placed as a unit, where its first VM's turn comes; if no server takes the whole unit,
// as many of its VMs as fit on one are, the most urgent first. Every choice is promised in l before the next is made. The
// result is in that order, with one Choice for each request.
func (l *Load) Batch(requests []Request) []Choice {
	order := make([]*Request, len(requests))
	for i := range requests {
		order[i] = &requests[i]
		l.Release(requests[i].VM)
	}
	slices.SortStableFunc(order, byUrgency)
	units := map[string][]*Request{}
	for _, r := range order {
		if g := r.VM.Together; g != "" {
			units[g] = append(units[g], r)
		}
	}
	choices := make([]Choice, 0, len(order))
	placed := map[string]bool{}
	for _, r := range order {
		switch g := r.VM.Together; {
		case g == "":
			choices = append(choices, l.place([]*Request{r})...)
		case !placed[g]:
			placed[g] = true
			choices = append(choices, l.place(units[g])...)
		}
	}
	l.explainRefusals(order, choices)
	return choices
}

// explainRefusals says why the refused ones were: when all are placed, so that the reasons hold afterwards.
func (l *Load) explainRefusals(requests []*Request, choices []Choice) {
	refused := map[pool.VMID]*Choice{}
	for i := range choices {
		if choices[i].Server == "" {
			refused[choices[i].VM] = &choices[i]
		}
	}
	for _, r := range requests {
		if c, ok := refused[r.VM.ID]; ok {
			c.Why, c.Gist = l.refusal(r)
		}
	}
}

// ByUrgency orders requests as Batch does: high priority first, then more memory, then by name.
func ByUrgency(a, b Request) int { return byUrgency(&a, &b) }

func byUrgency(a, b *Request) int {
	return cmp.Or(cmp.Compare(b.VM.Priority, a.VM.Priority), cmp.Compare(b.VM.MemoryBytes, a.VM.MemoryBytes),
		cmp.Compare(a.VM.ID, b.VM.ID))
}

// place puts the longest prefix of unit that one server takes on that server, then goes on with the rest, which the
// first ones now bind. A VM that no server takes even alone is refused.
func (l *Load) place(unit []*Request) []Choice {
	choices := make([]Choice, 0, len(unit))
	for len(unit) > 0 {
		n, s, k, qualified := l.longest(unit)
		if n == 0 {
			choices = append(choices, Choice{VM: unit[0].VM.ID})
			unit = unit[1:]
			continue
		}
		for _, r := range unit[:n] {
			choices = append(choices, Choice{VM: r.VM.ID, Server: s.server.ID, Why: l.why(k, unit[0], qualified)})
			l.Take(r.VM, s.server.ID)
		}
		unit = unit[n:]
	}
	return choices
}

// longest returns how many of the unit's first VMs fit on one server, and the best such server.
func (l *Load) longest(unit []*Request) (n int, s *slot, k rank, qualified int) {
	for n = len(unit); n > 0; n-- {
		if s, k, qualified = l.best(unit[:n]); s != nil {
			return n, s, k, qualified
		}
	}
	return 0, nil, rank{}, 0
}

// best returns the best-ranked server that takes every VM of the unit, and how many servers do. The first VM's
// wishes decide the rank.
func (l *Load) best(unit []*Request) (best *slot, top rank, qualified int) {
	var memory int64
	var cpus int
	for _, r := range unit {
		memory += r.VM.MemoryBytes
		cpus += r.VM.CPUs
	}
	for _, s := range l.slots {
		if !l.takes(s, unit, memory) {
			continue
		}
		qualified++
		if k := l.rank(s, unit[0], memory, cpus); best == nil || k.before(top) {
			best, top = s, k
		}
	}
	return best, top, qualified
}

// takes reports whether s can take all VMs of the unit at once, among which no two may be kept apart.
func (l *Load) takes(s *slot, unit []*Request, memory int64) bool {
	if len(unit) > 1 && l.free(s, &unit[0].VM) < memory {
		return false
	}
	for i, r := range unit {
		if !l.fits(s, r) {
			return false
		}
		for _, other := range unit[:i] {
			if r.VM.Apart != "" && r.VM.Apart == other.VM.Apart {
				return false
			}
		}
	}
	return true
}

// refusal says why no server takes the VM: in full, and without figures that change.
func (l *Load) refusal(r *Request) (why, gist string) {
	t := l.tally(r)
	return t.why(l, r), t.gist(r)
}

func needs(r *Request) string {
	return fmt.Sprintf("no server has %s of memory free", Bytes(r.VM.MemoryBytes))
}
