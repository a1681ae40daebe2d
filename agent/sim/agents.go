package sim

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/holdfast-ha/holdfast/agent/api"
	"github.com/holdfast-ha/holdfast/agent/app"
	"github.com/holdfast-ha/holdfast/agent/sim/previous"
	"github.com/holdfast-ha/holdfast/agent/sim/vtime"
	"github.com/holdfast-ha/holdfast/agent/sim/world"
	"github.com/holdfast-ha/holdfast/agent/virt/definition"
	"github.com/holdfast-ha/holdfast/pkg/lease"
	"github.com/holdfast-ha/holdfast/pkg/pool"
	"github.com/holdfast-ha/holdfast/pkg/version"
)

// restartAgent is how long a service manager waits before it starts an agent again that ended with an error.
const restartAgent = time.Second

// agents is the Crew of real agents and guards.
type agents struct {
	p       *Pool
	running map[string]*simAgent
	guards  map[*vtime.Proc]guardLoop
}

// simAgent is one real agent on a simulated server.
type simAgent struct {
	*app.Agent
	crew   *agents
	server *world.Server
	proc   *vtime.Proc
	hyper  *world.Hypervisor
	cancel context.CancelCauseFunc
	// stopping: an orderly stop was asked for; restart with it.
	stopping, restart bool
}

// Agents hires real agents and guards.
func Agents(p *Pool) Crew {
	return &agents{p: p, running: map[string]*simAgent{}, guards: map[*vtime.Proc]guardLoop{}}
}

// Agent returns the agent that runs on a server.
func (c *agents) Agent(server string) Agent {
	a := c.running[server]
	if a == nil || !a.proc.Alive() {
		return nil
	}
	return a
}

// StartAgent assembles an agent from simulated edges and runs it in process p.
func (c *agents) StartAgent(s *world.Server, p *vtime.Proc) {
	a := &simAgent{crew: c, server: s, proc: p, hyper: s.Hypervisor(p)}
	client := c.p.Etcd.Client(p, s.Name)
	edges := app.Edges{
		Clock: p, Machine: s.Machine(p), Store: client, Leases: client, LeaseState: &leaseState{s, p}, FormerSession: &formerSession{s, p}, Hypervisor: a.hyper, Needs: a.hyper, Drifts: a.hyper,
		Capacity: a.hyper.Capacity, Fencer: s.Fencer(p), Reach: &peers{a}, Servers: &peers{a}, Peers: &peers{a}, Asker: &peers{a}, Roster: &rosterMemory{s, p}, Definitions: definitions{},
		CanLoseOne: func(context.Context) error { return c.p.canLoseOne() },
		Voter:      func() bool { return slices.Contains(c.p.Etcd.Voters(), s.Name) },
		Decided:    c.p.decided,
		Shared:     c.p.shared,
		Log:        c.p.logger(p),
	}
	if c.p.File.Pool.Embedded {
		edges.LeaderWork, edges.GoesOn = a.keepVotes, a.goesOn
	}
	if s.HasGuard() {
		edges.Guard = &guardClient{c, s, p}
	}
	v := s.Version
	if v == "" {
		v = version.Version
	} else {
		edges.Store, edges.Shared = previous.Store(client, c.p.Keys.Prefix()), nil
	}
	agent, err := app.New(app.Config{Pool: c.p.File.Pool.Name, Server: pool.ServerID(s.Name), Version: v}, c.p.tamper.agent(s.Name, edges))
	if err != nil {
		c.p.Sched.Fail(fmt.Errorf("agent of %s: %w", s.Name, err))
		return
	}
	a.Agent = agent
	c.running[s.Name] = a
	ctx, cancel := p.WithCancel(context.Background())
	a.cancel = cancel
	p.Go("agent", func() { a.run(ctx) })
}

// run is the agent's main: it ends with the process.
func (a *simAgent) run(ctx context.Context) {
	err := a.Run(ctx)
	if a.stopping {
		a.server.AgentEnded(a.proc, a.restart)
		return
	}
	s, sched := a.server, a.crew.p.Sched
	a.crew.p.trace.add("the agent of %s ends: %v", s.Name, err)
	s.AgentEnded(a.proc, false)
	sched.After(restartAgent, func() {
		if s.Agent() == nil {
			s.StartAgent()
		}
	})
}

// StopAgent ends an agent in an orderly way, as an update does.
func (c *agents) StopAgent(s *world.Server, restart bool) {
	a := c.running[s.Name]
	if a == nil || !a.proc.Alive() || a.stopping {
		return
	}
	a.stopping, a.restart = true, restart
	a.proc.Go("stop", func() {
		ctx, cancel := a.proc.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := a.Leave(ctx); err != nil {
			c.p.trace.add("the agent of %s could not hand its session over: %v", s.Name, err)
		}
		a.cancel(nil)
	})
}

// leaseState keeps a session for the agent's successor under the server's /run.
type leaseState struct {
	s *world.Server
	p *vtime.Proc
}

func (l *leaseState) Load() (lease.State, bool, error) {
	l.p.Check()
	st, ok := l.s.Run["lease"].(lease.State)
	return st, ok, nil
}

func (l *leaseState) Save(st lease.State) error {
	l.p.Check()
	l.s.Run["lease"] = st
	return nil
}

// formerSession keeps a handed-over session on the server's disk, for a later boot.
type formerSession struct {
	s *world.Server
	p *vtime.Proc
}

// former is a session with the boot that handed it over.
type former struct {
	boot  string
	state lease.State
}

func (f *formerSession) Load() (lease.State, bool, error) {
	f.p.Check()
	kept, ok := f.s.Disk["former session"].(former)
	return kept.state, ok && kept.boot != f.s.BootID(), nil
}

func (f *formerSession) Save(st lease.State) error {
	f.p.Check()
	f.s.Disk["former session"] = former{f.s.BootID(), st}
	return nil
}

// definitions reads domain XML as a real agent does.
type definitions struct{}

func (definitions) Parse(xml string) (api.Definition, error) {
	text, d, err := definition.Register(xml, func() string { return world.VMUUID(pool.VMID(xml)) })
	if err != nil {
		return api.Definition{}, err
	}
	text, passwords, err := definition.TakeSecrets(text)
	if err != nil {
		return api.Definition{}, err
	}
	return api.Definition{Name: d.Name, UUID: d.UUID, XML: text, Passwords: passwords, MemoryBytes: d.MemoryBytes, CPUs: d.CPUs, Needs: d.Needs,
		DiskLocks: d.DiskLocks, Movable: d.Movable, Notes: d.Notes}, nil
}

// canLoseOne says whether the simulated etcd survives the loss of one server.
func (p *Pool) canLoseOne() error {
	if n := len(p.Etcd.Voters()); n == 1 || n == 2 {
		return pool.Refuse("ETCD_TOO_SMALL", "add a third vote: holdfast-agent witness, or use external etcd",
			"the pool's etcd has %d votes and does not survive the loss of one server", n)
	}
	return nil
}

// logger returns what an agent or guard logs to: the time line if the run shows logs, else nothing.
func (p *Pool) logger(proc *vtime.Proc) *slog.Logger {
	if !p.Logs {
		return slog.New(slog.DiscardHandler)
	}
	return slog.New(&logHandler{p: p, proc: proc})
}

// logHandler writes log records into the time line.
type logHandler struct {
	p     *Pool
	proc  *vtime.Proc
	attrs string
}

func (h *logHandler) Enabled(_ context.Context, l slog.Level) bool {
	return h.proc.Alive() && l >= slog.LevelDebug
}

func (h *logHandler) Handle(_ context.Context, r slog.Record) error {
	var b strings.Builder
	fmt.Fprintf(&b, "[%s] %s %s%s", h.proc.Name(), r.Level, r.Message, h.attrs)
	r.Attrs(func(a slog.Attr) bool {
		fmt.Fprintf(&b, " %s=%v", a.Key, a.Value)
		return true
	})
	h.p.trace.log(b.String())
	return nil
}

func (h *logHandler) WithAttrs(as []slog.Attr) slog.Handler {
	n := *h
	for _, a := range as {
		n.attrs += fmt.Sprintf(" %s=%v", a.Key, a.Value)
	}
	return &n
}

func (h *logHandler) WithGroup(string) slog.Handler { return h }
