package plan

import (
	"fmt"

	"github.com/holdfast-ha/holdfast/pkg/place"
	"github.com/holdfast-ha/holdfast/pkg/pool"
)

// CodeCapacity is said of a server: with the VM there, the pool could not keep its promise to tolerate the loss of servers any more.
const CodeCapacity place.Code = "CAPACITY"

// mostJudged bounds for how many candidates, the best first, the pool's room after the move is worked out.
const mostJudged = 8

// Candidate is one server as the destination of a VM.
type Candidate struct {
	Verdict
	// Recommended: the one that the leader would choose.
	Recommended bool
	// FreeAfter is the memory that is not promised to any VM after the move.
	FreeAfter int64
	// After is the verdict on the pool's room after the move; unspecified if it was not worked out.
	After CapacityVerdict
}

// Move is what is to be said about moving one VM.
type Move struct {
	VM     pool.VM
	Source pool.ServerID
	// Refusal says why it cannot move at all; empty if that depends on the server. Code is its stable word.
	Refusal, Code string
	// Candidates are all servers but the source: those that can take the VM first, best first.
	Candidates []Candidate
}

// Best returns the candidate that the leader would choose; ok is false if none can take the VM.
func (m Move) Best() (Candidate, bool) {
	if len(m.Candidates) > 0 && m.Candidates[0].Fits() {
		return m.Candidates[0], true
	}
	return Candidate{}, false
}

// On returns what is to be said about one server.
func (m Move) On(server pool.ServerID) (Candidate, bool) {
	for _, c := range m.Candidates {
		if c.Server == server {
			return c, true
		}
	}
	return Candidate{}, false
}

// roomShownUpTo is the size of pool, in VMs, up to which the room after a move is worked out though nothing was
// promised of it: for people only, and in a large pool it takes longer than they care to wait.
const roomShownUpTo = 1000

// PlanMove judges every server as the destination of a VM, as the leader would. live tells whether it is to move
// without being stopped. ok is false if the VM is not registered.
func PlanMove(s *pool.Snapshot, id pool.VMID, live bool) (m Move, ok bool) {
	vm, ok := s.VMs.Get(id)
	if !ok {
		return Move{}, false
	}
	claim, _ := s.Claims.Get(id)
	home, _ := s.Homes.Get(id)
	m = Move{VM: vm, Source: claim.Server}
	m.Refusal, m.Code = cannotMove(s, vm, claim, live)
	best := true
	before, base := CapacityUnspecified, s
	judged := 0
	for _, v := range place.NewLoad(s).Explain(MoveRequest(vm, claim, home)) {
		if v.Server == claim.Server {
			continue
		}
		c := Candidate{Verdict: v, FreeAfter: v.FreeBytes - vm.MemoryBytes}
		if c.Fits() && judged < mostJudged && (s.Config.Tolerate > 0 || s.VMs.Len() <= roomShownUpTo) {
			if before == CapacityUnspecified {
				base = movesDone(s)
				before = PoolCapacity(base).Verdict
			}
			judged++
			c.judgeRoom(base, claim, before)
		}
		c.Recommended = best && c.Fits() && m.Refusal == ""
		best = best && !c.Fits()
		m.Candidates = append(m.Candidates, c)
	}
	return m, true
}

// judgeRoom works out what the move would mean for the pool's promise.
func (c *Candidate) judgeRoom(s *pool.Snapshot, claim pool.Claim, before CapacityVerdict) {
	room := PoolCapacity(runningOn(s, claim, c.Server))
	c.After = room.Verdict
	if s.Config.Tolerate > 0 && before == CapacityOK && room.Verdict != CapacityOK {
		c.Reasons = append(c.Reasons, Reason{Code: CodeCapacity, Sentence: promiseText(s.Config, c.Server, room)})
	}
}

// CodeBlockJob is said of a VM: a copy or commit of its disks is under way.
const CodeBlockJob = "BLOCK_JOB"

// diskJob says why a VM that runs does not move now: as long as it runs, its disks are in doubt because of a job on them.
func diskJob(vm pool.VM) string {
	return fmt.Sprintf("%s cannot move while a copy or commit of its disks is under way (%s)", vm.ID, vm.DisksInDoubt)
}

// cannotMove says what keeps a VM from moving to any server whatever.
func cannotMove(s *pool.Snapshot, vm pool.VM, claim pool.Claim, live bool) (why, code string) {
	switch {
	case !vm.Readable() || claim.VM != "" && !claim.Readable():
		return fmt.Sprintf("a record of %s cannot be read", vm.ID), string(place.CodeUnreadable)
	case vm.Desired != pool.DesiredRunning:
		return fmt.Sprintf("%s is wanted stopped", vm.ID), "NOT_RUNNING"
	case claim.Phase == pool.PhaseMigrating || claim.Phase == pool.PhaseHandedOver:
		return fmt.Sprintf("%s is on its way already: %s", vm.ID, migrationWhy(claim)), "MIGRATING"
	case claim.Phase == pool.PhaseReleasing:
		return fmt.Sprintf("%s is being stopped on %s", vm.ID, claim.Server), "NOT_RUNNING"
	case claim.Phase != pool.PhaseHeld:
		return fmt.Sprintf("%s does not run now", vm.ID), "NOT_RUNNING"
	case !s.Alive(claim.Server, claim.Session):
		return fmt.Sprintf("%s, where %s ran, is lost", claim.Server, vm.ID), string(place.CodeLost)
	case vm.DisksInDoubt != "":
		return diskJob(vm), CodeBlockJob
	case live && !vm.Movable:
		return fmt.Sprintf("%s cannot move live", vm.ID), "NOT_MOVABLE"
	}
	return "", ""
}
