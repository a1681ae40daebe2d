package plan

import (
	"slices"

	"github.com/holdfast-ha/holdfast/pkg/place"
	"github.com/holdfast-ha/holdfast/pkg/pool"
)

// Plan returns what the leader does next. See the package comment for what the caller must do with it.
func Plan(in Input) Result {
	p := newPlanner(in)
	if !p.mayLead() {
		return p.out
	}
	p.planServers()
	p.planRoster()
	p.planVMs()
	p.placeAll()
	p.planMigrations()
	p.planLeaving()
	p.planReturns()
	p.planOperations()
	p.planAlerts()
	p.planHistory()
	p.settleOrder()
	return p.out
}

// planner holds one plan in the making.
type planner struct {
	in     Input
	snap   *pool.Snapshot
	cfg    pool.Config
	timing pool.Timing
	load   *place.Load
	out    Result

	servers map[pool.ServerID]*server
	// roster as it will be once the actions so far are applied.
	roster pool.Roster
	// ops are the running operations by VM; of no VM under "".
	ops map[pool.VMID][]pool.Operation
	// claims and homes as they will be once the actions so far are applied, where that differs from the snapshot.
	claims map[pool.VMID]pool.Claim
	homes  map[pool.VMID]pool.Home
	// doneBy names the action that changes a VM.
	doneBy map[pool.VMID]string
	// pending are the VMs to be placed.
	pending []*candidate
	// waiting says why VMs that are wanted running have no server.
	waiting map[pool.VMID]place.Choice
	// failedOps says why operations end now.
	failedOps map[pool.OperationID]string
	// lost lists VMs without HA on lost servers that are wanted running, by name.
	lost []lostVM
	// blocked says of servers that are being emptied why that cannot go on.
	blocked map[pool.ServerID]string
	// promise is what is known of the pool's room for the loss of servers.
	promise promise
}

type lostVM struct {
	vm     pool.VMID
	server pool.ServerID
	why    string
}

func newPlanner(in Input) *planner {
	p := &planner{in: in, snap: in.Snapshot, cfg: in.Snapshot.Config, timing: timing(in.Snapshot.Config),
		load: place.NewLoad(in.Snapshot), roster: in.Snapshot.Roster, servers: map[pool.ServerID]*server{}, ops: runningOps(in.Snapshot),
		claims: map[pool.VMID]pool.Claim{}, homes: map[pool.VMID]pool.Home{}, doneBy: map[pool.VMID]string{},
		waiting: map[pool.VMID]place.Choice{}, failedOps: map[pool.OperationID]string{}, blocked: map[pool.ServerID]string{}}
	for id, s := range in.Snapshot.Servers.All() {
		p.server(id).registration = &s
	}
	for id := range in.Suspects {
		p.load.Avoid(id)
	}
	return p
}

// runningOps sorts the running operations by VM, oldest first.
func runningOps(s *pool.Snapshot) map[pool.VMID][]pool.Operation {
	ops := map[pool.VMID][]pool.Operation{}
	for _, op := range s.Operations.All() {
		if op.Outcome == pool.OutcomeRunning {
			ops[op.VM] = append(ops[op.VM], op)
		}
	}
	for _, list := range ops {
		slices.SortStableFunc(list, func(a, b pool.Operation) int { return int(a.Revision - b.Revision) })
	}
	return ops
}

// subject collects what is stored about a VM.
func (p *planner) subject(vm pool.VM) *subject {
	id := vm.ID
	c := &subject{vm: vm, protected: p.snap.Protected(vm), ops: p.ops[id]}
	c.claim, c.hasClaim = p.snap.Claims.Get(id)
	c.home, _ = p.snap.Homes.Get(id)
	c.state, _ = p.snap.States.Get(id)
	return c.keep(p.snap)
}

// add appends an action and remembers how it leaves its VM.
func (p *planner) add(a Action) {
	if a.Key == "" {
		a.Key = string(a.Kind) + ":" + string(a.VM) + string(a.Server)
	}
	for _, c := range a.Change.Claims {
		p.claims[c.VM] = c
		p.doneBy[c.VM] = a.Key
		p.promise.base = nil
	}
	for _, h := range a.Change.Homes {
		p.homes[h.VM] = h
	}
	p.out.Actions = append(p.out.Actions, a)
}

// event builds the line of history that goes with an action.
func (p *planner) event(kind string, server pool.ServerID, vm pool.VMID, text string) pool.Event {
	return pool.Event{At: p.in.Wall, Kind: kind, Server: server, VM: vm, Actor: "leader " + string(p.in.Leader.Server), Text: text,
		LeaderRevision: p.in.Leader.Revision}
}

// wake asks for another plan at the instant, if that is the earliest so far.
func (p *planner) wake(at pool.Instant) {
	if p.out.WakeAt == 0 || at.Before(p.out.WakeAt) {
		p.out.WakeAt = max(at, p.in.Now+1)
	}
}

// claimAfter returns the claim as it will be after the actions so far.
func (p *planner) claimAfter(vm pool.VMID) (pool.Claim, bool) {
	if c, ok := p.claims[vm]; ok {
		return c, true
	}
	return p.snap.Claims.Get(vm)
}

func (p *planner) homeAfter(vm pool.VMID) pool.Home {
	if h, ok := p.homes[vm]; ok {
		return h
	}
	h, _ := p.snap.Homes.Get(vm)
	return h
}

// urgency orders the kinds of action; within a kind, the order in which they were added stays.
var urgency = map[Kind]int{RecordFence: 0, RestoreClaim: 1, Recover: 2, Assign: 2, MarkFailed: 3, Unassign: 3, Release: 4, BeginMigration: 4,
	StartMove: 5, FinishOperation: 5, AdvanceOperation: 5, SettleHome: 5, RaiseAlert: 6, ClearAlert: 6, UpdateRoster: 6, SwitchOn: 7, DropFence: 7, TrimHistory: 8}

func (p *planner) settleOrder() {
	slices.SortStableFunc(p.out.Actions, func(a, b Action) int { return urgency[a.Kind] - urgency[b.Kind] })
	slices.Sort(p.out.PowerOff)
	slices.Sort(p.out.Urgent)
	slices.Sort(p.out.PowerOn)
}
