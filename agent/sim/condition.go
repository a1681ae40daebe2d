package sim

import (
	"fmt"
	"slices"
	"strings"

	"github.com/holdfast-ha/holdfast/agent/sim/scenario"
	"github.com/holdfast-ha/holdfast/pkg/pool"
)

// verdict is one term's truth, with what was seen.
type verdict struct {
	ok   bool
	seen string
	// later says what was seen in its place, where that is dear to find out and seldom asked for.
	later func() string
}

// text returns what was seen.
func (v verdict) text() string {
	if v.later != nil {
		return v.later()
	}
	return v.seen
}

// says reports whether what was said contains a text, names as the scenario writes them, letter case ignored.
func (p *Pool) says(said, text string) bool {
	return strings.Contains(strings.ToLower(p.File.AsWritten(said)), strings.ToLower(text))
}

// holds evaluates a condition from left to right.
func (p *Pool) holds(c scenario.Condition) bool {
	ok := false
	for i, t := range c {
		switch {
		case i > 0 && t.Or && ok, i > 0 && !t.Or && !ok:
			continue
		}
		ok = p.term(t).ok != t.Not
	}
	return ok
}

// seen describes what the terms of a condition looked at, each thing once.
func (p *Pool) seen(c scenario.Condition) string {
	var out []string
	for _, t := range c {
		if s := p.term(t).text(); !slices.Contains(out, s) {
			out = append(out, s)
		}
	}
	return strings.Join(out, "; ")
}

// term evaluates one simple condition, `not` apart.
func (p *Pool) term(t scenario.Term) verdict {
	switch {
	case t.Test >= scenario.VMRunning && t.Test <= scenario.VMReason:
		return p.vmTerm(t)
	case t.Test >= scenario.ServerUp && t.Test <= scenario.ServerVMs:
		return p.serverTerm(t)
	case t.Test >= scenario.LeaderIs && t.Test <= scenario.LeaderNone:
		return p.leaderTerm(t)
	case t.Test == scenario.AlertOpen || t.Test == scenario.NoAlerts:
		return p.alertTerm(t)
	}
	return p.answerTerm(t)
}

func (p *Pool) vmTerm(t scenario.Term) verdict {
	id := pool.VMID(t.Subject)
	im := p.World.Image(id)
	if im == nil {
		return verdict{ok: false, seen: t.Subject + " does not exist yet"}
	}
	at := im.Executing()
	if s := im.Standing(); s != "" {
		at = append(at, s) // it runs, as far as anybody can tell
	}
	where := func() string { return p.whereabouts(id) }
	switch t.Test {
	case scenario.VMRunning:
		ok := len(at) > 0 && (len(t.On) == 0 || slices.ContainsFunc(at, func(s string) bool { return slices.Contains(t.On, s) }))
		return verdict{ok: ok, later: where}
	case scenario.VMPaused:
		paused := len(at) == 0
		if paused {
			paused = false
			for _, q := range im.Copies() {
				paused = paused || q.Paused()
			}
		}
		return verdict{ok: paused, later: where}
	case scenario.VMStarts:
		return verdict{ok: im.Starts == t.Count, seen: fmt.Sprintf("%s starts = %d", id, im.Starts)}
	case scenario.VMMigrations:
		return verdict{ok: im.Migrations == t.Count, seen: fmt.Sprintf("%s migrations = %d", id, im.Migrations)}
	}
	r := p.reporter()
	if r == nil {
		return verdict{ok: false, seen: "no agent answers"}
	}
	status, reason := r.view.VM(id)
	if t.Test == scenario.VMReason {
		ok := p.says(reason, t.Text)
		return verdict{ok: ok, seen: fmt.Sprintf("%s is reported %s, reason %q", id, status, reason)}
	}
	return verdict{ok: status.String() == t.Test.Word(), later: where}
}

// whereabouts tells where a VM executes and what agents report of it.
func (p *Pool) whereabouts(id pool.VMID) string {
	im := p.World.Image(id)
	text := fmt.Sprintf("%s executes nowhere", id)
	if at := im.Executing(); len(at) > 0 {
		text = fmt.Sprintf("%s executes on %s", id, strings.Join(at, " and "))
	}
	r := p.reporter()
	if r == nil {
		return text + ", and no agent answers"
	}
	status, reason := r.view.VM(id)
	text += fmt.Sprintf(", reported %s", status)
	if reason != "" {
		text += fmt.Sprintf(" (%s)", reason)
	}
	return text
}

func (p *Pool) serverTerm(t scenario.Term) verdict {
	s := p.World.Server(t.Subject)
	switch t.Test {
	case scenario.ServerOff:
		word := "has power"
		if !s.Powered() {
			word = "has no power"
		}
		return verdict{ok: !s.Powered(), seen: t.Subject + " " + word}
	case scenario.ServerReset:
		return verdict{ok: s.Resets() > 0, seen: fmt.Sprintf("%s was reset %d times", t.Subject, s.Resets())}
	case scenario.ServerVMs:
		n := s.Executing()
		return verdict{ok: n == t.Count, seen: fmt.Sprintf("%s vms = %d", t.Subject, n)}
	}
	r := p.reporter()
	if r == nil {
		return verdict{ok: false, seen: "no agent answers"}
	}
	states := r.serverStates(t.Subject)
	_, reason := r.view.Server(pool.ServerID(t.Subject))
	seen := fmt.Sprintf("%s is reported %s", t.Subject, strings.Join(states, ", "))
	if len(states) == 0 {
		seen = t.Subject + " is not in the pool"
	}
	if reason != "" {
		seen += " (" + reason + ")"
	}
	return verdict{ok: slices.Contains(states, t.Test.Word()), seen: seen}
}

func (p *Pool) leaderTerm(t scenario.Term) verdict {
	l := string(p.truth.snapshot().Leader.Server)
	seen := "nobody leads"
	if l != "" {
		seen = l + " leads"
	}
	ok := false
	switch t.Test {
	case scenario.LeaderIs:
		ok = l == t.Subject
	case scenario.LeaderIsNot:
		ok = l != "" && l != t.Subject
	case scenario.LeaderAny:
		ok = l != ""
	case scenario.LeaderNone:
		ok = l == ""
	}
	return verdict{ok: ok, seen: seen}
}

func (p *Pool) alertTerm(t scenario.Term) verdict {
	r := p.reporter()
	if r == nil {
		return verdict{ok: false, seen: "no agent answers"}
	}
	var open []string
	found := false
	for _, a := range r.snap.Alerts.All() {
		open = append(open, a.Text)
		named := strings.Join([]string{a.Text, string(a.Server), string(a.VM)}, " ")
		found = found || p.says(named, t.Text)
	}
	seen := "no alerts"
	if len(open) > 0 {
		seen = "alerts: " + strings.Join(open, " | ")
	}
	if t.Test == scenario.NoAlerts {
		return verdict{ok: len(open) == 0, seen: seen}
	}
	return verdict{ok: found, seen: seen}
}

func (p *Pool) answerTerm(t scenario.Term) verdict {
	if !p.answered.Given {
		return verdict{ok: false, seen: "no operator command was given yet"}
	}
	switch t.Test {
	case scenario.AnswerRefused, scenario.AnswerAccepted:
		why, refused := p.refusal()
		if !refused {
			return verdict{ok: t.Test == scenario.AnswerAccepted, seen: "the command was accepted"}
		}
		ok := t.Test == scenario.AnswerRefused && p.says(why, t.Text)
		return verdict{ok: ok, seen: fmt.Sprintf("the command was refused: %s", why)}
	}
	switch {
	case p.answered.Err != nil && t.Test == scenario.OperationFailed: // whoever asks cannot tell where it was refused
		why, _ := p.refusal()
		return verdict{ok: p.says(why, t.Text), seen: fmt.Sprintf("the command was refused: %s", why)}
	case p.answered.Err != nil:
		return verdict{ok: false, seen: fmt.Sprintf("the command was refused: %v", p.answered.Err)}
	case p.answered.latest == "":
		done := p.answered.ended == nil || p.answered.ended()
		return verdict{ok: done && t.Test == scenario.OperationDone,
			seen: fmt.Sprintf("the command made no operation; it has ended: %v", done)}
	}
	r := p.reporter()
	if r == nil {
		return verdict{ok: false, seen: "no agent answers"}
	}
	op, ok := r.snap.Operations.Get(p.answered.latest)
	if !ok {
		return verdict{ok: false, seen: "the operation is not known"}
	}
	seen := fmt.Sprintf("the operation (%s %s%s) is %s, %s", op.Kind, op.VM, op.Server, op.Outcome, op.Phase)
	if op.Error != "" {
		seen += ": " + op.Error
	}
	switch t.Test {
	case scenario.OperationDone:
		return verdict{ok: op.Outcome == pool.OutcomeDone, seen: seen}
	default:
		ok = op.Outcome == pool.OutcomeFailed || op.Outcome == pool.OutcomeCancelled
		return verdict{ok: ok && p.says(op.Error, t.Text), seen: seen}
	}
}
