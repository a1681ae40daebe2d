package simkv

import (
	"bytes"
	"fmt"
	"slices"
	"sort"
	"strings"

	"github.com/holdfast-ha/holdfast/pkg/kv"
	"github.com/holdfast-ha/holdfast/pkg/pool"
)

// commit is one revision of the store.
type commit struct {
	rev    pool.Revision
	events []kv.Event
}

// state is etcd's replicated state: keys, history and leases' keys. It knows no time.
type state struct {
	rev       pool.Revision
	compacted pool.Revision
	keys      []string
	values    map[string]kv.KeyValue
	log       []commit
	// leased maps leases to their keys.
	leased map[kv.LeaseID]map[string]bool
	// listed is the last answer to List, shared by callers until the next write.
	listed       []kv.KeyValue
	listedPrefix string
	listedRev    pool.Revision
}

func newState() *state {
	return &state{rev: 1, values: map[string]kv.KeyValue{}, leased: map[kv.LeaseID]map[string]bool{}}
}

func (s *state) list(prefix string) []kv.KeyValue {
	if s.listedRev == s.rev && s.listedPrefix == prefix {
		return s.listed
	}
	var out []kv.KeyValue
	for i := sort.SearchStrings(s.keys, prefix); i < len(s.keys) && strings.HasPrefix(s.keys[i], prefix); i++ {
		out = append(out, s.values[s.keys[i]])
	}
	out = slices.Clip(out)
	s.listed, s.listedPrefix, s.listedRev = out, prefix, s.rev
	return out
}

// check refuses a transaction that etcd would refuse.
func (s *state) check(txn kv.Txn) error {
	if len(txn.Then) > kv.MaxOps || len(txn.If) > kv.MaxOps || len(txn.Read) > kv.MaxOps {
		return fmt.Errorf("transaction has more than %d operations: %w", kv.MaxOps, pool.ErrInvalid)
	}
	for _, c := range txn.If {
		if c.Key == "" {
			return fmt.Errorf("a guard without a key: %w", pool.ErrInvalid)
		}
	}
	for _, k := range txn.Read {
		if k == "" {
			return fmt.Errorf("a read without a key: %w", pool.ErrInvalid)
		}
	}
	seen := make(map[string]bool, len(txn.Then))
	for _, op := range txn.Then {
		if op.Key == "" {
			return fmt.Errorf("empty key: %w", pool.ErrInvalid)
		}
		if seen[op.Key] {
			return fmt.Errorf("key %s appears twice in one transaction: %w", op.Key, pool.ErrInvalid)
		}
		seen[op.Key] = true
	}
	return nil
}

func (s *state) holds(c kv.Compare) bool {
	v := s.values[c.Key]
	if c.Target == kv.TargetCreate {
		return v.CreateRevision == c.Equals
	}
	return v.ModRevision == c.Equals
}

// apply carries a transaction out; leases says which leases exist.
func (s *state) apply(txn kv.Txn, alive func(kv.LeaseID) bool) (kv.Result, error) {
	for _, c := range txn.If {
		if !s.holds(c) {
			return s.refuse(txn), nil
		}
	}
	for _, op := range txn.Then {
		if !op.Delete && op.Lease != 0 && !alive(op.Lease) {
			return kv.Result{}, fmt.Errorf("put %s: %w", op.Key, kv.ErrLeaseNotFound)
		}
	}
	s.write(txn.Then)
	return kv.Result{Applied: true, Revision: s.rev}, nil
}

func (s *state) refuse(txn kv.Txn) kv.Result {
	r := kv.Result{Revision: s.rev}
	for _, k := range txn.Read {
		if v, ok := s.values[k]; ok {
			r.Found = append(r.Found, v)
		}
	}
	return r
}

// write applies ops as one revision. Deleting what is absent changes nothing.
func (s *state) write(ops []kv.Op) {
	c := commit{rev: s.rev + 1}
	for _, op := range ops {
		old, existed := s.values[op.Key]
		if op.Delete {
			if existed {
				s.remove(old)
				c.events = append(c.events, kv.Event{KeyValue: kv.KeyValue{Key: op.Key, ModRevision: c.rev}, Deleted: true})
			}
			continue
		}
		v := kv.KeyValue{Key: op.Key, Value: bytes.Clone(op.Value), CreateRevision: c.rev, ModRevision: c.rev, Lease: op.Lease}
		if existed {
			v.CreateRevision = old.CreateRevision
			s.unlease(old)
		} else {
			s.insertKey(op.Key)
		}
		s.values[op.Key] = v
		if op.Lease != 0 {
			if s.leased[op.Lease] == nil {
				s.leased[op.Lease] = map[string]bool{}
			}
			s.leased[op.Lease][op.Key] = true
		}
		c.events = append(c.events, kv.Event{KeyValue: v})
	}
	if len(c.events) == 0 {
		return
	}
	s.rev = c.rev
	s.log = append(s.log, c)
}

// keysOf returns the keys bound to a lease, in order.
func (s *state) keysOf(id kv.LeaseID) []kv.Op {
	var ops []kv.Op
	for k := range s.leased[id] {
		ops = append(ops, kv.Delete(k))
	}
	slices.SortFunc(ops, func(a, b kv.Op) int { return strings.Compare(a.Key, b.Key) })
	return ops
}

func (s *state) remove(v kv.KeyValue) {
	delete(s.values, v.Key)
	s.unlease(v)
	i := sort.SearchStrings(s.keys, v.Key)
	s.keys = slices.Delete(s.keys, i, i+1)
}

func (s *state) unlease(v kv.KeyValue) {
	if v.Lease == 0 {
		return
	}
	delete(s.leased[v.Lease], v.Key)
	if len(s.leased[v.Lease]) == 0 {
		delete(s.leased, v.Lease)
	}
}

func (s *state) insertKey(k string) {
	if n := len(s.keys); n == 0 || s.keys[n-1] < k {
		s.keys = append(s.keys, k)
		return
	}
	s.keys = slices.Insert(s.keys, sort.SearchStrings(s.keys, k), k)
}

// compact forgets history before rev.
func (s *state) compact(rev pool.Revision) {
	if rev <= s.compacted {
		return
	}
	s.compacted = min(rev, s.rev)
	i := s.since(s.compacted)
	s.log = slices.Clone(s.log[i:])
}

// since returns the index of the first commit at or after rev.
func (s *state) since(rev pool.Revision) int {
	return sort.Search(len(s.log), func(i int) bool { return s.log[i].rev >= rev })
}
