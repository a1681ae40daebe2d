package simnet

import (
	"slices"
	"time"

	"github.com/holdfast-ha/holdfast/agent/sim/vtime"
)

// Site is the place of an etcd outside the pool. It cannot be a server's name.
const Site = "(etcd)"

// Class is a set of kinds of traffic.
type Class uint8

// Kinds of traffic.
const (
	// Etcd is between etcd's clients and members, and between members.
	Etcd Class = 1 << iota
	// Mesh is between agents.
	Mesh
	All = Etcd | Mesh
)

type pair struct{ from, to string }

// Network says who reaches whom. It is for the goroutine that runs its scheduler.
type Network struct {
	s *vtime.Scheduler
	// nodes are cuts of everything that a server has, by kind of traffic.
	nodes map[string]Class
	pairs map[pair]Class
	slow  map[string]time.Duration
	loss  map[string]float64
	// base and jitter make up the time of a message on a healthy network.
	base, jitter time.Duration
	changed      []func()
}

// New returns a healthy network whose messages take 0.1 to 0.5 ms.
func New(s *vtime.Scheduler) *Network {
	n := &Network{s: s, base: 100 * time.Microsecond, jitter: 400 * time.Microsecond}
	n.reset()
	return n
}

// OnChange makes f run after each change of reachability.
func (n *Network) OnChange(f func()) { n.changed = append(n.changed, f) }

// Open reports whether a message of kind c gets from one place to another now. A place always reaches itself.
func (n *Network) Open(from, to string, c Class) bool {
	if from == to {
		return true
	}
	return (n.nodes[from]|n.nodes[to]|n.pairs[pair{from, to}])&c == 0
}

// Both reports whether messages of kind c pass in both directions.
func (n *Network) Both(a, b string, c Class) bool { return n.Open(a, b, c) && n.Open(b, a, c) }

// Isolated reports whether a server has no network at all.
func (n *Network) Isolated(server string) bool { return n.nodes[server]&All == All }

// Delay draws how long the next message from one place to another takes.
func (n *Network) Delay(from, to string) time.Duration {
	if from == to {
		return 20 * time.Microsecond
	}
	d := n.base + n.s.Between(0, n.jitter) + n.slow[from] + n.slow[to]
	if lost := max(n.loss[from], n.loss[to]); lost > 0 {
		for again := 200 * time.Millisecond; again < 4*time.Second && n.s.Rand().Float64() < lost; again *= 2 {
			d += again
		}
	}
	return d
}

// Cut ends all traffic of kind c to and from a server.
func (n *Network) Cut(server string, c Class) {
	n.nodes[server] |= c
	n.tell()
}

// CutPair ends all traffic between two servers, in both directions.
func (n *Network) CutPair(a, b string) {
	n.pairs[pair{a, b}] = All
	n.pairs[pair{b, a}] = All
	n.tell()
}

// CutOneWay ends traffic of kind c from one place to another; the other direction stays.
func (n *Network) CutOneWay(from, to string, c Class) {
	n.pairs[pair{from, to}] |= c
	n.tell()
}

// Split cuts each group from the others, and from the outside etcd all but the group numbered with.
func (n *Network) Split(groups [][]string, with int) {
	for i, g := range groups {
		for j, h := range groups {
			if i == j {
				continue
			}
			for _, a := range g {
				for _, b := range h {
					n.pairs[pair{a, b}] = All
				}
			}
		}
		if i != with {
			for _, a := range g {
				n.pairs[pair{a, Site}] = All
				n.pairs[pair{Site, a}] = All
			}
		}
	}
	n.tell()
}

// Slow makes every message to and from a server take d longer.
func (n *Network) Slow(server string, d time.Duration) { n.slow[server] = d }

// Slowed reports whether messages to and from a server take longer.
func (n *Network) Slowed(server string) bool { return n.slow[server] > 0 }

// Lose makes each message to and from a server be lost with probability p, and sent again as TCP does.
func (n *Network) Lose(server string, p float64) { n.loss[server] = p }

// Heal mends everything that a server has.
func (n *Network) Heal(server string) {
	delete(n.nodes, server)
	delete(n.slow, server)
	delete(n.loss, server)
	for k := range n.pairs {
		if k.from == server || k.to == server {
			delete(n.pairs, k)
		}
	}
	n.tell()
}

// HealAll mends every network fault.
func (n *Network) HealAll() {
	n.reset()
	n.tell()
}

// Faulty lists the places that have a fault, in order.
func (n *Network) Faulty() []string {
	var out []string
	for s := range n.nodes {
		out = append(out, s)
	}
	for p := range n.pairs {
		out = append(out, p.from, p.to)
	}
	for s := range n.slow {
		out = append(out, s)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

func (n *Network) reset() {
	n.nodes = map[string]Class{}
	n.pairs = map[pair]Class{}
	n.slow = map[string]time.Duration{}
	n.loss = map[string]float64{}
}

func (n *Network) tell() {
	for _, f := range n.changed {
		f()
	}
}
