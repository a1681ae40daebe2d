package ui

import (
	"time"

	"github.com/holdfast-ha/holdfast/console/feed"
	pb "github.com/holdfast-ha/holdfast/proto/holdfast/v1"
)

// Reduce takes one message. What it wants done is in Take afterwards.
func (m *Model) Reduce(msg any) {
	switch msg := msg.(type) {
	case Size:
		m.w, m.h = msg.Width, msg.Height
	case Tick:
		m.pass(msg.At)
		if msg.Session == m.sessionNo {
			m.link = msg.Link
		}
		m.housekeeping()
	case News:
		m.pass(msg.At)
		if msg.Session == m.sessionNo {
			m.news(msg.Update)
		}
	case Reply:
		m.pass(msg.At)
		if msg.Session == m.sessionNo {
			m.replied(msg)
		}
	case Answer:
		m.pass(msg.At)
		if msg.Session == m.sessionNo {
			m.answered(msg)
		}
	case Opened:
		m.opened(msg)
	case Key:
		m.pass(msg.At)
		m.key(msg)
	}
	m.refresh()
}

// pass moves the time on; it never runs backwards.
func (m *Model) pass(at time.Time) {
	if at.After(m.now) {
		m.now = at
	}
}

// refresh brings everything derived up to date.
func (m *Model) refresh() {
	v := m.shown()
	if v.Pool == nil {
		return
	}
	m.reindex(v)
	rest := m.now.Sub(m.lastKey) < 3*time.Second || m.now.Sub(m.lastSort) < time.Second
	if m.class() == classL && m.screen == servers {
		m.lists[vms].follow(m.lists[servers].cursor)
	} else {
		m.lists[vms].follow("")
	}
	for _, s := range screens {
		if m.visible(s) && m.lists[s].refresh(m, v, rest) {
			m.lastSort = m.now
		}
	}
	for _, d := range m.dialogs {
		if r, ok := d.(refresher); ok {
			r.refresh(m)
		}
	}
}

// visible reports whether a list is on the screen now. The others are brought up to date when they are.
func (m *Model) visible(s screen) bool {
	if s == m.screen {
		return true
	}
	switch m.class() {
	case classL:
		return m.screen == servers || m.screen == vms || s == events || s == operations || s == capacity
	default:
		return s == events && m.screen == overview
	}
}

// follow limits a list of VMs to one server; empty: to none.
func (l *list) follow(server string) {
	if l.of != server {
		l.of, l.dirty = server, true
	}
}

// news takes an update of the feed.
func (m *Model) news(u feed.Update) {
	m.link = u.Link
	if u.View == nil || u.View == m.view {
		m.measured(u.Figures)
		return
	}
	before := m.view
	m.view = u.View
	m.measured(u.Figures)
	if old, now := before.Leader(), u.View.Leader(); before != nil && now != "" && old != now {
		if old == "" {
			old = m.leaderWas
		}
		if old != now {
			m.leaderWas, m.leaderSince = old, m.now
		}
	} else if before != nil && now == "" && old != "" {
		m.leaderWas = old
	}
	if m.seenUntil == nil {
		m.seenUntil = u.View
	}
	if u.Back != nil {
		m.say(accent, "%s (5)", u.Back.Sentence())
	}
	m.scenes(before)
	m.resolve()
	m.housekeeping()
}

// housekeeping asks for what the present state needs.
func (m *Model) housekeeping() {
	if m.view == nil || !m.link.Changeable(m.now) {
		return
	}
	if m.me == nil && !m.asking("whoami") {
		m.ask("whoami", &pb.WhoAmIRequest{})
	}
	if k := &m.capacity; !k.asked && (k.revision != m.view.Revision || k.value == nil) && m.now.Sub(k.at) >= capacityEvery {
		k.asked, k.at = true, m.now
		k.revision = m.view.Revision
		m.do(Ask{Topic: "capacity", Request: &pb.GetCapacityRequest{}})
	}
	m.askIncidents()
	m.resolve()
}

// capacityEvery bounds how often the pool is asked for its room while things change.
const capacityEvery = 2 * time.Second

// opened takes the outcome of a switch to another pool.
func (m *Model) opened(o Opened) {
	if o.Err != nil {
		m.say(bad, "%v", o.Err)
		return
	}
	old := m.session
	no := m.sessionNo + 1
	fresh := New(Options{Ports: m.ports, Look: m.look, Session: o.Session, Pool: o.Pool, Width: m.w, Height: m.h, Start: m.now})
	fresh.sessionNo = no
	*m = *fresh
	m.do(closeSession{old})
	m.say(accent, "now on %s", m.poolName())
}

// closeSession ends a session that is not shown any more.
type closeSession struct{ session Session }

func (closeSession) effect() {}
