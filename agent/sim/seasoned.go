package sim

import (
	"fmt"
	"time"

	"github.com/holdfast-ha/holdfast/agent/guard"
	"github.com/holdfast-ha/holdfast/agent/local"
	"github.com/holdfast-ha/holdfast/agent/sim/world"
	"github.com/holdfast-ha/holdfast/pkg/kv"
	"github.com/holdfast-ha/holdfast/pkg/lease"
	"github.com/holdfast-ha/holdfast/pkg/pool"
	"github.com/holdfast-ha/holdfast/pkg/version"
)

// crowded is from how many VMs on a pool is set up as one that has run for long, rather than by starting every VM:
// ten thousand starts take a while, even in virtual time.
const crowded = 500

// season makes the pool one whose VMs have run for long and whose agents were all just restarted: sessions, claims,
// processes and what guards remember are there before the first agent starts, and each takes over what is its own.
func (p *Pool) season(up []string) error {
	timing, err := pool.NewTiming(p.File.Pool.LeaseTTL)
	if err != nil {
		return err
	}
	homes := p.spread()
	for _, name := range up {
		s := p.World.Server(name)
		s.PowerUp()
		if err := p.seasonServer(s, homes[name], timing); err != nil {
			return err
		}
	}
	for _, name := range up {
		p.World.Server(name).Boot()
	}
	return nil
}

// spread returns the VMs that run on each server.
func (p *Pool) spread() map[string][]pool.VM {
	out := map[string][]pool.VM{}
	homes := homesOf(p.File)
	for _, v := range p.File.VMs {
		if on, ok := homes[v.ID]; ok {
			out[on] = append(out[on], v.VM)
		}
	}
	return out
}

func (p *Pool) seasonServer(s *world.Server, vms []pool.VM, timing pool.Timing) error {
	wall := p.World.Options().Epoch
	id := p.Etcd.SeedLease(timing.TTL)
	me := pool.ServerID(s.Name)
	m := pool.Member{Server: me, LeaseID: int64(id), Version: s.Version, Incarnation: Incarnation, BootID: s.BootID(),
		MemoryBytes: s.MemoryBytes, CPUs: s.CPUs, Guard: s.HasGuard(), Since: wall}
	if m.Version == "" {
		m.Version = version.Version
	}
	if s.Fencing == world.FencingWatchdog {
		m.Watchdog = s.Watchdog
	}
	session := pool.Session(p.Etcd.Seed([]kv.Op{p.Keys.PutMember(m, id)}))
	s.Run["lease"] = lease.State{MemberKey: p.Keys.Member(me), Incarnation: Incarnation, Session: session, Lease: id, TTL: timing.TTL}
	var ops []kv.Op
	saved := guard.Saved{}
	for _, vm := range vms {
		q := p.World.Place(vm.ID, s.Name, &local.Marker{Pool: p.File.Pool.Name, Incarnation: Incarnation, VM: vm.ID, Epoch: 1, Started: true})
		if q == nil {
			return fmt.Errorf("place %s on %s: %w", vm.ID, s.Name, pool.ErrNotFound)
		}
		armed := vm.HA && p.File.Pool.HA && s.HasGuard()
		c := pool.Claim{VM: vm.ID, Server: me, Session: session, Epoch: 1, Phase: pool.PhaseHeld, Armed: armed, LastServer: me,
			Since: wall, Incarnation: Incarnation}
		if armed {
			c.Watchdog = m.Watchdog
			saved.Held = append(saved.Held, guard.SavedHold{Held: guard.Held{VM: vm.ID, Process: q.Process, Session: session, Monitor: q.Monitor()}})
		}
		ops = append(ops, p.Keys.PutClaim(c), p.Keys.PutState(pool.VMState{VM: vm.ID, Server: me, Epoch: 1, State: pool.RunRunning, Since: wall}))
	}
	if len(ops) > 0 {
		p.Etcd.Seed(ops)
	}
	clock := s.NewProc("set-up")
	now := clock.Now()
	clock.Kill()
	saved.Leases = []guard.Lease{{Session: session, Sent: now, KillAt: now.Add(timing.Stop), Deadline: now.Add(timing.TTL),
		OnIsolation: p.File.Pool.OnIsolation, Grace: p.File.Pool.IsolationGrace}}
	s.Run["guard"] = saved
	return nil
}

// awake reports whether every agent has its session and somebody leads.
func (p *Pool) awake(up []string) bool {
	snap := p.truth.snapshot()
	if snap.Leader.Server == "" {
		return false
	}
	for _, n := range up {
		a := p.crew.Agent(n)
		if a == nil || a.Snapshot() == nil || a.Snapshot().Revision == 0 {
			return false
		}
	}
	return p.Sched.Now() > time.Second
}
