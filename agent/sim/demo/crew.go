package demo

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"google.golang.org/grpc"

	"github.com/holdfast-ha/holdfast/agent/api"
	"github.com/holdfast-ha/holdfast/agent/app"
	"github.com/holdfast-ha/holdfast/agent/figures"
	"github.com/holdfast-ha/holdfast/agent/guard"
	"github.com/holdfast-ha/holdfast/agent/local"
	"github.com/holdfast-ha/holdfast/agent/sim"
	"github.com/holdfast-ha/holdfast/agent/sim/simnet"
	"github.com/holdfast-ha/holdfast/agent/sim/vtime"
	"github.com/holdfast-ha/holdfast/agent/sim/world"
	"github.com/holdfast-ha/holdfast/pkg/clock"
	kvetcd "github.com/holdfast-ha/holdfast/pkg/kv/etcd"
	"github.com/holdfast-ha/holdfast/pkg/lease"
	"github.com/holdfast-ha/holdfast/pkg/pool"
	"github.com/holdfast-ha/holdfast/pkg/rpc"
	"github.com/holdfast-ha/holdfast/pkg/version"
	pb "github.com/holdfast-ha/holdfast/proto/holdfast/v1"
)

// crew runs real agents in goroutines and real guards in the paced world. Its methods that begin with Start and Stop
// are called with the scheduler to themselves.
type crew struct {
	world    *world.World
	ctx      context.Context //nolint:containedctx // the demo's life, given to agents that faults start
	paced    *vtime.Paced
	pool     string
	endpoint string
	address  map[string]string
	serve    func(*grpc.Server, *app.Agent)
	log      *slog.Logger
	said     func(format string, args ...any)

	group sync.WaitGroup

	network *simnet.Network

	mu     sync.Mutex
	agents map[string]*running
	guards map[*vtime.Proc]*guard.Loop
	// noEtcd are the servers without a way to etcd, etcdDown says that nobody has one, and apart which agents do not
	// reach each other.
	noEtcd   map[string]bool
	etcdDown bool
	apart    map[[2]string]bool
}

// running is one agent.
type running struct {
	agent  *app.Agent
	hyper  *world.Outside
	gate   *gate
	cancel context.CancelFunc
}

var _ world.Programs = (*crew)(nil)

// StartGuard runs the real guard's loop in its process.
func (c *crew) StartGuard(s *world.Server, p *vtime.Proc) {
	edge := s.Processes(p)
	cfg := guard.LoopConfig{Core: guard.NewCore(), Processes: edge, Memory: sim.GuardMemory(s, p), Pauser: edge, Clock: p, Log: c.log}
	if dog := s.WatchdogEdge(p); dog != nil {
		cfg.Watchdog = dog
	}
	loop := guard.NewLoop(cfg)
	c.guards[p] = loop
	p.Go("guard", func() {
		if err := loop.Run(context.Background()); err != nil {
			c.said("the guard of %s ended: %v", s.Name, err)
		}
	})
}

// StartAgent runs a real agent beside the world until its process dies.
func (c *crew) StartAgent(s *world.Server, p *vtime.Proc) {
	ctx, cancel := context.WithCancel(c.ctx)
	hyper := s.Outside(c.paced, p)
	p.Go("life", func() {
		defer cancel()
		_ = p.Sleep(context.Background(), 100*365*24*time.Hour) // until the process is killed
	})
	state := sim.LeaseState(s, p)
	name := s.Name
	c.group.Add(1)
	go func() {
		defer c.group.Done()
		if err := c.runAgent(ctx, cancel, s, p, hyper, &outsideState{c.paced, p, state}); err != nil && ctx.Err() == nil {
			c.said("the agent of %s ended: %v", name, err)
		}
		c.paced.Do(func() { s.AgentEnded(p, false) })
	}()
}

// StopAgent lets an agent hand its session over and end.
func (c *crew) StopAgent(s *world.Server, restart bool) {
	c.mu.Lock()
	r := c.agents[s.Name]
	c.mu.Unlock()
	p := s.Agent()
	if r == nil || p == nil {
		return
	}
	go func() {
		ctx, cancel := context.WithTimeout(c.ctx, 5*time.Second)
		defer cancel()
		if err := r.agent.Leave(ctx); err != nil {
			c.said("the agent of %s could not hand its session over: %v", s.Name, err)
		}
		c.paced.Do(func() { s.AgentEnded(p, restart) })
	}()
}

// runAgent assembles an agent and serves its API until ctx ends.
func (c *crew) runAgent(ctx context.Context, cancel context.CancelFunc, s *world.Server, p *vtime.Proc, hyper *world.Outside, state lease.StateStore) error {
	etcd, err := kvetcd.Open(kvetcd.Options{Endpoints: []string{c.endpoint}})
	if err != nil {
		return err
	}
	defer func() { _ = etcd.Close() }() // nothing is left to lose
	g := &gate{store: etcd, leases: etcd}
	c.mu.Lock()
	g.closed.Store(c.etcdDown || c.noEtcd[s.Name])
	c.mu.Unlock()
	edges := app.Edges{
		Clock: clock.Real(), Store: g, Leases: g, LeaseState: state, Hypervisor: hyper, Needs: hyper, Drifts: hyper, Capacity: hyper.Capacity,
		Load: hyper, Figures: &peers{c, s.Name}, Servers: &peers{c, s.Name}, Peers: &peers{c, s.Name}, Asker: &peers{c, s.Name}, Definitions: sim.Definitions(),
		Drill: &place{c, s}, Canaries: &peers{c, s.Name}, Fencer: s.OutsideFencer(c.paced, p), Machine: s.OutsideMachine(c.paced, p),
		CanLoseOne: func(context.Context) error { return nil }, Log: c.log.With("server", s.Name),
	}
	if s.HasGuard() {
		edges.Guard = &guards{c, s, p}
	}
	agent, err := app.New(app.Config{Pool: c.pool, Server: pool.ServerID(s.Name), Version: version.Version, Incarnation: Incarnation}, edges)
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", c.address[s.Name])
	if err != nil {
		return fmt.Errorf("agent of %s: %w", s.Name, err)
	}
	srv := grpc.NewServer(rpc.ServerOptions(nil)...)
	c.serve(srv, agent)
	c.mu.Lock()
	c.agents[s.Name] = &running{agent: agent, hyper: hyper, gate: g, cancel: cancel}
	c.mu.Unlock()
	c.group.Add(1)
	go func() {
		defer c.group.Done()
		_ = srv.Serve(listener) // ends with Stop
	}()
	err = agent.Run(ctx)
	srv.Stop()
	c.mu.Lock()
	delete(c.agents, s.Name)
	c.mu.Unlock()
	return err
}

// lookAtNetwork takes note of who reaches whom. It is called with the scheduler to itself.
func (c *crew) lookAtNetwork() {
	noEtcd, apart := map[string]bool{}, map[[2]string]bool{}
	for a := range c.address {
		noEtcd[a] = !c.network.Both(a, simnet.Site, simnet.Etcd)
		for b := range c.address {
			apart[[2]string{a, b}] = a != b && !c.network.Both(a, b, simnet.Mesh)
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.noEtcd, c.apart = noEtcd, apart
	c.setGates()
}

// stopEtcd has etcd answer nobody, or everybody again.
func (c *crew) stopEtcd(down bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.etcdDown = down
	c.setGates()
}

// setGates opens and closes the agents' ways to etcd. c.mu is held.
func (c *crew) setGates() {
	for name, r := range c.agents {
		r.gate.closed.Store(c.etcdDown || c.noEtcd[name])
	}
}

// outsideState keeps a session under the simulated server's /run, while its process lives.
type outsideState struct {
	paced *vtime.Paced
	proc  *vtime.Proc
	inner lease.StateStore
}

var errEnded = errors.New("the agent's process has ended")

func (o *outsideState) Load() (st lease.State, ok bool, err error) {
	err = errEnded
	o.paced.Do(func() {
		if o.proc.Alive() {
			st, ok, err = o.inner.Load()
		}
	})
	return st, ok, err
}

func (o *outsideState) Save(st lease.State) error {
	err := errEnded
	o.paced.Do(func() {
		if o.proc.Alive() {
			err = o.inner.Save(st)
		}
	})
	return err
}

// guards reaches the guard that runs on a server at the time of each call.
type guards struct {
	c *crew
	s *world.Server
	p *vtime.Proc
}

var _ guard.Client = (*guards)(nil)

func (g *guards) client() (guard.Client, error) {
	var proc *vtime.Proc
	var loop *guard.Loop
	g.c.paced.Do(func() {
		proc = g.s.Guard()
		loop = g.c.guards[proc]
	})
	if proc == nil || loop == nil {
		return nil, fmt.Errorf("the guard does not answer: %w", pool.ErrUnavailable)
	}
	return world.NewOutsideGuard(g.c.paced, proc, loop), nil
}

// Extend implements guard.Client.
func (g *guards) Extend(ctx context.Context, l guard.Lease) error {
	c, err := g.client()
	if err != nil {
		return err
	}
	return c.Extend(ctx, l)
}

// Hold implements guard.Client.
func (g *guards) Hold(ctx context.Context, h guard.Held) error {
	c, err := g.client()
	if err != nil {
		return err
	}
	return c.Hold(ctx, h)
}

// LetGo implements guard.Client.
func (g *guards) LetGo(ctx context.Context, vm pool.VMID) error {
	c, err := g.client()
	if err != nil {
		return err
	}
	return c.LetGo(ctx, vm)
}

// Status implements guard.Client.
func (g *guards) Status(ctx context.Context) (guard.Status, error) {
	c, err := g.client()
	if err != nil {
		return guard.Status{}, err
	}
	return c.Status(ctx)
}

// peers asks the other agents, in this process.
type peers struct {
	c    *crew
	self string
}

var (
	_ api.Servers   = (*peers)(nil)
	_ figures.Peers = (*peers)(nil)
)

func (m *peers) hyper(server pool.ServerID) (*world.Outside, error) {
	m.c.mu.Lock()
	defer m.c.mu.Unlock()
	r := m.c.agents[string(server)]
	if r == nil || m.c.apart[[2]string{m.self, string(server)}] {
		return nil, fmt.Errorf("server %s does not answer: %w", server, pool.ErrUnavailable)
	}
	return r.hyper, nil
}

func (m *peers) agent(server pool.ServerID) (*app.Agent, error) {
	if _, err := m.hyper(server); err != nil {
		return nil, err
	}
	m.c.mu.Lock()
	defer m.c.mu.Unlock()
	return m.c.agents[string(server)].agent, nil
}

// Prepare implements local.Peers. Simulated hypervisors reach each other without sockets.
func (m *peers) Prepare(ctx context.Context, to pool.ServerID, op pool.OperationID, vm pool.VMID, epoch pool.Epoch) (local.Link, error) {
	a, err := m.agent(to)
	if err != nil {
		return local.Link{}, err
	}
	return local.Link{}, a.AdmitIncoming(ctx, op, vm, epoch)
}

// ConfirmIncoming implements local.Peers.
func (m *peers) ConfirmIncoming(ctx context.Context, to pool.ServerID, op pool.OperationID, vm pool.VMID, session pool.Session) (local.Confirmed, error) {
	a, err := m.agent(to)
	if err != nil {
		return local.Confirmed{}, err
	}
	return a.Incoming(ctx, op, vm, session)
}

// Close implements local.Peers.
func (m *peers) Close(op pool.OperationID) {
	m.c.mu.Lock()
	r := m.c.agents[m.self]
	m.c.mu.Unlock()
	if r != nil {
		r.hyper.CloseWay(op)
	}
}

// Inspect implements api.Servers.
func (m *peers) Inspect(ctx context.Context, server pool.ServerID, xml string, needs []pool.Need) (api.Inspection, error) {
	h, err := m.hyper(server)
	if err != nil {
		return api.Inspection{}, err
	}
	missing, err := h.Missing(ctx, needs)
	if err != nil {
		return api.Inspection{}, err
	}
	in := api.Inspection{Server: server, Missing: missing}
	if _, err := sim.Definitions().Parse(xml); err != nil {
		in.Rejected = err.Error()
	}
	return in, nil
}

// Lookup implements api.Servers: simulated servers have no domains but the pool's.
func (m *peers) Lookup(_ context.Context, server pool.ServerID, _ string) (api.FoundDomain, bool, error) {
	_, err := m.hyper(server)
	return api.FoundDomain{}, false, err
}

// Figures implements figures.Peers. A cut ends it at the next measurement.
func (m *peers) Figures(ctx context.Context, server pool.ServerID, take func(*pb.ServerFigures)) error {
	a, err := m.agent(server)
	if err != nil {
		return err
	}
	return a.Meter().Stream(ctx, func(f *pb.ServerFigures) error {
		if again, err := m.agent(server); err != nil || again != a {
			return fmt.Errorf("server %s does not answer: %w", server, pool.ErrUnavailable)
		}
		take(f)
		return nil
	})
}
