package ui

import (
	"fmt"

	"google.golang.org/protobuf/proto"

	pb "github.com/holdfast-ha/holdfast/proto/holdfast/v1"
)

// homecoming is the pool's plan for the end of a server's maintenance: who comes, who does not and why.
type homecoming struct {
	server string
	reply  *pb.PlanMaintenanceExitResponse
}

func (p *homecoming) request(bool) proto.Message {
	return &pb.PlanMaintenanceExitRequest{Server: p.server}
}

func (p *homecoming) take(reply proto.Message) bool {
	r, ok := reply.(*pb.PlanMaintenanceExitResponse)
	if ok {
		p.reply = r
	}
	return ok
}

// weigh: it strands nothing and can be undone.
func (p *homecoming) weigh() weight { return light }

func (p *homecoming) choice() string { return "" }

func (p *homecoming) excludes(string) string { return "" }

func (p *homecoming) choose(string) (string, int64) { return "", p.reply.GetPlanRevision() }

func (p *homecoming) key(*Model, Key) bool { return false }

func (p *homecoming) lines(m *Model) lines {
	var l lines
	r := p.reply
	coming := 0
	for _, v := range r.GetReturns() {
		if v.GetComes() {
			coming++
		}
	}
	s := fmt.Sprintf("%s back, live", plural(coming, "VM")+map[bool]string{true: " comes", false: " come"}[coming == 1])
	if n := len(r.GetReturns()) - coming; n > 0 {
		s += fmt.Sprintf("; %d that belong there do not", n)
	}
	if d := r.GetExpected().AsDuration(); d > 0 {
		s += ". About " + span(d)
	}
	l.add(plain, s+".")
	if n := len(r.GetStaying()); n > 0 {
		l.add(plain, fmt.Sprintf("%s: %s", map[bool]string{true: "1 VM has not left yet, and stays", false: fmt.Sprint(n) + " VMs have not left yet, and stay"}[n == 1], someOf(r.GetStaying(), 6)))
	}
	l = append(l, afterwards(r.GetCapacityBefore(), r.GetCapacityAfter(), r.GetMemoryPercentBefore(), r.GetMemoryPercentAfter()))
	if mark := m.shown().Server(p.server).GetServer().GetMaintenanceMark(); mark.GetBy() != "" {
		l.add(dim, "It began "+clockTime(m.now, mark.GetAt())+" by "+person(mark.GetBy())+prefixed(": ", mark.GetWhy()))
	}
	if len(r.GetReturns()) == 0 {
		return l
	}
	l.gap()
	l.add(dim, "   "+pad("VM", 16)+pad("MEM", 6)+pad("FROM", 10)+pad("COMES", 6)+"WHY")
	for _, v := range r.GetReturns() {
		mark, word, t := "   ", "yes", good
		if !v.GetComes() {
			mark, word, t = " x ", "no", bad
		}
		l.row(piece{t, mark}, piece{plain, pad(v.GetVm(), 16)}, piece{plain, pad(size(v.GetMemoryBytes()), 6)}, piece{plain, pad(dash(v.GetFrom()), 10)},
			piece{t, pad(word, 6)}, piece{dimUnless(!v.GetComes(), bad), v.GetReason()})
	}
	return l
}

// afterwards is the line on what the pool can survive, and how full it is, after a plan.
func afterwards(before, after *pb.Capacity, memoryBefore, memoryAfter int32) []piece {
	was, will := capacityWord(before), capacityWord(after)
	t := dimUnless(will != "OK", bad)
	memory := piece{plain, fmt.Sprintf("Memory: %d%% -> %d%%.  ", memoryBefore, memoryAfter)}
	if was == will {
		return []piece{memory, {plain, "N+1 stays "}, {t, will}}
	}
	return []piece{memory, {plain, "N+1 after: " + was + " -> "}, {t, will}}
}
