package ui

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	pb "github.com/holdfast-ha/holdfast/proto/holdfast/v1"
)

// detail is everything known about one thing, for the side column and the full page.
func (m *Model) detail(k *kind, id string) lines {
	return m.asItWas(m.detailOf(k, id))
}

// asItWas says above lines when they were true, if that is not now.
func (m *Model) asItWas(l lines) lines {
	if m.stale() && !m.link.Heard.IsZero() {
		return append(lines{[]piece{{alarm, " as it was at " + m.link.Heard.Format(time.TimeOnly) + " "}}}, l...)
	}
	return l
}

func (m *Model) detailOf(k *kind, id string) lines {
	row := k.row(m, m.shown(), id)
	if row == nil {
		var l lines
		l.add(bad, id+" is not there any more")
		return l
	}
	switch k {
	case vmKind:
		return m.vmDetail(vmRow(row))
	case serverKind, capacityKind:
		return m.serverDetail(m.shown().Server(id))
	case operationKind:
		return m.operationDetail(operationRow(row))
	case eventKind:
		return m.eventDetail(eventRow(row))
	case incidentKind:
		return m.incidentBrief(incidentRow(row))
	}
	return nil
}

// openDetail shows a thing on a page of its own.
func (m *Model) openDetail(k *kind, id string) {
	page := &pager{title: strings.ToUpper(k.one[:1]) + k.one[1:] + " " + id, w: 196, make: func(m *Model) lines { return m.detail(k, id) }}
	if k == vmKind {
		page.make = func(m *Model) lines { return append(m.detail(k, id), m.definitionLines(id)...) }
		m.askPlaces(id)
		m.askDefinition(id)
	}
	m.open(page)
}

// enter opens what the cursor is on.
func (m *Model) enter() {
	l := m.list()
	if l.cursor == "" {
		return
	}
	if l.kind == capacityKind {
		m.openLoss([]string{l.cursor})
		return
	}
	if l.kind == incidentKind {
		m.openIncident(l.cursor)
		return
	}
	m.openDetail(l.kind, l.cursor)
}

func (m *Model) vmDetail(v *pb.VMView) lines {
	var l lines
	d, c := v.GetVm(), v.GetClaim()
	q := ""
	if m.stale() {
		q = "?"
	}
	l.row(piece{title, d.GetId() + "  "}, piece{vmTone(v.GetStatus()), m.vmState(v) + q})
	if note := m.vmNote(v); note != "" {
		l.add(dimUnless(vmTone(v.GetStatus()) == bad, plain), note)
	}
	l.gap()
	l.fact("server", dash(vmServer(v)))
	if c.GetLastServer() != "" && c.GetLastServer() != c.GetServer() {
		l.fact("last on", c.GetLastServer())
	}
	l.fact("home", v.GetHome().GetServer())
	l.fact("since", clockTime(m.now, v.GetSince())+prefixed(", ", age(m.now, v.GetSince())))
	ha, t := haWord(v, m.shown().Config())
	l.toned("HA", ha+byWhom(m.now, d.GetHaMark()), t)
	l.fact("wanted", word(d.GetDesired())+byWhom(m.now, d.GetDesiredMark()))
	l.gap()
	l.fact("memory", size(d.GetMemoryBytes()))
	l.fact("CPUs", fmt.Sprint(d.GetCpus()))
	l = append(l, m.vmLoadLines(v)...)
	l.fact("priority", word(d.GetPriority()))
	l.fact("restarts", fmt.Sprintf("%d in place, %d elsewhere, within %s", d.GetRestarts(), d.GetRelocations(), d.GetWindow().AsDuration()))
	l.fact("moves live", yesNo(d.GetMovable()))
	l.fact("disk locks", yesNo(d.GetDiskLocks()))
	l = append(l, m.deviceLines(d.GetId())...)
	l.fact("prefer", strings.Join(d.GetPrefer(), ", "))
	l.fact("require", strings.Join(d.GetRequire(), ", "))
	l.fact("apart", d.GetApart())
	l.fact("together", d.GetTogether())
	for _, n := range d.GetNeeds() {
		l.fact("needs", word(n.GetKind())+" "+n.GetName())
	}
	for _, lack := range m.lacksOf(d.GetId()) {
		l.toned("not on", lack, bad)
	}
	l = append(l, m.placesOf(d.GetId())...)
	l.gap()
	l.fact("claim", fmt.Sprintf("%s, epoch %d, guard %s", word(c.GetPhase()), c.GetEpoch(), map[bool]string{true: "armed", false: "not armed"}[c.GetArmed()]))
	for _, f := range v.GetHome().GetFailures() {
		l.toned(clockTime(m.now, f.GetAt()), joinParts(word(f.GetCause())+" on "+f.GetServer(), f.GetDetail()), bad)
	}
	return append(l, m.history(func(e *pb.Event) bool { return e.GetVm() == d.GetId() })...)
}

// lacksOf lists the servers that say they cannot run a VM, with what each lacks.
func (m *Model) lacksOf(vm string) []string {
	var out []string
	for _, s := range m.shown().Servers {
		for _, lack := range s.GetMember().GetLacks() {
			if lack.GetVm() == vm {
				out = append(out, s.GetServer().GetId()+": no "+strings.Join(lack.GetMissing(), ", no "))
			}
		}
	}
	return out
}

// history are the latest events about something, the newest first.
func (m *Model) history(about func(*pb.Event) bool) lines {
	var l lines
	all := m.shown().Events
	for i := len(all) - 1; i >= 0 && len(l) < 30; i-- {
		if about(all[i]) {
			l.toned(clockTime(m.now, all[i].GetAt()), all[i].GetText(), dimUnless(eventTone(all[i]) == bad, plain))
		}
	}
	if len(l) == 0 {
		return nil
	}
	return append(lines{nil, []piece{{title, "HISTORY"}}}, l...)
}

func (m *Model) serverDetail(s *pb.ServerView) lines {
	var l lines
	d, member := s.GetServer(), s.GetMember()
	id := d.GetId()
	l.row(piece{title, id + "  "}, piece{serverTone(s), m.serverState(s) + map[bool]string{true: ", leader"}[s.GetLeader()]})
	if serverIs(s, pb.ServerState_SERVER_STATE_MAINTENANCE) {
		l.add(good, "safe to power off")
	}
	waiting := serverIs(s, pb.ServerState_SERVER_STATE_LOST) && !serverIs(s, pb.ServerState_SERVER_STATE_FENCED)
	if s.GetReason() != "" && (!waiting || len(m.triedProofs(id)) == 0) {
		l.add(bad, s.GetReason())
	}
	l.gap()
	if waiting {
		l = append(l, m.fencingAdvice(s)...)
	}
	if f := m.failoverOf(s); f != nil {
		l = append(l, f.lines(m)...)
		l.gap()
	}
	l.fact("address", d.GetAddress())
	if member != nil {
		l.fact("agent", joinParts(member.GetVersion(), "since "+clockTime(m.now, member.GetSince())))
		text, t := m.usage(int64(s.GetCpusUsed()), int64(member.GetCpus()), s)
		l.toned("CPUs", fmt.Sprintf("%s of %d promised to VMs", text, member.GetCpus()), t)
		text, t = m.usage(s.GetMemoryUsedBytes(), member.GetMemoryBytes()-d.GetReservedMemoryBytes(), s)
		l.toned("memory", fmt.Sprintf("%s of %s promised, %s free", text, size(member.GetMemoryBytes()), size(freeMemory(s))), t)
		l = append(l, m.serverLoadLines(id)...)
		l.fact("guard", map[bool]string{true: "runs", false: "does NOT run"}[member.GetGuard()])
		l.fact("watchdog", map[bool]string{true: member.GetWatchdog().AsDuration().String(), false: "none"}[member.GetWatchdog() != nil])
		l.fact("etcd", map[bool]string{true: "carries a voter", false: "no voter here"}[member.GetEtcdVoter()])
		if member.GetStorageLost() {
			l.toned("storage", "LOST: it cannot reach the shared storage", bad)
		}
	}
	if d.GetMaintenance() {
		l.toned("maintenance", "on"+byWhom(m.now, d.GetMaintenanceMark()), busy)
	}
	if d.GetInboundLock() {
		l.toned("inbound lock", "on"+byWhom(m.now, d.GetInboundLockMark()), busy)
	}
	if f := s.GetFence(); f != nil {
		l.fact("fenced", clockTime(m.now, f.GetAt())+" by "+word(f.GetProof())+prefixed(": ", f.GetEvidence()))
	}
	var powers []string
	for _, p := range d.GetFence() {
		powers = append(powers, p.GetAgent())
	}
	l.fact("power switch", dash(strings.Join(powers, ", ")))
	for _, key := range slices.Sorted(maps.Keys(d.GetLabels())) {
		l.fact("label", key+"="+d.GetLabels()[key])
	}
	l.gap()
	l.head(fmt.Sprintf("VMS %d", s.GetVms()))
	for _, v := range m.shown().VMs {
		if vmServer(v) == id {
			l.row(piece{plain, v.GetVm().GetId() + "  "}, piece{vmTone(v.GetStatus()), m.vmState(v) + "  "}, piece{dim, size(v.GetVm().GetMemoryBytes())})
		}
	}
	return append(l, m.history(func(e *pb.Event) bool { return e.GetServer() == id })...)
}

// fencingAdvice says why a lost server's VMs wait and what an operator can do about it.
func (m *Model) fencingAdvice(s *pb.ServerView) lines {
	var l lines
	id := s.GetServer().GetId()
	l.add(alarm, " WAITING FOR FENCING ")
	l.fact("why", "nobody has proven yet that "+id+" runs no VM of the pool. Restarting one elsewhere now could run it twice, which corrupts its disks.")
	l.toned("you can", "bring it back; or make sure that it is off and say so: A, confirm-fenced", accent)
	for _, a := range m.shown().Pool.GetAlerts() {
		if a.GetServer() == id && len(a.GetTried()) == 0 {
			l.toned("seen", a.GetText(), bad)
		}
	}
	return append(l, m.triedLines(s, m.triedProofs(id))...)
}

// triedProofs are the proofs that were tried for a lost server, as its alert lists them.
func (m *Model) triedProofs(server string) []*pb.ProofTry {
	for _, a := range m.shown().Pool.GetAlerts() {
		if a.GetServer() == server && len(a.GetTried()) > 0 {
			return a.GetTried()
		}
	}
	return nil
}

// triedLines are the proofs that were tried for a lost server and why none holds, and each attempt to cut its power, as
// far as the events in hand tell of them.
func (m *Model) triedLines(s *pb.ServerView, tried []*pb.ProofTry) lines {
	var l lines
	for _, t := range tried {
		l.toned(word(t.GetProof()), t.GetResult(), bad)
	}
	if len(tried) == 0 && len(s.GetServer().GetFence()) == 0 {
		l.fact("power", "no power switch is configured for it; without one only its own guard or watchdog, or an operator, can prove it")
	}
	id := s.GetServer().GetId()
	lost := m.lostAt(id).Add(-m.shown().Pool.GetConfig().GetSuspectAfter().AsDuration())
	for _, e := range m.shown().Events {
		switch e.GetKind() {
		case "SERVER_FENCING", "SERVER_FENCING_FAILED":
			if e.GetServer() == id && !e.GetAt().AsTime().Before(lost) {
				l.fact("  "+clockTime(m.now, e.GetAt()), e.GetText())
			}
		}
	}
	return l
}

func (m *Model) operationDetail(o *pb.Operation) lines {
	var l lines
	l.row(piece{title, strings.TrimSpace(word(o.GetKind())+" "+subject(o)) + "  "}, piece{outcomeTone(o.GetOutcome()), word(o.GetOutcome())})
	l.gap()
	if b := m.bar(o, 20); b != "" {
		l.row(piece{bar, b + "  "}, piece{plain, progressText(o.GetProgress())})
	}
	l.fact("phase", o.GetPhase())
	l.toned(map[bool]string{true: "waits for", false: "error"}[o.GetOutcome() == pb.OperationOutcome_OPERATION_OUTCOME_RUNNING], o.GetError(), bad)
	l.fact("from", o.GetSource())
	l.fact("to", map[bool]string{true: o.GetServer()}[o.GetVm() != ""])
	l.fact("asked by", person(o.GetRequested().GetBy()))
	l.fact("reason", o.GetRequested().GetWhy())
	l.fact("began", clockTime(m.now, o.GetRequested().GetAt()))
	if o.GetFinished() != nil {
		l.fact("ended", clockTime(m.now, o.GetFinished()))
	}
	l.fact("took", stopwatch(m.took(o)))
	l.fact("attempt", attemptNumber(o))
	l.fact("id", o.GetId())
	if o.GetKind() == pb.OperationKind_OPERATION_KIND_FAILOVER {
		l = append(l, m.failoverAt(o.GetServer(), o.GetRequested().GetAt().AsTime()).lines(m)...)
	}
	if emptiesServer(o) {
		l.gap()
		l = append(l, m.leavingLines(o.GetServer(), o, nil)...)
	}
	return append(l, m.history(func(e *pb.Event) bool { return e.GetOperation() == o.GetId() })...)
}

// pad fills s to w cells and one more.
func pad(s string, w int) string {
	if n := cells(s); n < w {
		return s + strings.Repeat(" ", w-n)
	}
	return s + " "
}

func (m *Model) eventDetail(e *pb.Event) lines {
	var l lines
	l.add(eventTone(e), e.GetText())
	l.gap()
	l.fact("time", e.GetAt().AsTime().In(m.now.Location()).Format("2006-01-02 15:04:05.000"))
	l.fact("kind", e.GetKind())
	l.fact("by", e.GetActor())
	l.fact("server", e.GetServer())
	l.fact("VM", e.GetVm())
	l.fact("operation", e.GetOperation())
	if e.GetLeaderRevision() > 0 {
		l.fact("leadership", fmt.Sprint(e.GetLeaderRevision()))
	}
	return l
}
