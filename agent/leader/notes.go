package leader

import (
	"fmt"

	"github.com/holdfast-ha/holdfast/pkg/plan"
	"github.com/holdfast-ha/holdfast/pkg/pool"
)

// note is the kind of action that only adds a line of history.
const note plan.Kind = "note"

// mostNotes bounds the lines that wait while etcd is away.
const mostNotes = 100

// remember has a line of history written with the next actions.
func (l *Leader) remember(kind string, server pool.ServerID, office pool.Leader, format string, args ...any) {
	e := pool.Event{At: l.cfg.Clock.Wall(), Kind: kind, Server: server, Actor: "leader " + string(office.Server),
		Text: fmt.Sprintf(format, args...), LeaderRevision: office.Revision}
	l.mu.Lock()
	if len(l.notes) < mostNotes {
		l.notes = append(l.notes, e)
	}
	l.mu.Unlock()
	l.wake.Set()
}

// tell adds the lines of history that wait, after everything that is more urgent. They are written once at most.
func (l *Leader) tell(actions []plan.Action) []plan.Action {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i, e := range l.notes {
		if e.LeaderRevision != l.office.Revision {
			continue
		}
		actions = append(actions, plan.Action{Kind: note, Key: fmt.Sprintf("note:%d", i), Server: e.Server, Why: e.Text,
			Change: pool.Change{Events: []pool.Event{e}}})
	}
	l.notes = nil
	return actions
}
