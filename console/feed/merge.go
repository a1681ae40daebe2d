package feed

import (
	"maps"
	"slices"
	"strings"
	"time"

	pb "github.com/holdfast-ha/holdfast/proto/holdfast/v1"
)

// eventsKept bounds the events of a view.
const eventsKept = 1000

// Merger makes a View of what a stream says. It belongs to one goroutine; the zero value is an empty pool.
type Merger struct {
	revision   int64
	servedBy   string
	serverTime time.Time
	pool       *pb.PoolView
	servers    collection[*pb.ServerView]
	vms        collection[*pb.VMView]
	operations collection[*pb.Operation]
	events     []*pb.Event
}

// collection is a set of things by ID. Its list is sorted anew only when there are others in it; what is only replaced
// keeps its place.
type collection[T any] struct {
	byID     map[string]T
	sorted   []T
	stale    bool
	replaced []T
}

func (c *collection[T]) replace(all []T, id func(T) string) {
	c.byID = make(map[string]T, len(all))
	for _, x := range all {
		c.byID[id(x)] = x
	}
	c.stale = true
}

func (c *collection[T]) put(all []T, gone []string, id func(T) string) {
	if len(all)+len(gone) == 0 {
		return
	}
	if c.byID == nil {
		c.byID = map[string]T{}
	}
	for _, x := range all {
		if _, known := c.byID[id(x)]; known {
			c.replaced = append(c.replaced, x)
		} else {
			c.stale = true
		}
		c.byID[id(x)] = x
	}
	for _, name := range gone {
		delete(c.byID, name)
		c.stale = true
	}
}

// list returns the sorted values; the result is never changed later.
func (c *collection[T]) list(compare func(a, b T) int) []T {
	if !c.stale && len(c.replaced) > 0 {
		c.sorted = slices.Clone(c.sorted)
		for _, x := range c.replaced {
			i, found := slices.BinarySearchFunc(c.sorted, x, compare)
			if !found {
				c.stale = true
				break
			}
			c.sorted[i] = x
		}
	}
	if c.stale {
		c.sorted = slices.SortedFunc(maps.Values(c.byID), compare)
	}
	c.stale, c.replaced = false, nil
	return c.sorted
}

func serverID(s *pb.ServerView) string { return s.GetServer().GetId() }
func vmID(v *pb.VMView) string         { return v.GetVm().GetId() }

func byAsked(a, b *pb.Operation) int {
	if c := a.GetRequested().GetAt().AsTime().Compare(b.GetRequested().GetAt().AsTime()); c != 0 {
		return c
	}
	return strings.Compare(a.GetId(), b.GetId())
}

// Fold takes one message and reports whether it changed anything besides the time.
func (m *Merger) Fold(r *pb.WatchPoolResponse) bool {
	old := m.servedBy
	m.revision, m.servedBy, m.serverTime = r.GetRevision(), r.GetServedBy(), r.GetServerTime().AsTime()
	switch c := r.GetChange().(type) {
	case *pb.WatchPoolResponse_Snapshot:
		s := c.Snapshot
		m.pool = s.GetPool()
		m.servers.replace(s.GetServers(), serverID)
		m.vms.replace(s.GetVms(), vmID)
		m.operations.replace(s.GetOperations(), (*pb.Operation).GetId)
		m.events = slices.Clone(s.GetEvents())
		return true
	case *pb.WatchPoolResponse_Delta:
		d := c.Delta
		if d.GetPool() != nil {
			m.pool = d.GetPool()
		}
		m.servers.put(d.GetServers(), d.GetServersRemoved(), serverID)
		m.vms.put(d.GetVms(), d.GetVmsRemoved(), vmID)
		m.operations.put(d.GetOperations(), d.GetOperationsRemoved(), (*pb.Operation).GetId)
		m.addEvents(d.GetEvents())
		return true
	}
	return old != m.servedBy
}

// addEvents appends without touching the list that a view may hold.
func (m *Merger) addEvents(fresh []*pb.Event) {
	if len(fresh) == 0 {
		return
	}
	keep := m.events
	if n := len(keep); n > 0 && fresh[0].GetId() <= keep[n-1].GetId() {
		fresh = newOnes(keep, fresh) // a stream that resumes may repeat some
	}
	if n := len(keep) + len(fresh) - eventsKept; n > 0 {
		keep = keep[min(n, len(keep)):]
	}
	m.events = slices.Concat(keep, fresh)
}

// View returns what was merged so far; nil before the first snapshot.
func (m *Merger) View() *View {
	if m.pool == nil {
		return nil
	}
	return &View{
		Revision: m.revision, ServedBy: m.servedBy, ServerTime: m.serverTime, Pool: m.pool,
		Servers:    m.servers.list(func(a, b *pb.ServerView) int { return strings.Compare(serverID(a), serverID(b)) }),
		VMs:        m.vms.list(func(a, b *pb.VMView) int { return strings.Compare(vmID(a), vmID(b)) }),
		Operations: m.operations.list(byAsked), Events: m.events,
	}
}

// newOnes are the fresh events that are not kept yet.
func newOnes(kept, fresh []*pb.Event) []*pb.Event {
	known := make(map[string]bool, len(kept))
	for _, e := range kept {
		known[e.GetId()] = true
	}
	return slices.DeleteFunc(slices.Clone(fresh), func(e *pb.Event) bool { return known[e.GetId()] })
}
