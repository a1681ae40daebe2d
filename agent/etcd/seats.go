package etcd

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"google.golang.org/protobuf/encoding/protojson"

	"github.com/holdfast-ha/holdfast/pkg/kv"
	"github.com/holdfast-ha/holdfast/pkg/pool"
	"github.com/holdfast-ha/holdfast/pkg/store"
	holdfastv1 "github.com/holdfast-ha/holdfast/proto/holdfast/v1"
)

// seatsKind is the path element of seats behind the pool's prefix.
const seatsKind = "seats/"

// SeatKey is the key of a machine's seat.
func SeatKey(keys store.Keys, name string) string { return keys.Prefix() + seatsKind + name }

// PutSeat is the write that offers a machine as a place for a vote. It belongs into the transaction that registers
// the machine.
func PutSeat(keys store.Keys, s Seat, incarnation string) (kv.Op, error) {
	loose, err := protojson.Marshal(&holdfastv1.Seat{
		Name: s.Name, PeerUrl: s.PeerURL, ClientUrl: s.ClientURL, Witness: s.Witness, Incarnation: incarnation,
	})
	if err != nil {
		return kv.Op{}, fmt.Errorf("encode seat: %w", err)
	}
	var b bytes.Buffer
	if err := json.Compact(&b, loose); err != nil {
		return kv.Op{}, fmt.Errorf("encode seat: %w", err)
	}
	return kv.Put(SeatKey(keys, s.Name), b.Bytes()), nil
}

// Registry lists the pool's seats with what the pool knows of the machines. It implements Seats for Keeper. Safe
// for concurrent use.
type Registry struct {
	Store *store.Store
	// Snapshot returns the pool as last seen. It may be behind: whether a server is still registered is read anew.
	Snapshot func() *pool.Snapshot
	// Leading returns the office under which seats are forgotten.
	Leading func() (pool.Leader, bool)
}

// Seats reads the seats linearizably. A seat that cannot be read fails the whole list: with seats missing, votes
// would be taken from machines that are fine.
func (r Registry) Seats(ctx context.Context) ([]Seat, error) {
	seats, err := ListSeats(ctx, r.Store)
	if err != nil {
		return nil, err
	}
	snap := r.Snapshot()
	for i, s := range seats {
		if seats[i].Standing, err = r.standing(ctx, snap, s); err != nil {
			return nil, err
		}
	}
	return seats, nil
}

// ListSeats reads the seats linearizably, in name order, without their standing.
func ListSeats(ctx context.Context, st *store.Store) ([]Seat, error) {
	prefix := st.Keys().Prefix() + seatsKind
	all, _, err := st.Edge().List(ctx, prefix)
	if err != nil {
		return nil, fmt.Errorf("read seats: %w", err)
	}
	var seats []Seat
	for _, entry := range all {
		s, err := readSeat(entry, strings.TrimPrefix(entry.Key, prefix))
		if err != nil {
			return nil, err
		}
		seats = append(seats, s)
	}
	return seats, nil
}

// Forget drops the seat of a server that is no longer registered, as the leader.
func (r Registry) Forget(ctx context.Context, name string) error {
	leader, ok := r.Leading()
	if !ok {
		return fmt.Errorf("forget seat %s: %w", name, pool.ErrLostLeadership)
	}
	keys := r.Store.Keys()
	_, err := r.Store.Commit(ctx, kv.Txn{
		If:   []kv.Compare{keys.LeaderIs(leader), keys.ServerIs(pool.ServerID(name), 0)},
		Then: []kv.Op{kv.Delete(SeatKey(keys, name))},
	})
	if err != nil {
		return fmt.Errorf("forget seat %s: %w", name, err)
	}
	return nil
}

func (r Registry) standing(ctx context.Context, snap *pool.Snapshot, s Seat) (Standing, error) {
	if s.Witness {
		return StandingFit, nil // nobody watches a witness but etcd: Member.Healthy says whether it is there
	}
	id := pool.ServerID(s.Name)
	server, ok := snap.Servers.Get(id)
	if !ok {
		// A record that cannot be read is still a registration.
		if _, found, err := r.Store.ReadServer(ctx, id); err != nil && !errors.Is(err, pool.ErrInvalid) {
			return 0, err
		} else if !found && err == nil {
			return StandingGone, nil
		}
		return StandingLost, nil
	}
	return StandingOf(server, snap), nil
}

// StandingOf judges a registered server's seat by a snapshot. Pure.
func StandingOf(server pool.Server, snap *pool.Snapshot) Standing {
	fence, fenced := snap.Fences.Get(server.ID)
	up := snap.Members.Has(server.ID)
	switch {
	case (server.Maintenance || server.Removing) && !up:
		return StandingAway
	case server.Maintenance || server.Removing:
		return StandingLeaving
	case up && server.ShuttingDown:
		return StandingGoing
	case up:
		return StandingFit
	case fenced && fence.Proof != pool.ProofNone:
		return StandingFenced
	}
	return StandingLost
}

func readSeat(entry kv.KeyValue, name string) (Seat, error) {
	var m holdfastv1.Seat
	if err := (protojson.UnmarshalOptions{DiscardUnknown: true}).Unmarshal(entry.Value, &m); err != nil {
		return Seat{}, &store.CorruptError{Key: entry.Key, Reason: "not a Seat"}
	}
	if m.GetName() != name || m.GetPeerUrl() == "" {
		return Seat{}, &store.CorruptError{Key: entry.Key, Reason: "it names another machine, or no peer URL"}
	}
	return Seat{Name: m.GetName(), PeerURL: m.GetPeerUrl(), ClientURL: m.GetClientUrl(), Witness: m.GetWitness()}, nil
}
