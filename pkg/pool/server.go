package pool

import "time"

// FenceDevice is one power switch of a server: a ClusterLabs fence program and its parameters.
type FenceDevice struct {
	// Agent is the program's name, such as "fence_ipmilan".
	Agent string
	// Params are passed on its standard input as key=value.
	Params map[string]string
	// SecretFiles maps parameter names to files on the fencing servers that hold their values.
	SecretFiles map[string]string
	Timeout     time.Duration
}

// Server is a server's registration and what operators want of it.
type Server struct {
	ID ServerID
	// Address is host:port of its agent.
	Address  string
	HostUUID string
	// Maintenance: every VM leaves, none arrives.
	Maintenance     bool
	MaintenanceMark Mark
	// InboundLock: VMs may leave, none arrives.
	InboundLock     bool
	InboundLockMark Mark
	// Fence lists the power switches; all must report off.
	Fence  []FenceDevice
	Labels map[string]string
	// ReservedMemoryBytes is kept for the server itself.
	ReservedMemoryBytes int64
	// Removing: the server is being taken out of the pool.
	Removing bool
	// ShuttingDown: a clean shutdown or reboot was announced by the server; Shutdown says which.
	ShuttingDown bool
	Shutdown     Shutdown
	// RestartUnmovable: while the server is emptied, VMs that cannot migrate live are stopped there and started
	// elsewhere, instead of staying.
	RestartUnmovable bool
	// Awaited: it has joined, and its agent has not started yet, which clears it.
	Awaited  bool
	Revision Revision
}

// Shutdown is a clean shutdown or reboot of one server.
type Shutdown struct {
	// Policy says what happens to its VMs.
	Policy ShutdownPolicy
	// Reboot: it comes back by itself.
	Reboot bool
	// BootID names the boot that is to end; the server is back once its agent runs in another one.
	BootID string
	// ByPool: asked for over the API, so that its agent powers it off or reboots it once its VMs are out. Otherwise its
	// own shell asked, and the agent only holds it up until then.
	ByPool bool
	Mark   Mark
}

// Leaving reports whether every VM of the server is to move elsewhere.
func (s Server) Leaving() bool {
	return s.Maintenance || s.Removing || s.ShuttingDown && s.Shutdown.Policy == ShutdownEvacuate
}

// Keeps reports whether a server that is shutting down keeps the VMs that it stops for its return.
func (s Server) Keeps() bool {
	return s.Shutdown.Policy == ShutdownFreeze || s.Shutdown.Policy == ShutdownStop && s.Shutdown.Reboot
}

// Member is a server's leased presence: while its key exists, the session lives.
type Member struct {
	Server  ServerID
	Session Session
	LeaseID int64
	// Version is the agent's version.
	Version     string
	Incarnation string
	// BootID identifies one boot of the server's kernel.
	BootID      string
	MemoryBytes int64
	CPUs        int
	// Guard: its guard is running and holds what it is given.
	Guard bool
	// Watchdog is the armed hardware watchdog's time-out; zero without one.
	Watchdog time.Duration
	// Lacks names, for each VM that cannot run there, what is missing.
	Lacks map[VMID][]string
	// StorageLost: it has lost its path to the shared storage.
	StorageLost bool
	// RosterRevision is the newest roster that this member has acknowledged.
	RosterRevision Revision
	// EtcdVoter: it carries a voting member of the embedded etcd.
	EtcdVoter bool
	// NoPause says why VMs there cannot be paused at a deadline, but only killed; empty if they can.
	NoPause string
	// Trouble says what its agent needs and has had no answer from for a while, its guard or libvirt; empty if all is well.
	Trouble string
	// Failsafe: it obeys the roster, and answers when it is asked for a promise.
	Failsafe bool
	// CutShort says how the session before this one ended, if that was before its lease could expire and not by the server's
	// own doing; empty if not.
	CutShort string
	Since    time.Time
	Revision Revision
}

// Proof says how a lost server is known to be harmless.
type Proof int

// Proofs, in the order in which they are tried. docs/safety.md, "Fencing".
const (
	ProofNone Proof = iota
	ProofReleased
	ProofPower
	ProofWatchdog
	ProofGuard
	ProofConfirmed
)

// String returns the proof's word.
func (p Proof) String() string {
	return word([]string{"none", "released", "power", "watchdog", "guard", "confirmed"}, int(p))
}

// Fence records what was proven about a lost session of a server.
type Fence struct {
	Server ServerID
	// Session is the newest session that the proof covers; earlier ones are covered too.
	Session Session
	Proof   Proof
	// At and By: when, by the leader's wall clock, and by whom (a server's leader, or an operator).
	At time.Time
	By string
	// Evidence is one sentence on what was seen.
	Evidence string
	// SwitchedOn lists when the pool switched the server on again after fencing it, oldest first. A record whose Proof is
	// ProofNone only remembers that.
	SwitchedOn []time.Time
	Revision   Revision
}

// Covers reports whether the fence proves session harmless.
func (f Fence) Covers(session Session) bool { return f.Proof != ProofNone && session <= f.Session }

// Standing is a server's place on the roster of those that may lead.
type Standing int

// Standings.
const (
	StandingUnspecified Standing = iota
	// StandingPending: must be asked in a failsafe round, may not lead.
	StandingPending
	// StandingInForce: may lead.
	StandingInForce
)

// String returns the standing's word.
func (s Standing) String() string {
	return word([]string{"unspecified", "pending", "in force"}, int(s))
}

// Roster lists who may lead, and so who must answer in a failsafe round. Revision 0: there is none. Treat it as
// immutable. Source: docs/safety.md, "Failsafe".
type Roster struct {
	Standing map[ServerID]Standing
	Revision Revision
}

// InForce reports whether server may lead.
func (r Roster) InForce(server ServerID) bool { return r.Standing[server] == StandingInForce }

// Lets reports whether server may lead, or nobody is bound by a roster yet.
func (r Roster) Lets(server ServerID) bool { return r.Revision == 0 || r.InForce(server) }

// Leader is the election's current winner.
type Leader struct {
	Server ServerID
	// Revision is the create revision of its election key: the guard of every leader write.
	Revision Revision
	// Key is its election key.
	Key string
}
