package ui

import (
	"fmt"
	"strings"

	"google.golang.org/protobuf/proto"

	pb "github.com/holdfast-ha/holdfast/proto/holdfast/v1"
)

func moveActions() []*action {
	move := func(name, heading string, w weight, refuse func(*pb.VMView) string, request func(id string, in inputs, rid string) proto.Message) *action {
		a := &action{
			name: name, title: heading, kind: vmKind, second: serverKind, weigh: always(w),
			refuse: func(m *Model, id string) string { return refuse(m.shown().VM(id)) },
			request: func(_ *Model, id string, in inputs, rid string) proto.Message {
				return request(id, in, rid)
			},
			about: func(m *Model, ids []string) lines {
				return m.sentences("Every server is listed, also those that cannot take it, with all that is in the way.")
			},
			plan: func(ids []string) planning { return &migration{ids: ids} },
			command: func(ids []string, in inputs) string {
				return commandWhy("holdfast "+name+" "+strings.Join(append(ids, in.to), " "), in)
			},
		}
		a.targets = func(m *Model, args []string) string { return m.migrateCommand(a, args) }
		return a
	}
	migrate := move("migrate", "Migrate", light, func(v *pb.VMView) string {
		if s := v.GetStatus(); s != isRunning && s != pb.VMStatus_VM_STATUS_PAUSED {
			return "it is " + word(s) + ": only what runs can move live"
		}
		return ""
	}, func(id string, in inputs, rid string) proto.Message {
		return &pb.MigrateVMRequest{Vm: id, Server: in.to, RequestId: rid, PlanRevision: in.plan, Why: in.why}
	})
	migrate.key = "m"
	relocate := move("relocate", "Relocate", reasoned, func(v *pb.VMView) string {
		if s := v.GetStatus(); s != isRunning {
			return "it is " + word(s) + ": start it where it should run"
		}
		return ""
	}, func(id string, in inputs, rid string) proto.Message {
		return &pb.RelocateVMRequest{Vm: id, Server: in.to, RequestId: rid, Why: in.why}
	})
	return []*action{migrate, relocate}
}

// migrateCommand is `migrate VM [SERVER]` of the palette.
func (m *Model) migrateCommand(a *action, args []string) string {
	v := m.shown()
	to := ""
	if n := len(args); n > 1 && v.Server(args[n-1]) != nil {
		to, args = args[n-1], args[:n-1]
	}
	for _, id := range args {
		if v.VM(id) == nil {
			return "no VM " + id
		}
	}
	m.begin(a, args)
	if c, ok := m.top().(*confirm); ok {
		if p, ok := c.plan.(*migration); ok {
			p.wish = to
		}
	}
	return ""
}

// migration is the pool's word on where VMs could go.
type migration struct {
	ids   []string
	reply *pb.PlanMigrationResponse
	// wish is the target that was named or chosen; empty: the recommended one.
	wish string
}

func (p *migration) request(bool) proto.Message { return &pb.PlanMigrationRequest{Vms: p.ids} }

func (p *migration) take(reply proto.Message) bool {
	r, ok := reply.(*pb.PlanMigrationResponse)
	if ok {
		p.reply = r
	}
	return ok
}

func (p *migration) weigh() weight  { return light }
func (p *migration) choice() string { return "" }

func (p *migration) of(id string) *pb.PlannedMigration {
	for _, v := range p.reply.GetVms() {
		if v.GetVm() == id {
			return v
		}
	}
	return nil
}

// target is where a VM would go: where it was told to if that can be, else where the pool would put it.
func (p *migration) target(id string) *pb.MoveCandidate {
	var best *pb.MoveCandidate
	for _, c := range p.of(id).GetCandidates() {
		if c.GetServer() == p.wish {
			return c
		}
		if c.GetOk() && (best == nil || c.GetRecommended()) {
			best = c
		}
	}
	return best
}

func (p *migration) excludes(id string) string {
	v := p.of(id)
	if v.GetRefusal() != "" {
		return v.GetRefusal()
	}
	c := p.target(id)
	switch {
	case c == nil:
		return "no server can take it"
	case !c.GetOk():
		return c.GetServer() + ": " + reasonsText(c.GetReasons(), 1)
	}
	return ""
}

func (p *migration) choose(id string) (string, int64) {
	return p.target(id).GetServer(), p.reply.GetRevision()
}

func reasonsText(all []*pb.ServerReason, most int) string {
	var out []string
	for i, r := range all {
		if i == most {
			out = append(out, fmt.Sprintf("(+%d more, e)", len(all)-i))
			break
		}
		out = append(out, r.GetText())
	}
	return strings.Join(out, "; ")
}

func (p *migration) lines(m *Model) lines {
	var l lines
	if len(p.ids) > 1 {
		return p.batch(m)
	}
	id := p.ids[0]
	v := m.shown().VM(id)
	l.add(plain, fmt.Sprintf("%s: %s, %s, now on %s", id, size(v.GetVm().GetMemoryBytes()), plural(int(v.GetVm().GetCpus()), "CPU"), dash(p.of(id).GetSource())))
	if r := p.of(id).GetRefusal(); r != "" {
		l.toned("cannot move", r, bad)
	}
	l.gap()
	l.add(dim, "  "+pad("TARGET", 12)+pad("FREE MEM AFTER", 15)+pad("LOAD", 6)+pad("N+1 AFTER", 16)+"VERDICT")
	chosen := p.target(id).GetServer()
	for _, c := range p.of(id).GetCandidates() {
		mark := "  "
		if c.GetServer() == chosen {
			mark = m.glyphs.cursor + " "
		}
		free, t, verdict := "-", bad, "no: "+reasonsText(c.GetReasons(), 1)
		if c.GetOk() {
			free, t, verdict = size(c.GetMemoryFreeAfter()), good, "ok"
			if c.GetRecommended() {
				verdict = "ok, recommended"
			}
		}
		l.row(piece{accent, mark}, piece{plain, pad(c.GetServer(), 12)}, piece{plain, pad(free, 15)}, piece{bar, pad(m.loadOf(c.GetServer()), 6)}, piece{plain, pad(verdictWord(c.GetN1After()), 16)}, piece{t, verdict})
	}
	l.gap()
	l.add(plain, fmt.Sprintf("Moves 1 VM. N+1: %s -> %s. j k choose the target, e all reasons.", verdictWord(p.reply.GetN1Before()), verdictWord(p.target(id).GetN1After())))
	return l
}

// loadOf is how busy a server's CPUs are now.
func (m *Model) loadOf(server string) string {
	x := m.load.servers[server]
	if x == nil || x.cpu == none || !m.fresh(x.gauged) {
		return "?"
	}
	return fmt.Sprintf("%d%%", x.cpu)
}

// verdictWord is a verdict's code as people read it: AT_RISK is "AT RISK".
func verdictWord(s string) string { return dash(strings.ReplaceAll(s, "_", " ")) }

// batch is one line for each VM with its target, what cannot move last.
func (p *migration) batch(m *Model) lines {
	var l, refused lines
	n := 0
	for _, id := range p.ids {
		if why := p.excludes(id); why != "" {
			refused.row(piece{plain, "x " + pad(id, 18)}, piece{bad, why})
			continue
		}
		n++
		c := p.target(id)
		l.row(piece{plain, "  " + pad(id, 18)}, piece{plain, pad(size(m.shown().VM(id).GetVm().GetMemoryBytes()), 8)}, piece{dim, pad(p.of(id).GetSource()+" ->", 14)}, piece{good, c.GetServer()})
	}
	out := lines{[]piece{{plain, fmt.Sprintf("Moves %s, one after the other as the pool allows; %d cannot move.", plural(n, "VM"), len(refused))}}, nil}
	return append(append(out, l...), refused...)
}

func (p *migration) key(m *Model, k Key) bool {
	if p.reply == nil || len(p.ids) > 1 {
		return false
	}
	all := p.of(p.ids[0]).GetCandidates()
	i := 0
	for n, c := range all {
		if c.GetServer() == p.target(p.ids[0]).GetServer() {
			i = n
		}
	}
	switch k.Name {
	case "j":
		i++
	case "k":
		i--
	case "e":
		if i < len(all) {
			m.open(reasonsPage(p.ids[0], all[i]))
		}
		return true
	default:
		return false
	}
	if len(all) > 0 {
		p.wish = all[min(max(i, 0), len(all)-1)].GetServer()
	}
	return true
}

func reasonsPage(vm string, c *pb.MoveCandidate) dialog {
	return &pager{title: vm + " on " + c.GetServer(), w: 80, make: func(*Model) lines {
		var l lines
		if c.GetOk() {
			l.add(good, "It can go there.")
		}
		for _, r := range c.GetReasons() {
			l.toned(r.GetCode(), r.GetText(), bad)
		}
		return l
	}}
}

// places remembers what the pool said about where a VM could go.
type places struct {
	reply *pb.PlanMigrationResponse
	err   error
}

// askPlaces asks where a VM could go; details and explanations show the answer.
func (m *Model) askPlaces(id string) {
	if s := m.shown().VM(id).GetStatus(); s == isRunning || s == pb.VMStatus_VM_STATUS_WAITING || s == pb.VMStatus_VM_STATUS_PAUSED {
		m.ask("places "+id, &pb.PlanMigrationRequest{Vms: []string{id}})
	}
}

// placesOf says where a VM could go and why not elsewhere, once the pool has said so.
func (m *Model) placesOf(id string) lines {
	p, ok := m.places[id]
	if !ok {
		return nil
	}
	l := lines{nil, []piece{{title, "WHERE IT COULD GO"}}}
	if p.err != nil {
		reason, _ := explainError(p.err)
		l.add(dim, reason)
		return l
	}
	for _, v := range p.reply.GetVms() {
		if v.GetRefusal() != "" {
			l.toned("nowhere", v.GetRefusal(), bad)
		}
		for _, c := range v.GetCandidates() {
			if c.GetOk() {
				l.toned(c.GetServer(), "yes, "+size(c.GetMemoryFreeAfter())+" would be left"+map[bool]string{true: "; the pool's choice"}[c.GetRecommended()], good)
				continue
			}
			for _, r := range c.GetReasons() {
				l.toned(c.GetServer(), "no: "+r.GetText(), bad)
			}
		}
	}
	return l
}

// learnPlaces takes the answer to askPlaces.
func (m *Model) learnPlaces(a Answer) {
	id := strings.TrimPrefix(a.Topic, "places ")
	r, _ := a.Message.(*pb.PlanMigrationResponse)
	if m.places == nil {
		m.places = map[string]places{}
	}
	m.places[id] = places{reply: r, err: a.Err}
}

// cancelAction ends an operation early. What it has done already stays done.
func cancelAction() *action {
	return &action{
		name: "operation cancel", title: "Cancel operation", key: "X", kind: operationKind, weigh: always(light),
		refuse: func(m *Model, id string) string {
			if o := m.operation(m.shown(), id); o.GetOutcome() != pb.OperationOutcome_OPERATION_OUTCOME_RUNNING {
				return "it has ended: " + word(o.GetOutcome())
			}
			return ""
		},
		request: func(_ *Model, id string, in inputs, _ string) proto.Message {
			return &pb.CancelOperationRequest{Operation: id, Why: in.why}
		},
		holds: func(v *viewOf, id string) bool { return v.Operation(id).GetCancel() },
		about: func(m *Model, ids []string) lines {
			var l lines
			o := m.operation(m.shown(), ids[0])
			l.head(strings.TrimSpace(word(o.GetKind()) + " " + subject(o)))
			l.fact("so far", joinParts(progressText(o.GetProgress()), o.GetPhase()))
			l.add(plain, "What has not begun is not begun. What is done stays done: VMs that have moved stay where they are.")
			return l
		},
	}
}
