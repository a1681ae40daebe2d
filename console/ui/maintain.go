package ui

import (
	"fmt"
	"strings"

	"google.golang.org/protobuf/proto"

	"github.com/holdfast-ha/holdfast/console/feed"
	pb "github.com/holdfast-ha/holdfast/proto/holdfast/v1"
)

// viewOf shortens the type of holds.
type viewOf = feed.View

func maintenanceActions() []*action {
	const downWith = "Its VMs leave first. Those that cannot leave are shut down with it."
	shutdown := func(name, heading string, reboot bool) *action {
		return &action{
			name: name, title: heading, kind: serverKind, weigh: always(named),
			plan:   func(ids []string) planning { return &evacuation{server: ids[0], note: downWith, fixed: true} },
			refuse: notUp,
			request: func(_ *Model, id string, in inputs, rid string) proto.Message {
				return &pb.ShutdownServerRequest{Server: id, Evacuate: true, Reboot: reboot, PlanRevision: in.plan, RequestId: rid, Why: in.why}
			},
			about: func(m *Model, _ []string) lines {
				return m.sentences(downWith)
			},
			command: func(ids []string, in inputs) string { return commandWhy("holdfast "+name+" "+ids[0]+" --evacuate", in) },
		}
	}
	return []*action{
		{
			name: "maintenance enter", title: "Maintenance of", key: "M", kind: serverKind, weigh: always(reasoned),
			plan: func(ids []string) planning { return &evacuation{server: ids[0]} },
			refuse: func(m *Model, id string) string {
				if m.shown().Server(id).GetServer().GetMaintenance() {
					return "it is in maintenance already"
				}
				return ""
			},
			request: func(_ *Model, id string, in inputs, rid string) proto.Message {
				return &pb.EnterMaintenanceRequest{Server: id, PlanRevision: in.plan, RequestId: rid, Why: in.why, RestartUnmovable: in.option}
			},
			holds: func(v *viewOf, id string) bool { return v.Server(id).GetServer().GetMaintenance() },
			about: func(m *Model, _ []string) lines {
				return m.sentences("All its VMs leave, and none arrives until it ends.")
			},
			command: func(ids []string, in inputs) string {
				s := "holdfast maintenance enter " + ids[0]
				if in.option {
					s += " --restart"
				}
				return commandWhy(s, in)
			},
		},
		{
			name: "maintenance exit", title: "End maintenance of", key: "M", kind: serverKind, weigh: always(light),
			plan: func(ids []string) planning { return &homecoming{server: ids[0]} },
			refuse: func(m *Model, id string) string {
				if !m.shown().Server(id).GetServer().GetMaintenance() {
					return "it is not in maintenance"
				}
				return ""
			},
			request: func(_ *Model, id string, in inputs, rid string) proto.Message {
				return &pb.ExitMaintenanceRequest{Server: id, PlanRevision: in.plan, RequestId: rid, Why: in.why}
			},
			holds: func(v *viewOf, id string) bool {
				return v.Server(id) != nil && !v.Server(id).GetServer().GetMaintenance()
			},
			about: func(m *Model, _ []string) lines {
				return m.sentences("VMs may arrive there again; what still waits to leave stays.")
			},
		},
		shutdown("shutdown", "SHUT DOWN", false),
		shutdown("reboot", "REBOOT", true),
		{
			name: "remove-server", title: "REMOVE SERVER", kind: serverKind, weigh: always(named),
			plan: func(ids []string) planning { return &evacuation{server: ids[0], note: leavesForGood} },
			refuse: func(m *Model, id string) string {
				if n := m.shown().Server(id).GetVms(); n > 0 && !serverIs(m.shown().Server(id), pb.ServerState_SERVER_STATE_UP) {
					return fmt.Sprintf("it is %s and carries %s, which cannot leave", serverWords(m.shown().Server(id)), plural(int(n), "VM"))
				}
				return ""
			},
			request: func(m *Model, id string, in inputs, rid string) proto.Message {
				if m.shown().Server(id).GetVms() == 0 {
					return &pb.RemoveServerRequest{Server: id, Why: in.why, RequestId: rid} // at once, whether it is up or not
				}
				return &pb.RemoveServerRequest{Server: id, Evacuate: true, RestartUnmovable: in.option, PlanRevision: in.plan, Why: in.why, RequestId: rid}
			},
			holds: func(v *viewOf, id string) bool { return v.Server(id) == nil },
			about: func(m *Model, _ []string) lines { return m.sentences(leavesForGood) },
			command: func(ids []string, in inputs) string {
				s := "holdfast remove-server " + ids[0] + " --evacuate"
				if in.option {
					s += " --restart"
				}
				return commandWhy(s, in)
			},
		},
	}
}

// leavesForGood is what the removal of a server means.
const leavesForGood = "It leaves the pool for good and must join anew to come back. Its VMs leave first."

func notUp(m *Model, id string) string {
	if !serverIs(m.shown().Server(id), pb.ServerState_SERVER_STATE_UP) {
		return "it is " + serverWords(m.shown().Server(id))
	}
	return ""
}

// evacuation is the pool's plan for emptying a server.
type evacuation struct {
	server string
	// note is what it means besides; fixed: the API offers no choice for what cannot move.
	note   string
	fixed  bool
	reply  *pb.PlanMaintenanceResponse
	option bool
}

func (p *evacuation) request(option bool) proto.Message {
	p.option = option
	return &pb.PlanMaintenanceRequest{Server: p.server, RestartUnmovable: option}
}

func (p *evacuation) take(reply proto.Message) bool {
	r, ok := reply.(*pb.PlanMaintenanceResponse)
	if ok {
		p.reply = r
	}
	return ok
}

// staying are the moves that leave a VM behind, or stop it.
func (p *evacuation) count(how pb.LeaveBy) int {
	n := 0
	for _, mv := range p.reply.GetMoves() {
		if mv.GetHow() == how {
			n++
		}
	}
	return n
}

// weigh: an evacuation that strands or stops VMs, or leaves the pool less able to lose a server, has its name typed.
func (p *evacuation) weigh() weight {
	r := p.reply
	if p.count(pb.LeaveBy_LEAVE_BY_STAYS)+p.count(pb.LeaveBy_LEAVE_BY_RESTART)+p.count(pb.LeaveBy_LEAVE_BY_WAITS) > 0 {
		return named
	}
	if after := r.GetCapacityAfter().GetVerdict(); after != r.GetCapacityBefore().GetVerdict() && after != pb.CapacityVerdict_CAPACITY_VERDICT_OK {
		return named
	}
	return reasoned
}

// choice is offered where it would make a difference.
func (p *evacuation) choice() string {
	if p.reply == nil || p.fixed || !p.option && p.count(pb.LeaveBy_LEAVE_BY_STAYS) == 0 {
		return ""
	}
	return "stop VMs that cannot move live, and start them elsewhere"
}

func (p *evacuation) excludes(string) string { return "" }

func (p *evacuation) choose(string) (string, int64) { return "", p.reply.GetPlanRevision() }

func (p *evacuation) lines(m *Model) lines {
	var l lines
	r := p.reply
	if p.note != "" {
		l.add(plain, p.note)
	}
	var parts []string
	for _, c := range []struct {
		how       pb.LeaveBy
		one, many string
	}{
		{pb.LeaveBy_LEAVE_BY_LIVE, "moves live", "move live"}, {pb.LeaveBy_LEAVE_BY_RESTART, "restarts elsewhere", "restart elsewhere"},
		{pb.LeaveBy_LEAVE_BY_WAITS, "waits", "wait"}, {pb.LeaveBy_LEAVE_BY_STAYS, "cannot leave", "cannot leave"},
	} {
		switch n := p.count(c.how); {
		case n == 1:
			parts = append(parts, "1 "+c.one)
		case n > 1:
			parts = append(parts, fmt.Sprintf("%d %s", n, c.many))
		}
	}
	s := plural(len(r.GetMoves()), "VM") + prefixed(": ", strings.Join(parts, ", ")) + "."
	if d := r.GetExpected().AsDuration(); d > 0 {
		s += " About " + span(d) + "."
	}
	l.add(plain, s)
	l = append(l, afterwards(r.GetCapacityBefore(), r.GetCapacityAfter(), r.GetMemoryPercentBefore(), r.GetMemoryPercentAfter()))
	l.gap()
	l.add(dim, " # "+pad("VM", 16)+pad("MEM", 6)+pad("HOW", 8)+pad("TO", 10)+"NOTE")
	for i, mv := range r.GetMoves() {
		no, t := fmt.Sprintf("%2d ", i+1), plain
		if mv.GetHow() == pb.LeaveBy_LEAVE_BY_STAYS {
			no, t = " x ", bad
		}
		l.row(piece{t, no}, piece{plain, pad(mv.GetVm(), 16)}, piece{plain, pad(size(mv.GetMemoryBytes()), 6)}, piece{t, pad(word(mv.GetHow()), 8)},
			piece{plain, pad(dash(mv.GetTarget()), 10)}, piece{dimUnless(t == bad, bad), mv.GetReason()})
	}
	return l
}

// explains reports whether there is something that a key tells more of.
func (p *evacuation) explains() bool {
	return p.reply != nil && p.count(pb.LeaveBy_LEAVE_BY_STAYS)+p.count(pb.LeaveBy_LEAVE_BY_WAITS) > 0
}

func capacityWord(c *pb.Capacity) string {
	s := strings.ToUpper(word(c.GetVerdict()))
	if len(c.GetServersAtRisk()) > 0 {
		s += " (" + someOf(c.GetServersAtRisk(), 2) + ")"
	}
	return s
}

// key shows, one VM after the other, every server's reason against those that cannot leave.
func (p *evacuation) key(m *Model, k Key) bool {
	if k.Name != "e" || p.reply == nil {
		return false
	}
	m.open(&pager{title: "WHY THEY CANNOT LEAVE " + p.server, w: 92, make: func(*Model) lines {
		var l lines
		for _, mv := range p.reply.GetMoves() {
			if len(mv.GetRefusals()) == 0 {
				continue
			}
			l.row(piece{title, mv.GetVm() + "  "}, piece{bad, mv.GetReason()})
			for _, v := range mv.GetRefusals() {
				l.toned(v.GetServer(), reasonsText(v.GetReasons(), 10), bad)
			}
		}
		if len(l) == 0 {
			l.add(good, "All of them can.")
		}
		return l
	}})
	return true
}
