package store

import (
	"bytes"
	"context"
	"fmt"
	"strings"

	"github.com/holdfast-ha/holdfast/pkg/kv"
	"github.com/holdfast-ha/holdfast/pkg/pool"
)

// GuardError says that a transaction was not applied because guards did not hold. It is pool.ErrStale, and
// pool.ErrLostLeadership as well if an election key was among them. Use errors.As and Broke to see which.
type GuardError struct {
	// Broken are the guards that did not hold, in the order of the transaction.
	Broken []kv.Compare
	// Found holds the current entries of the guarded keys that exist, as the transaction saw them.
	Found []kv.KeyValue

	leader bool
}

// Error names the keys that had changed.
func (e *GuardError) Error() string {
	keys := make([]string, len(e.Broken))
	for i, c := range e.Broken {
		keys[i] = c.Key
	}
	return "changed meanwhile: " + strings.Join(keys, ", ")
}

// Is makes errors.Is work for pool.ErrStale and pool.ErrLostLeadership.
func (e *GuardError) Is(target error) bool {
	return target == pool.ErrStale || (e.leader && target == pool.ErrLostLeadership)
}

// Broke reports whether a guard on key did not hold. An agent whose own member key broke has lost its session.
func (e *GuardError) Broke(key string) bool {
	for _, c := range e.Broken {
		if c.Key == key {
			return true
		}
	}
	return false
}

// Commit applies one transaction and returns its revision. Errors: *GuardError (nothing was written),
// pool.ErrUnavailable (nothing was written and nothing will be), pool.ErrInvalid (the transaction can never work)
// and pool.ErrOutcomeUnknown (it may have taken effect, or may still: see Landed).
func (s *Store) Commit(ctx context.Context, txn kv.Txn) (pool.Revision, error) {
	for _, c := range txn.If {
		txn.Read = append(txn.Read[:len(txn.Read):len(txn.Read)], c.Key)
	}
	txn.Read = unique(txn.Read)
	res, err := s.edge.Txn(ctx, txn)
	if err != nil {
		return 0, fmt.Errorf("write to etcd: %w", err)
	}
	if !res.Applied {
		return 0, s.broken(txn.If, res.Found)
	}
	return res.Revision, nil
}

// broken tells which guards failed against what the same transaction saw.
func (s *Store) broken(guards []kv.Compare, found []kv.KeyValue) *GuardError {
	at := make(map[string]kv.KeyValue, len(found))
	for _, entry := range found {
		at[entry.Key] = entry
	}
	e := &GuardError{Found: found}
	for _, c := range guards {
		if holds(c, at[c.Key]) {
			continue
		}
		e.Broken = append(e.Broken, c)
		e.leader = e.leader || strings.HasPrefix(c.Key, s.keys.Leaders())
	}
	return e
}

// holds judges a guard as the store does; entry is the zero value for an absent key.
func holds(c kv.Compare, entry kv.KeyValue) bool {
	if c.Target == kv.TargetCreate {
		return entry.CreateRevision == c.Equals
	}
	return entry.ModRevision == c.Equals
}

// Landed looks whether a transaction whose outcome is unknown has taken effect. True is certain. False only means
// that it has not so far: the request may still be on its way. To rule that out, commit another write under the
// same guards; whichever of the two comes second fails. txn needs a ModIs guard on a key that it puts: otherwise
// pool.ErrInvalid.
func (s *Store) Landed(ctx context.Context, txn kv.Txn) (bool, error) {
	op, guard, ok := witness(txn)
	if !ok {
		return false, fmt.Errorf("look for a transaction without a guarded put: %w", pool.ErrInvalid)
	}
	entry, ok, err := s.edge.Get(ctx, op.Key)
	if err != nil {
		return false, fmt.Errorf("look for a transaction: %w", err)
	}
	return ok && entry.ModRevision != guard.Equals && bytes.Equal(entry.Value, op.Value), nil
}

// witness finds a put whose key is guarded by its mod revision: seeing its value there proves the transaction.
func witness(txn kv.Txn) (kv.Op, kv.Compare, bool) {
	for _, op := range txn.Then {
		for _, c := range txn.If {
			if !op.Delete && c.Key == op.Key && c.Target == kv.TargetMod {
				return op, c, true
			}
		}
	}
	return kv.Op{}, kv.Compare{}, false
}

// unique drops repeated words and keeps the order.
func unique(list []string) []string {
	seen := make(map[string]bool, len(list))
	out := list[:0:0]
	for _, s := range list {
		if !seen[s] {
			seen[s] = true
			out = append(out, s)
		}
	}
	return out
}
