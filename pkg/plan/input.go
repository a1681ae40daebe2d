package plan

import (
	"time"

	"github.com/holdfast-ha/holdfast/pkg/pool"
)

// Input is everything that a plan follows from.
type Input struct {
	Snapshot *pool.Snapshot
	// Leader is who plans.
	Leader pool.Leader
	// Now is the leader's CLOCK_BOOTTIME, the clock of Lost and Power.
	Now pool.Instant
	// Wall is its wall clock: shown to people, and the measure of the failure window.
	Wall time.Time
	// Lost holds the leader's own sightings of servers without a member key; see Look.
	Lost map[pool.ServerID]Sight
	// Foreign are the strangers' writes that this agent has seen, each for ForeignNews, by key.
	Foreign []pool.Foreign
	// Starts holds since when servers have been silent about VMs that they were told to start; see LookAtStarts.
	Starts map[pool.VMID]StartSight
	// Storage holds what members say of their path to the shared storage, and since when; see LookAtStorage.
	Storage map[pool.ServerID]StorageSight
	// Known holds the sessions that this agent has seen live, and ColdUntil until when servers that ran VMs under
	// others are given time to boot; zero unless ColdStart was true when this leadership began.
	Known     map[pool.Session]bool
	ColdUntil pool.Instant
	// Power holds what is known of the leader's power-off commands, by server, PowerOn of its power-on commands.
	Power   map[pool.ServerID]Power
	PowerOn map[pool.ServerID]PowerOn
	// Suspects are the members that are silent; see Suspects.
	Suspects map[pool.ServerID]Suspicion
	// Switches says what is wrong with power switches that were asked lately; "": nothing. Those that were not asked
	// yet are not in it.
	Switches map[pool.ServerID]string
	// Room is the pool's room for the loss of servers; nil: nobody has looked yet. See LookAtRoom.
	Room *RoomSight
}

// PowerOn is the outcome of a power-on command, repeated by the leader as long as Result.PowerOn asks for it.
type PowerOn struct {
	// Done: every device reported it on.
	Done bool
	// Err is why it failed; empty while the first command is under way.
	Err string
}

// Sight is the first time that this leader saw a server without a member key, unbroken since.
type Sight struct {
	Since pool.Instant
	// Revision of the snapshot in which the key was missing. A session is a create revision: those up to this one
	// had ended by Since.
	Revision pool.Revision
}

// Power is the outcome of one power-off command, repeated by the leader as long as Result.PowerOff asks for it.
type Power struct {
	// Session bounds what it proves: the store revision known before the command was sent. Later sessions are not
	// covered. Source: docs/safety.md, "Fencing".
	Session pool.Session
	// Off: every device of the server reported it off after the command.
	Off bool
	// Evidence is one sentence on what was seen; set if Off.
	Evidence string
	// Err is why it failed; empty while the first command is under way.
	Err string
}

// Result is what to do.
type Result struct {
	// Actions in order of urgency.
	Actions []Action
	// PowerOff lists servers to switch off by their fence devices, by name. A command that is under way stays listed
	// until its outcome is in Input.Power.
	PowerOff []pool.ServerID
	// Urgent are those of PowerOff whose leases have not ended: before the command is sent, the store must have
	// confirmed that the plan is not an old one.
	Urgent []pool.ServerID
	// PowerOn lists fenced servers to switch on again, by name.
	PowerOn []pool.ServerID
	// WakeAt is the next instant at which time alone changes the plan; zero: never.
	WakeAt pool.Instant
}

// Kind says what an action is.
type Kind string

// Kinds of action.
const (
	// RecordFence writes the proof that a lost server is harmless.
	RecordFence Kind = "record-fence"
	// SwitchOn records that a fenced server is to be switched on again; the command follows.
	SwitchOn Kind = "switch-on"
	// DropFence removes the proof for sessions of a server that is back with a newer one.
	DropFence Kind = "drop-fence"
	// Assign tells a server to run a VM that no server owns.
	Assign Kind = "assign"
	// Recover takes a VM from a fenced server, or from one that never started it, and assigns it.
	Recover Kind = "recover"
	// Unassign records that no server owns a VM: nobody can take it, or it is wanted stopped.
	Unassign Kind = "unassign"
	// Release tells the owner to stop a VM and let it go.
	Release Kind = "release"
	// BeginMigration names the destination of a live migration in the claim.
	BeginMigration Kind = "begin-migration"
	// RestoreClaim writes a claim that is missing for a VM that may run.
	RestoreClaim Kind = "restore-claim"
	// MarkFailed ends automatic restarts of a VM.
	MarkFailed Kind = "mark-failed"
	// AdvanceOperation records what an operation does or waits for.
	AdvanceOperation Kind = "advance-operation"
	// FinishOperation records how an operation ended.
	FinishOperation Kind = "finish-operation"
	// RaiseAlert opens an alert or changes its text.
	RaiseAlert Kind = "raise-alert"
	// ClearAlert closes one.
	ClearAlert Kind = "clear-alert"
	// StartMove creates the operation that moves a VM: off a server that is being emptied, or home.
	StartMove Kind = "start-move"
	// SettleHome changes where a VM belongs.
	SettleHome Kind = "settle-home"
	// UpdateRoster writes who may lead, and so who must be asked before VMs run on without etcd.
	UpdateRoster Kind = "update-roster"
	// TrimHistory drops the oldest events and finished operations.
	TrimHistory Kind = "trim-history"
)

// Action is one atomic change with its reason.
type Action struct {
	Kind Kind
	// Key names the action within its plan.
	Key string
	// Needs lists keys of actions of the same plan that must have been applied first.
	Needs  []string
	VM     pool.VMID
	Server pool.ServerID
	// Why is one sentence without a final full stop.
	Why string
	// Change is what to write, with the revisions that it was decided on. Its events have no IDs yet.
	Change pool.Change
}
