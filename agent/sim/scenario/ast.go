package scenario

import (
	"fmt"
	"time"

	"github.com/holdfast-ha/holdfast/agent/sim/world"
	"github.com/holdfast-ha/holdfast/pkg/pool"
)

// Error is something wrong with a scenario file.
type Error struct {
	File string
	Line int
	Msg  string
}

// Error puts file and line in front.
func (e *Error) Error() string { return fmt.Sprintf("%s:%d: %s", e.File, e.Line, e.Msg) }

// File is one parsed scenario.
type File struct {
	Name    string
	Pool    Pool
	Servers []Server
	VMs     []VM
	// Leader leads at time 0; empty for any.
	Leader string
	// Lines is the time line, in order. A `never` is among it only if it was given a time, which the next statement
	// counts from.
	Lines []Statement
	// Never lists what must hold at no moment.
	Never   []Statement
	aliases []alias
}

// Pool is the pool's policy and what all servers share.
type Pool struct {
	pool.Config
	Embedded    bool
	Voters      []string
	StartDelay  time.Duration
	MigrateRate int64
	// settings as given.
	settings []Setting
}

// Server is one server at time 0.
type Server struct {
	world.ServerSpec
	Up                       bool
	Maintenance, InboundLock bool
	settings                 []Setting
	line                     int
	// detailed: a `server` line described it.
	detailed bool
}

// VM is one VM at time 0, or as `add` registers it.
type VM struct {
	pool.VM
	Sim world.VMSpec
	// On is where it runs; empty for a stopped VM or any server.
	On       string
	Running  bool
	settings []Setting
	line     int
}

// Setting is one KEY=VALUE.
type Setting struct{ Key, Value string }

// When says how a statement's time is given.
type When int

// Ways of giving a time.
const (
	// Bare: where the statement before it ended.
	Bare When = iota
	At
	After
)

// Kind classifies statements.
type Kind int

// Kinds of statement.
const (
	Fault Kind = iota
	Command
	Expect
	// By: an expectation that becomes true until Until.
	By
	Hold
	Never
)

// Statement is one line of the time line.
type Statement struct {
	Line int
	// Text is the statement as written, without time and comment.
	Text string
	When When
	// Time of At, or duration of After.
	Time time.Duration
	Kind Kind
	// Verb is the literal words of a fault or command, such as "power off".
	Verb string
	// Server, Other and VM are its operands; a Server may be the word leader.
	Server, Other, VM string
	// Length is the duration of `slow` or `hold`.
	Length time.Duration
	// Until ends a By.
	Until    time.Duration
	Groups   [][]string
	Settings []Setting
	// New is the VM of `add`.
	New  *VM
	Cond Condition
	// Operation is the latest one, which `operation cancel` is about; known when it is played.
	Operation string
}

// Condition is a list of terms, joined from left to right.
type Condition []Term

// Term is one simple condition.
type Term struct {
	// Or joins it to what stands before it by `or`, else by `and`.
	Or  bool
	Not bool
	// Subject is a VM or server, or empty.
	Subject string
	Test    Test
	// On lists servers of `running on`.
	On    []string
	Count int
	Text  string
}

// Test is what a term asks.
type Test int

// Tests.
const (
	TestUnspecified Test = iota
	VMRunning
	VMStopped
	VMWaiting
	VMFailed
	VMPaused
	VMLost
	VMStarts
	VMMigrations
	VMReason
	ServerUp
	ServerLost
	ServerFenced
	ServerOff
	ServerEvacuating
	ServerBlocked
	ServerMaintenance
	ServerLocked
	ServerReset
	ServerVMs
	LeaderIs
	LeaderIsNot
	LeaderAny
	LeaderNone
	AnswerRefused
	AnswerAccepted
	OperationDone
	OperationFailed
	AlertOpen
	NoAlerts
)

// words of the tests with a subject.
var vmWords = map[string]Test{"running": VMRunning, "stopped": VMStopped, "waiting": VMWaiting, "failed": VMFailed,
	"paused": VMPaused, "lost": VMLost, "starts": VMStarts, "migrations": VMMigrations, "reason": VMReason}

var serverWords = map[string]Test{"up": ServerUp, "lost": ServerLost, "fenced": ServerFenced, "off": ServerOff,
	"evacuating": ServerEvacuating, "blocked": ServerBlocked, "maintenance": ServerMaintenance, "locked": ServerLocked,
	"reset": ServerReset, "vms": ServerVMs}

// Word returns the test's word as scenarios write it.
func (t Test) Word() string {
	for _, m := range []map[string]Test{vmWords, serverWords} {
		for w, x := range m {
			if x == t {
				return w
			}
		}
	}
	return ""
}

// Reported says whether a test asks what agents report over the API, and not how the simulated world is.
func (t Test) Reported() bool {
	switch t {
	case VMRunning, VMPaused, VMStarts, VMMigrations, ServerOff, ServerReset, ServerVMs:
		return false
	}
	return true
}
