package plan

import (
	"fmt"
	"hash/fnv"
	"slices"
	"time"

	"github.com/holdfast-ha/holdfast/pkg/place"
	"github.com/holdfast-ha/holdfast/pkg/pool"
)

// Return is what becomes of one VM that belongs on a server when its maintenance ends.
type Return struct {
	VM pool.VM
	// From is where it is now; empty: nowhere.
	From pool.ServerID
	// Comes: it comes, live. Why says why, or why not.
	Comes bool
	Why   string
	// Time is about how long that takes by itself.
	Time time.Duration
}

// ReturnPreview is what the end of a server's maintenance would do.
type ReturnPreview struct {
	Server pool.ServerID
	// Returns are those that come, in the order in which they do, and then those that belong there and do not, by name.
	Returns []Return
	// Staying are the VMs that have not left yet.
	Staying []pool.VMID
	// Expected is about how long all takes once it has begun, ReturnSettle after the end.
	Expected time.Duration
	// Revision names the plan, and the others are as in Preview.
	Revision                  int64
	Before, After             Capacity
	MemoryBefore, MemoryAfter int
}

// PreviewReturn says what would happen if the server's maintenance ended now, by asking the planner what it would do
// once the server has been back for ReturnSettle. wall is the present time, for the pauses after moves that failed.
func PreviewReturn(s *pool.Snapshot, id pool.ServerID, wall time.Time) ReturnPreview {
	before, after := *s, *s
	srv, _ := s.Servers.Get(id)
	srv.Maintenance, srv.RestartUnmovable = false, false
	after.Servers = s.Servers.With(id, srv)
	if after.Leader.Server == "" {
		after.Leader = pool.Leader{Server: "another", Revision: 1}
	}
	p := ReturnPreview{Server: id, Before: PoolCapacity(&before), MemoryBefore: memoryShare(&before)}
	in := Input{Snapshot: &after, Leader: after.Leader, Now: pool.Instant(time.Hour), Wall: wall}
	in.Lost = Look(nil, &after, in.Now)
	coming := p.coming(Plan(in).Actions)
	rest := newPlanner(in)
	for vm, c := range pool.Join(after.VMs, after.Claims) {
		switch {
		case vm == nil || c == nil || !vm.Readable() || !c.Readable():
		case c.Server == id && c.Phase != pool.PhaseUnassigned:
			p.Staying = append(p.Staying, vm.ID)
		case !coming[vm.ID] && slices.Contains(rest.belongs(*vm, *c), id):
			p.Returns = append(p.Returns, Return{VM: *vm, From: c.Server, Why: rest.whyNotHome(*vm, *c, id)})
		}
	}
	p.play(&after)
	p.After, p.MemoryAfter = PoolCapacity(&after), memoryShare(&after)
	p.time(s)
	p.name()
	return p
}

// coming takes the moves to the server that the planner would begin.
func (p *ReturnPreview) coming(actions []Action) map[pool.VMID]bool {
	found := map[pool.VMID]bool{}
	for _, a := range actions {
		for _, op := range a.Change.Operations {
			if a.Kind == StartMove && op.Server == p.Server && op.Parent == pool.ParentReturn {
				found[op.VM] = true
				p.Returns = append(p.Returns, Return{VM: a.Change.SameVMs[0], From: op.Source, Comes: true, Why: op.Requested.Why})
			}
		}
	}
	return found
}

// whyNotHome says why a VM that belongs on a server does not go there now.
func (p *planner) whyNotHome(vm pool.VM, c pool.Claim, to pool.ServerID) string {
	switch {
	case !p.cfg.ReturnHome:
		return "the pool has return=off"
	case p.cfg.Frozen:
		return "HA is frozen: nothing is moved"
	case vm.Desired != pool.DesiredRunning:
		return "it is stopped"
	case !vm.Movable:
		return fmt.Sprintf("it cannot migrate live; with a restart: relocate %s %s", vm.ID, to)
	case !p.snap.Members.Has(to):
		return fmt.Sprintf("%s is not up", to)
	case c.Phase != pool.PhaseHeld || len(p.ops[vm.ID]) > 0:
		return "something else is under way for it; it may come after that"
	}
	unit := p.unit(vm, c)
	failed := failedMoves(p.snap)
	var along []pool.VMID
	for _, l := range unit {
		along = append(along, l.VM.ID)
	}
	for _, l := range unit {
		whose := "it"
		if l.VM.ID != vm.ID {
			whose = fmt.Sprintf("%s, which it stays with (group %s),", l.VM.ID, vm.Together)
		}
		if !p.mayGoHome(l, unit[0].Source) {
			return whose + " cannot move now"
		}
		if _, wait := backOff(failed[l.VM.ID], l.claim, p.in.Wall, returnRetry); wait > 0 {
			return fmt.Sprintf("%s was to move and that failed; it is tried again in about %v", whose, wait.Round(time.Second))
		}
		if v, ok := p.load.Verdict(place.Request{VM: l.VM, Along: along}, to); ok && !v.Fits() {
			return v.Reasons[0].Sentence
		}
	}
	return fmt.Sprintf("not at first: what comes before it takes the room on %s, or another server suits it better", to)
}

// play has those that come arrive.
func (p *ReturnPreview) play(after *pool.Snapshot) {
	m, _ := after.Members.Get(p.Server)
	for _, r := range p.Returns {
		if c, ok := after.Claims.Get(r.VM.ID); ok && r.Comes {
			c.Server, c.Session, c.Incoming, c.Phase = p.Server, m.Session, nil, pool.PhaseHeld
			after.Claims = after.Claims.With(r.VM.ID, c)
		}
	}
}

// time estimates as for an evacuation.
func (p *ReturnPreview) time(s *pool.Snapshot) {
	e := Preview{}
	for _, r := range p.Returns {
		l := Leave{VM: r.VM, How: LeaveLive}
		if r.Comes {
			l.Target = p.Server
		}
		e.Leaves = append(e.Leaves, l)
	}
	e.time(s)
	for i := range p.Returns {
		p.Returns[i].Time = e.Times[i]
	}
	p.Expected = e.Expected
}

// name makes the plan's number of everything that an operator would want to have seen.
func (p *ReturnPreview) name() {
	h := fnv.New64a()
	_, _ = fmt.Fprintf(h, "%s|%v|%v", p.Server, p.Before.Verdict, p.After.Verdict)
	for _, r := range p.Returns {
		_, _ = fmt.Fprintf(h, "|%s %v", r.VM.ID, r.Comes)
	}
	p.Revision = int64(h.Sum64()>>33) + 1
}
