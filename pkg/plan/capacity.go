package plan

import (
	"fmt"
	"slices"

	"github.com/holdfast-ha/holdfast/pkg/place"
	"github.com/holdfast-ha/holdfast/pkg/pool"
)

// CapacityVerdict says whether the pool keeps room for the loss of servers. The numbers are those of the API's.
type CapacityVerdict int

// Verdicts.
const (
	CapacityUnspecified CapacityVerdict = iota
	// CapacityOK: every HA VM finds a place, whichever servers are lost.
	CapacityOK
	// CapacityAtRisk: the loss of some leaves HA VMs without a place.
	CapacityAtRisk
	// CapacityOvercommitted: HA VMs have no place already.
	CapacityOvercommitted
	// CapacityNone: HA is off or frozen.
	CapacityNone
)

// CapacityRow is what the loss of one server would mean.
type CapacityRow struct {
	Server pool.ServerID
	// VMs counts the HA VMs on it, NeededBytes is their memory.
	VMs         int
	NeededBytes int64
	// LeftBytes is the memory that the other servers would have left.
	LeftBytes int64
	// NoPlace lists those that would find none, the most urgent first.
	NoPlace []pool.VMID
}

// Capacity is the room that a pool keeps for the loss of servers.
type Capacity struct {
	Verdict CapacityVerdict
	Rows    []CapacityRow
	// AtRisk lists the servers whose loss, alone or with others, is not provided for.
	AtRisk []pool.ServerID
	// Together is how many servers were taken to be lost at once; Tolerate is the pool's promise.
	Together, Tolerate int
	// Homeless lists HA VMs that have no place already.
	Homeless []pool.VMID
	// NoPlace lists what finds no place in the worst case.
	NoPlace []pool.VMID
	Text    string
}

// mostCases bounds how many combinations of servers are tried; beyond it only those of the fullest are.
const mostCases = 300

// PoolCapacity judges every server's loss alone and, if the pool is to tolerate more than one, the loss of so many
// together. It takes it for granted that a lost server is fenced: whether there is room is what it answers.
func PoolCapacity(s *pool.Snapshot) Capacity {
	c := Capacity{Tolerate: s.Config.Tolerate, Together: max(1, s.Config.Tolerate)}
	if !s.Config.HA || s.Config.Frozen {
		c.Verdict, c.Text = CapacityNone, "HA is off or frozen: nothing would be restarted"
		return c
	}
	c.Homeless = homeless(s)
	l := newLosses(s)
	for _, id := range l.members {
		row := l.row(id)
		c.Rows = append(c.Rows, row)
		if len(row.NoPlace) > 0 {
			c.risk(row.NoPlace, id)
		}
	}
	if c.Together > 1 {
		for _, group := range combinations(c.fullest(), min(c.Together, len(l.members))) {
			if _, none, _ := l.recover(group); len(none) > 0 {
				c.risk(none, group...)
			}
		}
	}
	c.judge()
	return c
}

func (c *Capacity) risk(none []pool.VMID, servers ...pool.ServerID) {
	if len(none) > len(c.NoPlace) {
		c.NoPlace = none
	}
	for _, id := range servers {
		if !slices.Contains(c.AtRisk, id) {
			c.AtRisk = append(c.AtRisk, id)
		}
	}
	slices.Sort(c.AtRisk)
}

func (c *Capacity) judge() {
	switch {
	case len(c.Homeless) > 0:
		c.Verdict, c.Text = CapacityOvercommitted, fmt.Sprintf("no place now for %s", names(c.Homeless))
	case len(c.AtRisk) > 0 && c.Together > 1:
		c.Verdict, c.Text = CapacityAtRisk, fmt.Sprintf("if %d servers were lost, among them %s, there would be no place for %s", c.Together, names(c.AtRisk), names(c.NoPlace))
	case len(c.AtRisk) > 0:
		c.Verdict, c.Text = CapacityAtRisk, fmt.Sprintf("if %s were lost, there would be no place for %s", oneOf(c.AtRisk), names(c.NoPlace))
	default:
		c.Verdict, c.Text = CapacityOK, fmt.Sprintf("every HA VM would find a place if %s were lost", lostServers(c.Together))
	}
}

func oneOf(list []pool.ServerID) string {
	if len(list) == 1 {
		return string(list[0])
	}
	return "one of " + names(list)
}

func lostServers(n int) string {
	if n == 1 {
		return "any one server"
	}
	return fmt.Sprintf("any %d servers", n)
}

// homeless lists HA VMs that are wanted running and that no server can take, by name.
func homeless(s *pool.Snapshot) []pool.VMID {
	var out []pool.VMID
	var load *place.Load
	for vm, c := range pool.Join(s.VMs, s.Claims) {
		if vm == nil || c == nil || c.Phase != pool.PhaseUnassigned || vm.Desired != pool.DesiredRunning || !s.Protected(*vm) {
			continue
		}
		if load == nil {
			load = place.NewLoad(s)
		}
		sub := &subject{vm: *vm, claim: *c, protected: true}
		if h, _ := s.Homes.Get(vm.ID); h.Failed {
			continue
		}
		if r := request(s.Config, sub.keep(s), c.Since); r.Only == "" && load.Best(r).Server == "" {
			out = append(out, vm.ID)
		}
	}
	return out
}

// losses works out what the loss of servers would mean.
type losses struct {
	load *place.Load
	// members are the servers that are up.
	members []pool.ServerID
	// owned are the HA VMs by the server that runs them, each as it would be asked for after the loss of that server.
	owned map[pool.ServerID][]place.Request
}

func newLosses(s *pool.Snapshot) *losses {
	l := &losses{load: place.NewLoad(s), members: s.Members.Keys(), owned: map[pool.ServerID][]place.Request{}}
	for vm, c := range pool.Join(s.VMs, s.Claims) {
		if vm == nil || c == nil || c.Server == "" || vm.Desired != pool.DesiredRunning || !s.Protected(*vm) {
			continue
		}
		home, _ := s.Homes.Get(vm.ID)
		moved := *c
		moved.Phase, moved.Cause, moved.LastServer, moved.Server = pool.PhaseUnassigned, pool.CauseFenced, c.Server, ""
		l.owned[c.Server] = append(l.owned[c.Server], request(s.Config, &subject{vm: *vm, claim: moved, home: home, protected: true}, c.Since))
	}
	return l
}

// recover places every HA VM of lost servers as a recovery would, and returns who found no place and what is left.
func (l *losses) recover(lost []pool.ServerID) (needed []place.Request, none []pool.VMID, left int64) {
	load := l.load.Clone()
	for _, id := range lost {
		load.Lose(id)
		needed = append(needed, l.owned[id]...)
	}
	for _, choice := range load.Batch(needed) {
		if choice.Server == "" {
			none = append(none, choice.VM)
		}
	}
	for _, id := range l.members {
		if !slices.Contains(lost, id) {
			left += max(load.Free(id), 0)
		}
	}
	return needed, none, left
}

func (l *losses) row(id pool.ServerID) CapacityRow {
	needed, none, left := l.recover([]pool.ServerID{id})
	row := CapacityRow{Server: id, VMs: len(needed), LeftBytes: left, NoPlace: none}
	for _, r := range needed {
		row.NeededBytes += r.VM.MemoryBytes
	}
	return row
}

// fullest lists the servers by what their loss would need, most first.
func (c *Capacity) fullest() []pool.ServerID {
	rows := slices.Clone(c.Rows)
	slices.SortStableFunc(rows, func(a, b CapacityRow) int {
		switch {
		case a.NeededBytes > b.NeededBytes:
			return -1
		case a.NeededBytes < b.NeededBytes:
			return 1
		}
		return 0
	})
	out := make([]pool.ServerID, len(rows))
	for i, r := range rows {
		out[i] = r.Server
	}
	return out
}

// combinations lists the ways to take n of list, in order, at most mostCases of them.
func combinations(list []pool.ServerID, n int) [][]pool.ServerID {
	var out [][]pool.ServerID
	var take func(from int, chosen []pool.ServerID)
	take = func(from int, chosen []pool.ServerID) {
		switch {
		case len(out) == mostCases:
		case len(chosen) == n:
			out = append(out, slices.Clone(chosen))
		default:
			for i := from; i < len(list); i++ {
				take(i+1, append(chosen, list[i]))
			}
		}
	}
	take(0, nil)
	return out
}

// Admits says whether the pool could still keep its promise to tolerate the loss of servers once vm ran and were
// protected as it is given. why is empty if it could, or if no promise was made. vm counts where it would be started.
func Admits(s *pool.Snapshot, vm pool.VM) (why string) {
	if s.Config.Tolerate == 0 || !s.Config.HA || s.Config.Frozen {
		return ""
	}
	after := *s
	c, _ := s.Claims.Get(vm.ID)
	vm.Desired = pool.DesiredRunning
	after.VMs = s.VMs.With(vm.ID, vm)
	if c.Phase <= pool.PhaseUnassigned {
		load := place.NewLoad(s)
		choice := load.Best(request(s.Config, &subject{vm: vm, claim: c, ops: []pool.Operation{{Kind: pool.OperationStart, StartEpoch: c.Epoch}}}, c.Since))
		if choice.Server == "" {
			return "" // it has no place in any case, and waits for one
		}
		m, _ := s.Members.Get(choice.Server)
		c = pool.Claim{VM: vm.ID, Phase: pool.PhaseHeld, Server: choice.Server, Session: m.Session, Epoch: c.Epoch + 1}
		after.Claims = s.Claims.With(vm.ID, c)
	}
	if cap := PoolCapacity(&after); cap.Verdict != CapacityOK {
		return cap.Text
	}
	return ""
}
