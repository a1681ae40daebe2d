package sim

import (
	"fmt"
	"slices"
	"time"

	"github.com/holdfast-ha/holdfast/agent/sim/scenario"
	"github.com/holdfast-ha/holdfast/agent/sim/simkv"
	"github.com/holdfast-ha/holdfast/agent/sim/simnet"
	"github.com/holdfast-ha/holdfast/agent/sim/vtime"
	"github.com/holdfast-ha/holdfast/agent/sim/world"
	"github.com/holdfast-ha/holdfast/pkg/kv"
	"github.com/holdfast-ha/holdfast/pkg/plan"
	"github.com/holdfast-ha/holdfast/pkg/pool"
	"github.com/holdfast-ha/holdfast/pkg/store"
)

// Incarnation of the simulated etcd data.
const Incarnation = "5eed0000-0000-4000-8000-000000000000"

// Bounds of the settling before time 0, in virtual time.
const (
	settleLimit = 3 * time.Minute
	quietFor    = 2 * time.Second
)

// Pool is one simulated pool. Build it with NewPool, make it stand with Settle.
type Pool struct {
	File  *scenario.File
	Sched *vtime.Scheduler
	Net   *simnet.Network
	Etcd  *simkv.Cluster
	World *world.World
	Keys  store.Keys
	// Logs puts what agents and guards log into the time line, set-up included.
	Logs bool

	crew     Crew
	shared   *store.Shared
	truth    *truth
	trace    *trace
	reported *report
	// version counts changes of the world and of etcd, for those who wait for one.
	version    uint64
	lastCommit time.Duration
	lastLeader string
	// answered is the latest operator command's answer.
	answered Answer
	// listeners are told of the leaders' decisions.
	listeners []func(plan.Action)
	// learners are the servers with a member of the embedded etcd that does not vote.
	learners map[string]bool
	// earlier are claims before their owners changed last, for rollbackClaim.
	earlier map[pool.VMID]pool.Claim
	// onStep runs after every event of a play.
	onStep func() error
	tamper Tamper
	// lenient: faults that cannot happen are skipped; skipped holds their lines.
	lenient bool
	skipped []int
}

// NewPool builds the servers and seeds etcd as the scenario sets them up. hire makes the crew.
func NewPool(f *scenario.File, seed uint64, sink func(Line), hire func(*Pool) Crew) (*Pool, error) {
	s := vtime.New(seed)
	p := &Pool{File: f, Sched: s, Net: simnet.New(s), Keys: store.NewKeys(f.Pool.Name), shared: store.NewShared(), learners: map[string]bool{}}
	var voters []string
	if f.Pool.Embedded {
		voters = f.Pool.Voters
	}
	p.Etcd = simkv.New(s, p.Net, simkv.Options{Voters: voters})
	o := world.DefaultOptions()
	o.StartDelay, o.MigrateRate = f.Pool.StartDelay, f.Pool.MigrateRate
	p.World = world.New(s, p.Net, p.Etcd, o)
	p.trace = &trace{now: s.Now, sink: sink, words: f.AsWritten}
	p.truth = newTruth(p.Etcd, p.Keys)
	p.truth.follower.Share(p.shared)
	for _, srv := range f.Servers {
		p.World.AddServer(srv.ServerSpec)
		if !srv.Up {
			p.Etcd.SetAlive(srv.Name, false)
		}
	}
	for _, vm := range f.VMs {
		p.World.AddVM(harmless(vm.Sim))
	}
	p.seed()
	if err := p.truth.start(p.Etcd); err != nil {
		return nil, fmt.Errorf("seed etcd: %w", err)
	}
	p.crew = hire(p)
	p.World.Install(p.crew)
	p.World.Observe(func(e world.Event) { p.version++; p.tellWorld(e) })
	p.truth.observers = append(p.truth.observers, func(c Change) {
		p.version++
		p.lastCommit = s.Now()
		if l := c.After.Leader.Server; l != "" {
			p.lastLeader = string(l)
		}
		p.tellChange(c)
	})
	p.rememberClaims()
	return p, nil
}

// Close frees the pool's coroutines.
func (p *Pool) Close() { p.Sched.Close() }

// Snapshot returns the pool as etcd holds it.
func (p *Pool) Snapshot() *pool.Snapshot { return p.truth.snapshot() }

// OnChange calls f after every commit to etcd from now on.
func (p *Pool) OnChange(f func(Change)) { p.truth.observers = append(p.truth.observers, f) }

// OnDecision calls f for each decision of a leader that was carried out, from now on.
func (p *Pool) OnDecision(f func(plan.Action)) { p.listeners = append(p.listeners, f) }

// decided tells of a decision.
func (p *Pool) decided(a plan.Action) {
	for _, f := range p.listeners {
		f(a)
	}
}

// Now returns the virtual time since time 0.
func (p *Pool) Now() time.Duration { return p.trace.since() }

// harmless is a VM whose guest does not fail yet: set-up must not use the failures up.
func harmless(v world.VMSpec) world.VMSpec {
	v.StartFails, v.MigrateFails, v.StopFails = 0, 0, 0
	return v
}

// Registration is a simulated server's, with its power switch, or the word that only its watchdog counts.
func Registration(s world.ServerSpec, address string) pool.Server {
	reg := pool.Server{ID: pool.ServerID(s.Name), Address: address, HostUUID: world.HostUUID(s.Name)}
	switch s.Fencing {
	case world.FencingPower:
		reg.Fence = []pool.FenceDevice{{Agent: "fence_simulated", Params: map[string]string{"plug": s.Name}, Timeout: 20 * time.Second}}
	case world.FencingWatchdog:
		reg.Labels = map[string]string{plan.LabelFenceBy: plan.FenceByWatchdog} // the guard is there to feed it
	}
	return reg
}

// seed writes policy and registrations.
func (p *Pool) seed() {
	wall := p.World.Options().Epoch
	cfg := p.File.Pool.Config
	cfg.Incarnation = Incarnation
	ops := []kv.Op{p.Keys.PutConfig(cfg)}
	for _, s := range p.File.Servers {
		reg := Registration(s.ServerSpec, s.Name+":7443")
		if !p.hasVMs(s.Name) {
			reg.Maintenance, reg.InboundLock = s.Maintenance, s.InboundLock
		}
		ops = append(ops, p.Keys.PutServer(reg))
	}
	for _, v := range p.File.VMs {
		if !v.Running {
			ops = append(ops, p.register(v), p.Keys.PutClaim(pool.Claim{VM: v.ID, Phase: pool.PhaseUnassigned, Cause: pool.CauseStopped,
				LastServer: pool.ServerID(v.On), Since: wall, Incarnation: Incarnation}))
		} else if p.crowded() {
			ops = append(ops, p.register(v))
		}
	}
	p.Etcd.Seed(ops)
}

// register is the write that makes a VM known. One that runs at time 0 is made known together with its claim: the
// leader would give it to a server of its own choice.
func (p *Pool) register(v scenario.VM) kv.Op {
	vm := v.VM
	vm.XML = DomainXML(vm)
	return p.Keys.PutVM(vm)
}

// crowded reports whether the pool is set up as one that has run for long.
func (p *Pool) crowded() bool { return len(p.File.VMs) >= crowded }

func (p *Pool) hasVMs(server string) bool {
	return slices.ContainsFunc(p.File.VMs, func(v scenario.VM) bool { return v.Running && v.On == server })
}

// Settle brings the pool to time 0: members present, the right leader, claims held, VMs running where they should.
func (p *Pool) Settle() error {
	var up []string
	for _, s := range p.File.Servers {
		if s.Up {
			up = append(up, s.Name)
		}
	}
	if p.crowded() {
		if err := p.season(up); err != nil {
			return err
		}
		if err := p.until("agents awake", func() bool { return p.awake(up) }); err != nil {
			return err
		}
		return p.begin()
	}
	if p.File.Leader != "" {
		p.World.Server(p.File.Leader).Start()
		if err := p.until("a leader", func() bool { return string(p.truth.snapshot().Leader.Server) == p.File.Leader }); err != nil {
			return err
		}
	}
	for _, n := range up {
		if n != p.File.Leader {
			p.World.Server(n).Start()
		}
	}
	if err := p.until("all members", func() bool {
		return p.truth.snapshot().Members.Len() == len(up) && (len(up) == 0 || p.truth.snapshot().Leader.Server != "")
	}); err != nil {
		return err
	}
	p.assign()
	return p.begin()
}

// begin waits until everything stands as set up, and makes that moment time 0.
func (p *Pool) begin() error {
	if err := p.until("all VMs running", p.settled); err != nil {
		return fmt.Errorf("%w (%s)", err, p.unsettled())
	}
	p.lastCommit = p.Sched.Now()
	if err := p.until("a quiet pool", func() bool { return p.Sched.Now()-p.lastCommit >= quietFor && p.settled() }); err != nil {
		return err
	}
	// A fixed moment would lock onto the agents' timers.
	if err := p.Sched.Run(p.Sched.Now() + p.Sched.Between(0, p.File.Pool.LeaseTTL/5)); err != nil {
		return err
	}
	for _, v := range p.File.VMs {
		p.World.AddVM(v.Sim)
		// What was started more than once before everything stood counts as started once.
		im := p.World.Image(v.ID)
		im.Starts, im.Migrations = min(im.Starts, len(im.Executing())), 0
	}
	p.flags()
	p.trace.begin()
	p.tellBeginning()
	return p.truth.err
}

// assign hands every VM that runs at time 0 to its server; the agents start them as they start any.
func (p *Pool) assign() {
	var ops []kv.Op
	homes := homesOf(p.File)
	for _, v := range p.File.VMs {
		if !v.Running {
			continue
		}
		on := homes[v.ID]
		ops = append(ops, p.register(v))
		if len(v.Prefer) > 0 {
			// It was put there: what is set up stands until something happens.
			ops = append(ops, p.Keys.PutHome(pool.Home{VM: v.ID, Placed: pool.ServerID(on)}))
		}
		m, ok := p.truth.snapshot().Members.Get(pool.ServerID(on))
		if !ok {
			continue
		}
		ops = append(ops, p.Keys.PutClaim(pool.Claim{VM: v.ID, Server: m.Server, Session: m.Session, Epoch: 1,
			Phase: pool.PhaseAssigned, LastServer: m.Server, Since: p.World.Options().Epoch.Add(p.Sched.Now()), Incarnation: Incarnation}))
	}
	if len(ops) > 0 {
		p.Etcd.Seed(ops)
	}
}

// flags sets maintenance and locks of servers that have VMs, as the last thing before time 0: set earlier they would have
// kept them away, or moved them.
func (p *Pool) flags() {
	var ops []kv.Op
	for _, s := range p.File.Servers {
		if (!s.Maintenance && !s.InboundLock) || !p.hasVMs(s.Name) {
			continue
		}
		reg, _ := p.truth.snapshot().Servers.Get(pool.ServerID(s.Name))
		reg.Maintenance, reg.InboundLock = s.Maintenance, s.InboundLock
		ops = append(ops, p.Keys.PutServer(reg))
	}
	if len(ops) > 0 {
		p.Etcd.Seed(ops)
	}
}

// settled reports whether every VM stands as set up.
func (p *Pool) settled() bool { return p.unsettled() == "" }

// unsettled names the first VM that does not stand as set up.
func (p *Pool) unsettled() string {
	snap := p.truth.snapshot()
	for _, v := range p.File.VMs {
		if !v.Running {
			continue
		}
		c, _ := snap.Claims.Get(v.ID)
		st, _ := snap.States.Get(v.ID)
		at := p.World.Image(v.ID).Executing()
		srv := p.World.Server(string(c.Server))
		armed := c.Armed || !snap.Protected(v.VM) || (srv != nil && !srv.HasGuard())
		if len(at) != 1 || c.Phase != pool.PhaseHeld || !armed || st.State != pool.RunRunning {
			return fmt.Sprintf("%s: executes on %v, claim %s %s, armed %v, reported %s %s", v.ID, at, c.Phase, c.Server, c.Armed, st.State, st.Reason)
		}
	}
	return ""
}

// until runs until ok, looking every 20 ms.
func (p *Pool) until(what string, ok func() bool) error {
	limit := p.Sched.Now() + settleLimit
	for !ok() {
		if p.Sched.Now() >= limit {
			return fmt.Errorf("the set-up does not settle: no %s after %v", what, settleLimit)
		}
		if err := p.Sched.Run(p.Sched.Now() + 20*time.Millisecond); err != nil {
			return err
		}
	}
	return nil
}

// DomainXML returns a definition that the API accepts for a simulated VM.
func DomainXML(v pool.VM) string {
	disk := fmt.Sprintf(`<disk type='file' device='disk'><driver name='qemu' type='qcow2'/><source file='/pool/%s.qcow2'/><target dev='vda' bus='virtio'/></disk>`, v.ID)
	if !v.DiskLocks {
		disk = fmt.Sprintf(`<disk type='block' device='disk'><driver name='qemu' type='raw'/><source dev='/dev/pool/%s'/><target dev='vda' bus='virtio'/></disk>`, v.ID)
	}
	return fmt.Sprintf(`<domain type='kvm'><name>%s</name><uuid>%s</uuid><memory unit='KiB'>%d</memory><vcpu>%d</vcpu><os><type arch='x86_64' machine='q35'>hvm</type></os><devices>%s</devices></domain>`,
		v.ID, v.UUID, v.MemoryBytes>>10, v.CPUs, disk)
}
