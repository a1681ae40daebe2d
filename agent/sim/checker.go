package sim

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/holdfast-ha/holdfast/agent/sim/scenario"
	"github.com/holdfast-ha/holdfast/agent/sim/world"
	"github.com/holdfast-ha/holdfast/pkg/kv"
	"github.com/holdfast-ha/holdfast/pkg/pool"
)

// Invariants are what must hold in every run, in the words of docs/scenarios.md.
var Invariants = [...]string{
	1:  "no guest executes on two servers",
	2:  "no recovery before the old server released the VM or is fenced",
	3:  "only the leader's revision assigns claims",
	4:  "a VM wanted stopped is started by nothing but start",
	5:  "at the end every VM is running, stopped, failed or waiting with a reason, and none is forgotten",
	6:  "trouble with one VM or server delays no other past its own bound",
	7:  "what operators want survives leader changes and restarts",
	8:  "a VM that no event touched is neither stopped, moved nor restarted",
	9:  "no guest boots from a disk that is not the one it wrote last",
	10: "no guest goes on with memory that is older than another copy's execution",
	11: "what Holdfast writes is never taken for a stranger's",
}

// Checker watches a pool's invariants, from time 0 on, after every event.
type Checker struct {
	p       *Pool
	failure *Failure
	// touched VMs were concerned by a fault or command; all are if all is set.
	touched map[pool.VMID]bool
	all     bool
	// asked holds the verbs of operator commands given for each VM, server or the pool (""), since time 0.
	asked map[string]map[string]bool
	// known are the VMs that must not be forgotten.
	known map[pool.VMID]bool
	// perhapsRemoved are those whose removal was asked for and not answered.
	perhapsRemoved map[pool.VMID]bool
	bounds         *bounds
	// strange are the VMs and servers whose keys somebody wrote who is no agent.
	strange map[string]bool
	// latest is when the latest fault or command was; line is the line of the latest statement.
	latest time.Duration
	line   int
}

// NewChecker starts watching a settled pool.
func NewChecker(p *Pool) *Checker {
	c := &Checker{p: p, touched: map[pool.VMID]bool{}, asked: map[string]map[string]bool{}, known: map[pool.VMID]bool{},
		perhapsRemoved: map[pool.VMID]bool{}, strange: map[string]bool{}}
	for _, v := range p.File.VMs {
		c.known[v.ID] = true
	}
	if p.truth.snapshot().Config.ReturnHome {
		c.ruled() // those that may go home to a preferred server
	}
	for _, s := range p.File.Servers {
		if s.Maintenance {
			c.touchServer(s.Name) // its VMs leave from time 0 on
		}
	}
	c.bounds = newBounds(p, c.broken)
	p.World.Observe(c.event)
	p.truth.observers = append(p.truth.observers, c.change)
	return c
}

// Violation returns the first invariant that was broken, nil if none was.
func (c *Checker) Violation() *Failure { return c.failure }

// broken notes a violation; the first one counts.
func (c *Checker) broken(invariant int, format string, args ...any) {
	if c.failure != nil {
		return
	}
	c.failure = &Failure{Invariant: invariant, File: c.p.File.Name, Line: c.line, At: c.p.Now(), Seen: c.p.File.AsWritten(fmt.Sprintf(format, args...)),
		Expected: fmt.Sprintf("invariant %d, %s", invariant, Invariants[invariant])}
	c.p.trace.add("VIOLATED: invariant %d, %s: %s", invariant, Invariants[invariant], c.failure.Seen)
}

// event looks at invariants 1 and 8.
func (c *Checker) event(e world.Event) {
	if e.VM == "" {
		// Without quorum every server may come to its stop time.
		c.all = c.all || c.p.File.Pool.Embedded && !c.p.Etcd.Quorum()
		return
	}
	c.bounds.event(e)
	if at := c.p.World.Image(e.VM).Executing(); len(at) > 1 {
		c.broken(1, "%s executes on %s", e.VM, strings.Join(at, " and "))
	}
	if c.p.World.Image(e.VM).StaleRuns() > 0 {
		c.broken(10, "%s: %s", e.VM, e.Text)
	}
	if c.p.World.Image(e.VM).Stale() > 0 {
		c.broken(9, "%s: %s", e.VM, e.Text)
	}
	if !c.all && !c.touched[e.VM] {
		c.broken(8, "%s, which no event touched: %s", e.VM, e.Text)
	}
}

// change looks at invariants 2, 3, 4 and 7.
func (c *Checker) change(k Change) {
	if k.By == "set-up" {
		return
	}
	if k.By == stranger {
		c.wrote(k)
		return
	}
	for id := range k.After.Claims.ChangedSince(k.Before.Claims) {
		was, had := k.Before.Claims.Get(id)
		now, has := k.After.Claims.Get(id)
		c.claim(k, id, was, now, had, has)
	}
	c.intent(k)
	c.takenForStranger(k)
}

// wrote notes what a stranger wrote. What invariants 2 and 3 say of the claims of those VMs, and of proofs about those
// servers' sessions, is the word of Holdfast's own writers; that no guest executes twice holds for strangers too.
func (c *Checker) wrote(k Change) {
	for id := range k.After.Claims.ChangedSince(k.Before.Claims) {
		c.strange["vm "+string(id)] = true
	}
	for id := range k.After.Members.ChangedSince(k.Before.Members) {
		c.strange["server "+string(id)] = true
	}
}

// takenForStranger: whatever is reported as a stranger's write is one. Where a defence is switched off, agents write what
// none of them should.
func (c *Checker) takenForStranger(k Change) {
	if c.p.tamper.any() {
		return
	}
	for key, f := range k.After.Foreign.All() {
		if f.Revision == k.After.Revision && !c.strange["vm "+string(f.VM)] && !c.strange["server "+string(f.Server)] {
			c.broken(11, "%s, changed by %s: %s", key, k.By, f.Text)
		}
	}
}

func (c *Checker) claim(k Change, id pool.VMID, was, now pool.Claim, had, has bool) {
	if c.strange["vm "+string(id)] {
		return
	}
	assigned := has && now.Phase == pool.PhaseAssigned && (was.Phase != pool.PhaseAssigned || was.Server != now.Server || was.Session != now.Session || was.Epoch != now.Epoch)
	byLeader := leaderWrite(k)
	if assigned && had && !byLeader {
		c.broken(3, "%s assigned %s to %s without comparing the leader's revision", k.By, id, now.Server)
	}
	if vm, ok := k.After.VMs.Get(id); assigned && ok {
		c.sent(k, vm, now)
	}
	moved := had && was.Phase.Owned() && (!has || now.Server != was.Server || !now.Phase.Owned())
	if !moved {
		return
	}
	if has && now.Phase == pool.PhaseHandedOver && !byLeader {
		if on := c.processOn(id, string(was.Server)); on != "" {
			c.broken(2, "%s was handed over by %s to %s while its process there %s", id, was.Server, now.Server, on)
		}
		return
	}
	if !byLeader {
		if on := c.processOn(id, string(was.Server)); on != "" {
			c.broken(2, "%s was released by %s while its process there %s", id, was.Server, on)
		}
		return
	}
	c.taken(k, id, was)
}

// sent looks at where a VM is told to start: what its registration and the server's say at that moment counts.
func (c *Checker) sent(k Change, vm pool.VM, now pool.Claim) {
	if vm.Desired != pool.DesiredRunning {
		c.broken(4, "%s was assigned to %s while it is wanted %s", vm.ID, now.Server, vm.Desired)
	}
	if len(vm.Require) > 0 && !slices.Contains(vm.Require, now.Server) {
		c.broken(5, "%s was assigned to %s, where it must not run", vm.ID, now.Server)
	}
	if s, _ := k.After.Servers.Get(now.Server); s.Maintenance || s.Removing {
		c.broken(5, "%s was assigned to %s, which is in maintenance or leaves the pool", vm.ID, now.Server)
	}
}

// taken looks at a claim that the leader took from its owner. The record must prove the old session harmless; where
// the proof rests on a guard it counts only for what the guard held, and only with locks on the disks.
func (c *Checker) taken(k Change, id pool.VMID, was pool.Claim) {
	f, ok := k.After.Fences.Get(was.Server)
	vm, _ := k.After.VMs.Get(id)
	byPower := f.Proof == pool.ProofPower // which a session may outlive by a lease
	if !ok || !f.Covers(was.Session) || k.After.Alive(was.Server, was.Session) && !byPower {
		c.broken(2, "%s was taken from %s, session %d, which is not fenced", id, was.Server, was.Session)
		return
	}
	rests := f.Proof == pool.ProofGuard || f.Proof == pool.ProofWatchdog
	if rests && !was.Armed {
		c.broken(2, "%s was taken from %s by proof of %s, though nothing held it there", id, was.Server, f.Proof)
	}
	locks := vm.DiskLocks || k.After.Config.TrustGuardAlone
	if f.Proof == pool.ProofGuard && !locks {
		c.broken(2, "%s was taken from %s by proof of guard, though its disks have no locks", id, was.Server)
	}
	if !slices.Contains(c.p.World.Image(id).Executing(), string(was.Server)) {
		return
	}
	guard := c.p.World.Server(string(was.Server)).Guard()
	switch {
	case !vm.DiskLocks:
		c.broken(2, "%s, whose disks have no locks, was taken from %s while it executes there", id, was.Server)
	case f.Proof == pool.ProofConfirmed: // whoever confirmed it answers for it
	case f.Proof == pool.ProofPower:
		c.broken(2, "%s was taken from %s by proof of %s while it executes there", id, was.Server, f.Proof)
	case guard != nil && !guard.Hung() && !c.strange["server "+string(was.Server)]:
		c.broken(2, "%s was taken from %s by proof of %s while it executes there, though its guard works", id, was.Server, f.Proof)
	}
}

// processOn describes the VM's live process on a server; empty if there is none.
func (c *Checker) processOn(id pool.VMID, server string) string {
	for _, q := range c.p.World.Image(id).Copies() {
		if q.Server() != server {
			continue
		}
		if q.Executes() {
			return "executes"
		}
		return "still exists"
	}
	return ""
}

// leaderWrite reports whether a commit compared the election key of the one who led then.
func leaderWrite(k Change) bool {
	l := k.Before.Leader
	return l.Key != "" && slices.ContainsFunc(k.Txn.If, func(i kv.Compare) bool { return i == kv.CreatedAt(l.Key, l.Revision) })
}

// intent looks at what only operators may change.
func (c *Checker) intent(k Change) {
	b, a := k.Before.Config, k.After.Config
	if b.HA != a.HA && !c.was("", "ha on", "ha off", "set pool") {
		c.broken(7, "pool HA changed from %v to %v without a command", b.HA, a.HA)
	}
	if b.Frozen != a.Frozen && !c.was("", "freeze", "unfreeze") {
		c.broken(7, "the pool's freeze changed to %v without a command", a.Frozen)
	}
	for id := range k.After.Servers.ChangedSince(k.Before.Servers) {
		was, had := k.Before.Servers.Get(id)
		now, has := k.After.Servers.Get(id)
		switch {
		case had && !has && !c.was(string(id), "remove-server"):
			c.broken(7, "server %s was removed without a command", id)
		case has && had && was.Maintenance != now.Maintenance && !c.was(string(id), "maintenance enter", "maintenance exit"):
			c.broken(7, "maintenance of %s changed to %v without a command", id, now.Maintenance)
		case has && had && was.InboundLock != now.InboundLock && !c.was(string(id), "inbound-lock on", "inbound-lock off"):
			c.broken(7, "the inbound lock of %s changed to %v without a command", id, now.InboundLock)
		}
	}
	for id := range k.After.VMs.ChangedSince(k.Before.VMs) {
		was, had := k.Before.VMs.Get(id)
		now, has := k.After.VMs.Get(id)
		switch {
		case had && !has && !c.was(string(id), "remove"):
			c.broken(7, "vm %s was removed without a command", id)
		case had && has:
			c.wish(id, was, now)
		}
	}
}

func (c *Checker) wish(id pool.VMID, was, now pool.VM) {
	up := now.Desired == pool.DesiredRunning
	switch {
	case was.Desired != now.Desired && up && !c.was(string(id), "start", "restart", "add"):
		c.broken(4, "%s became wanted running without start", id)
	case was.Desired != now.Desired && !up && !c.was(string(id), "stop", "kill", "guest shutdown", "remove") && !c.stopping(id):
		c.broken(7, "%s became wanted %s without a command", id, now.Desired)
	case was.HA != now.HA && !c.was(string(id), "ha on", "ha off", "set"):
		c.broken(7, "HA of %s changed to %v without a command", id, now.HA)
	}
}

// stopping reports whether the guest may have been asked to power off with its server.
func (c *Checker) stopping(id pool.VMID) bool {
	for _, s := range c.p.File.Servers {
		if c.was(s.Name, "shutdown", "reboot") {
			return true
		}
	}
	return false
}

// was reports whether one of the verbs was used on a subject.
func (c *Checker) was(subject string, verbs ...string) bool {
	return slices.ContainsFunc(verbs, func(v string) bool { return c.asked[subject][v] })
}

func (c *Checker) note(subject, verb string) {
	if c.asked[subject] == nil {
		c.asked[subject] = map[string]bool{}
	}
	c.asked[subject][verb] = true
}

// Fault notes what a fault touches. It is called before the fault happens.
func (c *Checker) Fault(st scenario.Statement) {
	c.latest = c.p.Now()
	c.bounds.fault(st)
	server, err := c.p.named(st.Server)
	if err != nil {
		return
	}
	c.ruled()
	switch {
	case st.VM != "":
		c.note(st.VM, st.Verb)
		c.touch(pool.VMID(st.VM))
	case server != "":
		c.touchServer(server)
		if st.Other != "" {
			c.touchServer(st.Other)
		}
	default:
		c.all = true
	}
	if c.p.File.Pool.Embedded && slices.Contains(c.p.Etcd.Voters(), server) {
		c.p.Sched.After(0, func() {
			if !c.p.Etcd.Quorum() {
				c.all = true
			}
		})
	}
}

// Command notes what an operator command touches. It is called before the command is carried out.
func (c *Checker) Command(st scenario.Statement) {
	c.latest = c.p.Now()
	c.bounds.fault(st)
	c.ruled()
	server, err := c.p.named(st.Server)
	if err != nil {
		return
	}
	switch {
	case st.VM != "":
		c.note(st.VM, st.Verb)
		c.touch(pool.VMID(st.VM))
	case server != "":
		c.note(server, st.Verb)
		c.touchServer(server)
	default:
		c.note("", st.Verb)
		c.all = true
	}
}

// Answered notes whether a command was accepted.
func (c *Checker) Answered(st scenario.Statement, a Answer) {
	switch {
	case a.Err != nil:
		if st.Verb == "remove" && errors.Is(a.Err, pool.ErrOutcomeUnknown) {
			c.perhapsRemoved[pool.VMID(st.VM)] = true
		}
	case st.Verb == "add":
		c.known[pool.VMID(st.VM)] = true
	case st.Verb == "remove":
		delete(c.known, pool.VMID(st.VM))
	}
}

// touch notes that an event concerned a VM.
func (c *Checker) touch(id pool.VMID) { c.touched[id] = true }

// touchServer notes all VMs that are on a server, or claimed for it.
func (c *Checker) touchServer(server string) {
	if s := c.p.World.Server(server); s != nil {
		for _, q := range s.QEMUs() {
			c.touch(q.VM)
		}
	}
	for id, claim := range c.p.truth.snapshot().Claims.All() {
		if string(claim.Server) == server || claim.Incoming != nil && string(claim.Incoming.Server) == server {
			c.touch(id)
		}
	}
}

// ruled touches the VMs that placement rules may move after any event.
func (c *Checker) ruled() {
	for id, vm := range c.p.truth.snapshot().VMs.All() {
		if len(vm.Prefer) > 0 || len(vm.Require) > 0 || vm.Together != "" || vm.Apart != "" {
			c.touch(id)
		}
	}
}
