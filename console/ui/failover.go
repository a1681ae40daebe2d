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
	// lost is when its session ended, and last the last sign of it, zero if unknown.
	lost, last time.Time
	fence      *pb.Fence
	rows       []failoverRow
	// settled: the pool's record of it is closed.
	settled bool
}

type failoverRow struct {
	vm *pb.VMView
	// down is for how long it was, or is, away; again: it runs again.
	down  time.Duration
	again bool
	why   string
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

// failoverAt is what has become of the VMs that a server carried when it was lost: by the pool's record of it or, as
// long as that has not come, by what its events and claims say.
func (m *Model) failoverAt(server string, lost time.Time) *failover {
	if f := m.recordedFailover(server, lost); f != nil {
		return f
	}
	// As in the record, VMs count as away from the last sign of their server: a life-time of its lease before it was lost.
	f := &failover{server: server, lost: lost, last: lost.Add(-m.shown().Config().GetLeaseTtl().AsDuration())}
	restarted := m.restartedAfter(server, lost)
	for _, v := range m.shown().VMs {
		c := v.GetClaim()
		since := v.GetStatus() == pb.VMStatus_VM_STATUS_WAITING || !c.GetSince().AsTime().Before(lost)
		here := c.GetServer() == server || c.GetLastServer() == server && since
		if v.GetStatus() == isStopped || !here && !restarted[v.GetVm().GetId()] {
			continue
		}
		row := failoverRow{vm: v, down: m.now.Sub(f.last), again: v.GetStatus() == isRunning, why: v.GetReason()}
		if row.again {
			row.down = v.GetSince().AsTime().Sub(f.last)
		}
		f.rows = append(f.rows, row)
	}
	f.sort()
	return f
}

func (f *failover) sort() {
	slices.SortStableFunc(f.rows, func(a, b failoverRow) int {
		return int(b.vm.GetVm().GetPriority()) - int(a.vm.GetVm().GetPriority())
	})
}

// recordedFailover is what the pool's record says about the loss of a server; nil if it has not come.
func (m *Model) recordedFailover(server string, lost time.Time) *failover {
	for _, i := range slices.Backward(m.incidents.value) {
		for _, s := range i.GetServers() {
			if s.GetServer() != server || s.GetLost() == nil || lost.Sub(s.GetLost().AsTime()) > recordSlack {
				continue
			}
			f := &failover{server: server, lost: s.GetLost().AsTime(), settled: i.GetEnded() != nil}
			if s.GetLastSign() != nil {
				f.last = s.GetLastSign().AsTime()
			}
			for _, r := range i.GetVms() {
				if v := m.shown().VM(r.GetVm()); v != nil && r.GetFrom() == server {
					f.rows = append(f.rows, m.recordedRow(v, r))
				}
			}
			f.sort()
			return f
		}
	}
	return nil
}

// recordSlack is how far two records of one loss may lie apart.
const recordSlack = 2 * time.Second

func (m *Model) recordedRow(v *pb.VMView, r *pb.IncidentVM) failoverRow {
	row := failoverRow{vm: v, down: max(m.now.Sub(r.GetDown().AsTime()), 0), why: dashIf(v.GetReason(), r.GetWhy())}
	if r.GetDowntime() != nil {
		row.down, row.again = r.GetDowntime().AsDuration(), true
	}
	return row
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
	busy := !f.settled && f.count(pb.VMStatus_VM_STATUS_STARTING, pb.VMStatus_VM_STATUS_WAITING) > 0
	return f.fence == nil || !busy && now.Sub(f.fence.GetAt().AsTime()) > shown
}

// again counts those that run again.
func (f *failover) again() int {
	n := 0
	for _, r := range f.rows {
		if r.again {
			n++
		}
	}
	return n
}

// sentence is the banner's line.
func (f *failover) sentence(m *Model) string {
	gauge := ""
	if m.w >= 120 {
		gauge = m.glyphs.gauge(int64(f.again()), int64(max(f.protected(), 1)), 10) + " "
	}
	restarted := fmt.Sprintf("%s%d of %d restarted", gauge, f.again(), f.protected())
	switch n := f.count(pb.VMStatus_VM_STATUS_WAITING); {
	case n == 1:
		restarted += ", 1 waits"
	case n > 1:
		restarted += fmt.Sprintf(", %d wait", n)
	}
	parts := []string{"FAILOVER " + f.server, restarted}
	if s := f.downText(); s != "" {
		parts = append(parts, s)
	}
	parts = append(parts, "fenced by "+word(f.fence.GetProof()), "lost "+f.lost.In(m.now.Location()).Format(time.TimeOnly))
	return strings.Join(parts, " | ")
}

// downText is for how long VMs were away that run again.
func (f *failover) downText() string {
	var all []time.Duration
	for _, r := range f.rows {
		if r.again {
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
	lost := f.lost.In(m.now.Location()).Format(tenthsOfDay)
	if !f.last.IsZero() {
		lost += ", last sign of it " + f.last.In(m.now.Location()).Format(tenthsOfDay)
	}
	l.fact("lost", lost)
	if f.fence != nil {
		l.fact("fenced", f.fence.GetAt().AsTime().In(m.now.Location()).Format(tenthsOfDay)+" by "+word(f.fence.GetProof())+prefixed(": ", f.fence.GetEvidence()))
	}
	if len(f.rows) == 0 {
		l.add(dim, "it carried no VM that runs or should run")
		return l
	}
	l.fact("restarted", m.glyphs.gauge(int64(f.again()), int64(max(f.protected(), 1)), 16)+fmt.Sprintf(" %d of %d, by priority", f.again(), f.protected())+prefixed("; ", f.downText()))
	l.add(dim, pad("VM", 18)+pad("PRIO", 8)+pad("TO", 10)+pad("STATE", 11)+pad("DOWN", 9)+"WHY")
	for _, r := range f.rows {
		v := r.vm
		l.row(piece{plain, pad(v.GetVm().GetId(), 18)}, piece{plain, pad(word(v.GetVm().GetPriority()), 8)}, piece{plain, pad(dash(v.GetClaim().GetServer()), 10)},
			piece{vmTone(v.GetStatus()), pad(word(v.GetStatus()), 11)}, piece{plain, pad(seconds(r.down), 9)}, piece{dim, r.why})
	}
	return l
}

// tenthsOfDay is a time of day as scenes of a failure tell it.
const tenthsOfDay = "15:04:05.0"
