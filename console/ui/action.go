package ui

import (
	"fmt"
	"strings"

	"google.golang.org/protobuf/proto"

	"github.com/holdfast-ha/holdfast/console/feed"
	pb "github.com/holdfast-ha/holdfast/proto/holdfast/v1"
)

// weight is how much a confirmation demands, by what is at stake (docs/console.md, "Confirmations").
type weight int

const (
	// light: a dialog whose focus is on Cancel.
	light weight = iota
	// reasoned: a reason must be given.
	reasoned
	// named: the name must be typed.
	named
)

// inputs are what an operator typed into a dialog.
type inputs struct {
	why, typed string
	// revision of the plan that was previewed; 0: none.
	plan int64
	// option of the dialog: restart VMs that cannot move, let VMs leave first.
	option bool
	// to is a chosen target.
	to string
}

// action is one thing that an operator can have done.
type action struct {
	// name is how the command line writes it, and title how a dialog does.
	name, title string
	// key opens it, if one does; kind is what it is done to, nil for the pool.
	key  string
	kind *kind
	// refuse says why it is of no use for a thing now; empty: it may be asked for.
	refuse func(m *Model, id string) string
	weigh  func(m *Model, ids []string) weight
	// request makes the call for one thing. It depends on nothing but its arguments.
	request func(m *Model, id string, in inputs, requestID string) proto.Message
	// holds reports whether the wished state is there, for requests that make no operation.
	holds func(v *feed.View, id string) bool
	// about says what it does and what it costs.
	about func(m *Model, ids []string) lines
	// command is the line of the command line that does the same.
	command func(ids []string, in inputs) string
	// second is the kind of a further argument in the command line, such as the target of a migration; targets takes
	// the arguments of the palette where they are not just names of kind.
	second  *kind
	targets func(m *Model, args []string) string
	// plan asks the pool's planner what it would mean, for the preview; nil: nothing needs planning.
	plan func(ids []string) planning
}

func always(w weight) func(*Model, []string) weight {
	return func(*Model, []string) weight { return w }
}

// commandLine is the usual form: NAME THING...
func (a *action) commandLine(ids []string, in inputs) string {
	if a.command != nil {
		return a.command(ids, in)
	}
	s := "holdfast " + strings.TrimSpace(a.name+" "+strings.Join(ids, " "))
	if in.why != "" {
		s += fmt.Sprintf(" --why %q", in.why)
	}
	return s
}

// why says why an action cannot be asked for now for a thing: the gate first, then the thing's own state.
func (m *Model) whyNot(a *action, id string) string {
	method := feed.Method(a.request(m, id, inputs{}, ""))
	if method == "" {
		return "this version cannot do it"
	}
	if why := m.gate(method); why != "" {
		return why
	}
	if p := m.pendingFor(id); p != nil {
		return p.sentence()
	}
	if a.refuse != nil {
		return a.refuse(m, id)
	}
	return ""
}

// begin opens an action's preview. Nothing has been asked for then.
func (m *Model) begin(a *action, ids []string) {
	if len(ids) == 0 {
		m.say(bad, "nothing is chosen")
		return
	}
	able := 0
	first := ""
	for _, id := range ids {
		why := m.whyNot(a, id)
		if why == "" {
			able++
		} else if first == "" {
			first = why
		}
	}
	if able == 0 {
		m.open(newRefusal(a.title+" "+someOf(ids, 3), first, m.wayOut(a, ids[0])))
		return
	}
	m.open(newConfirm(m, a, ids))
}

// wayOut is the next step for an action that is of no use now.
func (m *Model) wayOut(a *action, id string) string {
	if a.kind == vmKind {
		if v := m.shown().VM(id); v.GetStatus() == pb.VMStatus_VM_STATUS_FAILED && a.name != "clear" {
			return "clear it first: A, clear"
		}
	}
	return ""
}

// someOf names at most n things.
func someOf(ids []string, n int) string {
	if len(ids) <= n {
		return strings.Join(ids, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(ids[:n], ", "), len(ids)-n)
}

// actionsFor are the actions for a kind of thing, nil for the pool.
func actionsFor(k *kind) []*action {
	var out []*action
	for _, a := range allActions {
		if a.kind == k {
			out = append(out, a)
		}
	}
	return out
}
