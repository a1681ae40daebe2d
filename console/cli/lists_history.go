package cli

import (
	"context"
	"path"
	"strings"

	"google.golang.org/protobuf/proto"

	"github.com/holdfast-ha/holdfast/console/cli/text"
	pb "github.com/holdfast-ha/holdfast/proto/holdfast/v1"
)

var eventList = &list{
	name: "events", short: "Show the pool's history, oldest first",
	fetch: func(ctx context.Context, s *session, f *filter) (*state, proto.Message, error) {
		resp, err := s.events.ListEvents(ctx, &pb.ListEventsRequest{Server: f.server, Vm: f.vm, Kind: f.kind, Limit: int32(f.limit), AuditedOnly: f.audit})
		if err != nil {
			return nil, nil, err
		}
		st := newState()
		st.events = resp.GetEvents()
		return st, resp, nil
	},
	lay: layEvents,
	lines: func(st *state, f *filter) map[string]string {
		out := map[string]string{}
		for _, e := range keep(st.events, f.keepEvent) {
			out[e.GetId()] = eventLine(e)
		}
		return out
	},
	reduce: reduceEvents,
}

// eventSubject is what an event is about, as a word in front of its sentence.
func eventSubject(e *pb.Event) string {
	if e.GetVm() != "" {
		return e.GetVm()
	}
	if e.GetServer() != "" {
		return e.GetServer()
	}
	return "pool"
}

func eventLine(e *pb.Event) string { return eventSubject(e) + ": " + e.GetText() }

func layEvents(p page, st *state, f *filter) []string {
	if f.audit {
		return layAudit(p, st, f)
	}
	columns, shown := p.columns(
		text.Column{Title: "TIME"}, text.Column{Title: "SERVER", Drop: 2}, text.Column{Title: "VM", Drop: 3},
		text.Column{Title: "KIND", Drop: onlyWide}, text.Column{Title: "BY", Drop: 4}, text.Column{Title: "OPERATION", Drop: onlyWide},
		text.Column{Title: "EVENT", Min: 44})
	t := text.Table{Columns: columns}
	for _, e := range latest(keep(st.events, f.keepEvent), f.limit) {
		t.Rows = append(t.Rows, pick([]text.Cell{
			say(p.clockTime(e.GetAt())), say(e.GetServer()), say(e.GetVm()), say(e.GetKind()), say(e.GetActor()), say(e.GetOperation()), say(e.GetText()),
		}, shown))
	}
	if len(t.Rows) == 0 {
		return []string{"no events" + f.words()}
	}
	return p.table(t)
}

// layAudit shows the calls behind events.
func layAudit(p page, st *state, f *filter) []string {
	columns, shown := p.columns(
		text.Column{Title: "TIME"}, text.Column{Title: "WHO"}, text.Column{Title: "ROLE", Drop: 4}, text.Column{Title: "FROM", Drop: 3},
		text.Column{Title: "CALL"}, text.Column{Title: "REQUEST", Drop: 2}, text.Column{Title: "CERTIFICATE", Drop: onlyWide},
		text.Column{Title: "BEFORE", Min: 20, Drop: 1}, text.Column{Title: "AFTER", Min: 20})
	t := text.Table{Columns: columns}
	for _, e := range latest(keep(st.events, f.keepEvent), f.limit) {
		c := e.GetAudit()
		t.Rows = append(t.Rows, pick([]text.Cell{
			say(p.clockTime(e.GetAt())), say(e.GetActor()), say(c.GetRole()), say(c.GetFrom()), say(path.Base(c.GetMethod())), say(c.GetRequestId()),
			say(c.GetSerial()), say(c.GetBefore()), say(c.GetAfter()),
		}, shown))
	}
	if len(t.Rows) == 0 {
		return []string{"no calls that changed something" + f.words()}
	}
	return p.table(t)
}

var alertList = &list{
	name: "alerts", short: "List open problems",
	fetch: func(ctx context.Context, s *session, f *filter) (*state, proto.Message, error) {
		resp, err := s.pool.GetPool(ctx, &pb.GetPoolRequest{})
		if err != nil {
			return nil, nil, err
		}
		st := newState()
		st.pool = resp.GetPool()
		st.pool.Alerts = keep(st.pool.GetAlerts(), f.keepAlert)
		return st, resp, nil
	},
	lay: layAlerts,
	lines: func(st *state, f *filter) map[string]string {
		out := map[string]string{}
		for _, a := range keep(st.pool.GetAlerts(), f.keepAlert) {
			out["alert "+alertKey(a)] = a.GetText()
		}
		return out
	},
	reduce: reduceAlerts,
}

func layAlerts(p page, st *state, f *filter) []string {
	columns, shown := p.columns(
		text.Column{Title: "ALERT", Drop: 1}, text.Column{Title: "SINCE", Drop: 4, Right: true}, text.Column{Title: "SERVER", Drop: 3},
		text.Column{Title: "VM", Drop: 2}, text.Column{Title: "ID", Drop: onlyWide}, text.Column{Title: "WHAT", Min: 40})
	t := text.Table{Columns: columns}
	for _, a := range keep(st.pool.GetAlerts(), f.keepAlert) {
		t.Rows = append(t.Rows, pick([]text.Cell{
			{Text: kindWord(a.GetKind()), Tone: text.Bad}, say(age(p.now, a.GetSince())), say(a.GetServer()), say(a.GetVm()), say(a.GetId()), say(a.GetText()),
		}, shown))
	}
	if len(t.Rows) == 0 {
		return []string{"no open alerts" + f.words()}
	}
	return p.table(t)
}

// kindWord is a stable code as people read it: SERVER_LOST is "server lost".
func kindWord(code string) string { return strings.ToLower(strings.ReplaceAll(code, "_", " ")) }

// words says what a filter asks for, as a tail for "no VMs".
func (f *filter) words() string {
	var parts []string
	for _, p := range []struct{ name, value string }{
		{"server", f.server}, {"VM", f.vm}, {"kind", f.kind}, {"state", strings.Join(f.states, " or ")},
	} {
		if p.value != "" {
			parts = append(parts, p.name+" "+p.value)
		}
	}
	if f.running {
		parts = append(parts, "still running")
	}
	if len(parts) == 0 {
		return ""
	}
	return " with " + text.Clean(strings.Join(parts, ", "))
}
