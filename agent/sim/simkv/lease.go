package simkv

import (
	"time"

	"github.com/holdfast-ha/holdfast/pkg/kv"
)

// minTTL is what etcd grants at least, in the versions measured (docs/facts.md, "etcd leases").
const minTTL = 2 * time.Second

// maxLag is how late a lease expires at most while etcd has a leader (docs/facts.md, "etcd leases").
const maxLag = 500 * time.Millisecond

type lease struct {
	id  kv.LeaseID
	ttl time.Duration
	// expiry is the virtual time at which etcd may revoke it.
	expiry time.Duration
	// waiting are renewals that came after the expiry; they learn the outcome with the revocation.
	waiting []func()
	// timed: an event that looks at the expiry is on its way.
	timed bool
}

func (c *Cluster) grant(ttl time.Duration) kv.LeaseID {
	ttl = max(minTTL, (ttl + time.Second - 1).Truncate(time.Second))
	id := kv.LeaseID(c.s.Rand().Int64N(1<<62) + 1)
	for c.leases[id] != nil {
		id++
	}
	l := &lease{id: id, ttl: ttl, expiry: c.s.Now() + ttl}
	c.leases[id] = l
	c.order = append(c.order, l)
	c.time(l)
	return id
}

// time arranges a look at the lease's expiry.
func (c *Cluster) time(l *lease) {
	if l.timed {
		return
	}
	l.timed = true
	c.s.At(l.expiry, func() {
		l.timed = false
		switch {
		case c.leases[l.id] != l || !c.ready():
			// Gone, or nobody leads: leases stand still, and promote times them anew.
		case c.s.Now() < l.expiry:
			c.time(l)
		default:
			c.s.After(c.s.Between(0, maxLag), func() { c.expire(l) })
		}
	})
}

func (c *Cluster) expire(l *lease) {
	if c.leases[l.id] != l || !c.ready() {
		return
	}
	if c.s.Now() < l.expiry {
		c.time(l)
		return
	}
	c.revoke(l, "etcd")
}

// revoke ends a lease and deletes its keys. by is who gave it back, or "etcd" for one that expired.
func (c *Cluster) revoke(l *lease, by string) {
	delete(c.leases, l.id)
	for i, o := range c.order {
		if o == l {
			c.order = append(c.order[:i], c.order[i+1:]...)
			break
		}
	}
	if ops := c.state.keysOf(l.id); len(ops) > 0 {
		c.write(Commit{By: by, Txn: kv.Txn{Then: ops}})
	}
	for _, f := range l.waiting {
		f()
	}
	l.waiting = nil
}

// renew gives a lease its full life again, or calls later with the outcome when it has expired but still exists.
func (c *Cluster) renew(id kv.LeaseID, answer func(error)) {
	l := c.leases[id]
	switch {
	case l == nil:
		answer(kv.ErrLeaseNotFound)
	case c.s.Now() >= l.expiry:
		l.waiting = append(l.waiting, func() { answer(kv.ErrLeaseNotFound) })
	default:
		l.expiry = c.s.Now() + l.ttl
		answer(nil)
	}
}

// promote is what a new leader of etcd does: every lease gets its full life again, and one election time more.
func (c *Cluster) promote() {
	for _, l := range c.order {
		l.expiry = c.s.Now() + l.ttl + c.election
		waiting := l.waiting
		l.waiting = nil
		for _, f := range waiting {
			f()
		}
		c.time(l)
	}
}
