package pool

// Change is one atomic change of pool records. Each record is compared with its own Revision: it is written only if
// the stored one still has that revision; 0 means that it must not exist yet. Nothing is written if any compare
// fails. Events are added without a compare.
type Change struct {
	Config     *Config
	Servers    []Server
	VMs        []VM
	Claims     []Claim
	States     []VMState
	Homes      []Home
	Fences     []Fence
	Operations []Operation
	Events     []Event
	// Secrets are written without a compare: with the registration that they belong to.
	Secrets []Secrets
	// Revocations are written without a compare: revoking twice is no conflict.
	Revocations []Revocation

	// RemoveServers and RemoveVMs delete registrations and all that hangs on them (states, homes, fences, secrets),
	// compared like records. RemoveClaims deletes claims, compared; a VM with a claim must name it here.
	RemoveServers []Server
	RemoveVMs     []VM
	RemoveClaims  []Claim
	// MembersAbsent: these servers must have no member key.
	MembersAbsent []ServerID
	// Members: these must still have these sessions.
	Members []Member

	// Roster replaces the list of those that may lead, compared. Only the leader writes it.
	Roster *Roster
	// RemoveRoster is deleted, compared: nobody is left who may lead by it.
	RemoveRoster *Roster

	// What only the leader changes. Alerts are written and removed without a compare; the others are compared.
	Alerts           []Alert
	RemoveAlerts     []AlertID
	RemoveFences     []Fence
	RemoveOperations []Operation
	RemoveEvents     []EventID
	// Incidents are compared, as those to remove are.
	Incidents       []Incident
	RemoveIncidents []Incident
	// SameVMs and SameServers must still have their revisions; they are not written.
	SameVMs     []VM
	SameServers []Server
}

// Empty reports whether c writes nothing.
func (c Change) Empty() bool {
	return c.Config == nil && c.Roster == nil && c.RemoveRoster == nil && len(c.Servers)+len(c.VMs)+len(c.Claims)+len(c.States)+len(c.Homes)+len(c.Fences)+
		len(c.Operations)+len(c.Events)+len(c.Revocations)+len(c.RemoveServers)+len(c.RemoveVMs)+len(c.RemoveClaims)+
		len(c.Alerts)+len(c.RemoveAlerts)+len(c.RemoveFences)+len(c.RemoveOperations)+len(c.RemoveEvents)+len(c.Incidents)+len(c.RemoveIncidents) == 0
}
