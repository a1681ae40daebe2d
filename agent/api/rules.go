package api

import (
	"fmt"
	"slices"

	"github.com/holdfast-ha/holdfast/pkg/pool"
)

// ruleBook is what placement rules are checked against: the VMs as they would be, and the servers that there are.
type ruleBook struct {
	vms     map[pool.VMID]pool.VM
	ids     []pool.VMID
	servers []pool.ServerID
}

func newRuleBook(snap *pool.Snapshot) *ruleBook {
	b := &ruleBook{vms: map[pool.VMID]pool.VM{}, servers: snap.Servers.Keys()}
	for id, vm := range snap.VMs.All() {
		b.vms[id] = vm
		b.ids = append(b.ids, id)
	}
	return b
}

// put adds a VM, or replaces it.
func (b *ruleBook) put(vm pool.VM) {
	if _, ok := b.vms[vm.ID]; !ok {
		b.ids = append(b.ids, vm.ID)
		slices.Sort(b.ids)
	}
	b.vms[vm.ID] = vm
}

// checkRules refuses placement rules of a VM that cannot hold, whatever runs where; the conflict is named.
func checkRules(snap *pool.Snapshot, vm pool.VM, named bool) error {
	if named {
		for _, id := range slices.Concat(vm.Prefer, vm.Require) {
			if !snap.Servers.Has(id) {
				return fmt.Errorf("vm %s: no server %s in this pool; there are %s: %w", vm.ID, id, listed(snap.Servers.Keys()), pool.ErrNotFound)
			}
		}
	}
	b := newRuleBook(snap)
	b.put(vm)
	return b.check(vm)
}

// checkRulesWithout refuses to take away a server without which a VM's rules could not hold any more.
func checkRulesWithout(snap *pool.Snapshot, server pool.ServerID) error {
	b := newRuleBook(snap)
	b.servers = slices.DeleteFunc(b.servers, func(id pool.ServerID) bool { return id == server })
	for _, id := range b.ids {
		vm := b.vms[id]
		had := slices.ContainsFunc(vm.Require, snap.Servers.Has)
		if had && !slices.ContainsFunc(vm.Require, func(s pool.ServerID) bool { return slices.Contains(b.servers, s) }) {
			return pool.Refuse("RULE_CONFLICT", fmt.Sprintf("holdfast set %s require=", id), "%s requires %s, of which none would be left without %s", id, listed(vm.Require), server)
		}
		if err := b.checkApart(vm); err != nil && vm.Apart != "" {
			return err
		}
	}
	return nil
}

func (b *ruleBook) check(vm pool.VM) error {
	if err := b.checkTogether(vm); err != nil {
		return err
	}
	return b.checkApart(vm)
}

// mates lists the VMs that must be together with vm, itself among them, by name.
func (b *ruleBook) mates(vm pool.VM) []pool.VM {
	if vm.Together == "" {
		return []pool.VM{vm}
	}
	var out []pool.VM
	for _, id := range b.ids {
		if b.vms[id].Together == vm.Together {
			out = append(out, b.vms[id])
		}
	}
	return out
}

// allowed lists the servers on which vm may run together with its mates.
func (b *ruleBook) allowed(vm pool.VM) []pool.ServerID {
	out := slices.Clone(b.servers)
	for _, m := range b.mates(vm) {
		if len(m.Require) > 0 {
			out = slices.DeleteFunc(out, func(s pool.ServerID) bool { return !slices.Contains(m.Require, s) })
		}
	}
	return out
}

func (b *ruleBook) checkTogether(vm pool.VM) error {
	mates := b.mates(vm)
	for _, m := range mates {
		if m.ID != vm.ID && vm.Apart != "" && m.Apart == vm.Apart {
			return pool.Refuse("RULE_CONFLICT", "change one of the groups",
				"%s and %s cannot be apart (group %s) and together (group %s)", vm.ID, m.ID, vm.Apart, vm.Together)
		}
	}
	if len(b.allowed(vm)) > 0 {
		return nil
	}
	for _, m := range mates {
		if m.ID != vm.ID && len(m.Require) > 0 {
			return pool.Refuse("RULE_CONFLICT", "let their require lists share a server",
				"%s must be together with %s (group %s), which requires %s", vm.ID, m.ID, vm.Together, listed(m.Require))
		}
	}
	return nil // its own list names no server of the pool: it was valid once, and is told where it matters
}

// checkApart refuses an apart group whose VMs cannot all have servers of their own.
func (b *ruleBook) checkApart(vm pool.VM) error {
	if vm.Apart == "" {
		return nil
	}
	var group []pool.VMID
	for _, id := range b.ids {
		if b.vms[id].Apart == vm.Apart {
			group = append(group, id)
		}
	}
	if len(group) > len(b.servers) {
		return pool.Refuse("RULE_CONFLICT", "take one of them out of the group, or add a server",
			"group %s would have %d VMs that must be apart (%s), and the pool %d servers", vm.Apart, len(group), listed(group), len(b.servers))
	}
	taken := map[pool.ServerID]pool.VMID{}
	for _, id := range group {
		if !b.seat(id, taken, map[pool.ServerID]bool{}) {
			return pool.Refuse("RULE_CONFLICT", "widen what they require, or take one of them out of the group",
				"the VMs of group %s (%s) cannot all be apart: there are not enough servers among those that they require", vm.Apart, listed(group))
		}
	}
	return nil
}

// seat finds a server for a VM of an apart group, moving others if need be: bipartite matching by augmenting paths.
func (b *ruleBook) seat(id pool.VMID, taken map[pool.ServerID]pool.VMID, tried map[pool.ServerID]bool) bool {
	for _, s := range b.allowed(b.vms[id]) {
		if tried[s] {
			continue
		}
		tried[s] = true
		if other, ok := taken[s]; !ok || b.seat(other, taken, tried) {
			taken[s] = id
			return true
		}
	}
	return false
}
