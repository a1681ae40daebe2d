package plan

import (
	"cmp"
	"fmt"
	"maps"
	"slices"

	"github.com/holdfast-ha/holdfast/pkg/place"
	"github.com/holdfast-ha/holdfast/pkg/pool"
)

// underWay counts the live migrations that run: in the pool, and by each server as source or destination.
type underWay struct {
	all    int
	server map[pool.ServerID]int
}

func (u *underWay) add(source, target pool.ServerID) {
	u.all++
	u.server[source]++
	u.server[target]++
}

// full says which limit keeps another migration between two servers from starting; target may be empty.
func (u *underWay) full(cfg pool.Config, source, target pool.ServerID) (why string, full bool) {
	if u.all >= cfg.Migrations {
		return fmt.Sprintf("%s at once in the pool is the limit", count(cfg.Migrations, "migration")), true
	}
	for _, s := range []pool.ServerID{source, target} {
		if s != "" && u.server[s] >= cfg.MigrationsPerServer {
			return fmt.Sprintf("%s at once with %s is the limit", count(cfg.MigrationsPerServer, "migration"), s), true
		}
	}
	return "", false
}

// migrations counts what the claims say is under way.
func (p *planner) migrations() *underWay {
	u := &underWay{server: map[pool.ServerID]int{}}
	for _, c := range p.snap.Claims.All() {
		switch {
		case c.Phase == pool.PhaseMigrating && c.Incoming != nil:
			u.add(c.Server, c.Incoming.Server)
		case c.Phase == pool.PhaseHandedOver:
			u.add(c.LastServer, c.Server)
		}
	}
	return u
}

// planMigrations follows every live migration that was asked for: it admits those whose turn it is, and records how
// the others stand. It comes after every VM that is down has been placed, so that none waits for a migration.
func (p *planner) planMigrations() {
	list := p.migrateOps()
	if len(list) == 0 {
		return
	}
	busy := p.migrations()
	for _, op := range list {
		now := p.judgeMigration(op, busy)
		if now.begun || (now.outcome == op.Outcome && now.phase == op.Phase && now.err == op.Error) {
			continue
		}
		p.addOperation(op, now.progress)
	}
}

// migrateOps lists the running operations of this kind: VMs of high priority first, then in the order of asking.
func (p *planner) migrateOps() []pool.Operation {
	var list []pool.Operation
	for _, vm := range slices.Sorted(maps.Keys(p.ops)) {
		for _, op := range p.ops[vm] {
			if op.Kind == pool.OperationMigrate {
				list = append(list, op)
			}
		}
	}
	slices.SortStableFunc(list, func(a, b pool.Operation) int {
		va, _ := p.snap.VMs.Get(a.VM)
		vb, _ := p.snap.VMs.Get(b.VM)
		return cmp.Or(cmp.Compare(vb.Priority, va.Priority), a.Requested.At.Compare(b.Requested.At), cmp.Compare(a.ID, b.ID))
	})
	return list
}

// moving is where a migration stands; begun: this plan begins it, and records that itself.
type moving struct {
	progress
	begun bool
}

// begunBefore reports whether the claim was ever given to the operation: the leader writes both in one transaction.
func begunBefore(op pool.Operation) bool {
	switch op.Phase {
	case "", pool.PhaseWordRequested, pool.PhaseWordWaiting:
		return false
	}
	return true
}

func (p *planner) judgeMigration(op pool.Operation, busy *underWay) moving {
	vm, registered := p.snap.VMs.Get(op.VM)
	claim, has := p.claimAfter(op.VM)
	switch {
	case !registered:
		return moving{progress: failed(fmt.Sprintf("%s was removed from the pool", op.VM))}
	case !vm.Readable() || !has || !claim.Readable():
		return moving{progress: running(pool.PhaseWordWaiting, "a record of the VM cannot be read")}
	case claim.Operation == op.ID && claim.Phase == pool.PhaseMigrating:
		return moving{progress: p.judgeTransfer(op, claim)}
	case claim.Operation == op.ID && claim.Phase == pool.PhaseHandedOver:
		return moving{progress: p.judgeArrival(op, claim)}
	case begunBefore(op):
		return moving{progress: p.judgeEnd(op, claim)}
	}
	return p.judgeQueued(op, vm, claim, busy)
}

// judgeTransfer: the source is at it, and says itself how far it is.
func (p *planner) judgeTransfer(op pool.Operation, claim pool.Claim) progress {
	switch {
	case !p.alive(&claim):
		return running(op.Phase, p.awayWhy(claim))
	case op.Cancel:
		return running(op.Phase, "being cancelled")
	case op.Phase == pool.PhaseWordPreparing || op.Phase == pool.PhaseWordCopying:
		return running(op.Phase, "")
	default:
		return running(pool.PhaseWordPreparing, "")
	}
}

func (p *planner) judgeArrival(op pool.Operation, claim pool.Claim) progress {
	if !p.alive(&claim) {
		return running(pool.PhaseWordResuming, p.awayWhy(claim))
	}
	return running(pool.PhaseWordResuming, "")
}

// judgeEnd: the claim is not this migration's any more.
func (p *planner) judgeEnd(op pool.Operation, claim pool.Claim) progress {
	handed := claim.Epoch == op.StartEpoch+1 && claim.Server == op.Server
	why := claim.Detail
	if why == "" {
		why = "the migration ended without saying why"
	}
	switch {
	case handed && (claim.Phase == pool.PhaseHeld || claim.Phase == pool.PhaseReleasing || claim.Phase == pool.PhaseMigrating):
		return done()
	case claim.Epoch == op.StartEpoch && claim.Phase.Owned() && op.Cancel:
		return cancelled("cancelled on request; it runs on where it was")
	case claim.Epoch == op.StartEpoch && claim.Phase.Owned():
		return failed(why)
	case claim.Phase == pool.PhaseUnassigned && claim.Cause != pool.CauseUnspecified:
		return failed(fmt.Sprintf("it ended on the way (%s), and starts anew: %s", claim.Cause, why))
	default:
		return failed("it ended on the way, and starts anew")
	}
}

// judgeQueued: nothing was done for it yet.
func (p *planner) judgeQueued(op pool.Operation, vm pool.VM, claim pool.Claim, busy *underWay) moving {
	waits := func(why string) moving { return moving{progress: running(pool.PhaseWordWaiting, why)} }
	switch {
	case op.Cancel:
		return moving{progress: cancelled("cancelled on request")}
	case vm.Desired != pool.DesiredRunning:
		return moving{progress: cancelled("it was asked to stop meanwhile")}
	case claim.Epoch != op.StartEpoch:
		return moving{progress: p.overtaken(op, claim)}
	case claim.Phase == pool.PhaseUnassigned:
		return moving{progress: failed("it does not run")}
	case claim.Phase != pool.PhaseHeld && claim.Phase.Owned() && claim.Operation != "":
		return waits(fmt.Sprintf("operation %s is under way for it", claim.Operation))
	case claim.Phase != pool.PhaseHeld:
		return waits("it does not run yet")
	case !p.healthy(&claim):
		return waits(p.awayWhy(claim))
	case op.Server == claim.Server:
		return moving{progress: done()}
	case vm.DisksInDoubt != "":
		return p.refused(op, diskJob(vm))
	case !vm.Movable:
		return p.refused(op, fmt.Sprintf("%s cannot move live; stop it there and start it elsewhere: relocate %s SERVER", vm.ID, vm.ID))
	case p.doneBy[vm.ID] != "":
		return waits("") // this plan changes it otherwise
	}
	return p.admit(op, vm, claim, busy)
}

// overtaken: the VM changed its owner before its turn came.
func (p *planner) overtaken(op pool.Operation, claim pool.Claim) progress {
	if op.Server != "" && claim.Server == op.Server && claim.Phase == pool.PhaseHeld {
		return done()
	}
	return cancelled("it was started anew meanwhile")
}

// refused ends an operation. One that is a part of another and leaves the choice of the server to the leader waits for
// better times.
func (p *planner) refused(op pool.Operation, why string) moving {
	if op.Parent != "" && op.Server == "" {
		return moving{progress: running(pool.PhaseWordWaiting, why)}
	}
	return moving{progress: progress{pool.OutcomeFailed, pool.PhaseWordRefused, why}}
}

// MoveRequest asks for a server for a VM that runs and is to move.
func MoveRequest(vm pool.VM, claim pool.Claim, home pool.Home) place.Request {
	r := place.Request{VM: vm}
	if home.Server != "" && home.Server != claim.Server {
		r.Home = append(r.Home, home.Server)
	}
	return r
}

// admit judges the servers anew, now that it is its turn, and begins the migration.
func (p *planner) admit(op pool.Operation, vm pool.VM, claim pool.Claim, busy *underWay) moving {
	target, why, ok := p.target(op, vm, claim)
	if !ok {
		return p.refused(op, why)
	}
	if limit, full := busy.full(p.cfg, claim.Server, target); full {
		return moving{progress: running(pool.PhaseWordWaiting, "it waits for its turn: "+limit)}
	}
	if op.Parent == "" {
		broken, later := "", false
		if target, broken, later = p.keepingPromise(op, vm, claim, target); broken != "" {
			return p.refused(op, broken)
		}
		if later {
			return moving{progress: running(pool.PhaseWordWaiting, "it waits for its turn: the room for the loss of servers is being worked out for others")}
		}
	}
	busy.add(claim.Server, target)
	p.load.Expect(vm, target)
	p.beginMigration(op, vm, claim, target, why)
	return moving{begun: true}
}

// target is the server asked for, if it can take the VM, else the best one.
func (p *planner) target(op pool.Operation, vm pool.VM, claim pool.Claim) (target pool.ServerID, why string, ok bool) {
	r := MoveRequest(vm, claim, p.homeAfter(vm.ID))
	r.Along = p.along(op, vm)
	if op.Server != "" {
		v, known := p.load.Verdict(r, op.Server)
		switch {
		case !known:
			return "", fmt.Sprintf("no server %s in this pool", op.Server), false
		case !v.Fits():
			return "", v.Reasons[0].Sentence, false
		}
		return op.Server, askedWhy(op), true
	}
	for _, v := range p.load.Explain(r) {
		if v.Server != claim.Server && v.Fits() {
			return v.Server, "the best that qualifies", true
		}
	}
	r.Exhausted = append(r.Exhausted, claim.Server)
	return "", refusalElsewhere(p.load, r, claim.Server), false
}

// askedWhy says who wanted a VM on that very server, and why.
func askedWhy(op pool.Operation) string {
	switch {
	case op.Requested.Why != "" && op.Parent != "":
		return op.Requested.Why
	case op.Requested.Why != "":
		return fmt.Sprintf("%s asked for it: %s", op.Requested.By, op.Requested.Why)
	}
	return fmt.Sprintf("%s asked for it", op.Requested.By)
}

// keepingPromise returns where a VM may go without breaking the pool's promise to tolerate the loss of servers: the target,
// or, if none was asked for, the best of the next ones. why says why it may go nowhere.
func (p *planner) keepingPromise(op pool.Operation, vm pool.VM, claim pool.Claim, target pool.ServerID) (to pool.ServerID, why string, later bool) {
	why, later = p.breaksPromise(vm, target)
	if why == "" || op.Server != "" {
		return target, why, later
	}
	tried := 1
	for _, v := range p.load.Explain(MoveRequest(vm, claim, p.homeAfter(vm.ID))) {
		if v.Server == claim.Server || v.Server == target || !v.Fits() || tried == mostJudged {
			continue
		}
		tried++
		if broken, later := p.breaksPromise(vm, v.Server); broken == "" || later {
			return v.Server, "", later
		}
	}
	return "", why, false
}

// along lists the VMs of the same group that move in the same evacuation.
func (p *planner) along(op pool.Operation, vm pool.VM) []pool.VMID {
	if op.Parent == "" || vm.Together == "" {
		return nil
	}
	var out []pool.VMID
	for _, other := range p.snap.Operations.All() {
		mate, ok := p.snap.VMs.Get(other.VM)
		if ok && other.Parent == op.Parent && other.VM != vm.ID && mate.Together == vm.Together && other.Outcome == pool.OutcomeRunning {
			out = append(out, other.VM)
		}
	}
	slices.Sort(out)
	return out
}

// refusalElsewhere says, server by server, why none but the VM's own can take it.
func refusalElsewhere(l *place.Load, r place.Request, own pool.ServerID) string {
	text := ""
	for _, v := range l.Explain(r) {
		if v.Server == own || v.Fits() {
			continue
		}
		if text != "" {
			text += "; "
		}
		text += v.Reasons[0].Sentence
	}
	if text == "" {
		return "there is no other server"
	}
	return "no other server can take it: " + text
}

// beginMigration gives the claim to the operation. The destination's session and registration, and the VM's, must
// still be those that it was admitted by.
func (p *planner) beginMigration(op pool.Operation, vm pool.VM, claim pool.Claim, target pool.ServerID, why string) {
	to, from := p.server(target), p.server(claim.Server)
	next := claim
	next.Phase, next.Operation, next.Since = pool.PhaseMigrating, op.ID, p.in.Wall
	next.Incoming = &pool.Incoming{Server: target, Session: to.member.Session}
	next.Cause, next.Detail = pool.CauseUnspecified, ""
	op.Source, op.Server, op.Phase, op.Error = claim.Server, target, pool.PhaseWordPreparing, ""
	text := fmt.Sprintf("%s migrates from %s to %s: %s", vm.ID, claim.Server, target, why)
	e := p.event("VM_MIGRATING", target, vm.ID, text)
	e.Operation = op.ID
	p.add(Action{Kind: BeginMigration, VM: vm.ID, Server: target, Why: text, Change: pool.Change{Claims: []pool.Claim{next},
		Operations: []pool.Operation{op}, SameVMs: []pool.VM{vm}, SameServers: []pool.Server{*to.registration},
		Members: []pool.Member{{Server: target, Session: to.member.Session}, {Server: from.id, Session: claim.Session}},
		Events:  []pool.Event{e}}})
}
