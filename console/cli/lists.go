package cli

import (
	"context"
	"fmt"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/holdfast-ha/holdfast/console/cli/text"
	pb "github.com/holdfast-ha/holdfast/proto/holdfast/v1"
)

// page is what a list is laid out for.
type page struct {
	now time.Time
	// width 0 means that lines may have any length.
	width int
	// wide shows every column and cuts nothing.
	wide  bool
	paint func(text.Tone, string) string
}

// list is one kind of thing that can be listed and watched.
type list struct {
	name  string
	short string
	// fetch reads it once; message is what scripts get.
	fetch func(ctx context.Context, s *session, f *filter) (st *state, message proto.Message, err error)
	// lay shows it to people.
	lay func(p page, st *state, f *filter) []string
	// lines says each thing in one line, by key, for a watch that is not on a terminal.
	lines func(st *state, f *filter) map[string]string
	// reduce cuts a stream's messages down to it, for scripts that watch.
	reduce reduce
}

func (p page) table(t text.Table) []string {
	w := p.width
	if p.wide {
		w = 0
	}
	return t.Lay(w, p.paint)
}

// columns leaves out those for wide output only, which have Drop 99.
func (p page) columns(all ...text.Column) (out []text.Column, shown []bool) {
	for _, c := range all {
		show := c.Drop != onlyWide || p.wide
		if shown = append(shown, show); show {
			out = append(out, c)
		}
	}
	return out, shown
}

const onlyWide = 99

func pick(cells []text.Cell, shown []bool) []text.Cell {
	var out []text.Cell
	for i, c := range cells {
		if shown[i] {
			out = append(out, c)
		}
	}
	return out
}

func say(s string) text.Cell { return text.Cell{Text: s} }

var vmList = &list{
	name: "vms", short: "List the VMs: where they are, how they stand, and why",
	fetch: func(ctx context.Context, s *session, f *filter) (*state, proto.Message, error) {
		p, err := s.pool.GetPool(ctx, &pb.GetPoolRequest{})
		if err != nil {
			return nil, nil, err
		}
		resp, err := s.vms.ListVMs(ctx, &pb.ListVMsRequest{WithoutXml: true})
		if err != nil {
			return nil, nil, err
		}
		st := newState()
		st.pool = p.GetPool()
		resp.Vms = keep(resp.GetVms(), f.keepVM)
		st.put(nil, resp.GetVms(), nil)
		return st, resp, nil
	},
	lay: layVMs,
	lines: func(st *state, f *filter) map[string]string {
		out := map[string]string{}
		for _, v := range sorted(st.vms) {
			if f.keepVM(v) {
				out["vm "+v.GetVm().GetId()] = vmLine(v, st.pool.GetConfig())
			}
		}
		return out
	},
	reduce: reduceVMs,
}

func layVMs(p page, st *state, f *filter) []string {
	columns, shown := p.columns(
		text.Column{Title: "VM"}, text.Column{Title: "STATE"}, text.Column{Title: "SERVER", Drop: 1}, text.Column{Title: "HA", Drop: 2},
		text.Column{Title: "PRIO", Drop: 7}, text.Column{Title: "CPUS", Drop: 3, Right: true}, text.Column{Title: "MEM", Drop: 4, Right: true},
		text.Column{Title: "SINCE", Drop: 6, Right: true}, text.Column{Title: "EPOCH", Drop: onlyWide, Right: true}, text.Column{Title: "GUARD", Drop: onlyWide},
		text.Column{Title: "NOTE", Drop: 5, Min: 20})
	t := text.Table{Columns: columns}
	for _, v := range sorted(st.vms) {
		if !f.keepVM(v) {
			continue
		}
		t.Rows = append(t.Rows, pick([]text.Cell{
			say(v.GetVm().GetId()), {Text: vmWord(v.GetStatus()), Tone: vmTone(v.GetStatus())}, say(dash(vmServer(v))),
			haCell(v, st.pool.GetConfig()), say(word(v.GetVm().GetPriority())),
			say(fmt.Sprint(v.GetVm().GetCpus())), say(size(v.GetVm().GetMemoryBytes())),
			say(age(p.now, v.GetSince())), say(fmt.Sprint(v.GetClaim().GetEpoch())), say(guardWord(v)), say(vmNote(v)),
		}, shown))
	}
	if len(t.Rows) == 0 {
		return []string{"no VMs" + f.words()}
	}
	return p.table(t)
}

// vmNote is the reason of a VM's state, and that it is a drill's.
func vmNote(v *pb.VMView) string {
	switch {
	case !v.GetVm().GetCanary():
		return v.GetReason()
	case v.GetReason() == "":
		return "canary of a drill"
	}
	return "canary of a drill; " + v.GetReason()
}

func haCell(v *pb.VMView, c *pb.PoolConfig) text.Cell {
	switch w := haWord(v, c); w {
	case "on":
		return text.Cell{Text: w}
	case "off":
		return text.Cell{Text: w, Tone: text.Dim}
	default:
		return text.Cell{Text: w, Tone: text.Bad}
	}
}

// guardWord says whether the owner's guard holds the VM.
func guardWord(v *pb.VMView) string {
	switch {
	case v.GetClaim().GetServer() == "":
		return "-"
	case v.GetClaim().GetArmed():
		return "armed"
	}
	return "not armed"
}

func vmLine(v *pb.VMView, c *pb.PoolConfig) string {
	s := vmWord(v.GetStatus())
	if on := vmServer(v); on != "" {
		s += " on " + on
	}
	s += ", HA " + haWord(v, c)
	return withReason(s, v.GetReason())
}

func withReason(s, reason string) string {
	if reason == "" {
		return s
	}
	return s + ": " + reason
}

var serverList = &list{
	name: "servers", short: "List the servers: how they stand, what they carry",
	fetch: func(ctx context.Context, s *session, f *filter) (*state, proto.Message, error) {
		resp, err := s.servers.ListServers(ctx, &pb.ListServersRequest{})
		if err != nil {
			return nil, nil, err
		}
		st := newState()
		resp.Servers = keep(resp.GetServers(), f.keepServer)
		st.put(resp.GetServers(), nil, nil)
		return st, resp, nil
	},
	lay: layServers,
	lines: func(st *state, f *filter) map[string]string {
		out := map[string]string{}
		for _, s := range sorted(st.servers) {
			if f.keepServer(s) {
				out["server "+s.GetServer().GetId()] = withReason(serverWords(s)+", "+plural(int(s.GetVms()), "VM"), s.GetReason())
			}
		}
		return out
	},
	reduce: reduceServers,
}

func layServers(p page, st *state, f *filter) []string {
	columns, shown := p.columns(
		text.Column{Title: "SERVER"}, text.Column{Title: "STATE"}, text.Column{Title: "VMS", Drop: 2, Right: true},
		text.Column{Title: "CPUS", Drop: 3, Right: true}, text.Column{Title: "MEM", Drop: 4, Right: true}, text.Column{Title: "GUARD", Drop: 6},
		text.Column{Title: "SINCE", Drop: 7, Right: true}, text.Column{Title: "ADDRESS", Drop: onlyWide}, text.Column{Title: "VERSION", Drop: onlyWide},
		text.Column{Title: "ETCD", Drop: onlyWide}, text.Column{Title: "SESSION", Drop: onlyWide, Right: true}, text.Column{Title: "NOTE", Drop: 5, Min: 20})
	t := text.Table{Columns: columns}
	for _, s := range sorted(st.servers) {
		if !f.keepServer(s) {
			continue
		}
		m := s.GetMember()
		t.Rows = append(t.Rows, pick([]text.Cell{
			say(s.GetServer().GetId()), {Text: serverWords(s), Tone: serverTone(s)}, say(fmt.Sprint(s.GetVms())),
			say(fmt.Sprintf("%d/%s", s.GetCpusUsed(), unknownZero(fmt.Sprint(m.GetCpus())))),
			say(size(s.GetMemoryUsedBytes()) + "/" + unknownZero(size(m.GetMemoryBytes()))), say(serverGuard(s)),
			say(age(p.now, m.GetSince())), say(s.GetServer().GetAddress()), say(m.GetVersion()), say(voterWord(m)),
			say(fmt.Sprint(s.GetSession())), say(s.GetReason()),
		}, shown))
	}
	if len(t.Rows) == 0 {
		return []string{"no servers" + f.words()}
	}
	return p.table(t)
}

// unknownZero: a lost server has told nobody what it has.
func unknownZero(s string) string {
	if s == "0" {
		return "?"
	}
	return s
}

func voterWord(m *pb.Member) string {
	if m.GetEtcdVoter() {
		return "voter"
	}
	return "-"
}

func serverGuard(s *pb.ServerView) string {
	m := s.GetMember()
	switch {
	case m == nil:
		return "-"
	case m.GetWatchdog() != nil && m.GetGuard():
		return "guard, watchdog " + durationText(m.GetWatchdog()) + pauseWord(m)
	case m.GetGuard():
		return "guard" + pauseWord(m)
	}
	return "none"
}

// pauseWord tells of a guard that can kill, but not pause.
func pauseWord(m *pb.Member) string {
	if m.GetNoPause() == "" {
		return ""
	}
	return ", no pause"
}

var operationList = &list{
	name: "operations", short: "List operations: what is changing, who asked, how far it is",
	fetch: func(ctx context.Context, s *session, f *filter) (*state, proto.Message, error) {
		resp, err := s.operations.ListOperations(ctx, &pb.ListOperationsRequest{RunningOnly: f.running})
		if err != nil {
			return nil, nil, err
		}
		st := newState()
		resp.Operations = latest(keep(resp.GetOperations(), f.keepOperation), f.limit)
		st.put(nil, nil, resp.GetOperations())
		return st, resp, nil
	},
	lay: layOperations,
	lines: func(st *state, f *filter) map[string]string {
		out := map[string]string{}
		for _, o := range keep(st.operationsByTime(), f.keepOperation) {
			out["operation "+o.GetId()] = operationLine(o)
		}
		return out
	},
	reduce: reduceOperations,
}

func operationLine(o *pb.Operation) string {
	s := strings.TrimSpace(word(o.GetKind())+" "+operationSubject(o)) + " " + word(o.GetOutcome())
	if o.GetOutcome() == pb.OperationOutcome_OPERATION_OUTCOME_RUNNING && o.GetPhase() != "" {
		s += ", " + o.GetPhase()
	}
	return withReason(s, o.GetError())
}

func layOperations(p page, st *state, f *filter) []string {
	columns, shown := p.columns(
		text.Column{Title: "OPERATION"}, text.Column{Title: "STATE"}, text.Column{Title: "WHAT", Drop: 1},
		text.Column{Title: "DONE", Drop: 3, Right: true}, text.Column{Title: "AGE", Drop: 4, Right: true}, text.Column{Title: "BY", Drop: 6},
		text.Column{Title: "TOOK", Drop: onlyWide, Right: true}, text.Column{Title: "REQUEST", Drop: onlyWide}, text.Column{Title: "NOTE", Drop: 5, Min: 20})
	t := text.Table{Columns: columns}
	for _, o := range latest(keep(st.operationsByTime(), f.keepOperation), f.limit) {
		t.Rows = append(t.Rows, pick([]text.Cell{
			say(o.GetId()), {Text: word(o.GetOutcome()), Tone: outcomeTone(o.GetOutcome())},
			say(strings.TrimSpace(word(o.GetKind()) + " " + operationSubject(o))), say(progressText(o.GetProgress())),
			say(age(p.now, o.GetRequested().GetAt())), say(o.GetRequested().GetBy()), say(took(o)), say(o.GetRequestId()), say(operationNote(o)),
		}, shown))
	}
	if len(t.Rows) == 0 {
		return []string{"no operations" + f.words()}
	}
	return p.table(t)
}

// operationNote is where it is while it runs, and what it waits for or why it failed; else why it was asked for.
func operationNote(o *pb.Operation) string {
	note := o.GetError()
	if o.GetOutcome() == pb.OperationOutcome_OPERATION_OUTCOME_RUNNING && o.GetPhase() != "" {
		note = withReason(o.GetPhase(), note)
	}
	if note == "" {
		note = o.GetRequested().GetWhy()
	}
	return note
}

// took is how long an operation took, by the clocks of the servers that wrote it.
func took(o *pb.Operation) string {
	if o.GetFinished() == nil || o.GetRequested().GetAt() == nil {
		return ""
	}
	return tenths(max(o.GetFinished().AsTime().Sub(o.GetRequested().GetAt().AsTime()), 0))
}

func progressText(p *pb.Progress) string {
	switch {
	case p.GetItemsTotal() > 0:
		return fmt.Sprintf("%d/%d", p.GetItemsDone(), p.GetItemsTotal())
	case p.GetBytesTotal() > 0:
		return fmt.Sprintf("%d%%", 100*p.GetBytesDone()/p.GetBytesTotal())
	}
	return ""
}
