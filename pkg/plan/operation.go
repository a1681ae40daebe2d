package plan

import (
	"fmt"
	"maps"
	"slices"

	"github.com/holdfast-ha/holdfast/pkg/pool"
)

// progress is where an operation stands.
type progress struct {
	outcome pool.Outcome
	phase   string
	// err says why it failed, or what it waits for.
	err string
}

func running(phase, waits string) progress {
	return progress{pool.OutcomeRunning, phase, waits}
}

func failed(why string) progress { return progress{pool.OutcomeFailed, "failed", why} }

func cancelled(why string) progress { return progress{pool.OutcomeCancelled, "cancelled", why} }

func done() progress { return progress{pool.OutcomeDone, "done", ""} }

// planOperations records how the running operations on single VMs stand, judged by what the actions so far lead to.
func (p *planner) planOperations() {
	for _, vm := range slices.Sorted(maps.Keys(p.ops)) {
		for _, op := range p.ops[vm] {
			now, ok := p.judgeOperation(op)
			if !ok || (now.outcome == op.Outcome && now.phase == op.Phase && now.err == op.Error) {
				continue
			}
			p.addOperation(op, now)
		}
	}
}

func (p *planner) addOperation(op pool.Operation, now progress) {
	op.Outcome, op.Phase, op.Error = now.outcome, now.phase, now.err
	a := Action{Kind: AdvanceOperation, Key: "operation:" + string(op.ID), VM: op.VM,
		Why: fmt.Sprintf("%s of %s: %s", op.Kind, op.VM, now.phase)}
	if now.err != "" && now.err != now.phase {
		a.Why += ": " + now.err
	}
	if by := p.doneBy[op.VM]; by != "" {
		a.Needs = []string{by}
	}
	if now.outcome != pool.OutcomeRunning {
		a.Kind = FinishOperation
		op.Finished = p.in.Wall
		e := p.event("OPERATION_"+map[pool.Outcome]string{pool.OutcomeDone: "DONE", pool.OutcomeFailed: "FAILED", pool.OutcomeCancelled: "CANCELLED"}[now.outcome],
			op.Server, op.VM, a.Why)
		e.Operation = op.ID
		a.Change.Events = []pool.Event{e}
	}
	a.Change.Operations = []pool.Operation{op}
	p.add(a)
}

// judgeOperation says how an operation stands; ok is false for kinds that are not about one VM's power.
func (p *planner) judgeOperation(op pool.Operation) (progress, bool) {
	vm, registered := p.snap.VMs.Get(op.VM)
	switch op.Kind {
	case pool.OperationStart, pool.OperationRestart, pool.OperationRelocate, pool.OperationStop, pool.OperationKill:
	default:
		return progress{}, false
	}
	claim, has := p.claimAfter(op.VM)
	switch {
	case !registered:
		return failed(fmt.Sprintf("%s was removed from the pool", op.VM)), true
	case !vm.Readable() || (has && !claim.Readable()):
		return running("waiting", "a record of the VM cannot be read"), true
	case op.Kind == pool.OperationStop || op.Kind == pool.OperationKill:
		return p.judgeStop(op, vm, claim), true
	default:
		return p.judgeStart(op, vm, claim), true
	}
}

func (p *planner) judgeStop(op pool.Operation, vm pool.VM, claim pool.Claim) progress {
	switch {
	case vm.Desired == pool.DesiredRunning:
		return cancelled("it was asked to start meanwhile")
	case !mayRun(claim) && claim.Phase != pool.PhaseAssigned:
		return done()
	case !p.alive(&claim):
		return running("waiting", p.awayWhy(claim))
	}
	if why := p.stubborn(claim); why != "" {
		return failed(why)
	}
	return running("stopping", "")
}

// judgeStart follows a start, a restart or a relocation to the moment at which the VM runs.
func (p *planner) judgeStart(op pool.Operation, vm pool.VM, claim pool.Claim) progress {
	again := op.Kind != pool.OperationStart
	before := again && claim.Epoch == op.StartEpoch
	switch why, broken := p.failedOps[op.ID]; {
	case vm.Desired != pool.DesiredRunning:
		return cancelled("it was asked to stop meanwhile")
	case broken:
		return failed(why)
	case before && claim.Phase == pool.PhaseHeld && op.Cancel:
		return cancelled("cancelled on request")
	case before && op.Kind == pool.OperationRelocate && claim.Phase == pool.PhaseHeld && claim.Server == op.Server:
		return done()
	case p.homeAfter(op.VM).Failed:
		return failed(p.homeAfter(op.VM).FailedReason)
	case claim.Phase.Owned() && !p.alive(&claim):
		return running("waiting", p.awayWhy(claim))
	case before && claim.Phase.Owned():
		if why := p.stubborn(claim); why != "" {
			return failed(why)
		}
		return running("stopping", "")
	case claim.Phase == pool.PhaseAssigned:
		return running("starting", "")
	case claim.Phase.Owned() && p.observed(claim, pool.RunRunning, pool.RunPaused):
		return arrived(op, claim)
	case claim.Phase.Owned():
		return running("starting", "")
	default:
		return running("waiting", p.waiting[op.VM].Gist)
	}
}

// arrived judges a VM that runs again.
func arrived(op pool.Operation, claim pool.Claim) progress {
	if op.Kind == pool.OperationRelocate && claim.Server != op.Server {
		return failed(fmt.Sprintf("it runs on %s instead of %s, which could not take it when its turn came", claim.Server, op.Server))
	}
	return done()
}

// observed reports whether the claim's owner reports one of the states under this claim.
func (p *planner) observed(claim pool.Claim, states ...pool.RunState) bool {
	st, ok := p.snap.States.Get(claim.VM)
	return ok && st.Server == claim.Server && st.Epoch == claim.Epoch && slices.Contains(states, st.State)
}

func (p *planner) awayWhy(claim pool.Claim) string {
	if p.server(claim.Server).up {
		return fmt.Sprintf("%s is back and checks its VMs", claim.Server)
	}
	return fmt.Sprintf("%s, where it ran, is lost", claim.Server)
}
