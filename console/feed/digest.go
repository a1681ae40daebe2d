package feed

import (
	"fmt"
	"strings"
	"time"

	pb "github.com/holdfast-ha/holdfast/proto/holdfast/v1"
)

// Digest says in one line what changed between two views: "3 VMs moved, leader hv-03 -> hv-01, 28 events".
// Empty if nothing did. before may be nil.
func Digest(before, after *View) string {
	if before == nil || after == nil {
		return ""
	}
	var parts []string
	add := func(n int, one, many string) {
		switch {
		case n == 1:
			parts = append(parts, "1 "+one)
		case n > 1:
			parts = append(parts, fmt.Sprintf("%d %s", n, many))
		}
	}
	moved, changed, fresh := compareVMs(before, after)
	add(moved, "VM moved", "VMs moved")
	add(changed, "VM changed state", "VMs changed state")
	add(fresh, "VM new", "VMs new")
	add(len(before.VMs)+fresh-len(after.VMs), "VM removed", "VMs removed")
	for _, s := range after.Servers {
		if old := before.Server(serverID(s)); old != nil && stateWords(old) != stateWords(s) {
			parts = append(parts, serverID(s)+" "+stateWords(s))
		}
	}
	if a, b := before.Leader(), after.Leader(); a != b {
		parts = append(parts, fmt.Sprintf("leader %s -> %s", orNone(a), orNone(b)))
	}
	add(eventsAfter(before, after), "event", "events")
	return strings.Join(parts, ", ")
}

func compareVMs(before, after *View) (moved, changed, fresh int) {
	for _, v := range after.VMs {
		old := before.VM(vmID(v))
		switch {
		case old == nil:
			fresh++
		case old.GetClaim().GetServer() != v.GetClaim().GetServer():
			moved++
		case old.GetStatus() != v.GetStatus():
			changed++
		}
	}
	return moved, changed, fresh
}

func stateWords(s *pb.ServerView) string {
	var out []string
	for _, st := range s.GetStates() {
		out = append(out, strings.ToLower(strings.TrimPrefix(st.String(), "SERVER_STATE_")))
	}
	return strings.Join(out, ", ")
}

func eventsAfter(before, after *View) int {
	last := before.LastEvent().GetId()
	n := 0
	for i := len(after.Events) - 1; i >= 0 && after.Events[i].GetId() > last; i-- {
		n++
	}
	return n
}

func orNone(s string) string {
	if s == "" {
		return "none"
	}
	return s
}

// Sentence is the line shown when the pool is back after a gap.
func (r *Return) Sentence() string {
	s := fmt.Sprintf("back after %s", r.Gone.Round(time.Second))
	if d := Digest(r.Before, r.After); d != "" {
		return s + ": " + d
	}
	return s + ": nothing has changed"
}
