package plan

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"

	"github.com/holdfast-ha/holdfast/pkg/pool"
)

// planLeaving has the VMs of servers that are being emptied moved elsewhere, and follows the operations that asked
// for it. It comes after recovery, so that a planned move takes no room from a VM that is down.
func (p *planner) planLeaving() {
	e := newEvacuation(p.snap, p.load, p.ops, p.in.Wall)
	e.claim = p.claimAfter
	by := map[pool.ServerID][]Leave{}
	for _, l := range e.leaves() {
		by[l.Source] = append(by[l.Source], l)
	}
	for _, id := range slices.Sorted(maps.Keys(e.whole)) {
		p.leaveServer(e.whole[id], by[id])
		if blocked(by[id]) {
			p.blocked[id] = leftWhy(by[id])
		}
	}
	for _, op := range p.ops[""] {
		p.followServerOperation(op, by[op.Server])
	}
}

// leaveServer starts what can start for one server. What cannot leave a server that goes down is stopped with it, once
// nothing else is on its way.
func (p *planner) leaveServer(s pool.Server, all []Leave) {
	moving := false
	for _, l := range all {
		if l.retry > 0 {
			p.wake(p.in.Now.Add(l.retry))
		}
		moving = moving || !l.Blocked()
		if !l.UnderWay && l.Target != "" && l.claim.Phase == pool.PhaseHeld {
			p.startMove(l)
		}
	}
	if !s.ShuttingDown || moving {
		return
	}
	for _, l := range all {
		if l.claim.Phase == pool.PhaseHeld && p.doneBy[l.VM.ID] == "" && p.healthy(&l.claim) {
			c := p.subject(l.VM)
			p.release(c, "", fmt.Sprintf("%s is stopped with %s, which shuts down, since it cannot move: %s", l.VM.ID, s.ID, l.Why))
		}
	}
}

// startMove creates the operation that moves a VM off its server, and remembers where it came from.
func (p *planner) startMove(l Leave) {
	s := p.server(l.Source)
	if s.registration == nil || p.doneBy[l.VM.ID] != "" {
		return
	}
	parent, asked := p.evacuationOf(l.Source)
	op := p.moveOperation(l, parent)
	op.Requested.By = asked.By
	op.Requested.Why = leavingWhy(*s.registration)
	change := pool.Change{Operations: []pool.Operation{op}, SameVMs: []pool.VM{l.VM}, SameServers: []pool.Server{*s.registration}}
	if h, ok := p.remember(l); ok {
		change.Homes = []pool.Home{h}
	}
	verb := "migrates live"
	if l.How == LeaveRestart {
		verb = "is stopped and starts"
	}
	why := fmt.Sprintf("%s %s from %s to %s, since %s: %s", l.VM.ID, verb, l.Source, l.Target, op.Requested.Why, l.Why)
	p.addMove(l, why, change)
}

// addMove adds the action that has a VM moved.
func (p *planner) addMove(l Leave, why string, change pool.Change) {
	key := "move:" + string(l.VM.ID)
	p.add(Action{Kind: StartMove, Key: key, VM: l.VM.ID, Server: l.Target, Why: why, Change: change})
	p.doneBy[l.VM.ID] = key
}

// moveOperation builds the operation of one move. The same move, planned twice, has the same ID.
func (p *planner) moveOperation(l Leave, parent pool.OperationID) pool.Operation {
	kind := pool.OperationMigrate
	if l.How == LeaveRestart {
		kind = pool.OperationRelocate
	}
	seed := fmt.Sprintf("%s %s %d %d", parent, l.VM.ID, l.claim.Epoch, l.claim.Revision)
	sum := sha256.Sum256(fmt.Appendf(nil, "%s %d", seed, l.tries))
	return pool.Operation{ID: pool.OperationID(hex.EncodeToString(sum[:6])), Kind: kind, VM: l.VM.ID, Server: l.Target, Source: l.Source,
		Outcome: pool.OutcomeRunning, Phase: "requested", StartEpoch: l.claim.Epoch, Parent: parent, Attempt: l.tries + 1,
		Requested: pool.Mark{By: "leader " + string(p.in.Leader.Server), At: p.in.Wall}}
}

// evacuationOf returns the running operation that asked for a server to be emptied, and who did. Without one, moves
// name the server itself as what they are a part of.
func (p *planner) evacuationOf(id pool.ServerID) (pool.OperationID, pool.Mark) {
	for _, op := range p.ops[""] {
		if op.Server == id && empties(op.Kind) {
			return op.ID, op.Requested
		}
	}
	return pool.OperationID("evacuate-" + string(id)), pool.Mark{By: "leader " + string(p.in.Leader.Server)}
}

func empties(k pool.OperationKind) bool {
	return k == pool.OperationEvacuate || k == pool.OperationRemoveServer || k == pool.OperationShutdownServer
}

func leavingWhy(s pool.Server) string {
	switch {
	case s.Removing:
		return fmt.Sprintf("%s is being removed", s.ID)
	case s.Maintenance:
		return fmt.Sprintf("%s is in maintenance", s.ID)
	case s.ShuttingDown && s.Shutdown.Reboot:
		return fmt.Sprintf("%s is about to reboot", s.ID)
	default:
		return fmt.Sprintf("%s is about to shut down", s.ID)
	}
}

// remember notes the server as the VM's home, unless it has one from an earlier evacuation, or the server will not
// come back.
func (p *planner) remember(l Leave) (pool.Home, bool) {
	if _, twice := p.homes[l.VM.ID]; twice || p.server(l.Source).registration.Removing {
		return pool.Home{}, false
	}
	h := p.homeAfter(l.VM.ID)
	if h.Server != "" {
		return h, false
	}
	h.VM, h.Server = l.VM.ID, l.Source
	return h, true
}

// followServerOperation says how an operation on a whole server stands.
func (p *planner) followServerOperation(op pool.Operation, left []Leave) {
	if !empties(op.Kind) {
		return
	}
	srv, registered := p.snap.Servers.Get(op.Server)
	switch {
	case !registered && op.Kind == pool.OperationRemoveServer:
		p.followed(op, done(), left, pool.Change{})
	case !registered:
		p.followed(op, failed(fmt.Sprintf("%s was removed from the pool", op.Server)), left, pool.Change{})
	case p.server(op.Server).unreadable:
		p.followed(op, running("waiting", "a record of the server cannot be read"), left, pool.Change{})
	case op.Cancel:
		p.cancelServerOperation(op, srv, left)
	case op.Kind == pool.OperationEvacuate:
		p.followEvacuation(op, srv, left)
	case op.Kind == pool.OperationRemoveServer:
		p.followRemoval(op, srv, left)
	default:
		p.followShutdown(op, srv, left)
	}
}

func (p *planner) followEvacuation(op pool.Operation, srv pool.Server, left []Leave) {
	switch {
	case !srv.Maintenance:
		p.followed(op, cancelled("maintenance was ended"), left, pool.Change{})
	case len(left) == 0 && p.emptied(srv.ID):
		p.followed(op, done(), left, pool.Change{})
	default:
		p.followed(op, p.leavingProgress(srv.ID, left), left, pool.Change{})
	}
}

// emptied reports whether no claim names the server, as owner or as destination.
func (p *planner) emptied(id pool.ServerID) bool {
	vms, _, _ := p.load.Promised(id)
	return vms == 0
}

// leavingProgress says how far a server is emptied.
func (p *planner) leavingProgress(id pool.ServerID, left []Leave) progress {
	switch {
	case !p.server(id).up && len(left) > 0:
		return running("waiting", fmt.Sprintf("%s is lost with %s", id, count(len(left), "VM")))
	case blocked(left):
		return running("blocked", leftWhy(left))
	default:
		return running("evacuating", "")
	}
}

// blocked reports whether VMs are left and none of them is on its way.
func blocked(left []Leave) bool {
	return len(left) > 0 && !slices.ContainsFunc(left, func(l Leave) bool { return !l.Blocked() })
}

// leftWhy tells of a few VMs why they cannot leave.
func leftWhy(left []Leave) string {
	var text string
	n := 0
	for _, l := range left {
		if !l.Blocked() {
			continue
		}
		if n++; n > fewNames {
			continue
		}
		if text != "" {
			text += "; "
		}
		text += fmt.Sprintf("%s %s: %s", l.VM.ID, l.How, l.Why)
	}
	if n > fewNames {
		text += fmt.Sprintf("; and %d more", n-fewNames)
	}
	return text
}

// followRemoval: once the server is empty, its registration goes together with the end of the operation.
func (p *planner) followRemoval(op pool.Operation, srv pool.Server, left []Leave) {
	switch {
	case !srv.Removing:
		p.followed(op, cancelled("its removal was called off"), left, pool.Change{})
	case len(left) > 0 || !p.emptied(srv.ID):
		p.followed(op, p.leavingProgress(srv.ID, left), left, pool.Change{})
	default:
		text := fmt.Sprintf("%s removed %s from the pool, now that it is empty", op.Requested.By, srv.ID)
		p.followed(op, done(), left, pool.Change{RemoveServers: []pool.Server{srv},
			Revocations: pool.RevokeServer(srv.ID, pool.Mark{By: op.Requested.By, At: p.in.Wall, Why: "removed"}), Events: []pool.Event{p.event("SERVER_REMOVED", srv.ID, "", text)}})
	}
}

// followShutdown: the server's agent does the work; it is done when the server is down, or back after a reboot.
func (p *planner) followShutdown(op pool.Operation, srv pool.Server, left []Leave) {
	_, up := p.snap.Members.Get(srv.ID)
	switch {
	case !srv.ShuttingDown && up && op.Phase == "requested":
		p.followed(op, cancelled("the shutdown was called off"), left, pool.Change{})
	case !srv.ShuttingDown && up:
		p.followed(op, done(), left, pool.Change{})
	case !srv.ShuttingDown:
		p.followed(op, running("rebooting", ""), left, pool.Change{})
	case up && len(left) > 0:
		p.followed(op, p.leavingProgress(srv.ID, left), left, pool.Change{})
	case up && p.needsVote(srv.ID):
		p.followed(op, running("going down", "its etcd vote moves to another server first"), left, pool.Change{})
	case up:
		p.followed(op, running("going down", ""), left, pool.Change{})
	case !p.emptied(srv.ID):
		p.followed(op, running("waiting", fmt.Sprintf("%s is lost before it let go of its VMs", srv.ID)), left, pool.Change{})
	case srv.Shutdown.Reboot:
		p.followed(op, running("rebooting", ""), left, pool.Change{})
	default:
		p.followed(op, done(), left, pool.Change{})
	}
}

// needsVote reports whether a server carries a vote of etcd that its agent waits for to move: too few others vote.
func (p *planner) needsVote(id pool.ServerID) bool {
	m, _ := p.snap.Members.Get(id)
	others := 0
	for other, o := range p.snap.Members.All() {
		if other != id && o.EtcdVoter {
			others++
		}
	}
	return m.EtcdVoter && others < 2 && p.snap.OthersStay(id)
}

// cancelServerOperation takes the wish back: what has moved stays moved, what has not begun stays.
func (p *planner) cancelServerOperation(op pool.Operation, srv pool.Server, left []Leave) {
	change := pool.Change{}
	before := srv
	switch op.Kind {
	case pool.OperationEvacuate:
		srv.Maintenance, srv.RestartUnmovable, srv.MaintenanceMark = false, false, pool.Mark{By: op.Requested.By, At: p.in.Wall, Why: "cancelled"}
	case pool.OperationRemoveServer:
		srv.Removing, srv.RestartUnmovable = false, false
	default:
		if srv.Shutdown.ByPool {
			srv.ShuttingDown, srv.Shutdown = false, pool.Shutdown{}
		}
	}
	if before.Leaving() != srv.Leaving() || before.ShuttingDown != srv.ShuttingDown {
		change.Servers = []pool.Server{srv}
	}
	for id, h := range p.snap.Homes.All() {
		if _, twice := p.homes[id]; h.Server == srv.ID && !twice && !p.snap.Unreadable("homes", string(id)) {
			h.Server = ""
			change.Homes = append(change.Homes, h)
		}
	}
	change.Operations = p.callOff(op.ID)
	p.followed(op, cancelled("cancelled on request"), left, change)
}

// callOff asks the parts of an operation that have not begun to end.
func (p *planner) callOff(parent pool.OperationID) []pool.Operation {
	var out []pool.Operation
	for _, vm := range slices.Sorted(maps.Keys(p.ops)) {
		for _, part := range p.ops[vm] {
			c, _ := p.snap.Claims.Get(vm)
			if part.Parent == parent && !part.Cancel && c.Phase == pool.PhaseHeld {
				part.Cancel = true
				out = append(out, part)
			}
		}
	}
	return out
}

// followed records how a server's operation stands, with how many VMs have left.
func (p *planner) followed(op pool.Operation, now progress, left []Leave, change pool.Change) {
	items := op.Progress
	items.ItemsTotal = max(items.ItemsTotal, len(left))
	items.ItemsDone = items.ItemsTotal - len(left)
	if now.outcome == op.Outcome && now.phase == op.Phase && now.err == op.Error && items == op.Progress && change.Empty() {
		return
	}
	op.Outcome, op.Phase, op.Error, op.Progress = now.outcome, now.phase, now.err, items
	a := Action{Kind: AdvanceOperation, Key: "operation:" + string(op.ID), Server: op.Server, Why: fmt.Sprintf("%s of %s: %s", op.Kind, op.Server, now.phase)}
	if now.err != "" && now.err != now.phase {
		a.Why += ": " + now.err
	}
	if now.outcome != pool.OutcomeRunning {
		a.Kind, op.Finished = FinishOperation, p.in.Wall
		e := p.event("OPERATION_"+map[pool.Outcome]string{pool.OutcomeDone: "DONE", pool.OutcomeFailed: "FAILED", pool.OutcomeCancelled: "CANCELLED"}[now.outcome],
			op.Server, "", a.Why)
		e.Operation = op.ID
		change.Events = append(change.Events, e)
	}
	change.Operations = append(change.Operations, op)
	a.Change = change
	p.add(a)
}
