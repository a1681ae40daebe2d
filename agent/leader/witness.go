package leader

import (
	"time"

	"github.com/holdfast-ha/holdfast/pkg/plan"
	"github.com/holdfast-ha/holdfast/pkg/pool"
)

// witness knows which sessions this agent has seen live since it started. After a power loss of the whole site, etcd
// shows dead servers' member keys for one lease more; a session that began before the agent watched counts only once
// it has outlived that.
type witness struct {
	// first is the revision of the first snapshot.
	first pool.Revision
	// since is when each session was first seen, known those that count.
	since map[pool.Session]pool.Instant
	known map[pool.Session]bool
	// foreign are the strangers' writes of the latest snapshots, and when each was first seen.
	foreign map[string]foreignSight
}

type foreignSight struct {
	revision pool.Revision
	at       pool.Instant
}

// strange returns the strangers' writes in s that were first seen lately, by key.
func (w *witness) strange(s *pool.Snapshot, now pool.Instant) []pool.Foreign {
	var out []pool.Foreign
	for key, f := range s.Foreign.All() {
		if now.Sub(w.foreign[key].at) < plan.ForeignNews {
			out = append(out, f)
		}
	}
	return out
}

// lookForeign takes note of strangers' writes.
func (w *witness) lookForeign(s *pool.Snapshot, now pool.Instant) {
	if s.Foreign.Len() == 0 {
		return
	}
	if w.foreign == nil {
		w.foreign = map[string]foreignSight{}
	}
	for key, f := range s.Foreign.All() {
		if w.foreign[key].revision != f.Revision {
			w.foreign[key] = foreignSight{f.Revision, now}
		}
	}
}

// manySessions is when sessions that no claim names any more are forgotten.
const manySessions = 10000

// look takes note of a snapshot.
func (w *witness) look(s *pool.Snapshot, now pool.Instant) {
	if s.Revision == 0 {
		return
	}
	w.lookForeign(s, now)
	if w.first == 0 || len(w.since) > manySessions {
		first := max(w.first, 1)
		if w.first == 0 {
			first = s.Revision
		}
		w.first, w.since, w.known = first, map[pool.Session]pool.Instant{}, map[pool.Session]bool{}
	}
	for _, m := range s.Members.All() {
		if w.known[m.Session] {
			continue
		}
		at, seen := w.since[m.Session]
		if !seen {
			at = now
			w.since[m.Session] = now
		}
		if pool.Revision(m.Session) > w.first || now.Sub(at) > s.Config.LeaseTTL+time.Second {
			w.known[m.Session] = true
		}
	}
}
