package ui

import (
	"fmt"
	"slices"

	pb "github.com/holdfast-ha/holdfast/proto/holdfast/v1"
)

// leavingPage is the preview of an evacuation come alive: the same VMs, with how far each is. It shows the pool's own
// records, asks the planner again while something still waits, and ends nothing when it is closed.
type leavingPage struct {
	pager
	plan    *evacuation
	planned planState
}

// newLeavingPage follows what was previewed under that heading.
func newLeavingPage(m *Model, heading string, plan *evacuation) *leavingPage {
	p := &leavingPage{plan: plan, planned: planState{revision: m.shown().Revision, at: m.now}}
	p.title, p.w = heading+", under way", 100
	p.make = func(m *Model) lines {
		o := m.leavingOperation(p.plan.server)
		l := m.leavingLines(p.plan.server, o, p.plan.reply)
		if o.GetOutcome() == pb.OperationOutcome_OPERATION_OUTCOME_RUNNING && o.GetPhase() != "" {
			l = slices.Insert(l, 1, []piece{{dim, o.GetPhase()}})
		}
		return m.asItWas(l)
	}
	return p
}

// follows reports whether a dialog is the page of a server's evacuation.
func follows(d dialog, server string) bool {
	p, is := d.(*leavingPage)
	return is && p.plan.server == server
}

// leavingOperation is the latest operation that empties a server; nil: there is none.
func (m *Model) leavingOperation(server string) *pb.Operation {
	for _, o := range slices.Backward(m.shown().Operations) {
		if o.GetServer() == server && emptiesServer(o) {
			return o
		}
	}
	return nil
}

func emptiesServer(o *pb.Operation) bool {
	switch o.GetKind() {
	case pb.OperationKind_OPERATION_KIND_EVACUATE, pb.OperationKind_OPERATION_KIND_REMOVE_SERVER, pb.OperationKind_OPERATION_KIND_SHUTDOWN_SERVER:
		return true
	}
	return false
}

func (p *leavingPage) topic() string { return "leaving " + p.plan.server }

// refresh asks the planner again when the pool has changed, as long as VMs are to leave: why one cannot may have changed.
func (p *leavingPage) refresh(m *Model) {
	left := len(m.vmsOn(p.plan.server))
	if p.planned.asked || left == 0 || p.planned.revision == m.shown().Revision || m.now.Sub(p.planned.at) < planEvery || !m.link.Changeable(m.now) {
		return
	}
	p.planned = planState{asked: true, revision: m.shown().Revision, at: m.now}
	m.ask(p.topic(), p.plan.request(p.plan.option))
}

// answer takes what the planner says of those that are left; those that it does not name any more keep their rows.
func (p *leavingPage) answer(_ *Model, a Answer) {
	p.planned.asked = false
	r, ok := a.Message.(*pb.PlanMaintenanceResponse)
	if !ok || a.Err != nil {
		return
	}
	merged := &pb.PlanMaintenanceResponse{}
	named := map[string]*pb.PlannedMove{}
	for _, mv := range r.GetMoves() {
		named[mv.GetVm()] = mv
	}
	for _, old := range p.plan.reply.GetMoves() {
		mv := old
		if fresh := named[old.GetVm()]; fresh != nil {
			mv = fresh
			delete(named, old.GetVm())
		}
		merged.Moves = append(merged.Moves, mv)
	}
	for _, mv := range r.GetMoves() {
		if named[mv.GetVm()] != nil {
			merged.Moves = append(merged.Moves, mv)
		}
	}
	p.plan.reply = merged
}

func (p *leavingPage) key(m *Model, k Key) {
	if k.Name == "X" {
		if o := m.leavingOperation(p.plan.server); o != nil {
			m.command("operation cancel " + o.GetId())
		}
		return
	}
	p.pager.key(m, k)
}

func (p *leavingPage) hints(*Model) string {
	return "X cancel the rest   j k scroll   y copy   Esc back, it goes on"
}

// vmsOn are the VMs whose claims name a server, by name.
func (m *Model) vmsOn(server string) []string {
	var out []string
	for _, v := range m.shown().VMs {
		if vmServer(v) == server {
			out = append(out, v.GetVm().GetId())
		}
	}
	return out
}

// leavingRow is one VM that was, or is, to leave.
type leavingRow struct {
	vm, to, state string
	tone          tone
	bar, note     string
	left, moving  bool
}

// leavingLines tell how far a server is emptied, VM by VM: by the operation, by where the VMs are, and by the plan, if
// there is one. o may be nil, as long as the pool does not show it.
func (m *Model) leavingLines(server string, o *pb.Operation, plan *pb.PlanMaintenanceResponse) lines {
	var l lines
	rows := m.leavingRows(server, o, plan)
	left, moving := 0, 0
	for _, r := range rows {
		if r.left {
			left++
		}
		if r.moving {
			moving++
		}
	}
	head := fmt.Sprintf("VMS  %d of %d, %d moving", left, len(rows), moving)
	if o != nil {
		head += ", " + stopwatch(m.took(o))
	}
	l.row(piece{title, head + "  "}, piece{bar, m.glyphs.gauge(int64(left), int64(max(len(rows), 1)), 12)})
	if p := m.pendingFor(server); p != nil {
		l.add(accent, p.sentence())
	}
	if text, t := m.leavingEnd(server, o, plan != nil); text != "" {
		l.add(t, text)
	}
	l.gap()
	l.add(dim, " # "+pad("VM", 16)+pad("TO", 10)+pad("STATE", 9))
	for i, r := range rows {
		l.row(piece{dim, fmt.Sprintf("%2d ", i+1)}, piece{plain, pad(r.vm, 16)}, piece{plain, pad(dash(r.to), 10)}, piece{r.tone, pad(r.state, 9)},
			piece{bar, r.bar}, piece{dimUnless(r.tone == bad, bad), r.note})
	}
	return l
}

// leavingRows are the plan's VMs in its order, then those of which only the operation or the server knows.
func (m *Model) leavingRows(server string, o *pb.Operation, plan *pb.PlanMaintenanceResponse) []leavingRow {
	var order []string
	moves, parts := map[string]*pb.PlannedMove{}, map[string]*pb.Operation{}
	take := func(vm string) {
		if !slices.Contains(order, vm) {
			order = append(order, vm)
		}
	}
	for _, mv := range plan.GetMoves() {
		moves[mv.GetVm()] = mv
		take(mv.GetVm())
	}
	for _, p := range m.shown().Operations {
		if o != nil && p.GetParent() == o.GetId() {
			parts[p.GetVm()] = p // the latest
			take(p.GetVm())
		}
	}
	if o == nil || o.GetFinished() == nil {
		for _, id := range m.vmsOn(server) {
			take(id)
		}
	}
	rows := make([]leavingRow, 0, len(order))
	for _, id := range order {
		rows = append(rows, m.leavingRow(server, id, moves[id], parts[id]))
	}
	return rows
}

func (m *Model) leavingRow(server, id string, mv *pb.PlannedMove, part *pb.Operation) leavingRow {
	r := leavingRow{vm: id, to: mv.GetTarget(), state: "queued", tone: plain, note: mv.GetReason()}
	if part.GetServer() != "" {
		r.to = part.GetServer()
	}
	v := m.shown().VM(id)
	switch outcome := part.GetOutcome(); {
	case outcome == pb.OperationOutcome_OPERATION_OUTCOME_RUNNING:
		r.state, r.tone, r.note = dashIf(part.GetPhase(), word(outcome)), busy, joinParts(attemptText(part), paceText(part), part.GetError())
		if _, _, begun := percent(part.GetProgress()); begun {
			r.state, r.moving, r.bar = "moving", true, pad(m.bar(part, 12), 19)
		}
	case outcome == pb.OperationOutcome_OPERATION_OUTCOME_DONE:
		r.state, r.tone, r.left, r.note = "moved", good, true, joinParts("in "+stopwatch(m.took(part)), attemptText(part))
	case v == nil:
		r.state, r.left, r.note = "removed", true, ""
	case vmServer(v) == "":
		r.state, r.tone, r.left, r.to, r.note = word(v.GetStatus()), vmTone(v.GetStatus()), true, "", v.GetReason()
	case vmServer(v) != server:
		r.state, r.tone, r.left, r.to, r.note = "moved", good, true, vmServer(v), ""
	case part != nil:
		r.state, r.tone, r.note = word(outcome), bad, joinParts(attemptText(part), part.GetError())
	case mv.GetHow() == pb.LeaveBy_LEAVE_BY_STAYS:
		r.state, r.tone = "stays", bad
	case mv.GetHow() == pb.LeaveBy_LEAVE_BY_WAITS:
		r.state, r.tone = "waits", bad
	}
	return r
}

// leavingEnd says how emptying a server has ended, or what keeps it from ending; empty while it simply goes on. listed:
// the reasons stand with the VMs.
func (m *Model) leavingEnd(server string, o *pb.Operation, listed bool) (string, tone) {
	if o != nil && o != m.leavingOperation(server) {
		return "", plain // of another time
	}
	s := m.shown().Server(server)
	here := fmt.Sprintf("%s still here", plural(len(m.vmsOn(server)), "VM"))
	switch {
	case s == nil:
		return server + " is not in the pool any more", good
	case serverIs(s, pb.ServerState_SERVER_STATE_MAINTENANCE):
		return server + " in maintenance, safe to power off", good
	case serverIs(s, pb.ServerState_SERVER_STATE_BLOCKED):
		if listed {
			return "evacuating, " + here, bad
		}
		return "evacuating, " + here + prefixed(": ", s.GetReason()), bad
	case o.GetOutcome() == pb.OperationOutcome_OPERATION_OUTCOME_CANCELLED:
		return "cancelled, " + here + "; those that moved stay where they are", busy
	case o.GetOutcome() == pb.OperationOutcome_OPERATION_OUTCOME_FAILED:
		return "failed, " + here + prefixed(": ", o.GetError()), bad
	case o.GetOutcome() == pb.OperationOutcome_OPERATION_OUTCOME_DONE && serverIs(s, pb.ServerState_SERVER_STATE_DOWN):
		return server + " " + word(pb.ServerState_SERVER_STATE_DOWN), good
	}
	return "", plain
}
