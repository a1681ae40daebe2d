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

	// RemoveServers and RemoveVMs delete registrations and all that hangs on them (states, homes, fences, secrets),
	// compared like records. RemoveClaims deletes claims, compared; a VM with a claim must name it here.
	RemoveServers []Server
	RemoveVMs     []VM
	RemoveClaims  []Claim
	// MembersAbsent: these servers must have no member key.
	MembersAbsent []ServerID
	// Members: these must still have these sessions.
	Members []Member
}

// Empty reports whether c writes nothing.
func (c Change) Empty() bool {
	return c.Config == nil && len(c.Servers)+len(c.VMs)+len(c.Claims)+len(c.States)+len(c.Homes)+len(c.Fences)+
		len(c.Operations)+len(c.Events)+len(c.RemoveServers)+len(c.RemoveVMs)+len(c.RemoveClaims) == 0
}
