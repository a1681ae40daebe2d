package world

import (
	"fmt"
	"slices"
	"time"

	"github.com/holdfast-ha/holdfast/agent/sim/simkv"
	"github.com/holdfast-ha/holdfast/agent/sim/simnet"
	"github.com/holdfast-ha/holdfast/agent/sim/vtime"
	"github.com/holdfast-ha/holdfast/pkg/pool"
)

// Kind classifies what happened in the world.
type Kind int

// Kinds of event.
const (
	// KindServer: power, boot, reset.
	KindServer Kind = iota
	// KindProcess: agent, guard or libvirtd started, ended, hung or resumed.
	KindProcess
	// KindGuest: a guest began or ceased to execute, or its process appeared or ended.
	KindGuest
	// KindFence: a power switch was used.
	KindFence
	// KindStorage: a path to the storage went or came.
	KindStorage
)

// Event is one change of the world's truth.
type Event struct {
	Kind   Kind
	Server string
	VM     pool.VMID
	Text   string
}

// Programs starts the programs of a server, in a fresh process each. The wiring of agents provides it.
type Programs interface {
	StartAgent(s *Server, p *vtime.Proc)
	StartGuard(s *Server, p *vtime.Proc)
	// StopAgent asks the agent to end in an orderly way, as a service manager does; restart says that it is
	// started again at once. The program calls Server.AgentEnded when it is done.
	StopAgent(s *Server, restart bool)
}

// Options are what all servers share.
type Options struct {
	// StartDelay is what creating a domain takes.
	StartDelay time.Duration
	// MigrateRate is the speed of a migration in bytes per second.
	MigrateRate int64
	// GuestShutdown is how long a guest takes to power off.
	GuestShutdown time.Duration
	// Epoch is what a perfect wall clock shows at virtual time 0.
	Epoch time.Time
	// Timepiece is every server's clock, whatever its boots; nil gives each its own. A paced world needs it.
	Timepiece *vtime.Timepiece
}

// DefaultOptions returns the values of the scenario language.
func DefaultOptions() Options {
	return Options{StartDelay: 400 * time.Millisecond, MigrateRate: 100 << 20, GuestShutdown: 2 * time.Second,
		Epoch: time.Date(2026, 1, 5, 8, 0, 0, 0, time.UTC)}
}

// World is all servers and VMs. Build it with New; it is for the goroutine that runs its scheduler.
type World struct {
	s         *vtime.Scheduler
	net       *simnet.Network
	etcd      *simkv.Cluster
	o         Options
	programs  Programs
	servers   map[string]*Server
	names     []string
	images    map[pool.VMID]*Image
	lockless  bool
	observers []func(Event)
}

// New returns a world without servers.
func New(s *vtime.Scheduler, net *simnet.Network, etcd *simkv.Cluster, o Options) *World {
	return &World{s: s, net: net, etcd: etcd, o: o, servers: map[string]*Server{}, images: map[pool.VMID]*Image{}}
}

// Install says what runs on servers from their next start on.
func (w *World) Install(p Programs) { w.programs = p }

// Observe makes f see every event, outside or inside any coroutine; it must not park.
func (w *World) Observe(f func(Event)) { w.observers = append(w.observers, f) }

// Scheduler returns the world's scheduler.
func (w *World) Scheduler() *vtime.Scheduler { return w.s }

// Network returns the network.
func (w *World) Network() *simnet.Network { return w.net }

// Etcd returns the simulated etcd; nil when agents use a real one.
func (w *World) Etcd() *simkv.Cluster { return w.etcd }

// Options returns what all servers share.
func (w *World) Options() Options { return w.o }

// Server returns a server by name, nil if there is none.
func (w *World) Server(name string) *Server { return w.servers[name] }

// Servers returns all servers in name order.
func (w *World) Servers() []*Server {
	out := make([]*Server, len(w.names))
	for i, n := range w.names {
		out[i] = w.servers[n]
	}
	return out
}

// AddServer adds a server without power.
func (w *World) AddServer(spec ServerSpec) *Server {
	s := newServer(w, spec)
	w.servers[spec.Name] = s
	i, _ := slices.BinarySearch(w.names, spec.Name)
	w.names = slices.Insert(w.names, i, spec.Name)
	return s
}

func (w *World) emit(k Kind, server string, vm pool.VMID, format string, args ...any) {
	e := Event{k, server, vm, fmt.Sprintf(format, args...)}
	for _, f := range w.observers {
		f(e)
	}
}

// SetRates changes what starts and migrations take from now on.
func (w *World) SetRates(start time.Duration, migrate int64) {
	w.o.StartDelay, w.o.MigrateRate = start, migrate
}
