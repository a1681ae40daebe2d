package pool

import "time"

// AlertKind is a stable code for a kind of alert.
type AlertKind string

// Alert is an open problem that a person should know of. It is removed when the problem is gone.
type Alert struct {
	ID     AlertID
	Kind   AlertKind
	Server ServerID
	VM     VMID
	Text   string
	Since  time.Time
	// Tried are, for a server that waits for fencing, the proofs that were tried and do not hold.
	Tried    []ProofTry
	Revision Revision
}

// ProofTry is a proof that a lost server is harmless, which was tried, and one sentence on why it does not hold.
type ProofTry struct {
	Proof  Proof
	Result string
}

// OperationKind says what an operation does.
type OperationKind int

// Kinds of operation.
const (
	OperationUnspecified OperationKind = iota
	OperationStart
	OperationStop
	OperationKill
	OperationRestart
	OperationMigrate
	OperationRelocate
	OperationEvacuate
	OperationFailover
	OperationRemoveServer
	OperationShutdownServer
)

// String returns the kind's word.
func (k OperationKind) String() string {
	return word([]string{"unspecified", "start", "stop", "kill", "restart", "migrate", "relocate", "evacuate",
		"failover", "remove-server", "shutdown-server"}, int(k))
}

// ParentReturn stands as the parent of moves home, and to preferred servers, which no operation asks for.
const ParentReturn OperationID = "return"

// Words for where a live migration stands, in Operation.Phase.
const (
	PhaseWordRequested = "requested"
	PhaseWordWaiting   = "waiting"
	// PhaseWordPreparing: the claim names the destination; no memory has been copied.
	PhaseWordPreparing = "preparing"
	// PhaseWordCopying is written by the source before it asks its hypervisor for the transfer.
	PhaseWordCopying = "copying"
	// PhaseWordResuming: handed over, and the destination lets the guest go on.
	PhaseWordResuming = "resuming"
	// PhaseWordRefused: it was not admitted, and nothing was done for it.
	PhaseWordRefused = "refused"
)

// Outcome says how an operation stands.
type Outcome int

// Outcomes.
const (
	OutcomeUnspecified Outcome = iota
	OutcomeRunning
	OutcomeDone
	OutcomeFailed
	OutcomeCancelled
)

// String returns the outcome's word.
func (o Outcome) String() string {
	return word([]string{"unspecified", "running", "done", "failed", "cancelled"}, int(o))
}

// Operation is a long-running request: who asked for what, how far it is, how it ended.
type Operation struct {
	ID   OperationID
	Kind OperationKind
	VM   VMID
	// Server is the target (migrate, relocate) or the subject (evacuate, failover, server commands).
	Server ServerID
	Source ServerID
	// Phase is a word for people; it changes with the operation's steps.
	Phase   string
	Outcome Outcome
	// Error is why it failed, or why it waits.
	Error     string
	Requested Mark
	RequestID string
	// StartEpoch is the VM's claim epoch when the operation was created.
	StartEpoch Epoch
	// Cancel: somebody asked to cancel it.
	Cancel   bool
	Finished time.Time
	Progress Progress
	// Parent is the operation that this one is a part of, or ParentReturn for a way home; empty if somebody asked for
	// it alone.
	Parent OperationID
	// Attempt counts the tries to get the VM away from where it is, from 1; 0 for an operation that is not a part of another.
	Attempt  int
	Revision Revision
}

// Progress of a transfer or of a batch.
type Progress struct {
	ItemsDone, ItemsTotal                   int
	BytesDone, BytesTotal, BytesPerSecond   int64
	ExpectedDowntime, EstimatedTimeToFinish time.Duration
}

// Event is one line of the pool's history.
type Event struct {
	ID EventID
	At time.Time
	// Kind is a stable code, such as "SERVER_LOST".
	Kind   string
	Server ServerID
	VM     VMID
	// Actor is who did it: "leader srv-1", "agent srv-2", or an operator's identity.
	Actor string
	// Text is one sentence for people.
	Text      string
	Operation OperationID
	// LeaderRevision names the leadership that decided it, where one did.
	LeaderRevision Revision
	// Audit is nil for what no call of the API did.
	Audit    *Audit
	Revision Revision
}
