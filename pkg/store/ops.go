package store

import (
	"google.golang.org/protobuf/proto"

	"github.com/holdfast-ha/holdfast/pkg/kv"
	"github.com/holdfast-ha/holdfast/pkg/pool"
	"github.com/holdfast-ha/holdfast/pkg/wire"
)

// put builds the write of a record. Should a message ever not encode, the operation has no key, which every
// store refuses: the transaction fails as a whole and nothing is written.
func put(key string, m proto.Message) kv.Op {
	value, err := encode(m)
	if err != nil {
		return kv.Op{}
	}
	return kv.Put(key, value)
}

// PutConfig writes the pool's policy.
func (k Keys) PutConfig(c pool.Config) kv.Op { return put(k.Config(), wire.Config(c)) }

// PutServer writes a server's registration.
func (k Keys) PutServer(s pool.Server) kv.Op { return put(k.Server(s.ID), wire.Server(s)) }

// PutMember writes a server's presence under lease. A member key must always hang on one.
func (k Keys) PutMember(m pool.Member, lease kv.LeaseID) kv.Op {
	op := put(k.Member(m.Server), wire.Member(m))
	op.Lease = lease
	return op
}

// PutLeader stands server for election under lease.
func (k Keys) PutLeader(server pool.ServerID, lease kv.LeaseID) kv.Op {
	return kv.PutLeased(k.Leader(lease), []byte(server), lease)
}

// PutRoster writes the list of those that may lead.
func (k Keys) PutRoster(r pool.Roster) kv.Op { return put(k.Roster(), wire.Roster(r)) }

// PutVM writes a VM's registration.
func (k Keys) PutVM(v pool.VM) kv.Op { return put(k.VM(v.ID), wire.VM(v)) }

// PutClaim writes a claim. Guard it with ClaimIs.
func (k Keys) PutClaim(c pool.Claim) kv.Op { return put(k.Claim(c.VM), wire.Claim(c)) }

// PutState writes what a VM's owner observes.
func (k Keys) PutState(s pool.VMState) kv.Op { return put(k.State(s.VM), wire.VMState(s)) }

// PutHome writes where a VM belongs.
func (k Keys) PutHome(h pool.Home) kv.Op { return put(k.Home(h.VM), wire.Home(h)) }

// PutFence writes what was proven about a server.
func (k Keys) PutFence(f pool.Fence) kv.Op { return put(k.Fence(f.Server), wire.Fence(f)) }

// PutAlert writes an open problem.
func (k Keys) PutAlert(a pool.Alert) kv.Op { return put(k.Alert(a.ID), wire.Alert(a)) }

// PutOperation writes a long-running request.
func (k Keys) PutOperation(o pool.Operation) kv.Op { return put(k.Operation(o.ID), wire.Operation(o)) }

// PutRevocation writes which certificates are no longer accepted.
func (k Keys) PutRevocation(r pool.Revocation) kv.Op {
	return put(k.Revocation(r.ID), wire.Revocation(r))
}

// PutEvent writes one line of history; see EventID.
func (k Keys) PutEvent(e pool.Event) kv.Op { return put(k.Event(e.ID), wire.Event(e)) }

// PutIncident writes the record of an outage.
func (k Keys) PutIncident(i pool.Incident) kv.Op { return put(k.Incident(i.ID), wire.Incident(i)) }

// PutSecret writes the passwords of a VM, as the caller encoded them.
func (k Keys) PutSecret(vm pool.VMID, value []byte) kv.Op { return kv.Put(k.Secret(vm), value) }

// PutToken writes a join token, as the caller encoded it. A lease lets it expire.
func (k Keys) PutToken(id string, value []byte, lease kv.LeaseID) kv.Op {
	return kv.PutLeased(k.Token(id), value, lease)
}

// DeleteServer removes a server's registration.
func (k Keys) DeleteServer(id pool.ServerID) kv.Op { return kv.Delete(k.Server(id)) }

// DeleteRoster removes the list of those that may lead; the next leader makes a new one.
func (k Keys) DeleteRoster() kv.Op { return kv.Delete(k.Roster()) }

// DeleteMember ends a session. Only its own agent may, after its VMs are dead.
func (k Keys) DeleteMember(id pool.ServerID) kv.Op { return kv.Delete(k.Member(id)) }

// DeleteVM removes a VM's registration.
func (k Keys) DeleteVM(id pool.VMID) kv.Op { return kv.Delete(k.VM(id)) }

// DeleteClaim removes a claim; only with its VM's registration.
func (k Keys) DeleteClaim(id pool.VMID) kv.Op { return kv.Delete(k.Claim(id)) }

// DeleteState removes what was observed of a VM.
func (k Keys) DeleteState(id pool.VMID) kv.Op { return kv.Delete(k.State(id)) }

// DeleteHome forgets where a VM belongs and its failures.
func (k Keys) DeleteHome(id pool.VMID) kv.Op { return kv.Delete(k.Home(id)) }

// DeleteFence removes a proof.
func (k Keys) DeleteFence(id pool.ServerID) kv.Op { return kv.Delete(k.Fence(id)) }

// DeleteAlert closes an alert.
func (k Keys) DeleteAlert(id pool.AlertID) kv.Op { return kv.Delete(k.Alert(id)) }

// DeleteOperation drops an operation from the history.
func (k Keys) DeleteOperation(id pool.OperationID) kv.Op { return kv.Delete(k.Operation(id)) }

// DeleteEvent drops an event from the history.
func (k Keys) DeleteEvent(id pool.EventID) kv.Op { return kv.Delete(k.Event(id)) }

// DeleteIncident drops the record of an outage.
func (k Keys) DeleteIncident(id pool.IncidentID) kv.Op { return kv.Delete(k.Incident(id)) }

// DeleteSecret removes a VM's passwords.
func (k Keys) DeleteSecret(vm pool.VMID) kv.Op { return kv.Delete(k.Secret(vm)) }

// DeleteToken removes a join token.
func (k Keys) DeleteToken(id string) kv.Op { return kv.Delete(k.Token(id)) }

// ConfigIs demands that the policy was last changed at rev; 0: that there is none.
func (k Keys) ConfigIs(rev pool.Revision) kv.Compare { return kv.ModIs(k.Config(), rev) }

// ServerIs demands that a registration was last changed at rev; 0: that there is none.
func (k Keys) ServerIs(id pool.ServerID, rev pool.Revision) kv.Compare {
	return kv.ModIs(k.Server(id), rev)
}

// MemberIs demands that session of server lives. Its record may have changed. Session 0 never lives.
func (k Keys) MemberIs(id pool.ServerID, session pool.Session) kv.Compare {
	return kv.CreatedAt(k.Member(id), existing(pool.Revision(session)))
}

// MemberAt demands that a member's record was last changed at rev, so that no update is overwritten.
func (k Keys) MemberAt(id pool.ServerID, rev pool.Revision) kv.Compare {
	return kv.ModIs(k.Member(id), rev)
}

// MemberAbsent demands that server has no live session.
func (k Keys) MemberAbsent(id pool.ServerID) kv.Compare { return kv.Absent(k.Member(id)) }

// LeaderIs demands that l's election key lives since l's revision. It holds for a candidate as well: be sure to
// have won before using it. A zero leader is never in office.
func (k Keys) LeaderIs(l pool.Leader) kv.Compare {
	key := l.Key
	if key == "" {
		key = k.Leaders()
	}
	return kv.CreatedAt(key, existing(l.Revision))
}

// existing turns 0, which a compare takes for "absent", into a revision that no key can have.
func existing(rev pool.Revision) pool.Revision {
	if rev == 0 {
		return -1
	}
	return rev
}

// RosterIs demands that the roster was last changed at rev; 0: that there is none.
func (k Keys) RosterIs(rev pool.Revision) kv.Compare { return kv.ModIs(k.Roster(), rev) }

// VMIs demands that a VM's registration was last changed at rev; 0: that there is none.
func (k Keys) VMIs(id pool.VMID, rev pool.Revision) kv.Compare { return kv.ModIs(k.VM(id), rev) }

// ClaimIs demands that a claim was last changed at rev; 0: that there is none.
func (k Keys) ClaimIs(id pool.VMID, rev pool.Revision) kv.Compare { return kv.ModIs(k.Claim(id), rev) }

// StateIs demands that a VM's observed state was last changed at rev; 0: that there is none.
func (k Keys) StateIs(id pool.VMID, rev pool.Revision) kv.Compare { return kv.ModIs(k.State(id), rev) }

// HomeIs demands that a VM's home was last changed at rev; 0: that there is none.
func (k Keys) HomeIs(id pool.VMID, rev pool.Revision) kv.Compare { return kv.ModIs(k.Home(id), rev) }

// FenceIs demands that a proof was last changed at rev; 0: that there is none.
func (k Keys) FenceIs(id pool.ServerID, rev pool.Revision) kv.Compare {
	return kv.ModIs(k.Fence(id), rev)
}

// OperationIs demands that an operation was last changed at rev; 0: that there is none.
func (k Keys) OperationIs(id pool.OperationID, rev pool.Revision) kv.Compare {
	return kv.ModIs(k.Operation(id), rev)
}

// AlertIs demands that an alert was last changed at rev; 0: that there is none.
func (k Keys) AlertIs(id pool.AlertID, rev pool.Revision) kv.Compare {
	return kv.ModIs(k.Alert(id), rev)
}

// IncidentIs demands that the record of an outage was last changed at rev; 0: that there is none.
func (k Keys) IncidentIs(id pool.IncidentID, rev pool.Revision) kv.Compare {
	return kv.ModIs(k.Incident(id), rev)
}

// EventAbsent demands that no event has this ID yet.
func (k Keys) EventAbsent(id pool.EventID) kv.Compare { return kv.Absent(k.Event(id)) }
