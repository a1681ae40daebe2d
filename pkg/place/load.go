package place

import (
	"cmp"
	"maps"
	"slices"

	"github.com/holdfast-ha/holdfast/pkg/pool"
)

// Load is what the servers of one snapshot have promised, plus what was given away since. Build it once per plan.
// It is not safe for concurrent use, and borrows the snapshot.
type Load struct {
	snap  *pool.Snapshot
	slots []*slot
	index map[pool.ServerID]*slot
	// together lists, for each together group, the VMs that have a server.
	together map[string][]peer
	// moved says where VMs count now that Take or Release changed; "" is nowhere.
	moved map[pool.VMID]pool.ServerID
	// expected says where VMs count besides, because they were asked to move there; see Expect.
	expected map[pool.VMID]pool.ServerID
}

// slot is one registered server with what it has promised.
type slot struct {
	server     pool.Server
	member     pool.Member
	alive      bool
	fenced     bool
	unreadable bool
	tooOld     bool
	silent     bool
	memory     int64
	cpus       int
	vms        int
	apart      map[string][]pool.VMID
}

type peer struct {
	vm     pool.VMID
	server pool.ServerID
}

// NewLoad counts what every claim of the snapshot promises: the memory and CPUs of each VM on the server that its
// claim names, whatever the phase, and on the destination of a migration.
func NewLoad(s *pool.Snapshot) *Load {
	l := &Load{snap: s, index: make(map[pool.ServerID]*slot, s.Servers.Len()),
		together: map[string][]peer{}, moved: map[pool.VMID]pool.ServerID{}, expected: map[pool.VMID]pool.ServerID{}}
	for id, server := range s.Servers.All() {
		l.add(id, server)
	}
	for vm, c := range pool.Join(s.VMs, s.Claims) {
		if vm == nil || c == nil || (c.Server == "" && c.Incoming == nil) {
			continue
		}
		l.count(vm, c.Server)
		if c.Incoming != nil && c.Incoming.Server != c.Server {
			l.count(vm, c.Incoming.Server)
		}
	}
	return l
}

func (l *Load) add(id pool.ServerID, server pool.Server) {
	m, alive := l.snap.Members.Get(id)
	s := &slot{server: server, member: m, alive: alive, tooOld: alive && pool.TooOld(m.Version)}
	s.server.ID = id
	if f, ok := l.snap.Fences.Get(id); ok && f.Proof != pool.ProofNone {
		s.alive = alive && !f.Covers(m.Session)
		s.fenced = !s.alive
	}
	s.unreadable = l.snap.Unreadable("servers", string(id)) || l.snap.Unreadable("members", string(id))
	l.slots = append(l.slots, s)
	l.index[id] = s
}

func (l *Load) count(vm *pool.VM, on pool.ServerID) {
	if vm.Together != "" && on != "" {
		l.together[vm.Together] = append(l.together[vm.Together], peer{vm.ID, on})
	}
	s, ok := l.index[on]
	if !ok {
		return
	}
	s.memory += vm.MemoryBytes
	s.cpus += vm.CPUs
	s.vms++
	if vm.Apart != "" {
		if s.apart == nil {
			s.apart = map[string][]pool.VMID{}
		}
		s.apart[vm.Apart] = append(s.apart[vm.Apart], vm.ID)
	}
}

// Avoid keeps VMs off a server that gives no sign of life.
func (l *Load) Avoid(server pool.ServerID) {
	if s, ok := l.index[server]; ok {
		s.silent = true
	}
}

// Clone returns an independent copy, so that what would follow from something can be tried.
func (l *Load) Clone() *Load {
	c := &Load{snap: l.snap, slots: make([]*slot, len(l.slots)), index: make(map[pool.ServerID]*slot, len(l.index)),
		together: make(map[string][]peer, len(l.together)), moved: maps.Clone(l.moved), expected: maps.Clone(l.expected)}
	for i, s := range l.slots {
		copied := *s
		if s.apart != nil {
			copied.apart = make(map[string][]pool.VMID, len(s.apart))
			for group, vms := range s.apart {
				copied.apart[group] = slices.Clone(vms)
			}
		}
		c.slots[i], c.index[s.server.ID] = &copied, &copied
	}
	for group, peers := range l.together {
		c.together[group] = slices.Clone(peers)
	}
	return c
}

// Lose makes a server one that is lost and proven harmless.
func (l *Load) Lose(server pool.ServerID) {
	if s, ok := l.index[server]; ok {
		s.alive, s.fenced = false, true
	}
}

// Take promises server to vm; an earlier promise to the same VM, its claim's included, is dropped.
func (l *Load) Take(vm pool.VM, server pool.ServerID) {
	l.Release(vm)
	l.count(&vm, server)
	l.moved[vm.ID] = server
}

// Expect counts vm on server besides where it runs: a move that was asked for and has not begun. What is expected of
// a VM is not in its own way. An earlier expectation is dropped.
func (l *Load) Expect(vm pool.VM, server pool.ServerID) {
	l.forget(&vm)
	if server == "" || server == l.where(vm.ID) {
		return
	}
	l.count(&vm, server)
	l.expected[vm.ID] = server
}

// forget drops what is expected of vm.
func (l *Load) forget(vm *pool.VM) {
	if on, ok := l.expected[vm.ID]; ok {
		delete(l.expected, vm.ID)
		l.uncount(vm, on)
	}
}

// Release drops what is promised to vm: on the server that it counts for, on the destination of its migration, and
// where it is expected.
func (l *Load) Release(vm pool.VM) {
	l.forget(&vm)
	on := l.where(vm.ID)
	if _, changed := l.moved[vm.ID]; !changed {
		if c, _ := l.snap.Claims.Get(vm.ID); c.Incoming != nil && c.Incoming.Server != on {
			l.uncount(&vm, c.Incoming.Server)
		}
	}
	l.moved[vm.ID] = ""
	l.uncount(&vm, on)
}

func (l *Load) uncount(vm *pool.VM, on pool.ServerID) {
	if vm.Together != "" {
		l.together[vm.Together] = slices.DeleteFunc(l.together[vm.Together], func(p peer) bool { return p == peer{vm.ID, on} })
	}
	s, ok := l.index[on]
	if !ok {
		return
	}
	s.memory -= vm.MemoryBytes
	s.cpus -= vm.CPUs
	s.vms--
	if vm.Apart != "" {
		s.apart[vm.Apart] = slices.DeleteFunc(s.apart[vm.Apart], func(v pool.VMID) bool { return v == vm.ID })
	}
}

// Promised returns the number of VMs whose claims name server, and the memory and CPUs promised to them.
func (l *Load) Promised(server pool.ServerID) (vms int, memoryBytes int64, cpus int) {
	if s, ok := l.index[server]; ok {
		return s.vms, s.memory, s.cpus
	}
	return 0, 0, 0
}

// Free returns the memory of server that is not promised to any VM; it may be negative.
func (l *Load) Free(server pool.ServerID) int64 {
	s, ok := l.index[server]
	if !ok {
		return 0
	}
	return s.member.MemoryBytes - s.server.ReservedMemoryBytes - s.memory
}

// where returns the server that vm counts for.
func (l *Load) where(vm pool.VMID) pool.ServerID {
	if on, ok := l.moved[vm]; ok {
		return on
	}
	c, _ := l.snap.Claims.Get(vm)
	return c.Server
}

// free is the memory of s that is not promised, leaving out vm itself.
func (l *Load) free(s *slot, vm *pool.VM) int64 {
	free := s.member.MemoryBytes - s.server.ReservedMemoryBytes - s.memory
	if l.where(vm.ID) == s.server.ID || l.expected[vm.ID] == s.server.ID {
		free += vm.MemoryBytes
	}
	return free
}

// after returns the share of memory and of CPUs that would be promised on s with the given addition.
func (l *Load) after(s *slot, vm *pool.VM, memory int64, cpus int) (memoryShare, cpuShare float64) {
	usable := s.member.MemoryBytes - s.server.ReservedMemoryBytes
	memoryShare = float64(usable-l.free(s, vm)+memory) / float64(max(usable, 1))
	cpuShare = float64(s.cpus+cpus) / float64(max(s.member.CPUs, 1))
	return memoryShare, cpuShare
}

// homes returns the live servers that hold VMs of vm's together group, others than vm itself and those that move along
// with it, in order of name.
func (l *Load) homes(vm *pool.VM, along []pool.VMID) []pool.ServerID {
	if vm.Together == "" {
		return nil
	}
	var on []pool.ServerID
	for _, p := range l.together[vm.Together] {
		if slices.Contains(along, p.vm) {
			continue
		}
		if s, ok := l.index[p.server]; p.vm != vm.ID && ok && s.alive && !slices.Contains(on, p.server) {
			on = append(on, p.server)
		}
	}
	slices.SortFunc(on, func(a, b pool.ServerID) int { return cmp.Compare(a, b) })
	return on
}

// apartFrom returns a VM on s that must not share a server with vm, the first by name.
func (s *slot) apartFrom(vm *pool.VM) (pool.VMID, bool) {
	if vm.Apart == "" {
		return "", false
	}
	var first pool.VMID
	for _, v := range s.apart[vm.Apart] {
		if v != vm.ID && (first == "" || v < first) {
			first = v
		}
	}
	return first, first != ""
}
