package pool

// Snapshot is the whole pool at one etcd revision. It is immutable; the With... of its tables build the next one.
type Snapshot struct {
	Revision   Revision
	Config     Config
	Servers    Table[ServerID, Server]
	Members    Table[ServerID, Member]
	VMs        Table[VMID, VM]
	Claims     Table[VMID, Claim]
	States     Table[VMID, VMState]
	Homes      Table[VMID, Home]
	Fences     Table[ServerID, Fence]
	Alerts     Table[AlertID, Alert]
	Operations Table[OperationID, Operation]
	Events     Table[EventID, Event]
	// Revocations are the certificates that are no longer accepted.
	Revocations Table[RevocationID, Revocation]
	Incidents   Table[IncidentID, Incident]
	Roster      Roster
	// Leader is the zero value while nobody leads.
	Leader Leader
	// Corrupt names keys whose values could not be read, with why. They are treated as absent by nobody: what
	// belongs to them is left alone.
	Corrupt Table[string, string]
	// Foreign names the keys, from their kind on, that somebody changed who is not Holdfast, as this agent saw it happen:
	// each with its newest such change, few of those that are settled.
	Foreign Table[string, Foreign]
}

// Protected reports effective HA for a VM: pool HA on, not frozen, and the VM's own HA on.
func (s *Snapshot) Protected(vm VM) bool { return s.Config.HA && !s.Config.Frozen && vm.HA }

// Alive reports whether session of server is the one that its member key shows.
func (s *Snapshot) Alive(server ServerID, session Session) bool {
	m, ok := s.Members.Get(server)
	return ok && m.Session == session && session != 0
}

// OthersStay reports whether another server than the named one is up and not about to go down.
func (s *Snapshot) OthersStay(id ServerID) bool {
	for other := range s.Members.All() {
		if srv, _ := s.Servers.Get(other); other != id && !srv.ShuttingDown {
			return true
		}
	}
	return false
}

// FencedFor reports whether a recorded proof covers the session of server.
func (s *Snapshot) FencedFor(server ServerID, session Session) bool {
	f, ok := s.Fences.Get(server)
	return ok && f.Covers(session)
}
