package guard

import (
	"cmp"
	"maps"
	"slices"

	"github.com/holdfast-ha/holdfast/pkg/pool"
)

// Saved is what the next life of a guard must know.
type Saved struct {
	Leases []Lease
	Held   []SavedHold
	// Paused is that of Status, and so is Killed.
	Paused []pool.VMID
	Killed []pool.VMID `json:",omitempty"`
}

// SavedHold is a held process. Still: the guard has stopped its CPUs, and no deadline since lets them run. Doomed:
// the guard has begun to kill it.
type SavedHold struct {
	Held
	Still  bool `json:",omitempty"`
	Doomed bool `json:",omitempty"`
}

// Memory keeps a Saved for as long as the system is up. Load returns what was saved last; ok is false if nothing
// was. If it has an error, Saved holds all processes that could still be identified, and no lease: they will be
// killed.
type Memory interface {
	Load() (saved Saved, ok bool, err error)
	Save(Saved) error
}

// Saved returns what the core's next life must know.
func (c *Core) Saved() Saved {
	s := Saved{Paused: slices.Sorted(maps.Keys(c.paused)), Killed: slices.Clone(c.killed)}
	for _, h := range c.sorted() {
		s.Held = append(s.Held, SavedHold{Held: h.Held, Still: h.phase == paused, Doomed: h.phase == doomed})
	}
	s.Leases = slices.SortedFunc(maps.Values(c.leases), func(a, b Lease) int { return cmp.Compare(a.Session, b.Session) })
	return s
}

// Restore takes over what an earlier life held. A process whose session is not among the sound leases is doomed, and
// so is one past its time: what the earlier life had begun is finished. A pause that was not confirmed is asked for
// again, if there is time left for it.
func (c *Core) Restore(s Saved, now pool.Instant) {
	for _, l := range s.Leases {
		if check(l, now) == nil {
			c.leases[l.Session] = l
		}
	}
	for _, h := range s.Held {
		restored := &hold{Held: h.Held}
		switch {
		case h.Doomed:
			restored.phase, restored.due = doomed, now
		case h.Still:
			restored.phase = paused
		}
		c.put(restored)
	}
	for _, vm := range s.Paused {
		c.paused[vm] = true
	}
	c.killed = slices.Clone(s.Killed)
}
