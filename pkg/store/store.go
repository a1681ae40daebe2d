package store

import (
	"context"
	"fmt"

	"github.com/holdfast-ha/holdfast/pkg/kv"
	"github.com/holdfast-ha/holdfast/pkg/pool"
)

// Store reads and writes one pool's records. Safe for concurrent use.
type Store struct {
	edge kv.Store
	keys Keys
}

// New returns the store of the pool that keys names.
func New(edge kv.Store, keys Keys) *Store { return &Store{edge: edge, keys: keys} }

// Keys returns the names of the pool's keys.
func (s *Store) Keys() Keys { return s.keys }

// Edge returns the store below, for keys that have no typed read.
func (s *Store) Edge() kv.Store { return s.edge }

// Revision returns the revision of etcd as a whole, read linearizably: every write acknowledged before the call
// has this revision or a lower one.
func (s *Store) Revision(ctx context.Context) (pool.Revision, error) {
	res, err := s.edge.Txn(ctx, kv.Txn{Read: []string{s.keys.Config()}})
	if err != nil {
		return 0, fmt.Errorf("read the revision of etcd: %w", err)
	}
	return res.Revision, nil
}

// ReadConfig reads the pool's policy. In this and the other reads, ok is false when there is no such key; errors
// are pool.ErrUnavailable, or a *CorruptError. All are linearizable.
func (s *Store) ReadConfig(ctx context.Context) (c pool.Config, ok bool, err error) {
	return one(ctx, s, s.keys.Config(), readConfig)
}

// ReadRoster reads the list of those that may lead.
func (s *Store) ReadRoster(ctx context.Context) (r pool.Roster, ok bool, err error) {
	return one(ctx, s, s.keys.Roster(), readRoster)
}

// ReadServer reads a server's registration.
func (s *Store) ReadServer(ctx context.Context, id pool.ServerID) (v pool.Server, ok bool, err error) {
	return one(ctx, s, s.keys.Server(id), byName(string(id), readServer))
}

// ReadMember reads a server's presence; ok is false when it has no live session.
func (s *Store) ReadMember(ctx context.Context, id pool.ServerID) (v pool.Member, ok bool, err error) {
	return one(ctx, s, s.keys.Member(id), byName(string(id), readMember))
}

// ReadVM reads a VM's registration.
func (s *Store) ReadVM(ctx context.Context, id pool.VMID) (v pool.VM, ok bool, err error) {
	return one(ctx, s, s.keys.VM(id), byName(string(id), readVM))
}

// ReadClaim reads the right to run a VM.
func (s *Store) ReadClaim(ctx context.Context, id pool.VMID) (v pool.Claim, ok bool, err error) {
	return one(ctx, s, s.keys.Claim(id), byName(string(id), readClaim))
}

// ReadState reads what a VM's owner observed last.
func (s *Store) ReadState(ctx context.Context, id pool.VMID) (v pool.VMState, ok bool, err error) {
	return one(ctx, s, s.keys.State(id), byName(string(id), readState))
}

// ReadHome reads where a VM belongs.
func (s *Store) ReadHome(ctx context.Context, id pool.VMID) (v pool.Home, ok bool, err error) {
	return one(ctx, s, s.keys.Home(id), byName(string(id), readHome))
}

// ReadFence reads what was proven about a server's lost session.
func (s *Store) ReadFence(ctx context.Context, id pool.ServerID) (v pool.Fence, ok bool, err error) {
	return one(ctx, s, s.keys.Fence(id), byName(string(id), readFence))
}

// ReadAlert reads an open problem.
func (s *Store) ReadAlert(ctx context.Context, id pool.AlertID) (v pool.Alert, ok bool, err error) {
	return one(ctx, s, s.keys.Alert(id), byName(string(id), readAlert))
}

// ReadOperation reads a long-running request.
func (s *Store) ReadOperation(ctx context.Context, id pool.OperationID) (v pool.Operation, ok bool, err error) {
	return one(ctx, s, s.keys.Operation(id), byName(string(id), readOperation))
}

// ReadEvent reads one line of history.
func (s *Store) ReadEvent(ctx context.Context, id pool.EventID) (v pool.Event, ok bool, err error) {
	return one(ctx, s, s.keys.Event(id), byName(string(id), readEvent))
}

// ReadLeader reads who leads: the election key with the lowest create revision. ok is false when nobody stands.
func (s *Store) ReadLeader(ctx context.Context) (l pool.Leader, ok bool, err error) {
	all, _, err := s.edge.List(ctx, s.keys.Leaders())
	if err != nil {
		return l, false, fmt.Errorf("read the election: %w", err)
	}
	for _, entry := range all {
		if candidate := readLeader(entry); !ok || candidate.Revision < l.Revision {
			l, ok = candidate, true
		}
	}
	return l, ok, nil
}

// Load reads the whole pool at one revision, linearizably. incarnation as for NewMirror.
func (s *Store) Load(ctx context.Context, incarnation string) (*pool.Snapshot, error) {
	f := newFold(s.keys, incarnation)
	if err := s.load(ctx, f); err != nil {
		return nil, err
	}
	return f.snap, nil
}

// load folds one list into f.
func (s *Store) load(ctx context.Context, f *fold) error {
	all, rev, err := s.edge.List(ctx, s.keys.Prefix())
	if err != nil {
		return fmt.Errorf("read the pool: %w", err)
	}
	return f.list(all, rev)
}

// one reads one key.
func one[V any](ctx context.Context, s *Store, key string, read func(kv.KeyValue) (V, error)) (v V, ok bool, err error) {
	entry, ok, err := s.edge.Get(ctx, key)
	if err != nil {
		return v, false, fmt.Errorf("read %s: %w", key, err)
	}
	if !ok {
		return v, false, nil
	}
	v, err = read(entry)
	return v, err == nil, err
}

// byName fits a reader that wants the name in the key.
func byName[V any](name string, read func(kv.KeyValue, string) (V, error)) func(kv.KeyValue) (V, error) {
	return func(entry kv.KeyValue) (V, error) { return read(entry, name) }
}
