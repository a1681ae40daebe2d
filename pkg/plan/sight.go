package plan

import (
	"maps"

	"github.com/holdfast-ha/holdfast/pkg/pool"
)

// Look returns the sightings after a snapshot: of every server that is registered or named by a claim and has no
// member key. A sighting that continues keeps its time. One that an unseen session interrupted starts anew: a claim
// shows a session that began after it. now is the leader's CLOCK_BOOTTIME, read after the snapshot was taken. seen is
// not changed; it is returned as it is if nothing changed.
func Look(seen map[pool.ServerID]Sight, s *pool.Snapshot, now pool.Instant) map[pool.ServerID]Sight {
	next := map[pool.ServerID]Sight{}
	up := map[pool.ServerID]bool{"": true}
	look := func(id pool.ServerID) {
		if _, known := next[id]; known || up[id] {
			return
		}
		if up[id] = s.Members.Has(id); up[id] {
			return
		}
		if old, ok := seen[id]; ok {
			next[id] = old
			return
		}
		next[id] = Sight{Since: now, Revision: s.Revision}
	}
	for id := range s.Servers.All() {
		look(id)
	}
	for _, c := range s.Claims.All() {
		look(c.Server)
		if got, ok := next[c.Server]; ok && pool.Revision(c.Session) > got.Revision {
			next[c.Server] = Sight{Since: now, Revision: s.Revision}
		}
	}
	if maps.Equal(seen, next) {
		return seen
	}
	return next
}
