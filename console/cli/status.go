package cli

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"

	"github.com/holdfast-ha/holdfast/console/cli/text"
	pb "github.com/holdfast-ha/holdfast/proto/holdfast/v1"
)

// shownAtMost bounds each part of the status, so that it fits one screen; wide output shows all.
const shownAtMost = 5

var statusList = &list{
	name: "status", short: "Say in one screen how the pool is: healthy, able to lose a server, changing",
	fetch: func(ctx context.Context, s *session, _ *filter) (*state, proto.Message, error) {
		st, err := s.snapshot(ctx)
		if err != nil {
			return nil, nil, err
		}
		snap := &pb.Snapshot{Pool: st.pool, Servers: sorted(st.servers), Vms: sorted(st.vms), Operations: st.operationsByTime(), Events: st.events}
		return st, snap, nil
	},
	lay:    layStatus,
	lines:  statusLines,
	reduce: reduceNothing,
}

// statusLines is everything that a watch of the status speaks of.
func statusLines(st *state, f *filter) map[string]string {
	out := map[string]string{}
	for _, l := range []*list{serverList, vmList, alertList} {
		maps.Copy(out, l.lines(st, f))
	}
	for _, o := range running(st) {
		out["operation "+o.GetId()] = operationLine(o)
	}
	c := st.pool.GetConfig()
	out["HA"] = haSentence(c, "")
	out["leader"] = dash(st.pool.GetLeader())
	out["etcd"] = map[bool]string{true: "lost: " + servedBy(st) + " cannot reach it" + failsafe(st), false: "reachable"}[st.etcdLost]
	return out
}

// failsafe says what becomes of the VMs while etcd is lost, as the end of a sentence.
func failsafe(st *state) string {
	if t := st.pool.GetFailsafeText(); t != "" {
		return "; " + t
	}
	return ""
}

// health is what keeps the pool from being healthy, one sentence each.
func health(st *state) []string {
	var bad []string
	p := st.pool
	if st.etcdLost {
		bad = append(bad, servedBy(st)+" cannot reach etcd: what it shows may be old, and nothing can be changed through it"+failsafe(st))
	}
	if p.GetLeader() == "" && !st.etcdLost {
		bad = append(bad, "no leader: VMs run on, nothing is recovered until one is elected")
	}
	bad = append(bad, counted(sorted(st.servers), "server", func(v *pb.ServerView) string {
		for _, w := range []pb.ServerState{pb.ServerState_SERVER_STATE_LOST, pb.ServerState_SERVER_STATE_BLOCKED} {
			if serverIs(v, w) {
				return word(w)
			}
		}
		return ""
	})...)
	bad = append(bad, counted(sorted(st.vms), "VM", func(v *pb.VMView) string {
		if vmTone(v.GetStatus()) == text.Bad {
			return vmWord(v.GetStatus())
		}
		return ""
	})...)
	if n := len(p.GetAlerts()); n > 0 {
		bad = append(bad, plural(n, "open alert"))
	}
	if n := len(p.GetCorruptKeys()); n > 0 {
		bad = append(bad, plural(n, "value")+" in etcd cannot be read")
	}
	return bad
}

// counted says how many things are in each of the states that trouble names; "" is no trouble.
func counted[T any](all []T, kind string, trouble func(T) string) []string {
	counts := map[string]int{}
	for _, x := range all {
		if state := trouble(x); state != "" {
			counts[state]++
		}
	}
	var out []string
	for _, state := range slices.Sorted(maps.Keys(counts)) {
		out = append(out, plural(counts[state], kind)+" "+state)
	}
	return out
}

// servedBy is the agent that answers, as the start of a sentence.
func servedBy(st *state) string {
	if st.servedBy == "" {
		return "the agent asked"
	}
	return st.servedBy
}

// obstacles are facts that each by itself keep the pool from surviving the sudden loss of one server. Whether every
// VM would find a place is the planner's to say; only what cannot possibly fit is said here.
func obstacles(st *state) []string {
	var out []string
	c := st.pool.GetConfig()
	switch {
	case !c.GetHa():
		out = append(out, "HA is off")
	case c.GetFrozen():
		out = append(out, "HA is frozen")
	}
	var up []*pb.ServerView
	voters, votersUp := 0, 0
	for _, s := range sorted(st.servers) {
		isUp := serverIs(s, pb.ServerState_SERVER_STATE_UP)
		if s.GetMember().GetEtcdVoter() {
			voters++
			if isUp {
				votersUp++
			}
		}
		if isUp {
			up = append(up, s)
		}
	}
	if len(up) < 2 {
		out = append(out, fmt.Sprintf("%s up", plural(len(up), "server")))
	}
	if voters > 0 && votersUp-1 <= voters/2 && voters > 1 {
		out = append(out, fmt.Sprintf("etcd has %d of %d voters", votersUp, voters))
	}
	if s := tooMuch(up, c.GetLockBarsFailover()); s != "" {
		out = append(out, s)
	}
	return out
}

// tooMuch names a server whose VMs need more memory than all others that take VMs have free together.
func tooMuch(up []*pb.ServerView, lockBars bool) string {
	if len(up) < 2 {
		return ""
	}
	var free int64
	room := func(s *pb.ServerView) int64 {
		if s.GetServer().GetMaintenance() || (lockBars && s.GetServer().GetInboundLock()) {
			return 0
		}
		return max(s.GetMember().GetMemoryBytes()-s.GetServer().GetReservedMemoryBytes()-s.GetMemoryUsedBytes(), 0)
	}
	for _, s := range up {
		free += room(s)
	}
	for _, s := range up {
		if others := free - room(s); s.GetMemoryUsedBytes() > others {
			return fmt.Sprintf("the VMs of %s need %s and the others have %s free", s.GetServer().GetId(), size(s.GetMemoryUsedBytes()), size(others))
		}
	}
	return ""
}

// haSentence says whether HA is on and, if not, who switched it off.
func haSentence(c *pb.PoolConfig, who string) string {
	switch {
	case !c.GetHa() && c.GetFrozen():
		return "OFF and frozen" + who + ": nothing is restarted elsewhere"
	case !c.GetHa():
		return "OFF" + who + ": nothing is restarted elsewhere"
	case c.GetFrozen():
		return "FROZEN" + who + ": nothing is fenced, moved or restarted"
	}
	return "on" + who
}

func running(st *state) []*pb.Operation {
	return keep(st.operationsByTime(), func(o *pb.Operation) bool {
		return o.GetOutcome() == pb.OperationOutcome_OPERATION_OUTCOME_RUNNING
	})
}

// sheet writes labelled lines.
type sheet struct {
	page  page
	lines []string
}

const labelWidth = 14

// put writes one fact, wrapped under its label.
func (s *sheet) put(label, fact string, tone text.Tone) {
	room := 0
	if s.page.width > 0 {
		room = max(s.page.width-labelWidth-2, 20)
	}
	for i, line := range text.Wrap(text.Clean(fact), room) {
		head := strings.Repeat(" ", labelWidth)
		if i == 0 {
			head = text.Pad(label, labelWidth, false)
		}
		s.lines = append(s.lines, "  "+s.page.paint(text.Dim, head)+s.page.paint(tone, line))
	}
}

// list writes the things below the last fact, so many at most, each in two lines at most.
func (s *sheet) list(rows [][2]string, more string) {
	names, most := 0, 24
	if s.page.width > 0 {
		most = max(min(most, (s.page.width-labelWidth-2)/2), 4)
	}
	for _, r := range rows {
		names = max(names, min(text.Width(text.Clean(r[0])), most))
	}
	indent := strings.Repeat(" ", labelWidth+2)
	for i, r := range rows {
		if i == shownAtMost && !s.page.wide {
			s.more(len(rows)-i, more)
			return
		}
		name, fact := text.Clean(r[0]), text.Clean(r[1])
		if s.page.wide || s.page.width == 0 {
			s.lines = append(s.lines, strings.TrimRight(indent+text.Pad(name, names, false)+"  "+fact, " "))
			continue
		}
		name = text.Cut(name, most)
		room := max(s.page.width-len(indent)-names-2, 4)
		lines := text.Wrap(fact, room)
		if len(lines) > 2 {
			lines = []string{lines[0], text.Cut(strings.Join(lines[1:], " "), room)}
		}
		for _, line := range lines {
			s.lines = append(s.lines, strings.TrimRight(indent+text.Pad(name, names, false)+"  "+line, " "))
			name = ""
		}
	}
}

// more says how many were left out, and which command lists them.
func (s *sheet) more(n int, command string) {
	line := fmt.Sprintf("%s... and %d more: %s", strings.Repeat(" ", labelWidth+2), n, command)
	if s.page.width > 0 {
		line = text.Cut(line, s.page.width)
	}
	s.lines = append(s.lines, line)
}

func layStatus(p page, st *state, _ *filter) []string {
	c := st.pool.GetConfig()
	title := text.Clean(fmt.Sprintf("pool %s  revision %d, told by %s", dash(c.GetName()), st.revision, dash(st.servedBy)))
	if p.width > 0 {
		title = text.Cut(title, p.width)
	}
	s := &sheet{page: p, lines: []string{p.paint(text.Title, title)}}
	if bad := health(st); len(bad) > 0 {
		s.put("healthy", "NO: "+strings.Join(bad, "; "), text.Bad)
	} else {
		s.put("healthy", "yes", text.Good)
	}
	mark := c.GetHaMark()
	if c.GetFrozen() && c.GetHa() {
		mark = c.GetFrozenMark()
	}
	s.put("HA", haSentence(c, byWhom(p.now, mark)), map[bool]text.Tone{true: text.Good, false: text.Bad}[c.GetHa() && !c.GetFrozen()])
	if no := obstacles(st); len(no) > 0 {
		s.put("lose a server", "NO: "+strings.Join(no, "; "), text.Bad)
	} else {
		s.put("lose a server", "yes, as far as HA, etcd and the sum of free memory tell", text.Good)
	}
	s.put("leader", dash(st.pool.GetLeader()), text.Plain)
	s.servers(st)
	s.vms(st)
	s.changing(st)
	s.alerts(st)
	return s.lines
}

func (s *sheet) servers(st *state) {
	up, rows := 0, [][2]string{}
	for _, v := range sorted(st.servers) {
		if serverIs(v, pb.ServerState_SERVER_STATE_UP) {
			up++
		}
		if serverTone(v) != text.Good {
			rows = append(rows, [2]string{v.GetServer().GetId(), withReason(serverWords(v), v.GetReason())})
		}
	}
	s.put("servers", fmt.Sprintf("%d of %d up", up, len(st.servers)), text.Plain)
	s.list(rows, "holdfast servers")
}

func (s *sheet) vms(st *state) {
	counts, rows := map[pb.VMStatus]int{}, [][2]string{}
	for _, v := range sorted(st.vms) {
		counts[v.GetStatus()]++
		if vmTone(v.GetStatus()) == text.Bad {
			rows = append(rows, [2]string{v.GetVm().GetId(), withReason(vmWord(v.GetStatus()), v.GetReason())})
		}
	}
	var parts []string
	for _, status := range slices.Sorted(maps.Keys(counts)) {
		parts = append(parts, fmt.Sprintf("%d %s", counts[status], word(status)))
	}
	fact := fmt.Sprint(len(st.vms))
	if len(parts) > 0 {
		fact += ": " + strings.Join(parts, ", ")
	}
	s.put("VMs", fact, text.Plain)
	s.list(rows, "holdfast vms --state waiting,failed,lost,paused")
}

func (s *sheet) changing(st *state) {
	ops := running(st)
	if len(ops) == 0 {
		s.put("changing", "nothing", text.Plain)
		return
	}
	s.put("changing", plural(len(ops), "operation"), text.Busy)
	var rows [][2]string
	for _, o := range ops {
		rows = append(rows, [2]string{strings.TrimSpace(word(o.GetKind()) + " " + operationSubject(o)),
			withReason(strings.TrimPrefix(strings.Join([]string{progressText(o.GetProgress()), o.GetPhase()}, " "), " ")+", "+
				age(s.page.now, o.GetRequested().GetAt())+", asked by "+dash(o.GetRequested().GetBy()), o.GetError())})
	}
	s.list(rows, "holdfast operations --running")
}

func (s *sheet) alerts(st *state) {
	alerts := st.pool.GetAlerts()
	if len(alerts) == 0 {
		s.put("alerts", "none", text.Plain)
	} else {
		s.put("alerts", fmt.Sprintf("%d open", len(alerts)), text.Bad)
	}
	var rows [][2]string
	for _, a := range alerts {
		rows = append(rows, [2]string{kindWord(a.GetKind()), a.GetText()})
	}
	s.list(rows, "holdfast alerts")
	rows = nil
	for _, key := range slices.Sorted(maps.Keys(st.pool.GetCorruptKeys())) {
		rows = append(rows, [2]string{key, st.pool.GetCorruptKeys()[key]})
	}
	if len(rows) > 0 {
		s.put("corrupt", plural(len(rows), "value")+" in etcd cannot be read", text.Bad)
		s.list(rows, "holdfast status -o wide")
	}
}
