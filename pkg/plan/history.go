package plan

import (
	"fmt"
	"slices"

	"github.com/holdfast-ha/holdfast/pkg/pool"
)

// trimAtOnce bounds how many records of history one plan drops: one transaction's worth, with room to spare.
const trimAtOnce = 100

// planHistory drops the oldest events and finished operations once they exceed what is kept by a tenth, so that a
// full history is trimmed in batches and not at each line.
func (p *planner) planHistory() {
	if n := excess(p.snap.Events.Len(), p.cfg.EventsKept); n > 0 {
		var oldest []pool.EventID
		for id := range p.snap.Events.All() {
			if oldest = append(oldest, id); len(oldest) == n {
				break
			}
		}
		p.add(Action{Kind: TrimHistory, Key: "trim-events", Why: fmt.Sprintf("more than %d events: drops the oldest %d", p.cfg.EventsKept, n),
			Change: pool.Change{RemoveEvents: oldest}})
	}
	if n := excess(p.snap.Operations.Len(), p.cfg.OperationsKept); n > 0 {
		if old := p.oldestFinished(n); len(old) > 0 {
			p.add(Action{Kind: TrimHistory, Key: "trim-operations", Why: fmt.Sprintf("more than %d operations: drops the oldest %d that have ended", p.cfg.OperationsKept, len(old)),
				Change: pool.Change{RemoveOperations: old}})
		}
	}
}

func (p *planner) oldestFinished(n int) []pool.Operation {
	var ended []pool.Operation
	for _, op := range p.snap.Operations.All() {
		if op.Outcome != pool.OutcomeRunning {
			ended = append(ended, op)
		}
	}
	slices.SortStableFunc(ended, func(a, b pool.Operation) int { return int(a.Revision - b.Revision) })
	return ended[:min(n, len(ended))]
}

// excess returns how many of have to drop now; 0 while they exceed keep by less than a tenth.
func excess(have, keep int) int {
	if keep <= 0 || have <= keep+keep/10 {
		return 0
	}
	return min(have-keep, trimAtOnce)
}
