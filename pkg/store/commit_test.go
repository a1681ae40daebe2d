package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/holdfast-ha/holdfast/pkg/kv"
	"github.com/holdfast-ha/holdfast/pkg/pool"
)

func TestABrokenGuardSaysWhichKeyChanged(t *testing.T) {
	b := newBench(t)
	rev := b.commit(b.keys.PutClaim(heldClaim("a", "srv-1", 5)))
	b.commit(b.keys.PutClaim(heldClaim("a", "srv-2", 6)))
	_, err := b.store.Commit(t.Context(), kv.Txn{
		If:   []kv.Compare{b.keys.ClaimIs("a", rev), b.keys.MemberAbsent("srv-1")},
		Then: []kv.Op{b.keys.PutClaim(heldClaim("a", "srv-3", 7))},
	})
	var broken *GuardError
	if !errors.As(err, &broken) || !errors.Is(err, pool.ErrStale) || errors.Is(err, pool.ErrLostLeadership) {
		t.Fatalf("got %v, want a GuardError that is only %v", err, pool.ErrStale)
	}
	if !broken.Broke(b.keys.Claim("a")) || broken.Broke(b.keys.Member("srv-1")) || len(broken.Broken) != 1 {
		t.Errorf("broken: %+v", broken.Broken)
	}
	if len(broken.Found) != 1 || !strings.Contains(string(broken.Found[0].Value), "srv-2") {
		t.Errorf("found: %+v", broken.Found)
	}
	if !strings.Contains(err.Error(), b.keys.Claim("a")) {
		t.Errorf("the message does not name the key: %v", err)
	}
}

func TestABrokenLeaderGuardIsLostLeadership(t *testing.T) {
	b := newBench(t)
	lease, err := b.mem.Grant(t.Context(), pool.MaxTTL)
	if err != nil {
		t.Fatal(err)
	}
	rev := b.commit(b.keys.PutLeader("srv-1", lease))
	leader := pool.Leader{Server: "srv-1", Revision: rev, Key: b.keys.Leader(lease)}
	write := kv.Txn{If: []kv.Compare{b.keys.LeaderIs(leader)}, Then: []kv.Op{b.keys.PutRoster(pool.Roster{})}}
	if _, err := b.store.Commit(t.Context(), write); err != nil {
		t.Fatalf("while in office: %v", err)
	}
	if err := b.mem.Revoke(t.Context(), lease); err != nil {
		t.Fatal(err)
	}
	if _, err := b.store.Commit(t.Context(), write); !errors.Is(err, pool.ErrLostLeadership) || !errors.Is(err, pool.ErrStale) {
		t.Errorf("after the lease: got %v, want %v", err, pool.ErrLostLeadership)
	}
}

func TestNobodyLeadsAndNoSessionLivesByTheZeroValue(t *testing.T) {
	b := newBench(t)
	for name, guard := range map[string]kv.Compare{
		"leader":  b.keys.LeaderIs(pool.Leader{}),
		"member":  b.keys.MemberIs("srv-1", 0),
		"without": b.keys.LeaderIs(pool.Leader{Key: b.keys.Leader(1)}),
	} {
		if _, err := b.store.Commit(t.Context(), kv.Txn{If: []kv.Compare{guard}, Then: []kv.Op{b.keys.PutRoster(pool.Roster{})}}); !errors.Is(err, pool.ErrStale) {
			t.Errorf("%s: got %v, want %v", name, err, pool.ErrStale)
		}
	}
}

func TestWhatLandedAfterAnUnknownOutcomeIsSeen(t *testing.T) {
	b := newBench(t)
	first := b.commit(b.keys.PutClaim(heldClaim("a", "srv-1", 5)))
	txn := kv.Txn{If: []kv.Compare{b.keys.ClaimIs("a", first)}, Then: []kv.Op{b.keys.PutClaim(heldClaim("a", "srv-2", 6))}}
	if landed, err := b.store.Landed(t.Context(), txn); landed || err != nil {
		t.Errorf("before: %v, %v", landed, err)
	}
	if _, err := b.store.Commit(t.Context(), txn); err != nil {
		t.Fatal(err)
	}
	if landed, err := b.store.Landed(t.Context(), txn); !landed || err != nil {
		t.Errorf("after: %v, %v", landed, err)
	}
	same := kv.Txn{If: []kv.Compare{b.keys.ClaimIs("a", first+1)}, Then: txn.Then}
	if landed, err := b.store.Landed(t.Context(), same); landed || err != nil {
		t.Errorf("a rewrite of the same value that did not happen: %v, %v", landed, err)
	}
	if _, err := b.store.Landed(t.Context(), kv.Txn{Then: txn.Then}); !errors.Is(err, pool.ErrInvalid) {
		t.Errorf("without a guard: got %v, want %v", err, pool.ErrInvalid)
	}
}

// changesFor makes n changes that create one event each and move one claim each, in groups of size ops.
func changesFor(b *bench, n int) []Change {
	changes := make([]Change, n)
	for i := range changes {
		vm := pool.VMID(fmt.Sprintf("vm-%04d", i))
		changes[i] = Change{
			If:   []kv.Compare{b.keys.ClaimIs(vm, 0)},
			Then: []kv.Op{b.keys.PutClaim(heldClaim(vm, "srv-1", 5)), b.keys.PutHome(pool.Home{VM: vm}), b.keys.PutState(pool.VMState{VM: vm})},
		}
	}
	return changes
}

// counting counts the transactions of a store and fails those from number stop on.
type counting struct {
	kv.Store
	txns, stop int
	err        error
	largest    int
}

func (c *counting) Txn(ctx context.Context, txn kv.Txn) (kv.Result, error) {
	c.txns++
	c.largest = max(c.largest, len(txn.Then))
	if c.stop > 0 && c.txns >= c.stop {
		return kv.Result{}, c.err
	}
	return c.Store.Txn(ctx, txn)
}

func TestAHundredVMsMoveInAFewTransactions(t *testing.T) {
	b := newBench(t)
	count := &counting{Store: b.mem}
	done, rev, err := New(count, b.keys).CommitAll(t.Context(), nil, changesFor(b, 100))
	if err != nil || done != 100 || rev == 0 {
		t.Fatalf("done %d at %d: %v", done, rev, err)
	}
	if count.txns != 3 || count.largest > kv.MaxOps {
		t.Errorf("%d transactions of at most %d operations, want 3 of at most %d", count.txns, count.largest, kv.MaxOps)
	}
}

func TestABatchStopsAtTheFirstUnknownOutcome(t *testing.T) {
	b := newBench(t)
	count := &counting{Store: b.mem, stop: 2, err: fmt.Errorf("lost reply: %w", pool.ErrOutcomeUnknown)}
	done, _, err := New(count, b.keys).CommitAll(t.Context(), nil, changesFor(b, 100))
	if done != 42 || !errors.Is(err, pool.ErrOutcomeUnknown) || count.txns != 2 {
		t.Errorf("done %d after %d transactions: %v", done, count.txns, err)
	}
}

func TestChangesOfOneKeyComeOneAfterTheOther(t *testing.T) {
	b := newBench(t)
	changes := []Change{
		{Then: []kv.Op{b.keys.PutClaim(heldClaim("a", "srv-1", 5))}},
		{Then: []kv.Op{b.keys.PutClaim(heldClaim("a", "srv-2", 6))}},
		{If: []kv.Compare{b.keys.ClaimIs("a", 0)}, Then: []kv.Op{b.keys.PutHome(pool.Home{VM: "a"})}},
	}
	done, _, err := b.store.CommitAll(t.Context(), nil, changes)
	if done != 2 || !errors.Is(err, pool.ErrStale) {
		t.Errorf("done %d, %v, want the third to see what the second wrote", done, err)
	}
	if c, _, _ := b.store.ReadClaim(t.Context(), "a"); c.Server != "srv-2" {
		t.Errorf("claim %+v", c)
	}
}

func TestOneBrokenChangeHoldsUpNoOther(t *testing.T) {
	b := newBench(t)
	changes := changesFor(b, 60)
	for _, i := range []int{0, 7, 59} {
		b.commit(changes[i].Then[0]) // someone else was first
	}
	errs := b.store.CommitEach(t.Context(), []kv.Compare{b.keys.RosterIs(0)}, changes)
	for i, err := range errs {
		_, applied, _ := b.store.ReadHome(t.Context(), pool.VMID(fmt.Sprintf("vm-%04d", i)))
		if broken := slices.Contains([]int{0, 7, 59}, i); broken != errors.Is(err, pool.ErrStale) || broken == applied {
			t.Errorf("change %d: applied %v, %v", i, applied, err)
		}
	}
}

func TestABrokenSharedGuardStopsEverything(t *testing.T) {
	b := newBench(t)
	for i, err := range b.store.CommitEach(t.Context(), []kv.Compare{b.keys.RosterIs(99)}, changesFor(b, 60)) {
		if !errors.Is(err, pool.ErrStale) {
			t.Errorf("change %d: %v", i, err)
		}
	}
	if snap, err := b.store.Load(t.Context(), life); err != nil || snap.Claims.Len() != 0 {
		t.Errorf("something was written: %v, %v", snap.Claims.Keys(), err)
	}
}

func TestWhatFollowsAnUnknownOutcomeWasNotTried(t *testing.T) {
	b := newBench(t)
	count := &counting{Store: b.mem, stop: 2, err: fmt.Errorf("lost reply: %w", pool.ErrOutcomeUnknown)}
	errs := New(count, b.keys).CommitEach(t.Context(), nil, changesFor(b, 100))
	for i, err := range errs {
		want := map[bool]error{true: nil, false: pool.ErrOutcomeUnknown}[i < 42]
		if i >= 84 {
			want = pool.ErrUnavailable
		}
		if !errors.Is(err, want) {
			t.Errorf("change %d: got %v, want %v", i, err, want)
		}
	}
}

// TestABatchDoesWhatSingleCommitsWouldDo compares CommitEach with one Commit per change.
func TestABatchDoesWhatSingleCommitsWouldDo(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		batch, single := newBench(t), newBench(t)
		changes := rapid.SliceOfN(rapid.Custom(func(r *rapid.T) Change {
			var c Change
			for range rapid.IntRange(1, 3).Draw(r, "ops") {
				vm := pool.VMID(rapid.StringMatching(`[a-e]`).Draw(r, "vm"))
				op := batch.keys.PutClaim(heldClaim(vm, pool.ServerID(rapid.StringMatching(`s[0-9]`).Draw(r, "server")), 1))
				if slices.ContainsFunc(c.Then, func(o kv.Op) bool { return o.Key == op.Key }) {
					continue
				}
				c.Then = append(c.Then, op)
				if rapid.Bool().Draw(r, "guarded") {
					c.If = append(c.If, batch.keys.ClaimIs(vm, 0))
				}
			}
			return c
		}), 0, 12).Draw(r, "changes")
		errs := batch.store.CommitEach(t.Context(), nil, changes)
		for i, c := range changes {
			_, err := single.store.Commit(t.Context(), kv.Txn(kv.Txn{If: c.If, Then: c.Then}))
			if (err == nil) != (errs[i] == nil) {
				r.Fatalf("change %d: batch %v, single %v", i, errs[i], err)
			}
		}
		a, _, _ := batch.mem.List(t.Context(), batch.keys.Prefix())
		b, _, _ := single.mem.List(t.Context(), single.keys.Prefix())
		if len(a) != len(b) {
			r.Fatalf("%d keys, want %d", len(a), len(b))
		}
		for i := range a {
			if a[i].Key != b[i].Key || string(a[i].Value) != string(b[i].Value) {
				r.Fatalf("key %s: %s, want %s", a[i].Key, a[i].Value, b[i].Value)
			}
		}
	})
}
