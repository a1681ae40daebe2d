package store

import (
	"context"
	"errors"
	"fmt"

	"github.com/holdfast-ha/holdfast/pkg/kv"
	"github.com/holdfast-ha/holdfast/pkg/pool"
)

// maxBatchBytes bounds the values of one transaction that holds several changes. etcd refuses requests above
// 1.5 MiB by default (--max-request-bytes); the rest is room for keys and guards.
const maxBatchBytes = 1 << 20

// Change is a group of writes that belong together and are never split, with the guards that are theirs alone.
type Change struct {
	If   []kv.Compare
	Then []kv.Op
}

// CommitAll applies changes in order, many to a transaction (at most kv.MaxOps operations), each transaction under
// guards as well. It stops at the first transaction that fails or whose outcome is unknown and returns how many
// changes are certainly applied, the revision of the last transaction applied, and the error of Commit. The result
// is as if the changes had been committed one after the other, except that changes of one transaction fail
// together; CommitEach leaves out those whose own guards broke.
func (s *Store) CommitAll(ctx context.Context, guards []kv.Compare, changes []Change) (done int, rev pool.Revision, err error) {
	for done < len(changes) {
		n := fit(guards, changes[done:])
		r, err := s.Commit(ctx, merge(guards, changes[done:done+n]))
		if err != nil {
			return done, rev, err
		}
		done, rev = done+n, r
	}
	return done, rev, nil
}

// CommitEach applies as many of the changes as it can, in order, under guards. One error per change: nil if it is
// applied; its own *GuardError if one of its guards broke, which holds up no other change; otherwise what stopped
// the work: a shared guard, pool.ErrUnavailable, or pool.ErrOutcomeUnknown for the changes of that transaction and
// pool.ErrUnavailable for those after it, which were not tried.
func (s *Store) CommitEach(ctx context.Context, guards []kv.Compare, changes []Change) []error {
	errs := make([]error, len(changes))
	left := make([]int, len(changes))
	for i := range left {
		left[i] = i
	}
	for len(left) > 0 {
		n := fit(guards, pick(changes, left))
		now, rest := left[:n], left[n:]
		_, err := s.Commit(ctx, merge(guards, pick(changes, now)))
		if again, ok := blame(guards, changes, now, err, errs); ok {
			left = append(again, rest...)
			continue
		}
		if err != nil {
			stop(errs, now, rest, err)
			return errs
		}
		left = rest
	}
	return errs
}

// blame gives each change of now whose own guards broke its error and returns the others, to be tried again. ok is
// false if err is nothing that single changes are to blame for.
func blame(guards []kv.Compare, changes []Change, now []int, err error, errs []error) (again []int, ok bool) {
	var broken *GuardError
	if !errors.As(err, &broken) {
		return nil, false
	}
	for _, c := range guards {
		if broken.Broke(c.Key) {
			return nil, false
		}
	}
	for _, i := range now {
		if own := broken.only(changes[i].If); len(own.Broken) > 0 {
			errs[i] = own
			ok = true
		} else {
			again = append(again, i)
		}
	}
	return again, ok
}

// only keeps the broken guards that are among mine.
func (e *GuardError) only(mine []kv.Compare) *GuardError {
	own := &GuardError{Found: e.Found, leader: e.leader}
	for _, c := range e.Broken {
		for _, m := range mine {
			if c == m {
				own.Broken = append(own.Broken, c)
				break
			}
		}
	}
	return own
}

// stop gives the changes of the failed transaction its error, and those behind it the news that nobody tried.
func stop(errs []error, now, rest []int, err error) {
	for _, i := range now {
		errs[i] = err
	}
	if errors.Is(err, pool.ErrOutcomeUnknown) {
		err = fmt.Errorf("not tried after an earlier change with unknown outcome: %w", pool.ErrUnavailable)
	}
	for _, i := range rest {
		errs[i] = err
	}
}

func pick(changes []Change, which []int) []Change {
	out := make([]Change, len(which))
	for i, w := range which {
		out[i] = changes[w]
	}
	return out
}

// fit returns how many of the first changes go into one transaction; at least one. A change that touches or
// compares a key that an earlier one writes starts a new transaction, so that its guards see that write.
func fit(guards []kv.Compare, changes []Change) int {
	written := map[string]bool{}
	compares := len(guards)
	ops, size := 0, 0
	for n, c := range changes {
		compares += len(c.If)
		ops += len(c.Then)
		size += weight(c)
		over := compares > kv.MaxOps || ops > kv.MaxOps || size > maxBatchBytes
		if n > 0 && (over || touches(c, written)) {
			return n
		}
		for _, op := range c.Then {
			written[op.Key] = true
		}
	}
	return len(changes)
}

func weight(c Change) int {
	n := 0
	for _, op := range c.Then {
		n += len(op.Key) + len(op.Value)
	}
	return n
}

func touches(c Change, written map[string]bool) bool {
	for _, g := range c.If {
		if written[g.Key] {
			return true
		}
	}
	for _, op := range c.Then {
		if written[op.Key] {
			return true
		}
	}
	return false
}

// merge joins changes into one transaction; equal guards appear once.
func merge(guards []kv.Compare, changes []Change) kv.Txn {
	var txn kv.Txn
	seen := map[kv.Compare]bool{}
	add := func(list []kv.Compare) {
		for _, c := range list {
			if !seen[c] {
				seen[c] = true
				txn.If = append(txn.If, c)
			}
		}
	}
	add(guards)
	for _, c := range changes {
		add(c.If)
		txn.Then = append(txn.Then, c.Then...)
	}
	return txn
}
