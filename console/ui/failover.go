package ui

import (
	"fmt"
	"slices"
	"strings"
	"time"

	pb "github.com/holdfast-ha/holdfast/proto/holdfast/v1"
)

// failover is what has become of a lost server and of each VM that it carried, as the pool's own records tell it.
type failover struct {
	server string
	lost   time.Time
	fence  *pb.Fence
	rows   []failoverRow
}

type failoverRow struct {
	vm   *pb.VMView
	down time.Duration
}

// failoverOf is the failover of a server that is lost now; nil for any other.
func (m *Model) failoverOf(s *pb.ServerView) *failover {
	if !serverIs(s, pb.ServerState_SERVER_STATE_LOST) {
		return nil
	}
	id := s.GetServer().GetId()
	f := m.failoverAt(id, m.lostAt(id))
	if serverIs(s, pb.ServerState_SERVER_STATE_FENCED) {
		f.fence = s.GetFence()
	}
	return f
}

// lostAt is when a server was lost, by the latest event or alert that says so.
func (m *Model) lostAt(id string) time.Time {
	all := m.shown().Events
	for i := len(all) - 1; i >= 0; i-- {
		if all[i].GetServer() == id && all[i].GetKind() == "SERVER_LOST" {
			return all[i].GetAt().AsTime()
		}
	}
	for _, a := range m.shown().Pool.GetAlerts() {
		if a.GetServer() == id && a.GetKind() == "SERVER_LOST" {
			return a.GetSince().AsTime()
		}
	}
	return m.now
}

// failoverAt collects the VMs that a server carried when it was lost.
func (m *Model) failoverAt(server string, lost time.Time) *failover {
	f := &failover{server: server, lost: lost}
	restarted := m.restartedAfter(server, lost)
	for _, v := range m.shown().VMs {
		c := v.GetClaim()
		since := v.GetStatus() == pb.VMStatus_VM_STATUS_WAITING || !c.GetSince().AsTime().Before(lost)
		here := c.GetServer() == server || c.GetLastServer() == server && since
		if v.GetStatus() == isStopped || !here && !restarted[v.GetVm().GetId()] {
			continue
		}
		down := m.now.Sub(lost)
		if v.GetStatus() == isRunning {
			down = v.GetSince().AsTime().Sub(lost)
		}
		f.rows = append(f.rows, failoverRow{v, max(down, 0)})
	}
	slices.SortStableFunc(f.rows, func(a, b failoverRow) int {
		return int(b.vm.GetVm().GetPriority()) - int(a.vm.GetVm().GetPriority())
	})
	return f
}

// restartedAfter are the VMs of which the pool said that it restarts them because that server was fenced: their claims
// remember it only until they run again.
func (m *Model) restartedAfter(server string, lost time.Time) map[string]bool {
	out := map[string]bool{}
	all := m.shown().Events
	for i := len(all) - 1; i >= 0 && !all[i].GetAt().AsTime().Before(lost); i-- {
		e := all[i]
		if e.GetKind() == "VM_RESTARTED" && (strings.Contains(e.GetText(), "since "+server+" is fenced") || strings.Contains(e.GetText(), "after server fenced")) {
			out[e.GetVm()] = true
		}
	}
	return out
}

// count of rows in a state.
func (f *failover) count(want ...pb.VMStatus) int {
	n := 0
	for _, r := range f.rows {
		if slices.Contains(want, r.vm.GetStatus()) {
			n++
		}
	}
	return n
}

// protected are those that HA restarts.
func (f *failover) protected() int {
	return len(f.rows) - f.count(pb.VMStatus_VM_STATUS_LOST)
}

// over reports whether everything that can be done has been done, a while ago.
func (f *failover) over(now time.Time) bool {
	const shown = time.Minute
	busy := f.count(pb.VMStatus_VM_STATUS_STARTING, pb.VMStatus_VM_STATUS_WAITING) > 0
	return f.fence == nil || !busy && now.Sub(f.fence.GetAt().AsTime()) > shown
}

// sentence is the banner's line.
func (f *failover) sentence(m *Model) string {
	done := f.count(isRunning)
	parts := []string{"FAILOVER " + f.server, "lost " + f.lost.In(m.now.Location()).Format(time.TimeOnly), "fenced by " + word(f.fence.GetProof()),
		fmt.Sprintf("%s %d of %d restarted", m.glyphs.gauge(int64(done), int64(max(f.protected(), 1)), 10), done, f.protected())}
	if n := f.count(pb.VMStatus_VM_STATUS_WAITING); n > 0 {
		parts = append(parts, plural(n, "VM")+" without a place")
	}
	if s := f.downText(); s != "" {
		parts = append(parts, s)
	}
	return strings.Join(parts, " | ")
}

// downText is for how long VMs were down that run again.
func (f *failover) downText() string {
	var all []time.Duration
	for _, r := range f.rows {
		if r.vm.GetStatus() == isRunning {
			all = append(all, r.down)
		}
	}
	if len(all) == 0 {
		return ""
	}
	slices.Sort(all)
	return fmt.Sprintf("down median %s, worst %s", seconds(all[len(all)/2]), seconds(all[len(all)-1]))
}

func (f *failover) lines(m *Model) lines {
	var l lines
	l.gap()
	l.head("FAILOVER " + f.server)
	l.fact("lost", f.lost.In(m.now.Location()).Format("15:04:05.0"))
	if f.fence != nil {
		l.fact("fenced", f.fence.GetAt().AsTime().In(m.now.Location()).Format("15:04:05.0")+" by "+word(f.fence.GetProof())+prefixed(": ", f.fence.GetEvidence()))
	}
	if len(f.rows) == 0 {
		l.add(dim, "it carried no VM that runs or should run")
		return l
	}
	l.fact("restarted", fmt.Sprintf("%d of %d", f.count(isRunning), f.protected())+prefixed("; ", f.downText()))
	l.add(dim, pad("VM", 18)+pad("PRIO", 8)+pad("TO", 10)+pad("STATE", 11)+pad("DOWN", 9)+"WHY")
	for _, r := range f.rows {
		v := r.vm
		l.row(piece{plain, pad(v.GetVm().GetId(), 18)}, piece{plain, pad(word(v.GetVm().GetPriority()), 8)}, piece{plain, pad(dash(v.GetClaim().GetServer()), 10)},
			piece{vmTone(v.GetStatus()), pad(word(v.GetStatus()), 11)}, piece{plain, pad(seconds(r.down), 9)}, piece{dim, v.GetReason()})
	}
	return l
}
