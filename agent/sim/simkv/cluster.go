package simkv

import (
	"slices"
	"time"

	"github.com/holdfast-ha/holdfast/agent/sim/simnet"
	"github.com/holdfast-ha/holdfast/agent/sim/vtime"
	"github.com/holdfast-ha/holdfast/pkg/kv"
	"github.com/holdfast-ha/holdfast/pkg/pool"
)

// Commit is one write as observers see it.
type Commit struct {
	Revision pool.Revision
	// By is the client's server, or "etcd" for an expired lease.
	By     string
	Txn    kv.Txn
	Events []kv.Event
}

// Options say what kind of etcd is simulated.
type Options struct {
	// Voters are the servers that carry a voting member; empty: three members outside the pool.
	Voters []string
	// Election is the election time-out: 500 ms embedded, 1 s outside, if zero. Raft takes one to two of it.
	Election time.Duration
}

// Cluster is one simulated etcd.
type Cluster struct {
	s        *vtime.Scheduler
	net      *simnet.Network
	state    *state
	voters   []string
	election time.Duration
	// dead voters: their servers have no power.
	dead map[string]bool
	// down: quorum is lost by order.
	down bool
	// leader is the leading voter, or simnet.Site; empty during elections and without quorum.
	leader    string
	electing  bool
	leases    map[kv.LeaseID]*lease
	order     []*lease
	clients   []*Client
	watchers  []*watcher
	observers []func(Commit)
	// changes counts elections.
	changes int
}

// New returns an etcd with a leader and without keys.
func New(s *vtime.Scheduler, net *simnet.Network, o Options) *Cluster {
	c := &Cluster{s: s, net: net, state: newState(), voters: slices.Clone(o.Voters), election: o.Election,
		dead: map[string]bool{}, leases: map[kv.LeaseID]*lease{}}
	if c.election == 0 {
		c.election = time.Second
		if len(c.voters) > 0 {
			c.election = 500 * time.Millisecond
		}
	}
	c.leader = simnet.Site
	if len(c.voters) > 0 {
		c.leader = c.voters[s.Rand().IntN(len(c.voters))]
	}
	net.OnChange(c.review)
	return c
}

// OnCommit makes f see every write, outside any coroutine.
func (c *Cluster) OnCommit(f func(Commit)) { c.observers = append(c.observers, f) }

// Revision returns the store's revision.
func (c *Cluster) Revision() pool.Revision { return c.state.rev }

// Peek returns the keys below prefix as they are, in no time: for set-up and checks, not for agents.
func (c *Cluster) Peek(prefix string) []kv.KeyValue { return c.state.list(prefix) }

// Value returns one key as it is, in no time.
func (c *Cluster) Value(key string) (kv.KeyValue, bool) {
	v, ok := c.state.values[key]
	return v, ok
}

// Seed writes ops as one revision, in no time, whatever their number: for set-up.
func (c *Cluster) Seed(ops []kv.Op) pool.Revision {
	c.write(Commit{By: "set-up", Txn: kv.Txn{Then: ops}})
	return c.state.rev
}

// Write writes ops as one revision, in no time, for somebody who is no agent.
func (c *Cluster) Write(by string, ops []kv.Op) {
	c.write(Commit{By: by, Txn: kv.Txn{Then: ops}})
}

// Revoke ends a lease and deletes its keys, for somebody who is no agent; false if there is no such lease.
func (c *Cluster) Revoke(by string, id kv.LeaseID) bool {
	l := c.leases[id]
	if l == nil {
		return false
	}
	c.revoke(l, by)
	return true
}

// SeedLease grants a lease in no time: for set-up.
func (c *Cluster) SeedLease(ttl time.Duration) kv.LeaseID { return c.grant(ttl) }

// Compact forgets history before rev.
func (c *Cluster) Compact(rev pool.Revision) { c.state.compact(rev) }

// Leader returns the server whose voter leads, simnet.Site for one outside, or "" while there is none.
func (c *Cluster) Leader() string {
	if !c.ready() {
		return ""
	}
	return c.leader
}

// Voters returns the servers that carry a voting member.
func (c *Cluster) Voters() []string { return slices.Clone(c.voters) }

// SetVoters changes who votes, as a membership change that every member knows at once.
func (c *Cluster) SetVoters(voters []string) {
	c.voters = slices.Clone(voters)
	c.review()
}

// Down takes quorum away from everybody; Up gives it back, the election included.
func (c *Cluster) Down() {
	c.down = true
	c.leader = ""
}

// Up ends Down.
func (c *Cluster) Up() {
	if !c.down {
		return
	}
	c.down = false
	c.electing = false
	c.elect()
	c.review()
}

// Depose makes etcd's leader step down: an election follows.
func (c *Cluster) Depose() {
	c.leader = ""
	c.review()
}

// SetAlive says whether a server has power: its voter, if it carries one, runs only then, and what its processes
// had not sent yet is gone with it.
func (c *Cluster) SetAlive(server string, alive bool) {
	if c.dead[server] == !alive {
		return
	}
	c.dead[server] = !alive
	for _, cl := range c.clients {
		if cl.server == server && !alive {
			for _, r := range cl.held {
				r.doomed = true
			}
		}
	}
	c.review()
}

// Elections counts the leaders that were elected: at each, every lease gets its full life again.
func (c *Cluster) Elections() int { return c.changes }

// Quorum reports whether a leader could be elected now.
func (c *Cluster) Quorum() bool { return !c.down && len(c.candidates()) > 0 }

// ready reports whether reads and writes are possible for those who reach the leader.
func (c *Cluster) ready() bool { return !c.down && c.leader != "" }

// review looks at who can lead after a change of power, network or voters, and lets held requests try again.
func (c *Cluster) review() {
	if c.leader != "" && !slices.Contains(c.candidates(), c.leader) {
		c.leader = ""
	}
	if c.leader == "" && !c.down && !c.electing && len(c.candidates()) > 0 {
		c.electing = true
		c.s.After(c.s.Between(c.election*3/4, 2*c.election), c.elect)
	}
	for _, cl := range c.clients {
		cl.kick()
	}
	for _, w := range c.watchers {
		w.kick()
	}
}

func (c *Cluster) elect() {
	c.electing = false
	able := c.candidates()
	if c.down || c.leader != "" || len(able) == 0 {
		return
	}
	c.leader = able[c.s.Rand().IntN(len(able))]
	c.changes++
	c.promote()
	c.review()
}

// candidates returns the voters that live and are connected to a majority of voters.
func (c *Cluster) candidates() []string {
	if len(c.voters) == 0 {
		return []string{simnet.Site}
	}
	var able []string
	for _, v := range c.voters {
		if c.dead[v] {
			continue
		}
		n := 0
		for _, w := range c.voters {
			if !c.dead[w] && c.net.Both(v, w, simnet.Etcd) {
				n++
			}
		}
		if n > len(c.voters)/2 {
			able = append(able, v)
		}
	}
	return able
}

// members returns where etcd can be reached.
func (c *Cluster) members() []string {
	if len(c.voters) == 0 {
		return []string{simnet.Site, simnet.Site, simnet.Site}
	}
	return c.voters
}

// serves reports whether member answers a client at server now: it lives and hears its leader.
func (c *Cluster) serves(member, server string) bool {
	return c.ready() && !c.dead[member] && c.net.Open(server, member, simnet.Etcd) &&
		(member == c.leader || c.net.Both(member, c.leader, simnet.Etcd))
}

// write applies a commit's operations and tells observers and watchers.
func (c *Cluster) write(k Commit) {
	before := c.state.rev
	c.state.write(k.Txn.Then)
	c.published(k, before)
}

func (c *Cluster) published(k Commit, before pool.Revision) {
	if c.state.rev == before {
		return
	}
	k.Revision = c.state.rev
	k.Events = c.state.log[len(c.state.log)-1].events
	for _, f := range c.observers {
		f(k)
	}
	for _, w := range c.watchers {
		w.notify()
	}
}
