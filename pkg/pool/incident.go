package pool

import "time"

// IncidentID names an incident; IDs sort by time.
type IncidentID string

// Recovery says how an incident ended for one VM.
type Recovery int

// Recoveries.
const (
	// RecoveryPending: it does not run again yet.
	RecoveryPending Recovery = iota
	// RecoveryRestarted: it was started anew.
	RecoveryRestarted
	// RecoveryRanOn: its own server has it again, and nobody took it over.
	RecoveryRanOn
	// RecoveryStopped: nobody wants it to run any more.
	RecoveryStopped
	// RecoveryFailed: the restart policy gave up.
	RecoveryFailed
	// RecoveryRemoved: its registration is gone.
	RecoveryRemoved
	// RecoveryLeft: it has no HA and was left where it was.
	RecoveryLeft
)

// String returns the recovery in words for people.
func (r Recovery) String() string {
	return word([]string{"pending", "restarted", "ran on", "stopped", "failed", "removed", "left"}, int(r))
}

// Incident is the record of one outage: which servers or VMs failed, what was proven, what moved where and why, and for
// how long each VM was down. Written by the leader, after the recovery's own writes. All times are wall clocks of those
// who wrote the records that they come from; they are for people and never compared with a deadline.
type Incident struct {
	ID IncidentID
	// Why is one sentence on how it began.
	Why string
	// Began is the first sign; Ended is zero while a VM is not settled.
	Began, Ended time.Time
	// Updated is when the record was last written, By whom.
	Updated  time.Time
	By       string
	Servers  []IncidentServer
	VMs      []IncidentVM
	Revision Revision
}

// IncidentServer is one server that was lost in an incident.
type IncidentServer struct {
	Server ServerID
	// Session that it lost.
	Session Session
	// LastSign is the earliest moment at which it can have failed: the lease's life-time before it was lost, or the
	// silence that made it suspect.
	LastSign time.Time
	// Suspected, Lost, Fenced and Back are zero for what did not happen, or not yet.
	Suspected, Lost, Fenced, Back time.Time
	Proof                         Proof
	// Evidence is one sentence on what was seen; FencedBy says who recorded it.
	Evidence, FencedBy string
}

// IncidentVM is one VM in an incident.
type IncidentVM struct {
	VM VMID
	// From is the server that ran it, Epoch that claim's.
	From  ServerID
	Epoch Epoch
	// Down is when it stopped running: when its owner saw it end, or the last sign of a server that was lost.
	Down time.Time
	// Cause is one sentence on why it went down.
	Cause string
	// Waited lists the distinct reasons that it waited for, oldest first.
	Waited []string
	// To is the server that was told to start it, Assigned when, Why in one sentence; Event is that line of history.
	To       ServerID
	Assigned time.Time
	Why      string
	Event    EventID
	// Started is when its guest ran again, and Downtime the time from Down until then.
	Started  time.Time
	Downtime time.Duration
	Recovery Recovery
}

// Open reports whether a VM of the incident is not settled yet.
func (i Incident) Open() bool { return i.Ended.IsZero() }
