package app

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/holdfast-ha/holdfast/agent/local"
	"github.com/holdfast-ha/holdfast/pkg/clock"
	"github.com/holdfast-ha/holdfast/pkg/kv"
	"github.com/holdfast-ha/holdfast/pkg/pool"
	"github.com/holdfast-ha/holdfast/pkg/store"
)

// reachableWithin is how old the last contact with etcd may be before the agent says that it is lost.
const reachableWithin = 3 * time.Second

// data is the pool's data as the reconciler and the API use it.
type data struct {
	server pool.ServerID
	clock  clock.Clock
	store  *store.Store
	mirror *store.Mirror

	// bound reports whether a promise forbids to write as leader.
	bound func() bool
	// leads reports whether a roster lets this server lead.
	leads func(pool.Roster, pool.ServerID) bool

	mu      sync.Mutex
	counter uint64
	// roster is the revision of the newest one that this agent wrote.
	roster pool.Revision
}

var _ local.Pool = (*data)(nil)

// Snapshot returns the newest snapshot; its revision is 0 before the first.
func (d *data) Snapshot() *pool.Snapshot { return d.mirror.Snapshot() }

// ReadClaim reads a claim linearizably.
func (d *data) ReadClaim(ctx context.Context, vm pool.VMID) (pool.Claim, bool, error) {
	return d.store.ReadClaim(ctx, vm)
}

// Reachable reports whether etcd answered lately.
func (d *data) Reachable() bool {
	return d.clock.Now().Sub(d.mirror.LastContact()) < reachableWithin
}

// Write commits an owner's write: guarded by the claim's revision and the server's own member key.
func (d *data) Write(ctx context.Context, w local.Write) (pool.Revision, error) {
	k := d.store.Keys()
	txn := kv.Txn{If: []kv.Compare{k.ClaimIs(w.VM, w.Revision), k.MemberIs(d.server, w.Session)}}
	if w.Peer != "" {
		txn.If = append(txn.If, k.MemberIs(w.Peer, w.PeerSession))
	}
	if w.Claim != nil {
		txn.Then = append(txn.Then, k.PutClaim(*w.Claim))
	}
	if w.State != nil {
		txn.Then = append(txn.Then, k.PutState(*w.State))
	}
	if w.Registration != nil {
		txn.If = append(txn.If, k.VMIs(w.Registration.ID, w.Registration.Revision))
		txn.Then = append(txn.Then, k.PutVM(*w.Registration))
	}
	if w.Event != nil {
		txn.Then = append(txn.Then, k.PutEvent(d.named(*w.Event)))
	}
	return d.store.Commit(ctx, txn)
}

// WriteProgress writes an operation's record if it is unchanged and this server still has the session.
func (d *data) WriteProgress(ctx context.Context, session pool.Session, op pool.Operation) error {
	k := d.store.Keys()
	_, err := d.store.Commit(ctx, kv.Txn{If: []kv.Compare{k.OperationIs(op.ID, op.Revision), k.MemberIs(d.server, session)},
		Then: []kv.Op{k.PutOperation(op)}})
	return err
}

// named gives an event its time-ordered ID.
func (d *data) named(e pool.Event) pool.Event {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.counter++
	e.ID = store.EventID(e.At, d.server, d.counter)
	return e
}

// Apply commits a change of the API and waits until the mirror shows it.
func (d *data) Apply(ctx context.Context, c pool.Change) (pool.Revision, error) {
	ctx, cancel := d.clock.WithTimeout(ctx, applyLimit)
	defer cancel()
	change := d.change(c)
	txn := kv.Txn{If: change.If, Then: change.Then}
	if len(txn.Then) > kv.MaxOps {
		return 0, fmt.Errorf("a change of %d records; at most %d at once, so name fewer: %w", len(txn.Then), kv.MaxOps, pool.ErrInvalid)
	}
	rev, err := d.store.Commit(ctx, txn)
	if errors.Is(err, pool.ErrOutcomeUnknown) {
		return 0, fmt.Errorf("etcd did not answer in time, the change may have been made; look before you repeat it: %w", err)
	}
	if err != nil {
		return 0, err
	}
	_, err = d.mirror.WaitFor(ctx, rev)
	return rev, err
}

// applyLimit bounds one change of the API.
const applyLimit = 5 * time.Second

// change translates a change of records, with names for its events.
func (d *data) change(c pool.Change) store.Change {
	events := make([]pool.Event, 0, len(c.Events))
	for _, e := range c.Events {
		events = append(events, d.named(e))
	}
	c.Events = events
	return d.store.Keys().FromPool(c)
}
