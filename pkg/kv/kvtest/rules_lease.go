package kvtest

import (
	"time"

	"github.com/holdfast-ha/holdfast/pkg/kv"
	"github.com/holdfast-ha/holdfast/pkg/pool"
)

func leaseExpires(c *check) {
	lease := c.grant(leaseTTL)
	granted := c.Clock.Now()
	rev := c.putLeased("a", lease)
	if entry, _ := c.get("a"); entry.Lease != lease {
		c.Errorf("the key hangs on lease %x, want %x", int64(entry.Lease), int64(lease))
	}
	w := c.watch(rev + 1)
	defer w.watcher.Close()
	// The grant was acknowledged after etcd began to count, so the key may go a reply's time before the TTL is over.
	if took := c.gone("a", granted, leaseTTL+slack); took < leaseTTL-time.Second/2 {
		c.Errorf("the key was gone after %v, want not before %v", took, leaseTTL)
	}
	c.same(words(w.events(1), c.prefix), "-a")
}

func leaseRenewed(c *check) {
	lease := c.grant(leaseTTL)
	c.putLeased("a", lease)
	for i := range 8 {
		c.wait(leaseTTL / 2)
		if err := c.Leases.KeepAlive(c.ctx, lease, i); err != nil {
			c.Fatalf("renewal %d: %v", i, err)
		}
	}
	sent := c.Clock.Now()
	if err := c.Leases.KeepAlive(c.ctx, lease, 0); err != nil {
		c.Fatalf("last renewal: %v", err)
	}
	// Counted from before the renewal was sent, the lease never ends early: the deadline rests on this.
	if took := c.gone("a", sent, leaseTTL+slack); took < leaseTTL {
		c.Errorf("the key was gone %v after the last renewal was sent, want not before %v", took, leaseTTL)
	}
}

func renewGone(c *check) {
	c.fails(c.Leases.KeepAlive(c.ctx, 0x7eaf, 0), kv.ErrLeaseNotFound, "a lease that never was")
	lease := c.grant(leaseTTL)
	c.putLeased("a", lease)
	c.gone("a", c.Clock.Now(), leaseTTL+slack)
	c.fails(c.Leases.KeepAlive(c.ctx, lease, 0), kv.ErrLeaseNotFound, "an expired lease")
	other := c.grant(60 * time.Second)
	if err := c.Leases.Revoke(c.ctx, other); err != nil {
		c.Fatalf("revoke: %v", err)
	}
	c.fails(c.Leases.KeepAlive(c.ctx, other, 0), kv.ErrLeaseNotFound, "a revoked lease")
	c.fails(c.Leases.Revoke(c.ctx, other), kv.ErrLeaseNotFound, "revoking it again")
}

func leaseRevoked(c *check) {
	lease := c.grant(60 * time.Second)
	c.putLeased("a", lease)
	rev := c.putLeased("b", lease)
	c.put("c", "stays")
	w := c.watch(rev + 2)
	defer w.watcher.Close()
	if err := c.Leases.Revoke(c.ctx, lease); err != nil {
		c.Fatalf("revoke: %v", err)
	}
	events := w.events(2)
	c.same(words(events, c.prefix), "-a", "-b")
	if events[0].ModRevision != events[1].ModRevision {
		c.Errorf("deleted at %d and %d, want one revision", events[0].ModRevision, events[1].ModRevision)
	}
	if _, ok := c.get("c"); !ok {
		c.Error("a key without the lease went too")
	}
}

func putDetaches(c *check) {
	lease := c.grant(60 * time.Second)
	created := c.putLeased("a", lease)
	c.put("a", "free")
	if entry, _ := c.get("a"); entry.Lease != 0 || entry.CreateRevision != created {
		c.Errorf("got %+v, want no lease, created at %d", entry, created)
	}
	if err := c.Leases.Revoke(c.ctx, lease); err != nil {
		c.Fatalf("revoke: %v", err)
	}
	if _, ok := c.get("a"); !ok {
		c.Error("the key went with a lease that it had left")
	}
}

func putMoves(c *check) {
	first, second := c.grant(60*time.Second), c.grant(60*time.Second)
	created := c.putLeased("a", first)
	c.putLeased("a", second)
	if entry, _ := c.get("a"); entry.Lease != second || entry.CreateRevision != created {
		c.Errorf("got %+v, want lease %x, created at %d", entry, int64(second), created)
	}
	if err := c.Leases.Revoke(c.ctx, first); err != nil {
		c.Fatalf("revoke the first: %v", err)
	}
	if _, ok := c.get("a"); !ok {
		c.Error("the key went with its former lease")
	}
	if err := c.Leases.Revoke(c.ctx, second); err != nil {
		c.Fatalf("revoke the second: %v", err)
	}
	if _, ok := c.get("a"); ok {
		c.Error("the key outlived its lease")
	}
}

func putUnderGone(c *check) {
	before := c.put("a", "old")
	lease := c.grant(60 * time.Second)
	if err := c.Leases.Revoke(c.ctx, lease); err != nil {
		c.Fatalf("revoke: %v", err)
	}
	_, err := c.Store.Txn(c.ctx, kv.Txn{Then: []kv.Op{kv.Put(c.key("b"), nil), kv.PutLeased(c.key("a"), []byte("new"), lease)}})
	c.fails(err, kv.ErrLeaseNotFound, "a put under a revoked lease")
	entry, _ := c.get("a")
	if _, ok := c.get("b"); ok || entry.ModRevision != before {
		c.Errorf("part of it was written: b there: %v, a %+v", ok, entry)
	}
}

func leaseTTLs(c *check) {
	for _, ttl := range []time.Duration{0, -time.Second, 999 * time.Millisecond, 1500 * time.Millisecond} {
		id, err := c.Leases.Grant(c.ctx, ttl)
		c.fails(err, pool.ErrInvalid, "a lease of "+ttl.String())
		if id != 0 {
			c.Errorf("a lease of %v: got %x", ttl, int64(id))
		}
	}
}
