package plan

import (
	"maps"
	"time"

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

// StorageSettle is how long a server must have been without its path to the shared storage, and another have had it,
// before VMs are moved from the one to the other. Agents look every two seconds, so by then every server that lost or
// regained it at the same moment has said so.
const StorageSettle = 5 * time.Second

// StorageSight is what a member says of its path to the shared storage, and since when this leader has seen it say so.
type StorageSight struct {
	Lost  bool
	Since pool.Instant
}

// LookAtStorage returns what every member says of its path to the shared storage. seen is the result of the call before;
// it is not changed.
func LookAtStorage(seen map[pool.ServerID]StorageSight, s *pool.Snapshot, now pool.Instant) map[pool.ServerID]StorageSight {
	next := make(map[pool.ServerID]StorageSight, len(seen))
	for id, m := range s.Members.All() {
		next[id] = StorageSight{m.StorageLost, now}
		if old, ok := seen[id]; ok && old.Lost == m.StorageLost {
			next[id] = old
		}
	}
	return next
}

// Patience is how long a server that is up may take to say anything about a VM that it was told to start, before
// another is tried. Starting takes seconds; libvirt alone may need five for its first QEMU after a boot. Where all
// servers are slow, as on a storage that is, each further try is given twice the time of the one before, to MostPatience:
// the VM would be taken from one slow start to the next for ever.
const (
	Patience     = 30 * time.Second
	MostPatience = 16 * Patience
)

// StartSight is a VM that a server was told to start, and has not reported on.
type StartSight struct {
	Since pool.Instant
	// Revision of the claim.
	Revision pool.Revision
	// Patience is how long the server is given from Since.
	Patience time.Duration
}

// LookAtStarts returns since when this leader has seen each VM assigned to a server that is up and has not reported
// on it yet: not a word about this epoch. seen is the result of the call before; it is not changed.
func LookAtStarts(seen map[pool.VMID]StartSight, s *pool.Snapshot, now pool.Instant) map[pool.VMID]StartSight {
	var next map[pool.VMID]StartSight
	for vm, c := range pool.Join(s.VMs, s.Claims) {
		if vm == nil || c == nil || c.Phase != pool.PhaseAssigned || !s.Alive(c.Server, c.Session) {
			continue
		}
		if st, ok := s.States.Get(vm.ID); ok && st.Server == c.Server && st.Epoch == c.Epoch {
			continue
		}
		if next == nil {
			next = map[pool.VMID]StartSight{}
		}
		sight := StartSight{Since: now, Revision: c.Revision, Patience: Patience}
		if old, ok := seen[vm.ID]; ok && old.Revision == c.Revision {
			sight = old
		} else if ok {
			sight.Patience = min(2*old.Patience, MostPatience)
		}
		next[vm.ID] = sight
	}
	return next
}
