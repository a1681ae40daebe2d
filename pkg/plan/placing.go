package plan

import (
	"fmt"
	"time"

	"github.com/holdfast-ha/holdfast/pkg/place"
	"github.com/holdfast-ha/holdfast/pkg/pool"
)

// candidate is a VM that this plan tries to place.
type candidate struct {
	*subject
	kind Kind
	// counted says what a failure counted by this plan was.
	counted string
	// never: it is taken from a server that never started it.
	never bool
	// stays: it is left where it is if no other server takes it.
	stays bool
	// overdue is for how long its server has been silent about its start, where that is too long.
	overdue time.Duration
}

func (p *planner) queue(c *subject, kind Kind) *candidate {
	q := &candidate{subject: c, kind: kind}
	p.pending = append(p.pending, q)
	return q
}

// placeAll places every VM that waits for a server together, and turns the choices into actions.
func (p *planner) placeAll() {
	if len(p.pending) == 0 {
		return
	}
	requests := make([]place.Request, len(p.pending))
	by := make(map[pool.VMID]*candidate, len(p.pending))
	for i, q := range p.pending {
		requests[i] = p.requestFor(q)
		by[q.vm.ID] = q
	}
	var asked []place.Choice
	for _, choice := range p.load.Batch(requests) {
		switch q := by[choice.VM]; {
		case choice.Server == "":
			p.refuse(q, choice)
		case p.asksForRoom(q):
			asked = append(asked, choice)
		default:
			p.assign(q, choice)
		}
	}
	for _, choice := range asked {
		p.assignIfRoom(by[choice.VM], choice)
	}
}

// requestFor asks as if the VM had been let go already by whoever has it now.
func (p *planner) requestFor(q *candidate) place.Request {
	c := *q.subject
	if q.kind == Recover {
		c.claim = p.letGo(q)
	}
	r := request(p.cfg, &c, p.in.Wall)
	if q.overdue > 0 {
		r.Exhausted = append(r.Exhausted, q.claim.Server)
	}
	return r
}

// letGo is the claim of a VM that no server takes over: what is true of it once its owner is out of the way.
func (p *planner) letGo(q *candidate) pool.Claim {
	next := p.next(q.subject, pool.PhaseUnassigned)
	switch {
	case !q.never:
		next.Cause = pool.CauseFenced
	case (!p.cfg.HA || !q.vm.HA) && q.claim.LastServer == q.claim.Server && q.claim.LastServer != "":
		// Without HA it does not start elsewhere just because the server went away again before it had started.
		next.Cause = pool.CauseServerRestarted
	}
	return next
}

// assign writes the choice. The target's session and registration, and the VM's registration, must still be those
// that the choice rests on.
func (p *planner) assign(q *candidate, choice place.Choice) {
	target := p.server(choice.Server)
	next := p.next(q.subject, pool.PhaseAssigned)
	next.Server, next.Session, next.Epoch = target.id, target.member.Session, q.claim.Epoch+1
	if adopting(next) {
		next.Epoch++ // an ordinary start must not look like a VM that runs already
	}
	change := pool.Change{Claims: []pool.Claim{next}, SameVMs: []pool.VM{q.vm}, SameServers: []pool.Server{*target.registration},
		Members: []pool.Member{{Server: target.id, Session: target.member.Session}}, MembersAbsent: p.absent(q.subject)}
	if q.counted != "" {
		change.Homes = []pool.Home{q.home}
	}
	kind, why := p.assignWhy(q, choice)
	change.Events = []pool.Event{p.event(kind, target.id, q.vm.ID, why)}
	p.add(Action{Kind: q.kind, Needs: p.needs(q.subject), VM: q.vm.ID, Server: target.id, Why: why, Change: change})
}

// assignWhy says why the VM starts, and why there.
func (p *planner) assignWhy(q *candidate, choice place.Choice) (event, why string) {
	from := q.claim.Server
	switch {
	case q.counted != "":
		return "VM_RESTARTED", fmt.Sprintf("%s restarts on %s after a failure, %s: %s", q.vm.ID, choice.Server, q.counted, choice.Why)
	case q.overdue > 0:
		return "VM_ASSIGNED", fmt.Sprintf("%s starts on %s, since %s has not said anything about its start for %v: %s", q.vm.ID, choice.Server, from, q.overdue, choice.Why)
	case q.kind == Recover && q.never:
		return "VM_ASSIGNED", fmt.Sprintf("%s starts on %s, since %s never started it: %s", q.vm.ID, choice.Server, from, choice.Why)
	case q.kind == Recover:
		return "VM_RESTARTED", fmt.Sprintf("%s restarts on %s, since %s: %s", q.vm.ID, choice.Server, fencedBy(from, p.server(from).fence.Proof), choice.Why)
	case involuntary(q.claim, q.home) && q.claim.Cause == pool.CauseUnspecified:
		return "VM_RESTARTED", fmt.Sprintf("%s restarts on %s after failures: %s", q.vm.ID, choice.Server, choice.Why)
	case involuntary(q.claim, q.home):
		return "VM_RESTARTED", fmt.Sprintf("%s restarts on %s after %s: %s", q.vm.ID, choice.Server, q.claim.Cause, choice.Why)
	default:
		return "VM_ASSIGNED", fmt.Sprintf("%s starts on %s: %s", q.vm.ID, choice.Server, choice.Why)
	}
}

// refuse notes why the VM waits, and takes it from an owner that is out of the way.
func (p *planner) refuse(q *candidate, choice place.Choice) {
	if q.stays {
		return
	}
	p.waiting[q.vm.ID] = choice
	if in, ok := forgives(q.vm, q.home, p.in.Wall); ok {
		p.wake(p.in.Now.Add(in))
	}
	change := pool.Change{}
	switch {
	case q.kind == Recover:
		change.Claims = []pool.Claim{p.letGo(q)}
		change.MembersAbsent = p.absent(q.subject)
	case q.counted != "":
		next := p.next(q.subject, pool.PhaseUnassigned)
		next.Detail = q.counted
		change.Claims, change.Homes = []pool.Claim{next}, []pool.Home{q.home}
	default:
		return
	}
	why := fmt.Sprintf("%s waits: %s", q.vm.ID, choice.Why)
	p.add(Action{Kind: Unassign, Needs: p.needs(q.subject), VM: q.vm.ID, Why: why, Change: change})
}
