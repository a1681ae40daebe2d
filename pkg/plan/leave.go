package plan

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/holdfast-ha/holdfast/pkg/place"
	"github.com/holdfast-ha/holdfast/pkg/pool"
)

// LeaveBy says how a VM leaves a server that is being emptied. The numbers are those of the API's LeaveBy.
type LeaveBy int

// Ways to leave.
const (
	LeaveUnspecified LeaveBy = iota
	// LeaveLive: it migrates live.
	LeaveLive
	// LeaveRestart: it is stopped there and started elsewhere.
	LeaveRestart
	// LeaveStays: it cannot leave.
	LeaveStays
	// LeaveWaits: no server can take it now.
	LeaveWaits
)

// String returns the way's word.
func (l LeaveBy) String() string {
	names := []string{"unspecified", "live", "restart", "stays", "waits"}
	if l < 0 || int(l) >= len(names) {
		return fmt.Sprintf("unknown(%d)", int(l))
	}
	return names[l]
}

// Leave is what becomes of one VM of a server that is being emptied.
type Leave struct {
	VM     pool.VM
	Source pool.ServerID
	How    LeaveBy
	// Target is where it goes; empty if it stays or waits.
	Target pool.ServerID
	// Why says why there, or why not. It holds no figures that change by themselves if it stays or waits.
	Why string
	// UnderWay: it is on its way already, or is being stopped.
	UnderWay bool
	claim    pool.Claim
	// retry: it waits for its turn after a failed attempt.
	retry time.Duration
	// tries counts the attempts that failed.
	tries int
}

// Blocked reports whether the VM can leave only if something changes.
func (l Leave) Blocked() bool { return !l.UnderWay && l.Target == "" }

// evacuation plans how servers are emptied. Its load is used up by that.
type evacuation struct {
	snap *pool.Snapshot
	load *place.Load
	ops  map[pool.VMID][]pool.Operation
	wall time.Time
	// claim returns a VM's claim as it will be after what was planned before.
	claim func(pool.VMID) (pool.Claim, bool)
	// failed holds the moves that failed, by VM; see failedMoves.
	failed map[pool.VMID][]pool.Operation
	// whole are the servers to empty.
	whole map[pool.ServerID]pool.Server
}

func newEvacuation(s *pool.Snapshot, load *place.Load, ops map[pool.VMID][]pool.Operation, wall time.Time) *evacuation {
	e := &evacuation{snap: s, load: load, ops: ops, wall: wall, claim: s.Claims.Get, whole: map[pool.ServerID]pool.Server{}}
	for id, srv := range s.Servers.All() {
		if srv.Leaving() && !s.Unreadable("servers", string(id)) {
			e.whole[id] = srv
		}
	}
	if len(e.whole) > 0 {
		e.failed = failedMoves(s)
	}
	return e
}

// leaves says what becomes of every VM on the servers that are being emptied, in the order in which they go.
func (e *evacuation) leaves() []Leave {
	if len(e.whole) == 0 {
		return nil
	}
	expectMoves(e.snap, e.load, e.ops)
	var out []Leave
	for vm, c := range pool.Join(e.snap.VMs, e.snap.Claims) {
		if vm == nil || c == nil {
			continue
		}
		claim, _ := e.claim(vm.ID)
		if _, ok := e.whole[claim.Server]; ok {
			out = append(out, e.leave(*vm, claim))
		}
	}
	out = append(out, e.arriving()...)
	e.keepGroups(out)
	e.choose(out)
	slices.SortStableFunc(out, func(a, b Leave) int {
		return place.ByUrgency(place.Request{VM: a.VM}, place.Request{VM: b.VM})
	})
	return out
}

// arriving lists the VMs that have left, and do not run yet where they go.
func (e *evacuation) arriving() []Leave {
	var out []Leave
	for _, id := range slices.Sorted(maps.Keys(e.ops)) {
		vm, ok := e.snap.VMs.Get(id)
		c, has := e.claim(id)
		for _, op := range e.ops[id] {
			_, from := e.whole[op.Source]
			if !ok || !has || !from || op.Parent == "" || c.Server == op.Source || (op.Kind != pool.OperationMigrate && op.Kind != pool.OperationRelocate) {
				continue
			}
			l := Leave{VM: vm, Source: op.Source, How: LeaveLive, Target: op.Server, UnderWay: true, Why: "arriving", claim: c}
			if op.Kind == pool.OperationRelocate {
				l.How = LeaveRestart
			}
			out = append(out, l)
			break
		}
	}
	return out
}

// leave says how one VM stands. One that may look for a server is left with a way, and without a target.
func (e *evacuation) leave(vm pool.VM, c pool.Claim) Leave {
	l := Leave{VM: vm, Source: c.Server, How: LeaveWaits, claim: c}
	under := func(why string) Leave { l.UnderWay, l.Why = true, why; return l }
	switch {
	case !vm.Readable() || !c.Readable():
		l.How, l.Why = LeaveStays, "a record of it cannot be read"
	case c.Phase == pool.PhaseAssigned:
		l.How, l.Why = LeaveRestart, "it has not started yet"
	case !e.snap.Alive(c.Server, c.Session):
		l.Why = fmt.Sprintf("%s is lost", c.Server)
	case vm.Desired != pool.DesiredRunning:
		return under("it is being stopped")
	case c.Phase == pool.PhaseMigrating && c.Incoming != nil:
		l.How, l.Target = LeaveLive, c.Incoming.Server
		return under("on its way")
	case c.Phase == pool.PhaseHandedOver:
		return under("it is just arriving")
	case c.Phase == pool.PhaseReleasing:
		l.How = LeaveRestart
		return under("it is being stopped to go elsewhere")
	default:
		return e.held(l)
	}
	return l
}

// held says how a VM leaves that runs on the server.
func (e *evacuation) held(l Leave) Leave {
	if op, ok := e.moving(l.VM.ID); ok {
		l.How, l.Target, l.UnderWay, l.Why = LeaveLive, op.Server, true, "asked for"
		if op.Error != "" {
			l.Why = op.Error
		}
		if op.Kind != pool.OperationMigrate {
			l.How = LeaveRestart
		}
		return l
	}
	if l.VM.DisksInDoubt != "" {
		l.Why = diskJob(l.VM)
		return l
	}
	l.How = LeaveLive
	if !l.VM.Movable {
		if !e.whole[l.Source].RestartUnmovable {
			l.How, l.Why = LeaveStays, "it cannot migrate live"
			return l
		}
		l.How = LeaveRestart
	}
	l.tries, l.retry = backOff(e.failed[l.VM.ID], l.claim, e.wall, evacuationRetry)
	if l.retry > 0 {
		last := e.failed[l.VM.ID][len(e.failed[l.VM.ID])-1]
		l.How, l.Why = LeaveWaits, fmt.Sprintf("the move to %s failed: %s; it is tried again", last.Server, last.Error)
	}
	return l
}

// moving returns the running operation that takes a VM elsewhere.
func (e *evacuation) moving(id pool.VMID) (pool.Operation, bool) {
	for _, op := range e.ops[id] {
		switch op.Kind {
		case pool.OperationMigrate, pool.OperationRelocate:
			if _, back := e.whole[op.Server]; !back {
				return op, true
			}
		case pool.OperationRestart:
			return op, true
		}
	}
	return pool.Operation{}, false
}

// looking reports whether a server is to be chosen for the VM.
func (l *Leave) looking() bool {
	return !l.UnderWay && l.Target == "" && (l.How == LeaveLive || l.How == LeaveRestart)
}

// keepGroups lets no VM leave whose group stays: the VMs of a together group go together.
func (e *evacuation) keepGroups(all []Leave) {
	stays := map[string]pool.VMID{}
	for i := range all {
		if l := &all[i]; l.VM.Together != "" && !l.UnderWay && !l.looking() && stays[l.VM.Together] == "" {
			stays[l.VM.Together] = l.VM.ID
		}
	}
	for i := range all {
		l := &all[i]
		if with := stays[l.VM.Together]; l.VM.Together != "" && with != "" && l.looking() {
			l.How, l.Why = LeaveWaits, fmt.Sprintf("it stays with %s, which cannot leave now (group %s)", with, l.VM.Together)
		}
	}
}

// choose finds servers for those that look for one, all at once. A group goes as a whole or not at all.
func (e *evacuation) choose(all []Leave) {
	var requests []place.Request
	by := map[pool.VMID]*Leave{}
	for i := range all {
		if l := &all[i]; l.looking() {
			requests = append(requests, e.request(l))
			by[l.VM.ID] = l
		}
	}
	if len(requests) == 0 {
		return
	}
	broken := map[string]place.Choice{}
	for _, c := range e.load.Batch(requests) {
		l := by[c.VM]
		l.Target, l.Why = c.Server, c.Why
		if c.Server == "" {
			e.refuse(l, c.Gist)
			if l.VM.Together != "" {
				broken[l.VM.Together] = c
			}
		}
	}
	for _, id := range slices.Sorted(maps.Keys(by)) {
		l := by[id]
		if c, ok := broken[l.VM.Together]; ok && l.VM.Together != "" && l.Target != "" {
			e.refuse(l, fmt.Sprintf("its group %s cannot leave as a whole: %s", l.VM.Together, c.Gist))
		}
	}
}

// refuse leaves a VM where it is.
func (e *evacuation) refuse(l *Leave, why string) {
	l.Target, l.Why = "", why
	if l.claim.Phase != pool.PhaseAssigned {
		l.How = LeaveWaits
	}
	e.load.Take(l.VM, l.Source)
}

// request asks for a server for a VM that leaves.
func (e *evacuation) request(l *Leave) place.Request {
	home, _ := e.snap.Homes.Get(l.VM.ID)
	r := place.Request{VM: l.VM, Exhausted: exhausted(l.VM, home, e.wall)}
	// Where an attempt failed before, another server is tried first.
	if l.tries > 0 && l.tries < 3 {
		last := e.failed[l.VM.ID][len(e.failed[l.VM.ID])-1]
		r.Exhausted = append(r.Exhausted, last.Server)
		if e.load.Best(r).Server == "" {
			r.Exhausted = r.Exhausted[:len(r.Exhausted)-1]
		}
	}
	return r
}

// expectMoves counts what moves that were asked for and have not begun will need where they go.
func expectMoves(s *pool.Snapshot, load *place.Load, ops map[pool.VMID][]pool.Operation) {
	for _, id := range slices.Sorted(maps.Keys(ops)) {
		vm, ok := s.VMs.Get(id)
		c, has := s.Claims.Get(id)
		if !ok || !has || c.Phase != pool.PhaseHeld {
			continue
		}
		for _, op := range ops[id] {
			if (op.Kind == pool.OperationMigrate || op.Kind == pool.OperationRelocate) && op.Server != "" && !op.Cancel {
				load.Expect(vm, op.Server)
			}
		}
	}
}

// failedMoves lists, by VM, the moves of evacuations and ways home that did not succeed, oldest first.
func failedMoves(s *pool.Snapshot) map[pool.VMID][]pool.Operation {
	out := map[pool.VMID][]pool.Operation{}
	for _, op := range s.Operations.All() {
		if op.Parent != "" && op.VM != "" && (op.Outcome == pool.OutcomeFailed || op.Outcome == pool.OutcomeCancelled) {
			out[op.VM] = append(out[op.VM], op)
		}
	}
	for _, list := range out {
		slices.SortStableFunc(list, func(a, b pool.Operation) int { return int(a.Revision - b.Revision) })
	}
	return out
}

// pace is how long a VM is left alone after a move of it failed.
type pace struct {
	first, most time.Duration
	factor      int
}

var (
	// evacuationRetry: soon, since somebody waits for the server to be empty; later less often.
	evacuationRetry = pace{5 * time.Second, 2 * time.Minute, 3}
	// returnRetry: nobody waits for a way home.
	returnRetry = pace{30 * time.Second, 30 * time.Minute, 4}
)

// backOff counts the moves that failed while the VM was where it is now, and says how long it is left alone yet.
func backOff(failed []pool.Operation, c pool.Claim, wall time.Time, p pace) (tries int, wait time.Duration) {
	var last time.Time
	for _, op := range failed {
		if op.StartEpoch == c.Epoch {
			tries++
			last = op.Finished
		}
	}
	if tries == 0 {
		return 0, 0
	}
	pause := p.first
	for i := 1; i < tries && pause < p.most; i++ {
		pause *= time.Duration(p.factor)
	}
	pause = min(pause, p.most)
	age := wall.Sub(last)
	if age >= pause || age <= -pause { // a clock that was far ahead keeps nothing waiting for ever
		return tries, 0
	}
	return tries, pause - max(age, 0)
}
