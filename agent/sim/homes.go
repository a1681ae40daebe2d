package sim

import (
	"slices"

	"github.com/holdfast-ha/holdfast/agent/sim/scenario"
	"github.com/holdfast-ha/holdfast/pkg/pool"
)

// homes says where each VM that runs at time 0 is: where the scenario puts it or, where it does not say, on the servers in
// turn, as the rules, the room and the state of the servers allow.
type homes struct {
	file *scenario.File
	on   map[pool.VMID]string
	free map[string]int64
	// apart holds group and server of the VMs placed so far, together the server of each group.
	apart    map[[2]string]bool
	together map[string]string
	next     int
}

// homesOf places the VMs of a scenario that run at time 0.
func homesOf(f *scenario.File) map[pool.VMID]string {
	h := &homes{file: f, on: map[pool.VMID]string{}, free: map[string]int64{}, apart: map[[2]string]bool{}, together: map[string]string{}}
	for _, s := range f.Servers {
		h.free[s.Name] = s.MemoryBytes
	}
	for _, v := range f.VMs {
		if v.Running && v.On != "" {
			h.put(v, v.On)
		}
	}
	for _, v := range f.VMs {
		if v.Running && v.On == "" {
			h.put(v, h.choose(v))
		}
	}
	return h.on
}

func (h *homes) put(v scenario.VM, server string) {
	h.on[v.ID] = server
	h.free[server] -= v.MemoryBytes
	if v.Apart != "" {
		h.apart[[2]string{v.Apart, server}] = true
	}
	if v.Together != "" {
		h.together[v.Together] = server
	}
}

// choose returns a server for a VM: a preferred one if it can, else the next one that suits, else the next one at all.
func (h *homes) choose(v scenario.VM) string {
	for _, p := range v.Prefer {
		i := slices.IndexFunc(h.file.Servers, func(s scenario.Server) bool { return s.Name == string(p) })
		if i >= 0 && h.suits(v, h.file.Servers[i]) {
			return string(p)
		}
	}
	n := len(h.file.Servers)
	for _, fits := range []func(scenario.VM, scenario.Server) bool{h.suits, func(_ scenario.VM, s scenario.Server) bool { return s.Up }} {
		for i := range n {
			if s := h.file.Servers[(h.next+i)%n]; fits(v, s) {
				h.next += i + 1
				return s.Name
			}
		}
	}
	return ""
}

// suits reports whether a server may take a VM, as far as the set-up says.
func (h *homes) suits(v scenario.VM, s scenario.Server) bool {
	if !s.Up || s.Maintenance || s.InboundLock || h.free[s.Name] < v.MemoryBytes {
		return false
	}
	if len(v.Require) > 0 && !slices.Contains(v.Require, pool.ServerID(s.Name)) {
		return false
	}
	if v.Apart != "" && h.apart[[2]string{v.Apart, s.Name}] {
		return false
	}
	on, placed := h.together[v.Together]
	return v.Together == "" || !placed || on == s.Name
}
