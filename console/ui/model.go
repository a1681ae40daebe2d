package ui

import (
	"fmt"
	"time"

	"github.com/holdfast-ha/holdfast/console/feed"
	pb "github.com/holdfast-ha/holdfast/proto/holdfast/v1"
)

// screen is one of the tabs.
type screen int

// The tabs, by the number that chooses them.
const (
	overview screen = iota + 1
	servers
	vms
	operations
	events
	incidents
	capacity
)

var screens = []screen{overview, servers, vms, operations, events, incidents, capacity}

// Model is the console's whole state. Create it with New; it belongs to one goroutine.
type Model struct {
	ports  Ports
	look   Look
	seq    [tones][2]string
	glyphs glyphs
	grid   grid
	w, h   int

	now, lastKey, lastSort time.Time

	session   Session
	sessionNo int
	pool      Pool
	view      *feed.View
	link      feed.Link
	still     *feed.View // the display is frozen at this view
	// stillSince is when it was.
	stillSince time.Time
	index      index
	me         *pb.WhoAmIResponse
	capacity   knowledge[*pb.Capacity]
	incidents  knowledge[[]*pb.Incident]
	load       loads

	screen  screen
	lists   map[screen]*list
	zoom    bool
	dialogs []dialog
	prompt  *prompt

	notice      string
	noticeTone  tone
	noticeUntil time.Time

	pending []*pending
	asked   map[string]bool
	places  map[string]places
	// definitions are the XML of the VMs whose details were opened.
	definitions map[string]string
	// what to remember for ten seconds: the leader before.
	leaderWas   string
	leaderSince time.Time
	banner      bannerState
	seenUntil   *feed.View // the view at the last key press, for "since you looked"

	out []Effect
}

// knowledge is an answer of the pool with the revision for which it was asked.
type knowledge[T any] struct {
	value T
	at    time.Time
	asked bool
	// revision of the view when it was asked.
	revision int64
	err      error
}

// Options of a new Model.
type Options struct {
	Ports   Ports
	Look    Look
	Session Session
	Pool    Pool
	// Width and Height until the terminal has told its size.
	Width, Height int
	// Start is the time now.
	Start time.Time
}

// New returns a console on its first screen.
func New(o Options) *Model {
	m := &Model{
		ports: o.Ports, session: o.Session, sessionNo: 1, pool: o.Pool, w: o.Width, h: o.Height, screen: overview,
		now: o.Start, lastKey: o.Start,
		lists: map[screen]*list{
			overview: newList(serverKind), servers: newList(serverKind), vms: newList(vmKind), operations: newList(operationKind),
			events: newList(eventKind), incidents: newList(incidentKind), capacity: newList(capacityKind),
		},
	}
	m.setLook(o.Look)
	return m
}

func newList(k *kind) *list { return &list{kind: k, marks: map[string]bool{}, dirty: true} }

func (m *Model) setLook(l Look) {
	m.look, m.seq, m.glyphs = l, sequences(l), glyphsOf(l)
	m.grid.ascii = l.ASCII
}

// say shows a line above the footer for a few seconds.
func (m *Model) say(t tone, format string, args ...any) {
	m.notice, m.noticeTone, m.noticeUntil = fmt.Sprintf(format, args...), t, m.now.Add(8*time.Second)
}

// do queues an effect.
func (m *Model) do(e Effect) { m.out = append(m.out, e) }

// Take returns the effects since the last call.
func (m *Model) Take() []Effect {
	out := m.out
	m.out = nil
	return out
}

// Farewell is what to say when the console ends: which operations go on without it. Empty if none does.
func (m *Model) Farewell() string {
	n := len(m.shown().Running())
	if n == 0 {
		return ""
	}
	return fmt.Sprintf("%s in %s, which closing the console does not stop: holdfast operations", plural(n, "operation")+map[bool]string{true: " goes on", false: " go on"}[n == 1], m.poolName())
}

// list is the list that keys act on.
func (m *Model) list() *list {
	if l := m.lists[m.screen]; l != nil {
		return l
	}
	return m.lists[overview]
}

// freshness of what is on the screen.
func (m *Model) freshness() feed.Freshness { return m.link.Freshness(m.now) }

// stale reports whether what is shown may not be the present.
func (m *Model) stale() bool {
	f := m.freshness()
	return f == feed.Stale || f == feed.Resync || f == feed.Connecting
}

// dialog on top, or nil.
func (m *Model) top() dialog {
	if n := len(m.dialogs); n > 0 {
		return m.dialogs[n-1]
	}
	return nil
}

func (m *Model) open(d dialog) { m.dialogs = append(m.dialogs, d) }

// close takes the top dialog away.
func (m *Model) close() {
	if n := len(m.dialogs); n > 0 {
		m.dialogs = m.dialogs[:n-1]
	}
}

// size classes of docs/console.md.
type class int

const (
	classLine class = iota // one line is all that fits
	classS
	classM
	classL
)

func (m *Model) class() class {
	switch {
	case m.w < 60 || m.h < 16:
		return classLine
	case m.w >= 200 && m.h >= 45:
		return classL
	case m.w >= 120:
		return classM
	}
	return classS
}
