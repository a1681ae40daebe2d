package plan

import (
	"fmt"
	"hash/fnv"
	"time"

	"github.com/holdfast-ha/holdfast/pkg/place"
	"github.com/holdfast-ha/holdfast/pkg/pool"
)

// Preview is what maintenance of a server would do.
type Preview struct {
	Server pool.ServerID
	Leaves []Leave
	// Times is about how long each takes by itself; 0 for those that stay or wait.
	Times []time.Duration
	// Expected is about how long all of it takes.
	Expected time.Duration
	// Revision names the plan: it differs if the plan does.
	Revision int64
	// Before and After are the pool's room for the loss of servers; MemoryBefore and MemoryAfter the share of memory
	// that is promised, in percent, of the servers that accept VMs.
	Before, After             Capacity
	MemoryBefore, MemoryAfter int
}

// What a preview takes for granted where the pool has no history of its own to judge by.
const (
	// usualRate is what one live migration copies in a second over 1 GbE.
	usualRate = 110 << 20
	// handOverTime is about what a live migration takes besides the copy.
	handOverTime = 2 * time.Second
	// guestStopTime is about what a guest takes to shut down and start again.
	guestStopTime = 30 * time.Second
)

// PreviewMaintenance says what would happen if the server were put into maintenance now, by the planner that would do
// it. wall is the present time, for the pauses after moves that failed.
func PreviewMaintenance(s *pool.Snapshot, id pool.ServerID, restartUnmovable bool, wall time.Time) Preview {
	before, after := *s, *s
	srv, _ := s.Servers.Get(id)
	srv.Maintenance, srv.RestartUnmovable = true, srv.RestartUnmovable || restartUnmovable
	after.Servers = s.Servers.With(id, srv)
	p := Preview{Server: id, Before: PoolCapacity(&before), MemoryBefore: memoryShare(&before)}
	for _, l := range newEvacuation(&after, place.NewLoad(&after), runningOps(&after), wall).leaves() {
		if l.Source == id {
			p.Leaves = append(p.Leaves, l)
		}
	}
	for _, l := range p.Leaves {
		if l.Target != "" {
			c := l.claim
			m, _ := s.Members.Get(l.Target)
			c.Server, c.Session, c.Incoming, c.Phase = l.Target, m.Session, nil, pool.PhaseHeld
			after.Claims = after.Claims.With(l.VM.ID, c)
		}
	}
	p.After, p.MemoryAfter = PoolCapacity(&after), memoryShare(&after)
	p.time(s)
	p.name()
	return p
}

// time estimates by what recent migrations copied in a second, or the pool's limit.
func (p *Preview) time(s *pool.Snapshot) {
	rate := recentRate(s)
	var all, longest time.Duration
	moves := 0
	for _, l := range p.Leaves {
		var t time.Duration
		switch {
		case l.Target == "":
		case l.How == LeaveLive:
			t = handOverTime + time.Duration(float64(l.VM.MemoryBytes)/float64(rate)*float64(time.Second))
		default:
			t = guestStopTime
		}
		if t > 0 {
			moves++
		}
		all += t
		longest = max(longest, t)
		p.Times = append(p.Times, t.Round(100*time.Millisecond))
	}
	side := max(1, min(s.Config.Migrations, s.Config.MigrationsPerServer, moves))
	p.Expected = max(all/time.Duration(side), longest).Round(100 * time.Millisecond)
}

// recentRate is what live migrations that ended lately copied in a second, in bytes.
func recentRate(s *pool.Snapshot) int64 {
	var bytes int64
	var took time.Duration
	for _, op := range s.Operations.All() {
		if op.Kind == pool.OperationMigrate && op.Outcome == pool.OutcomeDone && op.Progress.BytesDone > 0 && op.Finished.After(op.Requested.At) {
			bytes += op.Progress.BytesDone
			took += op.Finished.Sub(op.Requested.At)
		}
	}
	rate := int64(usualRate)
	if took > 0 {
		rate = max(1<<20, int64(float64(bytes)/took.Seconds()))
	}
	if limit := s.Config.MigrateBandwidth; limit > 0 {
		rate = min(rate, limit)
	}
	return rate
}

// name makes the plan's number of everything that an operator would want to have seen.
func (p *Preview) name() {
	h := fnv.New64a()
	_, _ = fmt.Fprintf(h, "%s|%v|%v", p.Server, p.Before.Verdict, p.After.Verdict)
	for _, l := range p.Leaves {
		_, _ = fmt.Fprintf(h, "|%s %v %s", l.VM.ID, l.How, l.Target)
	}
	p.Revision = int64(h.Sum64()>>33) + 1
}

// memoryShare is how much of the memory of servers that accept VMs is promised, in percent.
func memoryShare(s *pool.Snapshot) int {
	load := place.NewLoad(s)
	var used, all int64
	for id, srv := range s.Servers.All() {
		m, up := s.Members.Get(id)
		if !up || srv.Leaving() || srv.ShuttingDown {
			continue
		}
		_, promised, _ := load.Promised(id)
		used += promised
		all += m.MemoryBytes - srv.ReservedMemoryBytes
	}
	if all <= 0 {
		return 0
	}
	return int(100 * used / all)
}

// Refusals says of every server why it cannot take a VM that is to leave its own.
func (l Leave) Refusals(s *pool.Snapshot) []Verdict {
	var out []Verdict
	r := place.Request{VM: l.VM}
	for _, v := range place.NewLoad(s).Explain(r) {
		if v.Server != l.Source {
			out = append(out, v)
		}
	}
	return out
}
