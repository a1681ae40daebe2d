package plan

import (
	"fmt"
	"strings"
	"time"

	"github.com/holdfast-ha/holdfast/pkg/place"
	"github.com/holdfast-ha/holdfast/pkg/pool"
)

// View answers questions about one snapshot for people: how VMs and servers stand, and why. Any agent can make one,
// since everything that it says follows from the snapshot. Safe for concurrent use; make one per snapshot.
type View struct {
	snap *pool.Snapshot
	load *place.Load
	ops  map[pool.VMID][]pool.Operation
	// owed lists, by server, the VMs that a lost session may still run.
	owed map[pool.ServerID][]owedClaim
	// leaving says what becomes of the VMs of servers that are being emptied.
	leaving map[pool.ServerID][]Leave
}

// NewView walks the claims once: some milliseconds for 10,000 VMs. It borrows the snapshot.
func NewView(s *pool.Snapshot) *View {
	v := &View{snap: s, load: place.NewLoad(s), ops: runningOps(s), owed: map[pool.ServerID][]owedClaim{}}
	up := map[pool.ServerID]bool{}
	for id, m := range s.Members.All() {
		up[id] = !s.FencedFor(id, m.Session)
	}
	for vm, c := range pool.Join(s.VMs, s.Claims) {
		if c == nil || up[c.Server] || !mayRun(*c) {
			continue
		}
		o := owedClaim{claim: *c}
		if vm != nil {
			o.vm = *vm
		}
		v.owed[c.Server] = append(v.owed[c.Server], o)
	}
	v.leaving = leavingOf(s, v.ops)
	return v
}

// leavingOf plans the evacuations that are under way, if there are any.
func leavingOf(s *pool.Snapshot, ops map[pool.VMID][]pool.Operation) map[pool.ServerID][]Leave {
	e := newEvacuation(s, nil, ops, latest(s))
	if len(e.whole) == 0 {
		return nil
	}
	e.load = place.NewLoad(s)
	by := map[pool.ServerID][]Leave{}
	for _, l := range e.leaves() {
		by[l.Source] = append(by[l.Source], l)
	}
	return by
}

// latest is the time at which the newest of the operations that have ended did so: as good as now for judging whether
// one is tried again soon, without a clock.
func latest(s *pool.Snapshot) time.Time {
	var at time.Time
	for _, op := range s.Operations.All() {
		if op.Finished.After(at) {
			at = op.Finished
		}
	}
	return at
}

// Verdict is what is to be said about one server and one VM.
type Verdict = place.Verdict

// Reason is one thing that keeps a VM off a server.
type Reason = place.Reason

// Explain judges every server for a VM as the leader would: those that can take it first, best first, the others by
// name with all their reasons. It is nil for a VM that is not registered.
func (v *View) Explain(id pool.VMID) []Verdict {
	vm, ok := v.snap.VMs.Get(id)
	if !ok {
		return nil
	}
	c := v.subject(id, vm)
	return v.load.Explain(request(v.snap.Config, c, asOf(c)))
}

// Explain judges every server of a snapshot for a VM; see View.Explain.
func Explain(s *pool.Snapshot, vm pool.VMID) []Verdict { return NewView(s).Explain(vm) }

// Load is what a server has promised.
type Load struct {
	// VMs counts the VMs whose claims name the server, incoming ones included; memory and CPUs are theirs.
	VMs         int
	MemoryBytes int64
	CPUs        int
}

// Load returns what a server has promised.
func (v *View) Load(server pool.ServerID) Load {
	vms, memory, cpus := v.load.Promised(server)
	return Load{vms, memory, cpus}
}

func (v *View) subject(id pool.VMID, vm pool.VM) *subject {
	c := &subject{vm: vm, protected: v.snap.Protected(vm), ops: v.ops[id]}
	c.claim, c.hasClaim = v.snap.Claims.Get(id)
	c.home, _ = v.snap.Homes.Get(id)
	c.state, _ = v.snap.States.Get(id)
	return c.keep(v.snap)
}

// asOf is the time against which a VM's failures are judged here: that of the latest one. The leader starts the VM
// as soon as they expire by its clock.
func asOf(c *subject) time.Time {
	if n := len(c.home.Failures); n > 0 {
		return c.home.Failures[n-1].At
	}
	return c.claim.Since
}

// waitingWhy says why no server takes a VM now; empty if one does, so that the leader is about to assign it.
func (v *View) waitingWhy(c *subject) string {
	choice := v.load.Best(request(v.snap.Config, c, asOf(c)))
	if choice.Server != "" {
		// The leader knows better, where an operator's start would break a promise.
		if op, ok := c.asked(pool.OperationStart); ok && promises(v.snap.Config) && op.Phase == "waiting" {
			return op.Error
		}
		return ""
	}
	return choice.Why
}

// fencingWhy says what a protected VM of a lost server waits for. What the leader tried stands in its alert.
func (v *View) fencingWhy(c *subject) string {
	s := c.claim.Server
	if a, ok := v.snap.Alerts.Get(pool.AlertID("fencing-" + string(s))); ok {
		return a.Text + v.nowhere(c)
	}
	f, _ := v.snap.Fences.Get(s)
	if covers(f, c.claim, c.vm, v.snap.Config) {
		return fmt.Sprintf("%s is fenced by %s; a server is being chosen", s, f.Proof)
	}
	return fmt.Sprintf("%s is lost; waiting for fencing", s) + v.nowhere(c)
}

// nowhere adds, for a VM of a lost server, why no other could take it now; nothing if one could.
func (v *View) nowhere(c *subject) string {
	let := *c
	let.claim.Phase, let.claim.Server, let.claim.Cause = pool.PhaseUnassigned, "", pool.CauseFenced
	choice := v.load.Best(request(v.snap.Config, &let, asOf(&let)))
	if choice.Server != "" {
		return ""
	}
	return "; besides, no server could take it: " + choice.Why
}

// ServerState is one word for how a server stands; it may be in several states at once. The numbers are those of the
// API's ServerState.
type ServerState int

// States of a server.
const (
	ServerUnspecified ServerState = iota
	// ServerUp: a live member.
	ServerUp
	// ServerLost: its session ended without a release.
	ServerLost
	// ServerFenced: lost, and proven harmless.
	ServerFenced
	// ServerEvacuating: in maintenance, VMs still leaving.
	ServerEvacuating
	// ServerBlocked: in maintenance, and something cannot leave.
	ServerBlocked
	// ServerMaintenance: in maintenance and empty.
	ServerMaintenance
	// ServerLocked: inbound lock is on.
	ServerLocked
	// ServerDown: stopped by its own clean shutdown; holds no VM.
	ServerDown
)

var serverStateNames = [...]string{"unspecified", "up", "lost", "fenced", "evacuating", "blocked", "maintenance", "locked", "down"}

// String returns the state's word.
func (s ServerState) String() string {
	if s < 0 || int(s) >= len(serverStateNames) {
		return fmt.Sprintf("unknown(%d)", int(s))
	}
	return serverStateNames[s]
}

// Server tells how a server stands and why. The reason is empty where nothing needs explaining.
func (v *View) Server(id pool.ServerID) (states []ServerState, reason string) {
	server, ok := v.snap.Servers.Get(id)
	if !ok && !v.snap.Unreadable("servers", string(id)) {
		return nil, fmt.Sprintf("no server %s is registered", id)
	}
	var why []string
	if m, up := v.snap.Members.Get(id); up && !v.snap.FencedFor(id, m.Session) {
		states = append(states, ServerUp)
		if a, ok := v.snap.Alerts.Get(pool.AlertID("server-suspect-" + string(id))); ok {
			why = append(why, a.Text)
		}
	} else {
		states, why = v.absentStates(server)
	}
	if state, text := v.leavingState(server); text != "" {
		why = append(why, text)
		if state != ServerUnspecified {
			states = append(states, state)
		}
	}
	if server.InboundLock {
		states = append(states, ServerLocked)
		why = append(why, "inbound lock"+by(server.InboundLockMark))
	}
	if v.snap.Unreadable("servers", string(id)) || v.snap.Unreadable("members", string(id)) {
		why = append(why, "a record of it in etcd cannot be read")
	}
	return states, strings.Join(why, "; ")
}

// leavingState tells how far a server is emptied, and what keeps it from being empty.
func (v *View) leavingState(server pool.Server) (ServerState, string) {
	vms := max(v.Load(server.ID).VMs, len(v.leaving[server.ID]))
	text := ""
	switch {
	case server.Maintenance:
		text = "in maintenance" + by(server.MaintenanceMark)
	case server.Removing:
		text = "being removed"
	case server.ShuttingDown && v.snap.Members.Has(server.ID) && server.Shutdown.Reboot:
		text = "about to reboot" + by(server.Shutdown.Mark)
	case server.ShuttingDown && v.snap.Members.Has(server.ID):
		text = "about to shut down" + by(server.Shutdown.Mark)
	}
	switch left := v.leaving[server.ID]; {
	case text == "":
		return ServerUnspecified, ""
	case vms == 0 && server.Maintenance:
		return ServerMaintenance, text
	case vms == 0 || !server.Leaving():
		return ServerUnspecified, text
	case blocked(left):
		return ServerBlocked, fmt.Sprintf("%s with %s left: %s", text, count(vms, "VM"), leftWhy(left))
	default:
		return ServerEvacuating, fmt.Sprintf("%s with %s left", text, count(vms, "VM"))
	}
}

// absentStates tells how a server stands that is not a member.
func (v *View) absentStates(server pool.Server) (states []ServerState, why []string) {
	owed := v.owed[server.ID]
	if server.ShuttingDown && len(owed) == 0 {
		return []ServerState{ServerDown}, []string{"shut down"}
	}
	if server.Awaited && len(owed) == 0 {
		return []ServerState{ServerDown}, []string{"it has joined, and its agent has not started yet"}
	}
	states, why = []ServerState{ServerLost}, []string{"its session ended without a release"}
	f, _ := v.snap.Fences.Get(server.ID)
	var open []pool.VMID
	for _, o := range owed {
		if v.snap.Protected(o.vm) && !covers(f, o.claim, o.vm, v.snap.Config) {
			open = append(open, o.vm.ID)
		}
	}
	if f.Proof > pool.ProofReleased {
		states = append(states, ServerFenced)
		why = append(why, fmt.Sprintf("fenced by %s: %s", f.Proof, f.Evidence))
	}
	if a, ok := v.snap.Alerts.Get(pool.AlertID("fencing-" + string(server.ID))); ok && len(open) > 0 {
		why[0] = a.Text
		return states, why
	}
	if len(open) > 0 {
		why = append(why, fmt.Sprintf("%s waiting for fencing: %s", count(len(open), "VM"), names(open)))
	}
	return states, why
}
