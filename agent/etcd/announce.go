package etcd

import (
	"context"
	"fmt"

	"github.com/holdfast-ha/holdfast/pkg/clock"
	"github.com/holdfast-ha/holdfast/pkg/kv"
	"github.com/holdfast-ha/holdfast/pkg/pool"
	"github.com/holdfast-ha/holdfast/pkg/store"
)

// EventVotes is the kind of the events by which membership changes are announced.
const EventVotes = "ETCD_VOTES"

// EventAnnouncer writes each change into the pool's history under the leader's key: a deposed leader can announce
// nothing and so changes nothing. Not safe for concurrent use; a Keeper uses it alone.
type EventAnnouncer struct {
	Store   *store.Store
	Clock   clock.Clock
	Leading func() (pool.Leader, bool)

	last    Action
	counter uint64
}

// Announce writes the event, once for an action that is tried several times in a row. The office is checked each
// time.
func (e *EventAnnouncer) Announce(ctx context.Context, a Action) error {
	leader, ok := e.Leading()
	if !ok {
		return pool.ErrLostLeadership
	}
	keys := e.Store.Keys()
	txn := kv.Txn{If: []kv.Compare{keys.LeaderIs(leader)}}
	if a != e.last {
		e.counter++
		wall := e.Clock.Wall()
		txn.Then = []kv.Op{keys.PutEvent(pool.Event{
			ID: store.EventID(wall, leader.Server, e.counter), At: wall, Kind: EventVotes, Server: pool.ServerID(a.Seat),
			Actor: fmt.Sprintf("leader %s", leader.Server), LeaderRevision: leader.Revision,
			Text: fmt.Sprintf("etcd vote: %v %s: %s", a.Kind, a.Seat, a.Reason),
		})}
	}
	if _, err := e.Store.Commit(ctx, txn); err != nil {
		return err
	}
	e.last = a
	return nil
}
