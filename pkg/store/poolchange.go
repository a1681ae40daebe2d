package store

import (
	"github.com/holdfast-ha/holdfast/pkg/kv"
	"github.com/holdfast-ha/holdfast/pkg/pool"
)

// FromPool translates a change of pool records into guards and writes. Every record is compared with its own
// revision. Events must have their IDs (EventID).
func (k Keys) FromPool(c pool.Change) Change {
	var t Change
	add := func(guard kv.Compare, ops ...kv.Op) {
		t.If = append(t.If, guard)
		t.Then = append(t.Then, ops...)
	}
	if c.Config != nil {
		add(k.ConfigIs(c.Config.Revision), k.PutConfig(*c.Config))
	}
	if c.Roster != nil {
		add(k.RosterIs(c.Roster.Revision), k.PutRoster(*c.Roster))
	}
	if c.RemoveRoster != nil {
		add(k.RosterIs(c.RemoveRoster.Revision), k.DeleteRoster())
	}
	for _, v := range c.Servers {
		add(k.ServerIs(v.ID, v.Revision), k.PutServer(v))
	}
	for _, v := range c.VMs {
		add(k.VMIs(v.ID, v.Revision), k.PutVM(v))
	}
	for _, v := range c.Claims {
		add(k.ClaimIs(v.VM, v.Revision), k.PutClaim(v))
	}
	for _, v := range c.States {
		add(k.StateIs(v.VM, v.Revision), k.PutState(v))
	}
	for _, v := range c.Homes {
		add(k.HomeIs(v.VM, v.Revision), k.PutHome(v))
	}
	for _, v := range c.Fences {
		add(k.FenceIs(v.Server, v.Revision), k.PutFence(v))
	}
	for _, v := range c.Operations {
		add(k.OperationIs(v.ID, v.Revision), k.PutOperation(v))
	}
	for _, v := range c.Incidents {
		add(k.IncidentIs(v.ID, v.Revision), k.PutIncident(v))
	}
	k.removals(c, add)
	for _, id := range c.MembersAbsent {
		t.If = append(t.If, k.MemberAbsent(id))
	}
	for _, m := range c.Members {
		t.If = append(t.If, k.MemberIs(m.Server, m.Session))
	}
	for _, v := range c.SameVMs {
		t.If = append(t.If, k.VMIs(v.ID, v.Revision))
	}
	for _, v := range c.SameServers {
		t.If = append(t.If, k.ServerIs(v.ID, v.Revision))
	}
	for _, v := range c.Secrets {
		t.Then = append(t.Then, k.PutSecrets(v))
	}
	for _, v := range c.Revocations {
		t.Then = append(t.Then, k.PutRevocation(v))
	}
	for _, v := range c.Alerts {
		t.Then = append(t.Then, k.PutAlert(v))
	}
	for _, id := range c.RemoveAlerts {
		t.Then = append(t.Then, k.DeleteAlert(id))
	}
	for _, e := range c.Events {
		t.Then = append(t.Then, k.PutEvent(e))
	}
	for _, id := range c.RemoveEvents {
		t.Then = append(t.Then, k.DeleteEvent(id))
	}
	return t
}

// removals adds the deletions that are compared.
func (k Keys) removals(c pool.Change, add func(kv.Compare, ...kv.Op)) {
	for _, v := range c.RemoveServers {
		add(k.ServerIs(v.ID, v.Revision), k.DeleteServer(v.ID), k.DeleteFence(v.ID))
	}
	for _, v := range c.RemoveVMs {
		add(k.VMIs(v.ID, v.Revision), k.DeleteVM(v.ID), k.DeleteState(v.ID), k.DeleteHome(v.ID), k.DeleteSecret(v.ID))
	}
	for _, v := range c.RemoveClaims {
		add(k.ClaimIs(v.VM, v.Revision), k.DeleteClaim(v.VM))
	}
	for _, v := range c.RemoveFences {
		add(k.FenceIs(v.Server, v.Revision), k.DeleteFence(v.Server))
	}
	for _, v := range c.RemoveOperations {
		add(k.OperationIs(v.ID, v.Revision), k.DeleteOperation(v.ID))
	}
	for _, v := range c.RemoveIncidents {
		add(k.IncidentIs(v.ID, v.Revision), k.DeleteIncident(v.ID))
	}
}
