package ui

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/holdfast-ha/holdfast/console/feed"
)

// gate says why a call may not be made now; empty: it may. Everything that changes something passes it twice: when
// its dialog is opened, and when it is sent. Whether the pool agrees is for the pool to say.
func (m *Model) gate(method string) string {
	switch {
	case m.pool.ReadOnly:
		return "read-only: " + dashIf(m.pool.ReadOnlyWhy, "set for this pool")
	case m.me != nil && !slices.Contains(m.me.GetPermitted(), method):
		return fmt.Sprintf("%s has the role %s, which may not do this", dashIf(m.me.GetName(), "you"), dashIf(m.me.GetRole(), "of nobody"))
	case m.still != nil:
		return "the display is frozen: what is shown is not the present; f lets it go on"
	}
	switch f := m.freshness(); f {
	case feed.Live, feed.Delayed:
		return ""
	case feed.NoLeader:
		return "the pool has no leader at this moment: nothing would carry it out; wait for the election"
	case feed.EtcdLost:
		return "the pool's etcd cannot be reached: nothing can be changed until it is back"
	case feed.Connecting:
		return "not connected yet"
	}
	return "what is shown is not the present: no change until the connection is back (r reconnects)"
}

func dashIf(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}

// send is the only way in which a change leaves the console. It returns why it did not.
func (m *Model) send(a *action, target string, in inputs) string {
	id := m.ports.RequestID()
	req := a.request(m, target, in, id)
	method := feed.Method(req)
	if why := m.gate(method); why != "" {
		return why
	}
	m.pending = append(m.pending, &pending{id: id, act: a, target: target, asked: m.now, state: sent, request: req})
	m.do(Send{ID: id, Request: req})
	return ""
}

// asking reports whether an answer on that topic is awaited.
func (m *Model) asking(topic string) bool { return m.asked[topic] }

// ask asks the pool something that changes nothing.
func (m *Model) ask(topic string, req proto.Message) {
	if m.asked == nil {
		m.asked = map[string]bool{}
	}
	m.asked[topic] = true
	m.do(Ask{Topic: topic, Request: req})
}

// pendingState is how far a request is.
type pendingState int

const (
	// sent: no answer yet.
	sent pendingState = iota
	// accepted: the pool said yes; the stream has not shown it yet.
	accepted
	// unknown: its answer was lost. It is looked for and never repeated.
	unknown
)

// pending is one request that was sent and is not seen in the pool yet.
type pending struct {
	id      string
	act     *action
	target  string
	asked   time.Time
	state   pendingState
	request proto.Message
	// operation is the one that the answer named.
	operation string
	// lost is when its outcome became unknown; back since when the pool is heard again.
	lost, back time.Time
}

// sentence is what is shown beside the target.
func (p *pending) sentence() string {
	if p.state == unknown {
		return "outcome unknown: " + p.act.name + "; looking for it"
	}
	return p.act.name + " requested"
}

// pendingFor is the newest request about a thing.
func (m *Model) pendingFor(id string) *pending {
	for i := len(m.pending) - 1; i >= 0; i-- {
		if m.pending[i].target == id {
			return m.pending[i]
		}
	}
	return nil
}

// requested is the state shown for a thing about which something was asked.
func (m *Model) requested(id string) string {
	p := m.pendingFor(id)
	switch {
	case p == nil:
		return ""
	case p.state == unknown:
		return "unknown?"
	}
	return "requested"
}

// replied takes the pool's answer to a request.
func (m *Model) replied(r Reply) {
	i := slices.IndexFunc(m.pending, func(p *pending) bool { return p.id == r.ID })
	if i < 0 {
		return
	}
	p := m.pending[i]
	what := p.act.title + " " + p.target
	switch {
	case r.Err == nil:
		p.state, p.operation = accepted, operationOf(r.Message)
		m.resolve()
	case feed.OutcomeUnknown(r.Err):
		p.state, p.lost = unknown, m.now
		m.say(bad, "outcome unknown: %s. It is looked for and not sent again", what)
	default:
		m.pending = slices.Delete(m.pending, i, i+1)
		m.dialogs = slices.DeleteFunc(m.dialogs, func(d dialog) bool { return follows(d, p.target) })
		m.refused(what, r.Err)
	}
}

// operationOf finds the operation that an answer names.
func operationOf(reply proto.Message) string {
	if o, ok := reply.(interface{ GetOperation() *operationMessage }); ok {
		return o.GetOperation().GetId()
	}
	return ""
}

// How long an accepted request may stay unseen, and how long one that was lost is looked for in a live pool.
const (
	acceptedShown = 10 * time.Second
	lookFor       = 5 * time.Second
)

// resolve compares what was requested with what the pool shows.
func (m *Model) resolve() {
	if m.view == nil {
		return
	}
	live := m.link.Changeable(m.now)
	m.pending = slices.DeleteFunc(m.pending, func(p *pending) bool {
		op := m.view.ByRequest(p.id)
		if op == nil && p.operation != "" {
			op = m.view.Operation(p.operation)
		}
		there := op != nil || p.act.holds != nil && p.act.holds(m.view, p.target)
		switch {
		case p.state == accepted:
			return there || m.now.Sub(p.asked) > acceptedShown
		case p.state != unknown || !live:
			p.back = time.Time{}
			return false
		case there:
			m.say(accent, "found: %s %s was done although its answer was lost", p.act.name, p.target)
			return true
		}
		if p.back.IsZero() {
			p.back = m.now
		}
		if m.now.Sub(p.back) < lookFor {
			return false
		}
		m.say(bad, "%s %s: no trace of it in the pool, so it was not done. Ask again if you still want it", p.act.name, p.target)
		return true
	})
}

// answered takes the answer to a question.
func (m *Model) answered(a Answer) {
	delete(m.asked, a.Topic)
	switch a.Topic {
	case "whoami":
		m.learnIdentity(a)
		return
	case "capacity":
		m.learnCapacity(a)
		return
	case "incidents":
		m.learnIncidents(a)
		return
	}
	if strings.HasPrefix(a.Topic, "definition ") {
		m.learnDefinition(a)
		return
	}
	if strings.HasPrefix(a.Topic, "places ") {
		m.learnPlaces(a)
		return
	}
	for _, d := range m.dialogs {
		if l, ok := d.(listener); ok && l.topic() == a.Topic {
			l.answer(m, a)
		}
	}
}
