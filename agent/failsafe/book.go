package failsafe

import (
	"fmt"
	"maps"
	"sync"
	"time"

	"github.com/holdfast-ha/holdfast/pkg/pool"
)

// Known is a roster as a server knows it, with what an agent needs that is started while etcd is out of reach.
type Known struct {
	Roster pool.Roster
	// ReadAt is the revision of a snapshot that showed it. Sessions up to it, which are create revisions, may be
	// prolonged by it: whoever was put in force later waited for this server's acknowledgement, or for the end of its
	// VMs.
	ReadAt pool.Revision
	// Incarnation of the pool's data, and its life-time of leases.
	Incarnation string
	TTL         time.Duration
	// Watchdog is the longest time-out of an armed watchdog that was seen in the pool.
	Watchdog time.Duration
	// Addresses of the servers on the roster.
	Addresses map[pool.ServerID]string
}

// Memory keeps one Known for as long as the machine is up. Load's ok is false when nothing was kept.
type Memory interface {
	Load() (known Known, ok bool, err error)
	Save(Known) error
}

// Book knows the roster. Create it with NewBook.
type Book struct {
	self   pool.ServerID
	memory Memory

	mu    sync.Mutex
	known Known
	// obeyed is the newest roster that was known, though it may be gone.
	obeyed pool.Revision

	seen *pool.Snapshot // that was learned last; Learn's own
}

// NewBook returns a book that begins with what an earlier agent on this machine kept. memory may be nil: an agent that
// is started without etcd knows nothing then. An error says why nothing could be read back; the book is usable.
func NewBook(self pool.ServerID, memory Memory) (*Book, error) {
	b := &Book{self: self, memory: memory}
	if memory == nil {
		return b, nil
	}
	known, ok, err := memory.Load()
	if err != nil {
		return b, fmt.Errorf("read kept roster: %w", err)
	}
	if ok {
		b.known, b.obeyed = known, known.Roster.Revision
	}
	return b, nil
}

// Learn takes note of the roster in a snapshot. What changed is on disk before it counts as known: a successor of this
// agent must not know less than what was acknowledged. session is this server's session, 0 without one. It is called
// from one place.
func (b *Book) Learn(s *pool.Snapshot, session pool.Session) error {
	was, _ := b.Known()
	young := session != 0 && pool.Revision(session) > was.ReadAt
	old := s.Revision < was.ReadAt && s.Config.Incarnation == was.Incarnation
	if s.Revision == 0 || old || !young && !b.news(s) {
		return nil
	}
	next := Known{Roster: s.Roster, ReadAt: s.Revision, Incarnation: s.Config.Incarnation, TTL: s.Config.LeaseTTL,
		Watchdog: max(was.Watchdog, slowest(s)), Addresses: map[pool.ServerID]string{}}
	for id := range s.Roster.Standing {
		if srv, ok := s.Servers.Get(id); ok {
			next.Addresses[id] = srv.Address
		}
	}
	if !young && same(was, next) {
		b.seen = s
		return nil
	}
	if b.memory != nil {
		if err := b.memory.Save(next); err != nil {
			return fmt.Errorf("keep roster: %w", err)
		}
	}
	b.mu.Lock()
	if b.known.Incarnation != next.Incarnation {
		b.obeyed = 0 // revisions compare only within one life of the data
	}
	b.known, b.obeyed = next, max(b.obeyed, next.Roster.Revision)
	b.mu.Unlock()
	b.seen = s
	return nil
}

// news reports whether anything may have changed since the snapshot before that a Known tells.
func (b *Book) news(s *pool.Snapshot) bool {
	if b.seen == nil || s.Roster.Revision != b.seen.Roster.Revision || s.Config.Revision != b.seen.Config.Revision {
		return true
	}
	for range s.Members.ChangedSince(b.seen.Members) {
		return true
	}
	for range s.Servers.ChangedSince(b.seen.Servers) {
		return true
	}
	return false
}

// same reports whether two Knowns differ in nothing but when they were read.
func same(a, b Known) bool {
	return a.Roster.Revision == b.Roster.Revision && a.Incarnation == b.Incarnation && a.TTL == b.TTL && a.Watchdog == b.Watchdog &&
		maps.Equal(a.Addresses, b.Addresses) && maps.Equal(a.Roster.Standing, b.Roster.Standing)
}

// Known returns the roster as known; ok is false while there is none.
func (b *Book) Known() (known Known, ok bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.known, b.known.Roster.Revision != 0
}

// Acknowledged returns the revision of the newest roster that this server has obeyed; 0: none. One that is gone from etcd
// still counts: so others know that there was one.
func (b *Book) Acknowledged() pool.Revision {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.obeyed
}

// slowest returns the longest time-out of an armed watchdog.
func slowest(s *pool.Snapshot) (w time.Duration) {
	for _, m := range s.Members.All() {
		w = max(w, m.Watchdog)
	}
	return w
}
