package plan

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/holdfast-ha/holdfast/pkg/place"
	"github.com/holdfast-ha/holdfast/pkg/pool"
)

// ReturnSettle is how long a server must have been a member, with its path to the shared storage, before VMs are moved
// to it because they belong there: one that comes and goes must not draw them along.
const ReturnSettle = 10 * time.Second

// planReturns settles where VMs belong, and has those moved live that are elsewhere: home after an evacuation, or to a
// server that they prefer. While anything is being recovered nobody goes home.
func (p *planner) planReturns() {
	p.settleHomes()
	if !p.cfg.ReturnHome || p.cfg.Frozen || len(p.pending) > 0 {
		return
	}
	var failed map[pool.VMID][]pool.Operation
	done := map[string]bool{}
	for vm, c := range pool.Join(p.snap.VMs, p.snap.Claims) {
		if vm == nil || c == nil || c.Phase != pool.PhaseHeld || !vm.Readable() {
			continue
		}
		wanted := p.belongs(*vm, *c)
		if len(wanted) == 0 || done[vm.Together] && vm.Together != "" {
			continue
		}
		done[vm.Together] = true
		if failed == nil {
			failed = failedMoves(p.snap)
		}
		p.sendHome(p.unit(*vm, *c), wanted, failed)
	}
}

// belongs lists where a VM should rather be than where it is, best first: its home, else the servers that it prefers
// to this one. It is empty if nothing draws it away, or an operator put it here.
func (p *planner) belongs(vm pool.VM, c pool.Claim) []pool.ServerID {
	if len(vm.Prefer) == 0 && p.snap.Homes.Len() == 0 {
		return nil
	}
	h := p.homeAfter(vm.ID)
	if h.Server != "" && h.Server != c.Server {
		return []pool.ServerID{h.Server}
	}
	if h.Placed == c.Server {
		return nil
	}
	i := slices.Index(vm.Prefer, c.Server)
	if i < 0 {
		return vm.Prefer
	}
	return vm.Prefer[:i]
}

// unit is the VM with all others of its together group.
func (p *planner) unit(vm pool.VM, c pool.Claim) []Leave {
	all := []Leave{{VM: vm, Source: c.Server, How: LeaveLive, claim: c}}
	if vm.Together == "" {
		return all
	}
	for id, other := range p.snap.VMs.All() {
		if oc, ok := p.claimAfter(id); ok && id != vm.ID && other.Together == vm.Together && oc.Phase != pool.PhaseUnassigned {
			all = append(all, Leave{VM: other, Source: oc.Server, How: LeaveLive, claim: oc})
		}
	}
	return all
}

// sendHome moves a unit to the first of the wanted servers that takes all of it.
func (p *planner) sendHome(unit []Leave, wanted []pool.ServerID, failed map[pool.VMID][]pool.Operation) {
	var along []pool.VMID
	for i := range unit {
		l := &unit[i]
		if !p.mayGoHome(*l, unit[0].Source) {
			return
		}
		var wait time.Duration
		if l.tries, wait = backOff(failed[l.VM.ID], l.claim, p.in.Wall, returnRetry); wait > 0 {
			p.wake(p.in.Now.Add(wait))
			return
		}
		along = append(along, l.VM.ID)
	}
	for _, to := range wanted {
		if !p.snap.Members.Has(to) {
			continue
		}
		if !p.settled(to) {
			return // soon; going to a lesser one meanwhile would be a move too many
		}
		if !p.takesAll(unit, to, along) {
			continue
		}
		for _, l := range unit {
			l.Target = to
			p.startReturn(l)
		}
		return
	}
}

// mayGoHome: it runs, nothing else is asked of it, and it can migrate live from where the others of its unit are.
func (p *planner) mayGoHome(l Leave, from pool.ServerID) bool {
	return l.Source == from && l.VM.Movable && l.VM.Readable() && l.VM.Desired == pool.DesiredRunning && l.claim.Phase == pool.PhaseHeld &&
		p.healthy(&l.claim) && len(p.ops[l.VM.ID]) == 0 && p.doneBy[l.VM.ID] == "" && !p.server(l.Source).member.StorageLost &&
		p.observed(l.claim, pool.RunRunning, pool.RunPaused)
}

// settled reports whether a member has been here for long enough to move VMs to it.
func (p *planner) settled(id pool.ServerID) bool {
	sight, ok := p.in.Storage[id]
	if !ok {
		return true // the leader has not looked yet, or nobody looks
	}
	if at := sight.Since.Add(ReturnSettle); p.in.Now.Before(at) {
		p.wake(at)
		return false
	}
	return true
}

// takesAll promises the server to all of the unit, if it takes them, and to none if not.
func (p *planner) takesAll(unit []Leave, to pool.ServerID, along []pool.VMID) bool {
	for i, l := range unit {
		if v, ok := p.load.Verdict(place.Request{VM: l.VM, Along: along}, to); !ok || !v.Fits() {
			for _, u := range unit[:i] {
				p.load.Expect(u.VM, "")
			}
			return false
		}
		p.load.Expect(l.VM, to)
	}
	return true
}

// startReturn creates the operation that moves a VM where it belongs.
func (p *planner) startReturn(l Leave) {
	op := p.moveOperation(l, pool.ParentReturn)
	op.Requested.Why = fmt.Sprintf("%s prefers %s", l.VM.ID, l.Target)
	if h := p.homeAfter(l.VM.ID); h.Server == l.Target {
		op.Requested.Why = fmt.Sprintf("%s goes home to %s", l.VM.ID, l.Target)
	}
	why := fmt.Sprintf("%s migrates live from %s to %s: %s", l.VM.ID, l.Source, l.Target, op.Requested.Why)
	p.addMove(l, why,
		pool.Change{Operations: []pool.Operation{op}, SameVMs: []pool.VM{l.VM}, SameServers: []pool.Server{*p.server(l.Target).registration}})
}

// settleHomes forgets homes that VMs have reached, or that are gone, and notes where operators move VMs by hand: that
// ends the wish to bring them back.
func (p *planner) settleHomes() {
	for id, h := range p.snap.Homes.All() {
		if h.Server == "" || p.snap.Unreadable("homes", string(id)) {
			continue
		}
		c, _ := p.claimAfter(id)
		srv, registered := p.snap.Servers.Get(h.Server)
		switch {
		case !registered:
			p.settle(h, "", h.Placed, fmt.Sprintf("%s, where %s belonged, is not in the pool any more", h.Server, id))
		case c.Phase == pool.PhaseHeld && c.Server == h.Server && !srv.Leaving():
			p.settle(h, "", h.Placed, fmt.Sprintf("%s is at home on %s", id, h.Server))
		}
	}
	p.settleMoves()
}

// settleMoves looks at the moves that were asked for by hand and have begun.
func (p *planner) settleMoves() {
	for _, op := range p.handMoves() {
		c, _ := p.snap.Claims.Get(op.VM)
		to := op.Server
		if c.Incoming != nil {
			to = c.Incoming.Server
		}
		vm, ok := p.snap.VMs.Get(op.VM)
		h := p.homeAfter(op.VM)
		if !ok || to == "" || h.Placed == to && h.Server == "" || h.Server == "" && len(vm.Prefer) == 0 {
			continue
		}
		h.VM = op.VM
		p.settle(h, "", to, fmt.Sprintf("%s moves to %s by hand, and stays there", op.VM, to))
	}
}

// handMoves lists the moves under way that somebody asked for alone, by VM.
func (p *planner) handMoves() []pool.Operation {
	var out []pool.Operation
	for id, list := range p.ops {
		for _, op := range list {
			if op.Parent != "" || (op.Kind != pool.OperationMigrate && op.Kind != pool.OperationRelocate) {
				continue
			}
			if c, ok := p.snap.Claims.Get(id); ok && c.Operation == op.ID {
				out = append(out, op)
			}
		}
	}
	slices.SortFunc(out, func(a, b pool.Operation) int { return cmp.Compare(a.VM, b.VM) })
	return out
}

func (p *planner) settle(h pool.Home, server, placed pool.ServerID, why string) {
	if _, twice := p.homes[h.VM]; twice {
		return
	}
	h.Server, h.Placed = server, placed
	p.add(Action{Kind: SettleHome, Key: "home:" + string(h.VM), VM: h.VM, Why: why, Change: pool.Change{Homes: []pool.Home{h}}})
}
