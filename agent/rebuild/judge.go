package rebuild

import (
	"fmt"
	"maps"
	"net"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/holdfast-ha/holdfast/pkg/pool"
	"github.com/holdfast-ha/holdfast/pkg/saved"
	pb "github.com/holdfast-ha/holdfast/proto/holdfast/v1"
)

// Input is all that Judge looks at.
type Input struct {
	// State is what will be restored: the newest copy, or a file that an operator chose.
	State saved.State
	// Newer is the newest copy that a server has, if State is a file that is older than that; else nil.
	Newer *saved.State
	// Foreign: State is of a life of the pool that no server which answers has ever belonged to; Adrift: an operator says
	// that it is this pool's all the same.
	Foreign, Adrift bool
	// Bare are VMs whose definitions have a place for a password that is empty.
	Bare []pool.VMID
	// Copies are all copies that were found, also older ones; they tell which epochs were given out.
	Copies []saved.State
	// Present are the servers that answered, by name, with their VMs.
	Present map[pool.ServerID]*pb.LifeStanding
	// Off are servers that an operator says are off, or will never come back with what ran on them.
	Off []pool.ServerID
	// OldEtcdLost: an operator says that the old etcd is lost for good, whoever had a vote in it.
	OldEtcdLost bool
	// External: the pool's etcd is not the embedded one, and was found empty.
	External bool
	// Incarnation is the new life's name, At the time of the rebuild for people, and By who does it.
	Incarnation string
	At          time.Time
	By          string
}

// Fate is what becomes of a VM.
type Fate int

// Fates of VMs.
const (
	// Adopted: it runs on a server that says so, and goes on.
	Adopted Fate = iota + 1
	// Ended: what there is of it on a server that answers is of an older claim; it is ended there, then treated as Free.
	Ended
	// Waits: it may run on a server that does not answer. It is started nowhere until that is back or fenced.
	Waits
	// Free: it runs nowhere. It is started if it is wanted.
	Free
)

// VM is what becomes of one VM and why.
type VM struct {
	ID    pool.VMID
	Fate  Fate
	Why   string
	Claim pool.Claim
	// Removed: a newer copy has it no more. If it runs nowhere it is registered as stopped.
	Removed bool
}

// Registration is what it is registered with.
func (v VM) Registration(was pool.VM) pool.VM {
	if v.Removed && v.Fate != Adopted && v.Fate != Waits {
		was.Desired = pool.DesiredStopped
	}
	return was
}

// Plan is what a rebuild will do.
type Plan struct {
	Config  pool.Config
	Servers []pool.Server
	// VMs in order of name.
	VMs []VM
	// Absent servers do not answer, and nobody says that they are off.
	Absent []pool.ServerID
	// Fences of the servers that are off.
	Fences []pool.Fence
	// Strangers are VMs with the pool's mark that no registration knows, as "VM on server".
	Strangers []string
	// Unrestored are VMs that a newer copy has and what is restored has not.
	Unrestored []pool.VMID
	// Refusals say why it must not be done, each with the way out; empty if it may.
	Refusals []string
	// After is what the new etcd's revisions come after: far more than the newest that anybody has seen.
	After pool.Revision
}

// Seen is the newest revision that anybody has seen.
func (p Plan) Seen() pool.Revision { return p.After - margin }

// margin is by how much the new etcd's revisions are ahead of the newest one that was seen: more than a pool may have
// written that nobody who answers has seen.
const margin = 1_000_000

// Judge decides what a rebuilt etcd will hold. It is pure. docs/safety.md, "Rebuild", has the argument; in short: a claim
// in a copy says who ran a VM once; only a server's own word says who runs it now; and where a server that does not
// answer might, nobody else may.
func Judge(in Input) Plan {
	p := Plan{Config: in.State.Config, Absent: absent(in)}
	p.Config.Incarnation = in.Incarnation
	for _, s := range in.State.Servers.All() {
		p.Servers = append(p.Servers, s)
	}
	for _, s := range append(in.Copies, in.State) {
		p.After = max(p.After, s.Revision)
	}
	p.After += margin
	for _, id := range slices.Sorted(slices.Values(in.Off)) {
		p.Fences = append(p.Fences, pool.Fence{Server: id, Session: pool.FormerLife, Proof: pool.ProofConfirmed, At: in.At, By: in.By,
			Evidence: "said to be off when the pool was rebuilt"})
	}
	for id := range in.State.VMs.All() {
		v, problem := in.vm(id, p.Absent)
		if problem != "" {
			p.Refusals = append(p.Refusals, problem)
		}
		v.Removed = in.Newer != nil && !in.Newer.VMs.Has(id)
		p.VMs = append(p.VMs, v)
	}
	if in.Newer != nil {
		for id := range in.Newer.VMs.All() {
			if !in.State.VMs.Has(id) {
				p.Unrestored = append(p.Unrestored, id)
			}
		}
	}
	p.Strangers = in.strangers()
	p.Refusals = append(p.Refusals, in.refusals(p)...)
	return p
}

// absent lists the registered servers that do not answer and of which nobody says that they are off.
func absent(in Input) (out []pool.ServerID) {
	for id := range in.State.Servers.All() {
		if in.Present[id] == nil && !slices.Contains(in.Off, id) {
			out = append(out, id)
		}
	}
	return out
}

// found is one VM as a server has it.
type found struct {
	server pool.ServerID
	vm     *pb.PresentVM
}

func (f found) epoch() pool.Epoch { return pool.Epoch(f.vm.GetEpoch()) }

// copyOf reports whether it is a migration's copy, which has not run and never will but by a hand-over.
func (f found) copyOf() bool { return f.vm.GetOperation() != "" && !f.vm.GetStarted() }

// marked reports whether Holdfast made it.
func (f found) marked() bool { return f.vm.GetPool() != "" }

// here lists a VM's processes on the servers that answer, migrations' copies left out, best first: a higher epoch, then
// one that has run, then one that runs, then by server.
func (in Input) here(vm pool.VM) (all []found) {
	for _, id := range slices.Sorted(maps.Keys(in.Present)) {
		for _, v := range in.Present[id].GetVms() {
			f := found{id, v}
			mine := f.marked() && v.GetPool() == in.State.Pool && v.GetVm() == string(vm.ID)
			if (mine || !f.marked() && v.GetUuid() == vm.UUID) && !f.copyOf() {
				all = append(all, f)
			}
		}
	}
	slices.SortStableFunc(all, func(a, b found) int {
		if a.epoch() != b.epoch() {
			return int(b.epoch() - a.epoch())
		}
		return rank(b) - rank(a)
	})
	return all
}

func rank(f found) (r int) {
	if f.vm.GetStarted() {
		r += 2
	}
	if f.vm.GetRunning() {
		r++
	}
	return r
}

// highest returns the highest epoch of a VM that anybody has seen.
func (in Input) highest(id pool.VMID, here []found) (e pool.Epoch) {
	for _, s := range append(in.Copies, in.State) {
		if c, ok := s.Claims.Get(id); ok {
			e = max(e, c.Epoch)
		}
	}
	for _, f := range here {
		e = max(e, f.epoch())
	}
	return e
}

// last is the newest claim of a VM that anybody has kept: what is restored may be a file that is older than the copies.
func (in Input) last(id pool.VMID) pool.Claim {
	last, _ := in.State.Claims.Get(id)
	for _, s := range in.Copies {
		if c, ok := s.Claims.Get(id); ok && c.Epoch > last.Epoch {
			last = c
		}
	}
	return last
}

// vm decides what becomes of one VM; problem says why nothing can be decided.
func (in Input) vm(id pool.VMID, absent []pool.ServerID) (v VM, problem string) {
	reg, _ := in.State.VMs.Get(id)
	old := in.last(id)
	here := in.here(reg)
	top := in.highest(id, here)
	for i, f := range here {
		if i > 0 && f.vm.GetRunning() {
			problem = fmt.Sprintf("%s is on %s and executes on %s too: end it on one of them", id, here[0].server, f.server)
		}
	}
	held := func(s pool.ServerID, e pool.Epoch) pool.Claim {
		return pool.Claim{VM: id, Server: s, Session: pool.FormerLife, Epoch: e, Phase: pool.PhaseHeld, LastServer: s, Incarnation: in.Incarnation, Since: in.At}
	}
	switch {
	case len(here) > 0 && in.proves(here[0], old, top, len(absent) > 0):
		f := here[0]
		return VM{ID: id, Fate: Adopted, Why: "runs on " + string(f.server), Claim: held(f.server, top)}, problem
	case len(absent) > 0:
		x, e := waitsFor(old, absent, top)
		return VM{ID: id, Fate: Waits, Why: fmt.Sprintf("may run on %s, which does not answer", x), Claim: held(x, e)}, problem
	case len(here) > 0:
		f := here[0]
		return VM{ID: id, Fate: Ended, Why: fmt.Sprintf("what is left of it on %s is of an older claim", f.server), Claim: held(f.server, top+1)}, problem
	}
	return VM{ID: id, Fate: Free, Why: "runs nowhere", Claim: in.unassigned(id, old, top+1)}, problem
}

// proves reports whether what a server has of a VM shows that nobody else executes it, and so may go on.
//
// Its CPUs have run under the highest epoch that anybody knows, and nothing has stopped it since: then whoever else
// may run it would have needed a proof first that this one is dead. A VM that the guard paused at a deadline gives no
// such proof, for its claim may have moved since; nor does one that has not run yet. With every server's word heard, it
// is enough that it is the only one of that epoch. One that Holdfast did not make counts only where the copy names its
// server.
func (in Input) proves(f found, old pool.Claim, top pool.Epoch, missing bool) bool {
	if !f.marked() {
		return old.Server == f.server
	}
	if f.epoch() < top {
		return false
	}
	return !missing || f.vm.GetStarted() && !f.vm.GetPausedByGuard()
}

// waitsFor chooses the server that a VM waits for among those that do not answer, and the epoch of its claim. The one
// that the copy names may still run it under that epoch, and is adopted when it comes back; of another, what it may
// have is of an epoch that nobody knows.
func waitsFor(old pool.Claim, absent []pool.ServerID, top pool.Epoch) (pool.ServerID, pool.Epoch) {
	if slices.Contains(absent, old.Server) && old.Epoch == top {
		return old.Server, top
	}
	if slices.Contains(absent, old.LastServer) {
		return old.LastServer, top + 1
	}
	return absent[0], top + 1
}

// unassigned is the claim of a VM that runs nowhere. A VM that was not running before keeps its reason.
func (in Input) unassigned(id pool.VMID, old pool.Claim, e pool.Epoch) pool.Claim {
	c := pool.Claim{VM: id, Epoch: e, Phase: pool.PhaseUnassigned, LastServer: old.LastServer, Cause: pool.CauseIsolated,
		Detail: "it ran nowhere when the pool was rebuilt", Incarnation: in.Incarnation, Since: in.At}
	if old.Phase == pool.PhaseUnassigned {
		c.Cause, c.Detail = old.Cause, old.Detail
	} else if old.Server != "" {
		c.LastServer = old.Server
	}
	return c
}

// strangers lists VMs with the pool's mark that are not registered in what is restored.
func (in Input) strangers() (out []string) {
	for _, id := range slices.Sorted(maps.Keys(in.Present)) {
		for _, v := range in.Present[id].GetVms() {
			if v.GetPool() == in.State.Pool && !in.State.VMs.Has(pool.VMID(v.GetVm())) {
				out = append(out, fmt.Sprintf("%s on %s", v.GetVm(), id))
			}
		}
	}
	return out
}

// refusals are the reasons that concern the rebuild as a whole.
func (in Input) refusals(p Plan) (out []string) {
	for _, id := range slices.Sorted(maps.Keys(in.Present)) {
		s := in.Present[id]
		switch {
		case s.GetEtcdAnswers():
			out = append(out, fmt.Sprintf("etcd answers %s: nothing is lost; look at it with holdfast-agent check", id))
		case !s.GetKnown():
			out = append(out, fmt.Sprintf("%s cannot say what runs there: its libvirt or its guard does not answer", id))
		}
	}
	if in.Foreign && !in.Adrift {
		out = append(out, fmt.Sprintf("no server that answers has ever belonged to the life %s of pool %s: it is of another pool of that name, or of one whose servers "+
			"were all set up anew; if you know that it is of this one, say so with --other-life", in.State.Incarnation, in.State.Pool))
	}
	for _, id := range in.Off {
		if in.Present[id] != nil {
			out = append(out, fmt.Sprintf("%s is said to be off, and answers", id))
		}
		if !in.State.Servers.Has(id) {
			out = append(out, fmt.Sprintf("%s is said to be off, and is no server of the pool", id))
		}
	}
	waits := slices.ContainsFunc(p.VMs, func(v VM) bool { return v.Fate == Waits })
	if len(p.Absent) > 1 && waits {
		out = append(out, fmt.Sprintf("%s do not answer, and a VM might run on any of them: bring all but one back, or say that they are off and stay off with --off %s",
			words(p.Absent), strings.Join(strs(p.Absent[1:]), ",")))
	}
	if why := in.halfMade(); why != "" && !in.OldEtcdLost && !in.External {
		out = append(out, why)
	}
	if why := in.mayComeBack(); why != "" && !in.OldEtcdLost && !in.External {
		out = append(out, why)
	}
	return out
}

// halfMade says where the etcd of a rebuild may be that nobody who answers has seen finished. Servers left for its life, and no
// copy tells who has its votes; but they were told where it would be. If it is there after all, and comes back, it would
// start VMs that run under the new one.
func (in Input) halfMade() string {
	for _, id := range slices.Sorted(maps.Keys(in.Present)) {
		s := in.Present[id]
		if slices.ContainsFunc(in.Copies, func(c saved.State) bool { return c.Incarnation == s.GetIncarnation() }) {
			continue
		}
		var silent []string
		for _, e := range s.GetEndpoints() {
			if !in.presentAt(e) {
				silent = append(silent, e)
			}
		}
		if len(silent) > 0 && len(silent) >= len(s.GetEndpoints())/2+1 {
			return fmt.Sprintf("%s belongs to the life of a rebuild whose etcd may be at %s, on a server that does not answer: bring that back and run the rebuild there; "+
				"if its etcd data is lost for good, say so with --old-etcd-lost", id, strings.Join(silent, " and "))
		}
	}
	return ""
}

// presentAt reports whether a server that answers has this URL's host.
func (in Input) presentAt(endpoint string) bool {
	u, err := url.Parse(endpoint)
	if err != nil {
		return false
	}
	for id := range in.Present {
		s, _ := in.State.Servers.Get(id)
		if host, _, err := net.SplitHostPort(s.Address); err == nil && host == u.Hostname() {
			return true
		}
	}
	return false
}

// mayComeBack says who could bring the old etcd back with a majority: then it might give VMs away that run under the
// new one.
func (in Input) mayComeBack() string {
	var others []string
	for _, v := range in.State.Voters {
		if in.Present[pool.ServerID(v)] == nil {
			others = append(others, v)
		}
	}
	switch {
	case len(in.State.Voters) == 0 && len(in.Present) < in.State.Servers.Len():
		return "no copy says who had the votes of the old etcd; if its data is lost for good on every machine that does not answer, say so with --old-etcd-lost"
	case len(others) == 0 || len(others) < len(in.State.Voters)/2+1:
		return ""
	}
	return fmt.Sprintf("%s had %d of the %d votes of the old etcd, and could bring it back without this server: if their etcd data is lost for good, say so with --old-etcd-lost",
		strings.Join(others, " and "), len(others), len(in.State.Voters))
}

func strs(ids []pool.ServerID) (out []string) {
	for _, id := range ids {
		out = append(out, string(id))
	}
	return out
}

func words(ids []pool.ServerID) string { return strings.Join(strs(ids), " and ") }
