package ui

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/holdfast-ha/holdfast/console/feed"
	pb "github.com/holdfast-ha/holdfast/proto/holdfast/v1"
)

// index is what is looked up often, made once for each view.
type index struct {
	of          *feed.View
	serverNames []string
	longestVM   []string
	longestOp   []string
	running     map[string]*pb.Operation // by VM, the newest
	about       map[string]*pb.Operation // by server
	operations  map[string]*pb.Operation
	counts      map[pb.VMStatus]int
	unprotected int
	problems    problems
}

// reindex brings the index up to the view. Where only some VMs are others than before, it looks at those alone: a large
// pool changes all the time.
func (m *Model) reindex(v *feed.View) {
	old := m.index.of
	if old == v {
		return
	}
	changed, same := changedVMs(old, v)
	if !same {
		m.index.count(v)
		m.index.problems.collect(v)
	} else {
		for _, c := range changed {
			m.index.tally(c[0], -1)
			m.index.tally(c[1], 1)
			m.index.problems.replace(c[0], c[1])
		}
	}
	if old == nil || !sameList(old.Operations, v.Operations) {
		m.index.indexOperations(v)
	}
	if old == nil || old.Pool != v.Pool || !sameList(old.Servers, v.Servers) {
		m.index.serverNames = nil
		for _, s := range v.Servers {
			m.index.serverNames = append(m.index.serverNames, s.GetServer().GetId()+" *")
		}
		m.index.problems.look(v)
	}
	m.index.of = v
}

// sameList reports whether two lists are one and the same: a View's lists are made anew when something in them changes.
func sameList[T any](a, b []T) bool {
	return len(a) == len(b) && (len(a) == 0 || &a[0] == &b[0])
}

// changedVMs pairs the VMs that are others in after than in before; same is false if VMs came or went.
func changedVMs(before, after *feed.View) (changed [][2]*pb.VMView, same bool) {
	if before == nil || len(before.VMs) != len(after.VMs) {
		return nil, false
	}
	for i, x := range after.VMs {
		if y := before.VMs[i]; x != y {
			if x.GetVm().GetId() != y.GetVm().GetId() {
				return nil, false
			}
			changed = append(changed, [2]*pb.VMView{y, x})
		}
	}
	return changed, true
}

// count counts all VMs anew.
func (ix *index) count(v *feed.View) {
	ix.counts, ix.unprotected = map[pb.VMStatus]int{}, 0
	longest := ""
	for _, x := range v.VMs {
		if id := x.GetVm().GetId(); len(id) > len(longest) {
			longest = id
		}
		ix.tally(x, 1)
	}
	ix.longestVM = []string{longest}
}

// tally counts one VM n times.
func (ix *index) tally(v *pb.VMView, n int) {
	if ix.counts[v.GetStatus()] += n; ix.counts[v.GetStatus()] == 0 {
		delete(ix.counts, v.GetStatus())
	}
	if v.GetStatus() != pb.VMStatus_VM_STATUS_STOPPED && !v.GetProtected() {
		ix.unprotected += n
	}
}

func (ix *index) indexOperations(v *feed.View) {
	longest := ""
	for _, o := range v.Operations {
		if s := operationName(o); len(s) > len(longest) {
			longest = s
		}
	}
	ix.longestOp = []string{longest}
	ix.running, ix.about, ix.operations = map[string]*pb.Operation{}, map[string]*pb.Operation{}, make(map[string]*pb.Operation, len(v.Operations))
	for _, o := range v.Operations {
		ix.operations[o.GetId()] = o
		if o.GetOutcome() != pb.OperationOutcome_OPERATION_OUTCOME_RUNNING {
			continue
		}
		if o.GetVm() != "" {
			ix.running[o.GetVm()] = o
		} else if o.GetServer() != "" {
			ix.about[o.GetServer()] = o
		}
	}
}

// shown is the view on the screen: the newest, or the one at which the display was frozen. Never nil.
func (m *Model) shown() *feed.View {
	switch {
	case m.still != nil:
		return m.still
	case m.view != nil:
		return m.view
	}
	return &noView
}

var noView = feed.View{}

// operation finds an operation by ID.
func (m *Model) operation(v *feed.View, id string) *pb.Operation {
	if m.index.of == v {
		return m.index.operations[id]
	}
	return v.Operation(id)
}

func eventByID(v *feed.View, id string) *pb.Event {
	if i, ok := slices.BinarySearchFunc(v.Events, id, func(e *pb.Event, id string) int { return strings.Compare(e.GetId(), id) }); ok {
		return v.Events[i]
	}
	for _, e := range v.Events {
		if e.GetId() == id {
			return e
		}
	}
	return nil
}

// vmState is a VM's state with how far it is or how long it lasts.
func (m *Model) vmState(v *pb.VMView) string {
	s := word(v.GetStatus())
	if w := m.requested(v.GetVm().GetId()); w != "" {
		return w
	}
	switch v.GetStatus() {
	case pb.VMStatus_VM_STATUS_RUNNING, pb.VMStatus_VM_STATUS_STOPPED, pb.VMStatus_VM_STATUS_PAUSED, pb.VMStatus_VM_STATUS_FAILED:
		return s
	case pb.VMStatus_VM_STATUS_MIGRATING:
		if done, total, ok := percent(m.index.running[v.GetVm().GetId()].GetProgress()); ok {
			return fmt.Sprintf("%s %d%%", s, done*100/total)
		}
		return s
	}
	if a := age(m.now, v.GetSince()); a != "" {
		return s + " " + a
	}
	return s
}

// vmNote is the most useful further fact about a VM: what is happening to it, why it is as it is, or what it lacks.
func (m *Model) vmNote(v *pb.VMView) string {
	id := v.GetVm().GetId()
	if p := m.pendingFor(id); p != nil {
		return p.sentence()
	}
	if o := m.index.running[id]; o != nil {
		s := ""
		if o.GetServer() != "" && (o.GetKind() == pb.OperationKind_OPERATION_KIND_MIGRATE || o.GetKind() == pb.OperationKind_OPERATION_KIND_RELOCATE) {
			s = "-> " + o.GetServer()
		}
		return joinParts(s, paceText(o), o.GetPhase(), o.GetError())
	}
	switch {
	case v.GetReason() != "":
		return m.index.problems.reason(v)
	case !v.GetVm().GetHa() && v.GetStatus() != pb.VMStatus_VM_STATUS_STOPPED:
		return "HA off" + byWhom(m.now, v.GetVm().GetHaMark())
	case v.GetHome().GetServer() != "" && vmServer(v) != "" && v.GetHome().GetServer() != vmServer(v):
		return "home is " + v.GetHome().GetServer()
	case !v.GetVm().GetMovable():
		return "cannot move live"
	}
	return ""
}

func joinParts(parts ...string) string {
	var out []string
	for _, p := range parts {
		if p != "" {
			out = append(out, p)
		}
	}
	return strings.Join(out, ", ")
}

// serverState is a server's states; while it is emptied with how far that is.
func (m *Model) serverState(s *pb.ServerView) string {
	id := s.GetServer().GetId()
	if w := m.requested(id); w != "" {
		return w
	}
	out := serverWords(s)
	if serverIs(s, pb.ServerState_SERVER_STATE_EVACUATING) {
		out = strings.TrimPrefix(out, word(pb.ServerState_SERVER_STATE_UP)+", ") // which it must be, and the count needs the room
	}
	if o := m.index.about[id]; o != nil && o.GetProgress().GetItemsTotal() > 0 {
		out += fmt.Sprintf(" %d/%d", o.GetProgress().GetItemsDone(), o.GetProgress().GetItemsTotal())
	}
	return out
}

func (m *Model) serverNote(s *pb.ServerView) string {
	if p := m.pendingFor(s.GetServer().GetId()); p != nil {
		return p.sentence()
	}
	switch {
	case serverIs(s, pb.ServerState_SERVER_STATE_MAINTENANCE):
		return "safe to power off; " + s.GetReason()
	case s.GetReason() != "":
		return s.GetReason()
	case serverIs(s, pb.ServerState_SERVER_STATE_FENCED) && s.GetFence() != nil:
		return "fenced by " + word(s.GetFence().GetProof()) + ": " + s.GetFence().GetEvidence()
	case s.GetServer().GetMaintenance():
		return "maintenance" + byWhom(m.now, s.GetServer().GetMaintenanceMark())
	case s.GetServer().GetInboundLock():
		return "LOCK" + byWhom(m.now, s.GetServer().GetInboundLockMark())
	}
	return ""
}

func serverNoteTone(s *pb.ServerView) tone {
	if serverTone(s) == bad {
		return bad
	}
	return dim
}

// barCells is how long the bars of servers are: short where many things stand side by side.
func (m *Model) barCells() int {
	if m.wide() {
		return 4
	}
	return 10
}

// wide reports whether servers, VMs, details, operations and events stand side by side.
func (m *Model) wide() bool {
	return m.class() == classL && !m.zoom && (m.screen == servers || m.screen == vms)
}

// usageCells is the width of a bar with its percentage.
func usageCells(m *Model) int {
	if m.wide() {
		return m.barCells() + 7
	}
	return m.barCells() + 8
}

// usage is a bar with its percentage; a question mark for a server that tells nothing.
func (m *Model) usage(part, whole int64, s *pb.ServerView) (string, tone) {
	if s.GetMember() == nil || whole <= 0 {
		return m.glyphs.gauge(0, 1, m.barCells()) + "   ? ", dim
	}
	p := part * 100 / whole
	t := bar
	if p >= 90 {
		t = bad
	}
	return fmt.Sprintf("%s %3d%%", m.glyphs.gauge(part, whole, m.barCells()), p), t
}

// bar is an operation's progress as a gauge with its count.
func (m *Model) bar(o *pb.Operation, n int) string {
	done, total, ok := percent(o.GetProgress())
	if !ok {
		return ""
	}
	if o.GetOutcome() == pb.OperationOutcome_OPERATION_OUTCOME_DONE {
		done = total // the last report of a transfer is a little older than its end
	}
	if o.GetProgress().GetItemsTotal() > 0 {
		return fmt.Sprintf("%s %d/%d", m.glyphs.gauge(done, total, n), done, total)
	}
	return fmt.Sprintf("%s %d%%", m.glyphs.gauge(done, total, n), done*100/total)
}

// took is how long an operation runs or ran.
func (m *Model) took(o *pb.Operation) time.Duration {
	begin := o.GetRequested().GetAt().AsTime()
	if o.GetFinished() != nil {
		return o.GetFinished().AsTime().Sub(begin)
	}
	return m.now.Sub(begin)
}

func operationNote(o *pb.Operation) string {
	route := ""
	if o.GetVm() != "" && o.GetServer() != "" {
		route = "-> " + o.GetServer()
		if o.GetSource() != "" {
			route = o.GetSource() + " " + route
		}
	}
	return joinParts(o.GetError(), route, o.GetPhase(), paceText(o), o.GetRequested().GetWhy())
}

// paceText is how long a running operation still takes, and how fast it goes; how far it is, a bar beside it says.
func paceText(o *pb.Operation) string {
	if o.GetOutcome() != pb.OperationOutcome_OPERATION_OUTCOME_RUNNING {
		return ""
	}
	p := o.GetProgress()
	left := progressText(&pb.Progress{EstimatedTimeToFinish: p.GetEstimatedTimeToFinish()})
	return joinParts(left, progressText(&pb.Progress{BytesPerSecond: p.GetBytesPerSecond()}))
}

// attemptText says that a move was tried before; nothing of the first try.
func attemptText(o *pb.Operation) string {
	if o.GetAttempt() < 2 {
		return ""
	}
	return "attempt " + attemptNumber(o)
}

// attemptNumber is which attempt a move is; empty if the pool does not count it.
func attemptNumber(o *pb.Operation) string {
	if o.GetAttempt() == 0 {
		return ""
	}
	return fmt.Sprint(o.GetAttempt())
}
