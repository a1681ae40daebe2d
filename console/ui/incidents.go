package ui

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/holdfast-ha/holdfast/console/feed"
	pb "github.com/holdfast-ha/holdfast/proto/holdfast/v1"
)

// incidentKind lists the outages that the pool has on record, the newest first.
var incidentKind = &kind{
	name: "incidents", one: "incident",
	ids: func(m *Model, _ *feed.View) []string {
		out := idsOf(m.incidents.value, (*pb.Incident).GetId)
		slices.Reverse(out)
		return out
	},
	row: func(m *Model, _ *feed.View, id string) any { return orNil(m.incident(id)) },
	text: func(_ *Model, row any) string {
		i := incidentRow(row)
		parts := []string{i.GetId(), i.GetWhy(), incidentState(i), incidentProofs(i)}
		for _, v := range i.GetVms() {
			parts = append(parts, v.GetVm())
		}
		return strings.Join(parts, " ")
	},
	trouble: func(_ *Model, row any) bool { return incidentRow(row).GetEnded() == nil },
}

func init() {
	incidentKind.cols = []column{
		col("BEGAN", "began", 12, 0, func(m *Model, i *pb.Incident) (string, tone) { return clockTime(m.now, i.GetBegan()), dim }),
		live(col("STATE", "state", 5, 0, func(_ *Model, i *pb.Incident) (string, tone) {
			return incidentState(i), map[bool]tone{true: bad, false: plain}[i.GetEnded() == nil]
		})),
		number(col("VMS", "vms", 4, 2, func(_ *Model, i *pb.Incident) (string, tone) { return fmt.Sprint(len(i.GetVms())), plain }),
			func(i *pb.Incident) float64 { return float64(len(i.GetVms())) }),
		number(col("LONGEST", "longest", 8, 3, func(_ *Model, i *pb.Incident) (string, tone) { return awayText(longestAway(i)), plain }),
			func(i *pb.Incident) float64 { return longestAway(i).Seconds() }),
		col("PROOF", "proof", 9, 4, func(_ *Model, i *pb.Incident) (string, tone) { return incidentProofs(i), plain }),
		col("WHAT", "what", 0, 0, func(_ *Model, i *pb.Incident) (string, tone) { return i.GetWhy(), plain }),
	}
	incidentKind.more = []column{
		col("", "incident", 0, 0, func(_ *Model, i *pb.Incident) (string, tone) { return i.GetId(), plain }),
		col("", "server", 0, 0, func(_ *Model, i *pb.Incident) (string, tone) {
			return strings.Join(idsOf(i.GetServers(), (*pb.IncidentServer).GetServer), " "), plain
		}),
		col("", "vm", 0, 0, func(_ *Model, i *pb.Incident) (string, tone) {
			return strings.Join(idsOf(i.GetVms(), (*pb.IncidentVM).GetVm), " "), plain
		}),
	}
}

func incidentRow(row any) *pb.Incident {
	i, ok := row.(*pb.Incident)
	if !ok {
		return nil
	}
	return i
}

// incident finds a record by its ID.
func (m *Model) incident(id string) *pb.Incident {
	for _, i := range m.incidents.value {
		if i.GetId() == id {
			return i
		}
	}
	return nil
}

func incidentState(i *pb.Incident) string {
	if i.GetEnded() == nil {
		return "open"
	}
	return "over"
}

func incidentProofs(i *pb.Incident) string {
	var out []string
	for _, s := range i.GetServers() {
		if s.GetProof() != pb.Proof_PROOF_UNSPECIFIED {
			out = append(out, word(s.GetProof()))
		}
	}
	return dash(strings.Join(out, ", "))
}

// longestAway is for how long the VM was away that was away longest, of those that run again.
func longestAway(i *pb.Incident) time.Duration {
	var most time.Duration
	for _, v := range i.GetVms() {
		most = max(most, v.GetDowntime().AsDuration())
	}
	return most
}

func awayText(d time.Duration) string {
	if d == 0 {
		return "-"
	}
	return seconds(d)
}

// incidentsKept bounds the records that are asked for.
const incidentsKept = 200

// askIncidents asks for the records while they are on the screen, or a server is lost, and the pool has changed since, or
// shows more than they tell: the leader writes them after it has done what they tell of.
func (m *Model) askIncidents() {
	k := &m.incidents
	wanted := m.screen == incidents || slices.ContainsFunc(m.view.Servers, func(s *pb.ServerView) bool {
		return serverIs(s, pb.ServerState_SERVER_STATE_LOST)
	})
	for _, d := range m.dialogs {
		_, is := d.(*incidentPage)
		wanted = wanted || is
	}
	if !wanted || k.asked || !k.at.IsZero() && m.now.Sub(k.at) < incidentsEvery || k.revision == m.view.Revision && !m.recordsBehind() {
		return
	}
	k.asked, k.at, k.revision = true, m.now, m.view.Revision
	m.do(Ask{Topic: "incidents", Request: &pb.ListIncidentsRequest{Limit: incidentsKept}})
	for _, d := range m.dialogs {
		if p, is := d.(*incidentPage); is {
			p.ask(m)
		}
	}
}

// incidentsEvery bounds how often the records are asked for while things change.
const incidentsEvery = time.Second

// recordsBehind reports whether the pool shows what its records of outages do not tell yet: a VM that runs again, or a
// server that was lost lately.
func (m *Model) recordsBehind() bool {
	if m.incidents.value == nil || !m.link.Changeable(m.now) {
		return false
	}
	known := map[string]bool{}
	for _, i := range m.incidents.value {
		for _, s := range i.GetServers() {
			known[s.GetServer()] = known[s.GetServer()] || s.GetBack() == nil
		}
		if i.GetEnded() != nil {
			continue
		}
		for _, r := range i.GetVms() {
			v := m.view.VM(r.GetVm())
			if r.GetRecovery() == pb.Recovery_RECOVERY_UNSPECIFIED && v.GetStatus() == isRunning && v.GetClaim().GetEpoch() > r.GetEpoch() {
				return true
			}
		}
	}
	for _, s := range m.view.Servers {
		id := s.GetServer().GetId()
		if serverIs(s, pb.ServerState_SERVER_STATE_FENCED) && !known[id] && m.now.Sub(s.GetFence().GetAt().AsTime()) < recordsLate {
			return true
		}
	}
	return false
}

// recordsLate is how long after a fencing its record may come: the leader writes it within seconds, once VMs are recovered.
const recordsLate = 30 * time.Second

// learnIncidents takes the records.
func (m *Model) learnIncidents(a Answer) {
	m.incidents.asked, m.incidents.err = false, a.Err
	if r, ok := a.Message.(*pb.ListIncidentsResponse); ok && a.Err == nil {
		m.incidents.value = r.GetIncidents()
		m.lists[incidents].dirty = true
	}
}

// drawIncidents shows the list or, before it has come, why not.
func (m *Model) drawIncidents(r region) {
	switch k := &m.incidents; {
	case k.err != nil:
		r.cut(2, 1, r.w-3, dim, "the pool does not say: "+k.err.Error())
	case k.value == nil && k.asked:
		r.cut(2, 1, r.w-3, dim, "asking the pool ...")
	case m.class() >= classM && !m.zoom:
		side := min(max(r.w/3, 40), 60)
		m.drawList(r.sub(0, 0, r.w-side-1, r.h), m.list(), true)
		m.drawSide(r.sub(r.w-side-1, 0, side+1, r.h), m.list())
	default:
		m.drawList(r, m.list(), true)
	}
}

// incidentPage shows one record in full.
type incidentPage struct {
	pager
	id    string
	reply *pb.GetIncidentResponse
	err   error
}

// openIncident shows a record by its ID, or the last one.
func (m *Model) openIncident(id string) {
	p := &incidentPage{id: id}
	p.title, p.w = "INCIDENT "+id, 150
	p.make = p.lines
	m.open(p)
	p.ask(m)
}

func (p *incidentPage) topic() string { return "incident " + p.id }

func (p *incidentPage) ask(m *Model) { m.ask(p.topic(), &pb.GetIncidentRequest{Incident: p.id}) }

func (p *incidentPage) answer(_ *Model, a Answer) {
	if p.err = a.Err; a.Err != nil {
		return
	}
	if r, ok := a.Message.(*pb.GetIncidentResponse); ok {
		p.reply, p.title = r, "INCIDENT "+r.GetIncident().GetId()
	}
}

func (p *incidentPage) lines(m *Model) lines {
	var l lines
	switch {
	case p.reply == nil && p.err != nil:
		reason, remedy := explainError(p.err)
		l.toned("refused", reason, bad)
		l.toned("next step", remedy, accent)
		return l
	case p.reply == nil:
		l.add(dim, "asking the pool ...")
		return l
	}
	i := p.reply.GetIncident()
	l = append(m.incidentFacts(i), m.incidentTable(i)...)
	l.gap()
	l.head("TIME LINE")
	for _, s := range p.reply.GetTimeline() {
		at := s.GetAt().AsTime()
		l.row(piece{dim, at.In(m.now.Location()).Format("15:04:05.00") + fmt.Sprintf("  %+8.2f s  ", at.Sub(i.GetBegan().AsTime()).Seconds())}, piece{plain, s.GetText()})
	}
	return l
}

// incidentBrief is a record beside the list: for how long each VM was away.
func (m *Model) incidentBrief(i *pb.Incident) lines {
	l := m.incidentFacts(i)
	for _, v := range i.GetVms() {
		end, t := incidentEnd(v)
		l.row(piece{plain, pad(v.GetVm(), 14)}, piece{plain, pad(awayText(v.GetDowntime().AsDuration()), 9)},
			piece{t, joinParts(end, prefixed("on ", v.GetTo()))})
	}
	return l
}

func incidentEnd(v *pb.IncidentVM) (string, tone) {
	if v.GetRecovery() == pb.Recovery_RECOVERY_UNSPECIFIED {
		return "pending", bad
	}
	return word(v.GetRecovery()), plain
}

// incidentFacts is how an outage began, what proved each server harmless, and whether it is over.
func (m *Model) incidentFacts(i *pb.Incident) lines {
	var l lines
	l.row(piece{title, i.GetWhy() + "  "}, piece{map[bool]tone{true: bad, false: good}[i.GetEnded() == nil], incidentState(i)})
	l.gap()
	l.fact("began", clockTime(m.now, i.GetBegan()))
	if i.GetEnded() != nil {
		l.fact("ended", clockTime(m.now, i.GetEnded())+", after "+seconds(i.GetEnded().AsTime().Sub(i.GetBegan().AsTime())))
	} else {
		l.toned("ended", "not yet: a VM is not settled", bad)
	}
	for _, s := range i.GetServers() {
		l.fact("server", s.GetServer()+", lost "+clockTime(m.now, s.GetLost()))
		if s.GetProof() == pb.Proof_PROOF_UNSPECIFIED {
			l.toned("proof", "none yet", bad)
			continue
		}
		l.fact("proof", word(s.GetProof())+prefixed(": ", s.GetEvidence())+prefixed(", told by ", s.GetFencedBy()))
	}
	l.fact("recorded by", i.GetBy())
	l.gap()
	l.fact("restarted", restartedText(m, i))
	l.head(fmt.Sprintf("VMS %d", len(i.GetVms())))
	return l
}

// restartedText is how many run again, for how long they were away, and how many still wait.
func restartedText(m *Model, i *pb.Incident) string {
	var away []time.Duration
	waiting, all := 0, 0
	for _, v := range i.GetVms() {
		switch {
		case v.GetRecovery() == pb.Recovery_RECOVERY_LEFT:
			continue
		case v.GetDowntime() != nil:
			away = append(away, v.GetDowntime().AsDuration())
		case v.GetRecovery() == pb.Recovery_RECOVERY_UNSPECIFIED:
			waiting++
		}
		all++
	}
	if all == 0 {
		return ""
	}
	s := m.glyphs.gauge(int64(len(away)), int64(all), 16) + fmt.Sprintf(" %d of %d", len(away), all)
	if len(away) > 0 {
		slices.Sort(away)
		s += fmt.Sprintf("; away: median %s, worst %s", seconds(away[len(away)/2]), seconds(away[len(away)-1]))
	}
	if waiting > 0 {
		s += fmt.Sprintf("; %d not yet", waiting)
	}
	return s
}

// incidentTable is what became of each VM.
func (m *Model) incidentTable(i *pb.Incident) lines {
	var l lines
	wide := m.w >= 100
	head := pad("VM", 14)
	if wide {
		head += pad("PRIO", 8) + pad("FROM", 8)
	}
	l.add(dim, head+pad("TO", 8)+pad("AWAY", 9)+pad("END", 11)+"WHY")
	for _, v := range i.GetVms() {
		end, t := incidentEnd(v)
		if x := m.shown().VM(v.GetVm()); t == bad && x != nil {
			end = word(x.GetStatus())
		}
		why := v.GetWhy()
		if len(v.GetWaited()) > 0 {
			why = joinWhy(why, "waited: "+strings.Join(v.GetWaited(), "; "))
		}
		name := pad(v.GetVm(), 14)
		if wide {
			name += pad(m.priorityOf(v.GetVm()), 8) + pad(dash(v.GetFrom()), 8)
		}
		l.row(piece{plain, name}, piece{plain, pad(dash(v.GetTo()), 8)},
			piece{plain, pad(awayText(v.GetDowntime().AsDuration()), 9)}, piece{t, pad(end, 11)}, piece{dim, why})
	}
	return l
}

func joinWhy(a, b string) string {
	if a == "" {
		return b
	}
	return a + "; " + b
}

// priorityOf is a VM's priority now, if there still is such a VM.
func (m *Model) priorityOf(id string) string {
	if v := m.shown().VM(id); v != nil {
		return word(v.GetVm().GetPriority())
	}
	return "-"
}
