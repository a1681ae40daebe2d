package plan

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/holdfast-ha/holdfast/pkg/place"
	"github.com/holdfast-ha/holdfast/pkg/pool"
)

// planVMs takes each VM's next step, one function per state of its claim.
func (p *planner) planVMs() {
	for vm, claim := range pool.Join(p.snap.VMs, p.snap.Claims) {
		if vm == nil || !vm.Readable() || (claim != nil && !claim.Readable()) {
			continue
		}
		if before := p.snap.Doubted(vm.ID); before != nil {
			p.giveBack(p.subject(*vm), *before)
			continue
		}
		if claim != nil && claim.Phase == pool.PhaseHeld && len(p.ops[vm.ID]) == 0 && p.server(claim.Server).quiet(claim) {
			continue // the common case, and cheap
		}
		c := p.subject(*vm)
		switch {
		case claim == nil:
			p.missing(c)
		case claim.Phase == pool.PhaseUnassigned:
			p.unassigned(c)
		case claim.Phase == pool.PhaseAssigned && !adopting(*claim):
			p.assigned(c)
		default:
			p.owned(c)
		}
	}
}

// alive reports whether the claim's session lives.
func (p *planner) alive(c *pool.Claim) bool {
	s := p.server(c.Server)
	return s.up && s.member.Session == c.Session
}

// healthy: its session lives, and nobody fenced it meanwhile.
func (p *planner) healthy(c *pool.Claim) bool { return p.server(c.Server).healthy(c) }

func (s *server) healthy(c *pool.Claim) bool {
	return s.up && s.member.Session == c.Session && !s.lostSession(c)
}

// quiet: nothing about the server asks for a step of a VM that it holds. Every plan asks this of every VM.
func (s *server) quiet(c *pool.Claim) bool { return s.healthy(c) && !s.member.StorageLost }

// missing: a registered VM without a claim. If its last owner reported it active, that owner gets the claim back,
// unarmed; else it is treated as never started.
func (p *planner) missing(c *subject) {
	st := c.state
	c.claim = pool.Claim{VM: c.vm.ID, Phase: pool.PhaseUnassigned, Epoch: st.Epoch, LastServer: st.Server}
	if st.Server == "" || st.State == pool.RunUnspecified || st.State == pool.RunStopped {
		p.unassigned(c)
		return
	}
	next := p.next(c, pool.PhaseHeld)
	next.Server, next.Session = st.Server, 1
	if m, up := p.snap.Members.Get(st.Server); up {
		next.Session = m.Session
	}
	why := fmt.Sprintf("the claim of %s is missing; it is restored to %s, which ran it last", c.vm.ID, st.Server)
	p.add(Action{Kind: RestoreClaim, VM: c.vm.ID, Server: st.Server, Why: why, Change: pool.Change{Claims: []pool.Claim{next},
		SameVMs: []pool.VM{c.vm}, Events: []pool.Event{p.event("CLAIM_RESTORED", st.Server, c.vm.ID, why)}}})
}

// unassigned: no server owns the VM.
func (p *planner) unassigned(c *subject) {
	if !c.wanted() {
		p.rest(c)
		return
	}
	if why, held := hold(p.cfg, c); held {
		if !c.home.Failed {
			p.waiting[c.vm.ID] = place.Choice{VM: c.vm.ID, Why: why, Gist: why}
		}
		return
	}
	if !c.claim.Cause.CountsAsFailure() {
		p.queue(c, Assign)
		return
	}
	c.home = counted(c.vm, c.home, c.claim, p.in.Wall)
	reason, failed := judge(p.cfg, c, c.home, p.in.Wall)
	if failed {
		p.markFailed(c, reason)
		return
	}
	p.queue(c, Assign).counted = reason
}

// rest: a stopped VM keeps no trace of why it went down, so that its next start is an ordinary one.
func (p *planner) rest(c *subject) {
	if c.claim.Cause == pool.CauseUnspecified || c.claim.Cause == pool.CauseStopped || c.claim.Cause == pool.CauseGuestShutdown {
		return
	}
	next := p.next(c, pool.PhaseUnassigned)
	next.Cause, next.Detail = pool.CauseStopped, c.claim.Detail
	p.add(Action{Kind: Unassign, VM: c.vm.ID, Why: fmt.Sprintf("%s is wanted stopped", c.vm.ID), Change: pool.Change{Claims: []pool.Claim{next}}})
}

func (p *planner) markFailed(c *subject, reason string) {
	next := p.next(c, pool.PhaseUnassigned)
	next.Detail = c.claim.Detail
	c.home.Failed, c.home.FailedReason = true, reason
	why := fmt.Sprintf("%s has failed: %s", c.vm.ID, reason)
	p.add(Action{Kind: MarkFailed, VM: c.vm.ID, Why: why, Change: pool.Change{Claims: []pool.Claim{next}, Homes: []pool.Home{c.home},
		Events: []pool.Event{p.event("VM_FAILED", c.claim.LastServer, c.vm.ID, why)}}})
}

// assigned: a server was told to run the VM and has not.
func (p *planner) assigned(c *subject) {
	s := p.server(c.claim.Server)
	barred := s.registration != nil && (s.registration.Maintenance || s.registration.Removing || s.registration.ShuttingDown)
	switch {
	case !c.wanted():
		p.unassign(c, pool.CauseStopped, fmt.Sprintf("%s is wanted stopped and had not started on %s", c.vm.ID, s.id))
	case !p.alive(&c.claim):
		p.queue(c, Recover).never = true
	case barred:
		q := p.queue(c, Recover)
		q.never, q.stays = true, true
	default:
		if silent := p.overdue(c); silent > 0 {
			q := p.queue(c, Recover)
			q.never, q.stays, q.overdue = true, true, silent
		}
	}
}

// overdue returns for how long a server that is up has said nothing about the VM's start, if that is too long, else 0: its
// libvirt may be down. A start that it reports on, such as one that waits for a disk lock, is left to it.
func (p *planner) overdue(c *subject) time.Duration {
	sight, ok := p.in.Starts[c.vm.ID]
	if !ok || sight.Revision != c.claim.Revision {
		return 0
	}
	if p.elapsed(sight.Since) >= sight.Patience {
		return sight.Patience
	}
	p.wake(sight.Since.Add(sight.Patience))
	return 0
}

// owned: a server runs the VM, or may.
func (p *planner) owned(c *subject) {
	s := p.server(c.claim.Server)
	switch {
	case p.healthy(&c.claim):
		p.ownedAlive(c)
	case !s.lostSession(&c.claim):
		// The server is back with a new session, or cannot be read: its own agent re-asserts or releases.
	case c.protected || p.mayTakeUnprotected(c):
		p.ownedLost(c, s)
	case c.wanted():
		p.lost = append(p.lost, lostVM{c.vm.ID, s.id, unprotectedWhy(p.cfg, c.vm)})
	}
}

// mayTakeUnprotected: an operator asked to start a VM without HA while its server is lost, and the server is proven
// off.
func (p *planner) mayTakeUnprotected(c *subject) bool {
	s := p.server(c.claim.Server)
	_, asked := c.asked(pool.OperationStart)
	return asked && c.wanted() && s.hasFence && covers(s.fence, c.claim, c.vm, p.cfg)
}

// ownedAlive: the owner works; it is told to let go where a restart or a relocation was asked for.
func (p *planner) ownedAlive(c *subject) {
	if !c.wanted() || c.claim.Phase != pool.PhaseHeld {
		return
	}
	op, asked := c.asked(pool.OperationRestart, pool.OperationRelocate)
	if !asked {
		p.offStorage(c)
		return
	}
	if op.Kind == pool.OperationRelocate {
		if op.Server == c.claim.Server {
			return
		}
		v, known := p.load.Verdict(place.Request{VM: c.vm, Stay: op.Server}, op.Server)
		if !known {
			p.failedOps[op.ID] = fmt.Sprintf("no server %s in this pool", op.Server)
			return
		}
		if !v.Fits() {
			p.failedOps[op.ID] = v.Reasons[0].Sentence
			return
		}
		if op.Parent == "" {
			why, later := p.breaksPromise(c.vm, op.Server)
			if why != "" {
				p.failedOps[op.ID] = why
			}
			if why != "" || later {
				return
			}
		}
	}
	p.release(c, op.ID, fmt.Sprintf("%s stops on %s for a %s", c.vm.ID, c.claim.Server, op.Kind))
}

// offStorage has a protected VM stopped whose server has lost its path to the shared storage, if another that still
// has it can take the VM. Where none can, nothing is stopped.
func (p *planner) offStorage(c *subject) {
	if !c.protected || !p.server(c.claim.Server).member.StorageLost {
		return
	}
	unsettled := p.storageUnsettled()
	if slices.Contains(unsettled, c.claim.Server) {
		return
	}
	r := request(p.cfg, c, p.in.Wall)
	r.Failover = true
	r.Exhausted = append(r.Exhausted, unsettled...)
	choice := p.load.Best(r)
	if choice.Server == "" {
		return
	}
	p.load.Take(c.vm, choice.Server)
	p.release(c, "", fmt.Sprintf("%s stops on %s, which has lost its path to the shared storage; %s still has it", c.vm.ID, c.claim.Server, choice.Server))
}

// storageUnsettled lists the members that have not had, or lacked, the shared storage for StorageSettle, by name. What
// they say may be what the others are about to say too.
func (p *planner) storageUnsettled() []pool.ServerID {
	var out []pool.ServerID
	for _, id := range slices.Sorted(maps.Keys(p.in.Storage)) {
		if since := p.in.Storage[id].Since; p.elapsed(since) < StorageSettle {
			out = append(out, id)
			p.wake(since.Add(StorageSettle))
		}
	}
	return out
}

// release tells the owner to stop the VM and let it go.
func (p *planner) release(c *subject, op pool.OperationID, why string) {
	next := p.next(c, pool.PhaseReleasing)
	next.Server, next.Session, next.Armed, next.Watchdog, next.Operation = c.claim.Server, c.claim.Session, c.claim.Armed, c.claim.Watchdog, op
	change := pool.Change{Claims: []pool.Claim{next}}
	if op == "" {
		change.Events = []pool.Event{p.event("VM_RELEASING", c.claim.Server, c.vm.ID, why)}
	}
	p.add(Action{Kind: Release, VM: c.vm.ID, Server: c.claim.Server, Why: why, Change: change})
}

// ownedLost: taken away from a lost server, if a proof on record covers it.
func (p *planner) ownedLost(c *subject, s *server) {
	if !s.hasFence || !covers(s.fence, c.claim, c.vm, p.cfg) {
		return
	}
	if !c.wanted() {
		p.unassign(c, pool.CauseStopped, fmt.Sprintf("%s is wanted stopped and %s is fenced", c.vm.ID, s.id))
		return
	}
	p.queue(c, Recover)
}

// unassign writes that no server owns the VM.
func (p *planner) unassign(c *subject, cause pool.Cause, why string) {
	next := p.next(c, pool.PhaseUnassigned)
	next.Cause = cause
	p.load.Release(c.vm)
	p.add(Action{Kind: Unassign, Needs: p.needs(c), VM: c.vm.ID, Why: why, Change: pool.Change{Claims: []pool.Claim{next},
		Events: []pool.Event{p.event("VM_RELEASED", c.claim.Server, c.vm.ID, why)}}})
}

// next is the VM's claim in another phase, without owner, cause or operation.
func (p *planner) next(c *subject, phase pool.Phase) pool.Claim {
	last := c.claim.LastServer
	if mayRun(c.claim) {
		last = c.claim.Server
	}
	return pool.Claim{VM: c.vm.ID, Epoch: c.claim.Epoch, Phase: phase, LastServer: last, Incarnation: p.cfg.Incarnation,
		Since: p.in.Wall, Revision: c.claim.Revision}
}

// needs names the fence of this plan that taking the VM from its owner rests on.
func (p *planner) needs(c *subject) []string {
	if c.claim.Server == "" || !mayRun(c.claim) {
		return nil
	}
	if by := p.server(c.claim.Server).fencedBy; by != "" {
		return []string{by}
	}
	return nil
}

// absent lists the server that must still be without a member key for the VM to be taken from it.
func (p *planner) absent(c *subject) []pool.ServerID {
	if !mayRun(c.claim) || c.claim.Server == "" || p.server(c.claim.Server).up {
		return nil
	}
	return []pool.ServerID{c.claim.Server}
}
