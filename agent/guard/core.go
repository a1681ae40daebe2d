package guard

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/holdfast-ha/holdfast/pkg/pool"
)

// Bounds of what the guard accepts and keeps.
const (
	// maxAhead bounds KillAt: no grant of ours is longer, and an absurd deadline must not switch the guard off.
	maxAhead = 24 * time.Hour
	// maxKilled bounds Status.Killed.
	maxKilled = 1000
	// forgetAfter is how long a session without VMs is remembered past its Deadline.
	forgetAfter = time.Minute
)

// phase is where a held process stands.
type phase int

const (
	// running: nothing is wanted of it.
	running phase = iota
	// pausing: it was asked to pause and has not confirmed.
	pausing
	// paused: its CPUs are confirmed to stand still.
	paused
	// doomed: it is to be killed; there is no way back.
	doomed
)

// hold is one process that the guard answers for.
type hold struct {
	Held
	phase phase
	// told is the phase that the last Act was about, ask the number of the latest request to pause.
	told phase
	ask  int
	// due is the instant that doomed it.
	due pool.Instant
}

// identity tells processes apart. The VM is part of it: a caller that mixes VMs up must not lose one.
type identity struct {
	vm      pool.VMID
	process Process
}

func (h Held) identity() identity { return identity{h.VM, h.Process} }

// ActKind says what to do to a process.
type ActKind int

// Kinds of Act.
const (
	ActUnspecified ActKind = iota
	// ActKill sends SIGKILL. It is repeated at each Tick until Dead.
	ActKill
	// ActPause stops the CPUs through the monitor, then calls Paused. It is given once.
	ActPause
)

// String returns the act's word.
func (k ActKind) String() string { return [...]string{"unspecified", "kill", "pause"}[k] }

// Act is something to be done to one process now.
type Act struct {
	Kind ActKind
	Held Held
	// First: this is the first such Act for the process.
	First bool
	// Due is the instant that called for it.
	Due pool.Instant
	// By is the instant by which a pause must be confirmed, Ask the number to confirm it with.
	By  pool.Instant
	Ask int
}

// Core decides what happens to held processes. It reads no clock and does no I/O; every method takes the time or
// needs none. It is not safe for concurrent use. Source: docs/safety.md, "Lease budget" and "Isolation".
type Core struct {
	leases map[pool.Session]Lease
	holds  map[identity]*hold
	// order is the holds as sorted returns them, nil after one came or went: most steps find the same ones.
	order  []*hold
	killed []pool.VMID
	paused map[pool.VMID]bool
	asks   int
}

// NewCore returns a core that holds nothing.
func NewCore() *Core {
	return &Core{leases: map[pool.Session]Lease{}, holds: map[identity]*hold{}, paused: map[pool.VMID]bool{}}
}

// Extend sets a session's deadlines, if l is the newest word about it.
func (c *Core) Extend(l Lease, now pool.Instant) error {
	if err := check(l, now); err != nil {
		return err
	}
	known, ok := c.leases[l.Session]
	if ok && l.Sent < known.Sent {
		return fmt.Errorf("extend session %d: %w", l.Session, ErrOutdated)
	}
	if l.Promised {
		if !ok || !now.Before(known.KillAt) {
			return fmt.Errorf("extend session %d by promises: %w", l.Session, ErrLate)
		}
		l.KillAt, l.Deadline = max(l.KillAt, known.KillAt), max(l.Deadline, known.Deadline)
		l.OnIsolation, l.Grace = known.OnIsolation, known.Grace
	}
	c.leases[l.Session] = l
	c.settle(now)
	return nil
}

// check refuses what no agent of ours says, and what would switch the guard off.
func check(l Lease, now pool.Instant) error {
	switch {
	case l.Session <= 0:
		return fmt.Errorf("extend: no session: %w", pool.ErrInvalid)
	case l.Sent <= 0 || l.Sent > now:
		return fmt.Errorf("extend session %d: sent at %v, and it is %v: %w", l.Session, l.Sent, now, pool.ErrInvalid)
	case l.KillAt < l.Sent || l.Deadline <= l.KillAt:
		return fmt.Errorf("extend session %d: sent %v, stop %v, deadline %v are out of order: %w", l.Session, l.Sent, l.KillAt, l.Deadline, pool.ErrInvalid)
	case l.Deadline.Sub(now) > maxAhead || l.Grace < 0 || l.Grace > maxAhead:
		return fmt.Errorf("extend session %d: deadline or grace is more than %v ahead: %w", l.Session, maxAhead, pool.ErrInvalid)
	}
	return nil
}

// Hold makes the core answer for a process, which the caller has found alive.
func (c *Core) Hold(h Held, now pool.Instant) error {
	if h.VM == "" || h.Process.PID <= 1 || h.Process.StartTicks == 0 {
		return fmt.Errorf("hold %q, %v: incomplete: %w", h.VM, h.Process, pool.ErrInvalid)
	}
	c.settle(now)
	l, ok := c.leases[h.Session]
	if !ok || !now.Before(l.KillAt) {
		return fmt.Errorf("hold %s under session %d: %w", h.VM, h.Session, ErrLate)
	}
	if old, ok := c.holds[h.identity()]; ok && old.phase == doomed {
		return fmt.Errorf("hold %s: %w", h.VM, ErrDoomed)
	}
	c.put(&hold{Held: h})
	delete(c.paused, h.VM)
	return nil
}

// LetGo ends the responsibility for a VM, except for a process that is being killed.
func (c *Core) LetGo(vm pool.VMID, now pool.Instant) {
	c.settle(now)
	for id, h := range c.holds {
		if id.vm == vm && h.phase != doomed {
			c.drop(id)
		}
	}
	delete(c.paused, vm)
}

// Dead notes that a process was seen dead. It reports whether the guard had begun to kill it, and since when it was
// due.
func (c *Core) Dead(h Held) (killed bool, due pool.Instant) {
	known, ok := c.holds[h.identity()]
	if !ok {
		return false, 0
	}
	c.drop(h.identity())
	delete(c.paused, h.VM)
	if known.phase != doomed {
		return false, 0
	}
	c.killed = append(c.killed, h.VM)
	c.killed = c.killed[max(0, len(c.killed)-maxKilled):]
	return true, known.due
}

// Paused notes that a process stands still, as the Act numbered ask demanded. An answer to an earlier Act changes
// nothing about its fate; but that the VM stands still is remembered.
func (c *Core) Paused(h Held, ask int, now pool.Instant) {
	known, ok := c.holds[h.identity()]
	if !ok {
		return
	}
	c.paused[h.VM] = true
	c.settle(now)
	if known.phase == pausing && known.ask == ask {
		known.phase = paused
	}
}

// Tick moves every process to where it belongs at now and returns what is to be done, sorted by VM.
func (c *Core) Tick(now pool.Instant) []Act {
	c.settle(now)
	c.forget(now)
	var acts []Act
	for _, h := range c.sorted() {
		first := h.told != h.phase
		h.told = h.phase
		switch {
		case h.phase == doomed:
			acts = append(acts, Act{Kind: ActKill, Held: h.Held, First: first, Due: h.due})
		case h.phase == pausing && first:
			c.asks++
			h.ask = c.asks
			l := c.leases[h.Session]
			acts = append(acts, Act{Kind: ActPause, Held: h.Held, First: true, Due: l.KillAt, By: pauseBy(l), Ask: h.ask})
		}
	}
	return acts
}

// settle moves every process to the phase that now demands.
func (c *Core) settle(now pool.Instant) {
	for _, h := range c.sorted() {
		h.phase, h.due = c.next(h, now)
		if h.phase == running {
			h.told = running // a later pause or kill is a new one
		}
	}
}

// next is the state machine of one process.
func (c *Core) next(h *hold, now pool.Instant) (phase, pool.Instant) {
	l, known := c.leases[h.Session]
	switch {
	case h.phase == doomed:
		return doomed, h.due
	case !known:
		return doomed, now // its deadline is lost: kill
	case now.Before(l.KillAt):
		return running, 0
	case l.OnIsolation != pool.IsolationPause || h.Monitor == "":
		return doomed, l.KillAt
	case h.phase == paused && now.Before(l.KillAt.Add(l.Grace)):
		return paused, 0
	case h.phase == paused:
		return doomed, l.KillAt.Add(l.Grace)
	case !now.Before(pauseBy(l)):
		return doomed, pauseBy(l)
	}
	return pausing, 0
}

// pauseBy is when a pause must be confirmed: two thirds of the way from KillAt to Deadline, so that the rest is left
// to kill and to see the process dead by the Deadline.
func pauseBy(l Lease) pool.Instant {
	return l.KillAt.Add(l.Deadline.Sub(l.KillAt) * 2 / 3)
}

// forget drops sessions that nothing can refer to any more.
func (c *Core) forget(now pool.Instant) {
	used := map[pool.Session]bool{}
	for _, h := range c.sorted() {
		used[h.Session] = true
	}
	for s, l := range c.leases {
		if !used[s] && l.Deadline.Add(forgetAfter).Before(now) {
			delete(c.leases, s)
		}
	}
}

// Next returns the instant at which Tick has something new to say; ok is false if time alone will bring nothing.
func (c *Core) Next() (at pool.Instant, ok bool) {
	for _, h := range c.sorted() {
		var due pool.Instant // zero, at once, for the doomed
		if l := c.leases[h.Session]; h.phase != doomed {
			due = l.KillAt
			if h.phase == pausing {
				due = pauseBy(l)
			}
			if h.phase == paused {
				due = l.KillAt.Add(l.Grace)
			}
		}
		if !ok || due < at {
			at, ok = due, true
		}
	}
	return at, ok
}

// PetUntil returns the instant up to which the watchdog may be petted; ok is false if time sets no limit, because
// nothing is held. A process that is being paused or killed allows no petting at all: the instant is zero.
func (c *Core) PetUntil() (until pool.Instant, ok bool) {
	for _, h := range c.sorted() {
		l := c.leases[h.Session]
		var limit pool.Instant
		switch h.phase {
		case running:
			limit = l.KillAt
		case paused:
			limit = l.KillAt.Add(l.Grace)
		}
		if !ok || limit < until {
			until, ok = limit, true
		}
	}
	return until, ok
}

// Held returns what is held, sorted by VM.
func (c *Core) Held() []Held {
	all := make([]Held, 0, len(c.holds))
	for _, h := range c.sorted() {
		all = append(all, h.Held)
	}
	return all
}

// Status returns what the core knows of a Status.
func (c *Core) Status() Status {
	return Status{Held: c.Held(), Paused: slices.Sorted(maps.Keys(c.paused)), Killed: slices.Clone(c.killed)}
}

func (c *Core) put(h *hold) {
	c.holds[h.identity()] = h
	c.order = nil
}

func (c *Core) drop(id identity) {
	delete(c.holds, id)
	c.order = nil
}

// sorted returns what is held, sorted by VM. The slice is not to be changed; it stays as it is when holds come and go.
func (c *Core) sorted() []*hold {
	if c.order == nil {
		c.order = slices.SortedFunc(maps.Values(c.holds), func(a, b *hold) int {
			return cmp.Or(cmp.Compare(a.VM, b.VM), cmp.Compare(a.Process.PID, b.Process.PID),
				cmp.Compare(a.Process.StartTicks, b.Process.StartTicks))
		})
	}
	return c.order
}

// knows reports whether any VM is held by this process.
func (c *Core) knows(p Process) bool {
	for id := range c.holds {
		if id.process == p {
			return true
		}
	}
	return false
}

// killing reports whether something is doomed and not dead, and how long ago the latest such became due.
func (c *Core) killing(now pool.Instant) (since time.Duration, any bool) {
	for _, h := range c.sorted() {
		if h.phase == doomed && (!any || now.Sub(h.due) < since) {
			since, any = now.Sub(h.due), true
		}
	}
	return since, any
}
