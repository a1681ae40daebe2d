package plan

import (
	"fmt"
	"time"

	"github.com/holdfast-ha/holdfast/pkg/place"
	"github.com/holdfast-ha/holdfast/pkg/pool"
)

// promise judges what operators asked for against the pool's promise to tolerate the loss of servers: once more when its
// turn comes, since two requests that each left room when they were admitted may not leave any together. What the leader
// does by itself (recovery, evacuations, ways home) is never judged.
type promise struct {
	// base is the pool as it will be when what is under way, and what this plan does, has ended.
	base *pool.Snapshot
	kept bool
	// judged counts how often the room was worked out; it survives a new base.
	judged int
}

// promises reports whether the pool is to keep room for the loss of servers.
func promises(cfg pool.Config) bool { return cfg.Tolerate > 0 && cfg.HA && !cfg.Frozen }

// breaksPromise says why vm on server would break the pool's promise; it is empty if it would not, or if the promise is
// broken already. later: so many were judged that this one has to wait for another plan.
func (p *planner) breaksPromise(vm pool.VM, server pool.ServerID) (why string, later bool) {
	if !promises(p.cfg) {
		return "", false
	}
	if p.promise.judged >= mostJudged && p.snap.VMs.Len() > roomShownUpTo {
		return "", true
	}
	if p.promise.base == nil {
		p.promise.base = p.foreseen()
		p.promise.kept = PoolCapacity(p.promise.base).Verdict == CapacityOK
	}
	if !p.promise.kept {
		return "", false
	}
	p.promise.judged++
	claim, _ := p.claimAfter(vm.ID)
	claim.VM = vm.ID
	if room := PoolCapacity(runningOn(p.promise.base, claim, server)); room.Verdict != CapacityOK {
		return promiseText(p.cfg, server, room), false
	}
	return "", false
}

func promiseText(cfg pool.Config, server pool.ServerID, room Capacity) string {
	return fmt.Sprintf("with it on %s the pool could not tolerate the loss of %s any more: %s", server, count(cfg.Tolerate, "server"), room.Text)
}

// foreseen is the pool after the actions so far.
func (p *planner) foreseen() *pool.Snapshot {
	s := *p.snap
	for id, c := range p.claims {
		s.Claims = s.Claims.With(id, c)
	}
	return movesDone(&s)
}

// movesDone returns the pool as it will be when the moves that are under way have ended well.
func movesDone(s *pool.Snapshot) *pool.Snapshot {
	after := *s
	for _, c := range s.Claims.All() {
		to := pool.ServerID("")
		switch op, _ := s.Operations.Get(c.Operation); {
		case c.Phase == pool.PhaseMigrating && c.Incoming != nil:
			to = c.Incoming.Server
		case c.Phase == pool.PhaseReleasing && op.Kind == pool.OperationRelocate && op.Outcome == pool.OutcomeRunning:
			to = op.Server
		}
		if to != "" && s.Members.Has(to) {
			after.Claims = runningOn(&after, c, to).Claims
		}
	}
	return &after
}

// runningOn returns the pool with a VM running on a server.
func runningOn(s *pool.Snapshot, c pool.Claim, server pool.ServerID) *pool.Snapshot {
	after := *s
	m, _ := s.Members.Get(server)
	c.Server, c.Session, c.Phase, c.Incoming, c.Operation = server, m.Session, pool.PhaseHeld, nil, ""
	after.Claims = s.Claims.With(c.VM, c)
	return &after
}

// asksForRoom reports whether an operator wants a VM started that was stopped, which is what the promise is asked of.
func (p *planner) asksForRoom(q *candidate) bool {
	if !promises(p.cfg) || q.kind != Assign || involuntary(q.claim, q.home) {
		return false
	}
	_, started := q.asked(pool.OperationStart)
	return started
}

// assignIfRoom assigns a VM that an operator wants started, unless that would break the pool's promise: then it waits.
func (p *planner) assignIfRoom(q *candidate, choice place.Choice) {
	why, later := p.breaksPromise(q.vm, choice.Server)
	if later {
		why = "it waits for its turn: whether there would be room for the loss of servers is being worked out for others"
	}
	if why == "" {
		p.assign(q, choice)
		return
	}
	p.load.Release(q.vm)
	p.waiting[q.vm.ID] = place.Choice{VM: q.vm.ID, Why: why, Gist: why}
}

// RoomEvery is how often, at most, the pool's room for the loss of servers is worked out for its alert.
const RoomEvery = 5 * time.Second

// RoomSight is what this leader saw of the pool's room for the loss of servers.
type RoomSight struct {
	Capacity Capacity
	at       pool.Instant
	// What it follows from.
	config  pool.Config
	servers pool.Table[pool.ServerID, pool.Server]
	members pool.Table[pool.ServerID, pool.Member]
	vms     pool.Table[pool.VMID, pool.VM]
	claims  pool.Table[pool.VMID, pool.Claim]
	fences  pool.Table[pool.ServerID, pool.Fence]
}

// LookAtRoom works out the pool's room for the loss of servers, if that was promised: anew when something has changed, and
// not more often than RoomEvery. seen is the result of the call before, nil at first; it is not changed. Moves that are under
// way count as done.
func LookAtRoom(seen *RoomSight, s *pool.Snapshot, now pool.Instant) *RoomSight {
	if !promises(s.Config) {
		return &RoomSight{at: now, config: s.Config, Capacity: Capacity{Verdict: CapacityNone}}
	}
	if seen != nil && (now.Before(seen.at.Add(RoomEvery)) && promises(seen.config) || seen.follows(s)) {
		return seen
	}
	return &RoomSight{PoolCapacity(movesDone(s)), now, s.Config, s.Servers, s.Members, s.VMs, s.Claims, s.Fences}
}

// follows reports whether nothing has changed that the room depends on.
func (r *RoomSight) follows(s *pool.Snapshot) bool {
	return r.config == s.Config && r.servers.Same(s.Servers) && r.members.Same(s.Members) && r.vms.Same(s.VMs) && r.claims.Same(s.Claims) && r.fences.Same(s.Fences)
}

// promiseAlert tells that the pool cannot keep its promise any more: a server died, or a VM grew.
func (p *planner) promiseAlert(raise raiseFunc) {
	const id = "capacity"
	switch {
	case !promises(p.cfg):
	case p.in.Room == nil:
		if old, ok := p.snap.Alerts.Get(id); ok { // nobody has looked yet
			raise(id, old.Kind, "", "", "", old.Text)
		}
	case p.in.Room.Capacity.Verdict != CapacityOK && p.in.Room.Capacity.Verdict != CapacityNone:
		raise(id, AlertCapacity, "", "", "CAPACITY_BROKEN", fmt.Sprintf("the promise to tolerate the loss of %s is broken: %s",
			count(p.cfg.Tolerate, "server"), p.in.Room.Capacity.Text))
	}
}
