package simkv

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/holdfast-ha/holdfast/agent/sim/simnet"
	"github.com/holdfast-ha/holdfast/agent/sim/vtime"
	"github.com/holdfast-ha/holdfast/pkg/kv"
	"github.com/holdfast-ha/holdfast/pkg/pool"
)

// requestLimit is how long etcd itself keeps a request that it cannot serve: 5 s and two election time-outs.
const requestLimit = 7 * time.Second

// lateLimit is how long after its caller gave up a request may still land.
const lateLimit = 15 * time.Second

type kind int

const (
	kindRead kind = iota
	kindWrite
	kindLease
)

var (
	_ kv.Store  = (*Client)(nil)
	_ kv.Leases = (*Client)(nil)
)

// Client is one process's connection to etcd. Build it with Cluster.Client.
type Client struct {
	c      *Cluster
	p      *vtime.Proc
	server string
	frozen bool
	member string
	// looking: a look for another member is on its way.
	looking bool
	// held are requests that could not reach etcd, or replies that could not come back.
	held []*request
}

// request is one request on its way.
type request struct {
	cl   *Client
	kind kind
	call *vtime.Call
	// member is fixed for renewals, empty otherwise.
	member string
	// do takes effect and calls answered when the reply may leave.
	do       func(r *request)
	answered bool
	err      error
	// since is when the caller gave up, or the request was first held.
	sent time.Duration
	// doomed: the caller gave up and the request will never land.
	doomed bool
}

// Client returns a connection for process p on server. It ends with the process.
func (c *Cluster) Client(p *vtime.Proc, server string) *Client {
	c.clients = slices.DeleteFunc(c.clients, func(o *Client) bool { return !o.p.Alive() && len(o.held) == 0 })
	cl := &Client{c: c, p: p, server: server}
	for _, o := range c.clients {
		if o.server == server && o.p.Alive() {
			cl.frozen = cl.frozen || o.frozen
		}
	}
	cl.member = cl.nearest()
	c.clients = append(c.clients, cl)
	return cl
}

// Freeze makes reads and writes of all clients on server hang, while lease renewals pass; Thaw ends that.
func (c *Cluster) Freeze(server string) { c.freeze(server, true) }

// Thaw ends Freeze.
func (c *Cluster) Thaw(server string) { c.freeze(server, false) }

// Frozen reports whether reads and writes of a server's clients hang.
func (c *Cluster) Frozen(server string) bool {
	return slices.ContainsFunc(c.clients, func(cl *Client) bool { return cl.server == server && cl.frozen && cl.p.Alive() })
}

func (c *Cluster) freeze(server string, on bool) {
	for _, cl := range c.clients {
		if cl.server == server {
			cl.frozen = on
		}
	}
	c.review()
}

// Reaches reports whether server's requests would be served now.
func (c *Cluster) Reaches(server string) bool {
	for _, m := range c.members() {
		if c.serves(m, server) && c.net.Open(m, server, simnet.Etcd) {
			return true
		}
	}
	return false
}

// Get reads one key.
func (cl *Client) Get(ctx context.Context, key string) (kv.KeyValue, bool, error) {
	var v kv.KeyValue
	var ok bool
	err := cl.round(ctx, kindRead, "", func(r *request) {
		v, ok = cl.c.state.values[key]
		r.reply(nil)
	})
	if err != nil {
		return kv.KeyValue{}, false, fmt.Errorf("get %s: %w", key, err)
	}
	return v, ok, nil
}

// List reads all keys below prefix.
func (cl *Client) List(ctx context.Context, prefix string) ([]kv.KeyValue, pool.Revision, error) {
	var out []kv.KeyValue
	var rev pool.Revision
	err := cl.round(ctx, kindRead, "", func(r *request) {
		out, rev = cl.c.state.list(prefix), cl.c.state.rev
		r.reply(nil)
	})
	if err != nil {
		return nil, 0, fmt.Errorf("list %s: %w", prefix, err)
	}
	return out, rev, nil
}

// Txn runs a transaction.
func (cl *Client) Txn(ctx context.Context, txn kv.Txn) (kv.Result, error) {
	cl.p.Check()
	if err := cl.c.state.check(txn); err != nil {
		return kv.Result{}, err
	}
	if err := ctx.Err(); err != nil {
		return kv.Result{}, fmt.Errorf("transaction not sent: %w: %w", pool.ErrUnavailable, err)
	}
	var res kv.Result
	txn = clone(txn)
	err := cl.round(ctx, kindWrite, "", func(r *request) {
		before := cl.c.state.rev
		var err error
		res, err = cl.c.state.apply(txn, func(id kv.LeaseID) bool { return cl.c.leases[id] != nil })
		cl.c.published(Commit{By: cl.server, Txn: txn}, before)
		r.reply(err)
	})
	switch {
	case errors.Is(err, pool.ErrUnavailable):
		var lost *lostError
		_ = errors.As(err, &lost)
		return kv.Result{}, fmt.Errorf("transaction: %w: %w", pool.ErrOutcomeUnknown, lost.why)
	case err != nil:
		return kv.Result{}, err
	}
	return res, nil
}

// Grant makes a lease.
func (cl *Client) Grant(ctx context.Context, ttl time.Duration) (kv.LeaseID, error) {
	if ttl < time.Second || ttl%time.Second != 0 {
		return 0, fmt.Errorf("grant lease of %v: must be whole seconds, at least one: %w", ttl, pool.ErrInvalid)
	}
	var id kv.LeaseID
	err := cl.round(ctx, kindWrite, "", func(r *request) {
		id = cl.c.grant(ttl)
		r.reply(nil)
	})
	if err != nil {
		return 0, fmt.Errorf("grant lease: %w", err)
	}
	return id, nil
}

// KeepAlive renews a lease through member number attempt.
func (cl *Client) KeepAlive(ctx context.Context, id kv.LeaseID, attempt int) error {
	members := cl.c.members()
	err := cl.round(ctx, kindLease, members[max(0, attempt)%len(members)], func(r *request) {
		cl.c.renew(id, r.reply)
	})
	if err != nil {
		return fmt.Errorf("renew lease: %w", err)
	}
	return nil
}

// Revoke ends a lease.
func (cl *Client) Revoke(ctx context.Context, id kv.LeaseID) error {
	err := cl.round(ctx, kindWrite, "", func(r *request) {
		l := cl.c.leases[id]
		if l == nil {
			r.reply(kv.ErrLeaseNotFound)
			return
		}
		cl.c.revoke(l, cl.server)
		r.reply(nil)
	})
	if err != nil {
		return fmt.Errorf("revoke lease: %w", err)
	}
	return nil
}

// round sends one request and waits for its reply.
func (cl *Client) round(ctx context.Context, k kind, member string, do func(*request)) error {
	r := &request{cl: cl, kind: k, member: member, do: do, call: cl.p.NewCall(), sent: cl.c.s.Now()}
	if err := ctx.Err(); err != nil {
		return &lostError{err}
	}
	r.send()
	if err := r.call.Wait(ctx); err != nil {
		r.settle()
		return &lostError{err}
	}
	return r.err
}

// lostError is a request without an answer. It is pool.ErrUnavailable and what ended the wait.
type lostError struct{ why error }

func (e *lostError) Error() string   { return pool.ErrUnavailable.Error() + ": " + e.why.Error() }
func (e *lostError) Unwrap() []error { return []error{pool.ErrUnavailable, e.why} }

func clone(txn kv.Txn) kv.Txn {
	txn.If, txn.Read = slices.Clone(txn.If), slices.Clone(txn.Read)
	txn.Then = slices.Clone(txn.Then)
	for i := range txn.Then {
		txn.Then[i].Value = slices.Clone(txn.Then[i].Value)
	}
	return txn
}
