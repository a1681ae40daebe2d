package plantest

import (
	"fmt"
	"maps"
	"time"

	"github.com/holdfast-ha/holdfast/pkg/pool"
)

// World is a pool in memory. Its maps may be changed between calls through the Put methods, which give each record the
// next revision as a store would. Not safe for concurrent use.
type World struct {
	Revision   pool.Revision
	Config     pool.Config
	Leader     pool.Leader
	Servers    map[pool.ServerID]pool.Server
	Members    map[pool.ServerID]pool.Member
	VMs        map[pool.VMID]pool.VM
	Claims     map[pool.VMID]pool.Claim
	States     map[pool.VMID]pool.VMState
	Homes      map[pool.VMID]pool.Home
	Fences     map[pool.ServerID]pool.Fence
	Alerts     map[pool.AlertID]pool.Alert
	Operations map[pool.OperationID]pool.Operation
	Events     map[pool.EventID]pool.Event
	Corrupt    map[string]string
	Incidents  map[pool.IncidentID]pool.Incident
	Roster     pool.Roster
}

// New returns an empty pool with HA on, led by s1.
func New() *World {
	w := &World{Revision: 1, Config: pool.DefaultConfig("test", "life-1"), Servers: map[pool.ServerID]pool.Server{},
		Members: map[pool.ServerID]pool.Member{}, VMs: map[pool.VMID]pool.VM{}, Claims: map[pool.VMID]pool.Claim{},
		States: map[pool.VMID]pool.VMState{}, Homes: map[pool.VMID]pool.Home{}, Fences: map[pool.ServerID]pool.Fence{},
		Alerts: map[pool.AlertID]pool.Alert{}, Operations: map[pool.OperationID]pool.Operation{}, Events: map[pool.EventID]pool.Event{},
		Corrupt: map[string]string{}, Incidents: map[pool.IncidentID]pool.Incident{}}
	w.Config.HA = true
	w.Lead("s1")
	return w
}

// Next returns the next revision.
func (w *World) Next() pool.Revision {
	w.Revision++
	return w.Revision
}

// Lead makes server the leader, under a new election key.
func (w *World) Lead(server pool.ServerID) {
	w.Leader = pool.Leader{Server: server, Revision: w.Next(), Key: fmt.Sprintf("leader/%d", w.Revision)}
}

// Snapshot returns the pool as it is now. Later changes do not touch it.
func (w *World) Snapshot() *pool.Snapshot {
	return &pool.Snapshot{Revision: w.Revision, Config: w.Config, Leader: w.Leader, Servers: pool.NewTable(w.Servers), Members: pool.NewTable(w.Members),
		VMs: pool.NewTable(w.VMs), Claims: pool.NewTable(w.Claims), States: pool.NewTable(w.States), Homes: pool.NewTable(w.Homes),
		Fences: pool.NewTable(w.Fences), Alerts: pool.NewTable(w.Alerts), Operations: pool.NewTable(w.Operations),
		Events: pool.NewTable(w.Events), Corrupt: pool.NewTable(w.Corrupt), Incidents: pool.NewTable(w.Incidents), Roster: w.Roster}
}

// PutServer writes a registration.
func (w *World) PutServer(s pool.Server) { s.Revision = w.Next(); w.Servers[s.ID] = s }

// PutVM writes a registration.
func (w *World) PutVM(v pool.VM) { v.Revision = w.Next(); w.VMs[v.ID] = v }

// PutClaim writes a claim, as its owner would.
func (w *World) PutClaim(c pool.Claim) { c.Revision = w.Next(); w.Claims[c.VM] = c }

// PutState writes what an owner reports.
func (w *World) PutState(s pool.VMState) { s.Revision = w.Next(); w.States[s.VM] = s }

// PutHome writes a home.
func (w *World) PutHome(h pool.Home) { h.Revision = w.Next(); w.Homes[h.VM] = h }

// PutFence writes a proof.
func (w *World) PutFence(f pool.Fence) { f.Revision = w.Next(); w.Fences[f.Server] = f }

// PutOperation writes a request.
func (w *World) PutOperation(o pool.Operation) { o.Revision = w.Next(); w.Operations[o.ID] = o }

// Join makes a server a member with a new session, and registers it if need be.
func (w *World) Join(id pool.ServerID, memory int64, cpus int) pool.Session {
	if _, ok := w.Servers[id]; !ok {
		w.PutServer(pool.Server{ID: id})
	}
	rev := w.Next()
	w.Members[id] = pool.Member{Server: id, Session: pool.Session(rev), MemoryBytes: memory, CPUs: cpus, Guard: true, Revision: rev}
	return pool.Session(rev)
}

// Lose ends a server's session.
func (w *World) Lose(id pool.ServerID) {
	w.Next()
	delete(w.Members, id)
}

// Apply applies a change of the given leader, or of anybody if leader is zero, under the guards that it carries.
func (w *World) Apply(leader pool.Leader, c pool.Change) error {
	if leader.Revision != 0 && leader != w.Leader {
		return fmt.Errorf("leader %s: %w", leader.Server, pool.ErrLostLeadership)
	}
	if err := w.check(c); err != nil {
		return err
	}
	rev := w.Next()
	if c.Roster != nil {
		w.Roster = pool.Roster{Standing: maps.Clone(c.Roster.Standing), Revision: rev}
	}
	for _, v := range c.Claims {
		v.Revision = rev
		w.Claims[v.VM] = v
	}
	for _, v := range c.Homes {
		v.Revision = rev
		w.Homes[v.VM] = v
	}
	for _, v := range c.Fences {
		v.Revision = rev
		w.Fences[v.Server] = v
	}
	for _, v := range c.Operations {
		v.Revision = rev
		w.Operations[v.ID] = v
	}
	for _, v := range c.Servers {
		v.Revision = rev
		w.Servers[v.ID] = v
	}
	for _, v := range c.Alerts {
		v.Revision = rev
		w.Alerts[v.ID] = v
	}
	for _, v := range c.Incidents {
		v.Revision = rev
		w.Incidents[v.ID] = v
	}
	for i, v := range c.Events {
		v.ID, v.Revision = pool.EventID(fmt.Sprintf("%s-%012d-%03d", v.At.UTC().Format("20060102T150405.000000"), rev, i)), rev
		w.Events[v.ID] = v
	}
	w.remove(c)
	return nil
}

func (w *World) remove(c pool.Change) {
	for _, id := range c.RemoveAlerts {
		delete(w.Alerts, id)
	}
	for _, s := range c.RemoveServers {
		delete(w.Servers, s.ID)
	}
	for _, f := range c.RemoveFences {
		delete(w.Fences, f.Server)
	}
	for _, o := range c.RemoveOperations {
		delete(w.Operations, o.ID)
	}
	for _, i := range c.RemoveIncidents {
		delete(w.Incidents, i.ID)
	}
	for _, id := range c.RemoveEvents {
		delete(w.Events, id)
	}
}

// check compares everything that the change guards.
func (w *World) check(c pool.Change) error {
	var err error
	must := func(what string, have, want pool.Revision) {
		if have != want && err == nil {
			err = fmt.Errorf("%s is at revision %d, not %d: %w", what, have, want, pool.ErrStale)
		}
	}
	for _, v := range c.Claims {
		must("claim "+string(v.VM), w.Claims[v.VM].Revision, v.Revision)
	}
	for _, v := range c.Homes {
		must("home "+string(v.VM), w.Homes[v.VM].Revision, v.Revision)
	}
	for _, v := range append(append([]pool.Fence{}, c.Fences...), c.RemoveFences...) {
		must("fence "+string(v.Server), w.Fences[v.Server].Revision, v.Revision)
	}
	for _, v := range append(append([]pool.Operation{}, c.Operations...), c.RemoveOperations...) {
		must("operation "+string(v.ID), w.Operations[v.ID].Revision, v.Revision)
	}
	for _, v := range append(append([]pool.Incident{}, c.Incidents...), c.RemoveIncidents...) {
		must("incident "+string(v.ID), w.Incidents[v.ID].Revision, v.Revision)
	}
	for _, v := range c.SameVMs {
		must("vm "+string(v.ID), w.VMs[v.ID].Revision, v.Revision)
	}
	for _, v := range append(append([]pool.Server{}, c.Servers...), c.RemoveServers...) {
		must("server "+string(v.ID), w.Servers[v.ID].Revision, v.Revision)
	}
	for _, v := range c.SameServers {
		must("server "+string(v.ID), w.Servers[v.ID].Revision, v.Revision)
	}
	for _, m := range c.Members {
		must("session of "+string(m.Server), pool.Revision(w.Members[m.Server].Session), pool.Revision(m.Session))
	}
	for _, id := range c.MembersAbsent {
		must("session of "+string(id), pool.Revision(w.Members[id].Session), 0)
	}
	return err
}

// Clone returns a copy that shares nothing with w.
func (w *World) Clone() *World {
	c := *w
	c.Servers, c.Members, c.VMs, c.Claims = maps.Clone(w.Servers), maps.Clone(w.Members), maps.Clone(w.VMs), maps.Clone(w.Claims)
	c.States, c.Homes, c.Fences, c.Alerts = maps.Clone(w.States), maps.Clone(w.Homes), maps.Clone(w.Fences), maps.Clone(w.Alerts)
	c.Operations, c.Events, c.Corrupt, c.Incidents = maps.Clone(w.Operations), maps.Clone(w.Events), maps.Clone(w.Corrupt), maps.Clone(w.Incidents)
	return &c
}

// Start is the wall clock of a test at instant 0.
var Start = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
