package kvtest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/holdfast-ha/holdfast/pkg/clock"
	"github.com/holdfast-ha/holdfast/pkg/kv"
	"github.com/holdfast-ha/holdfast/pkg/pool"
)

// Edge is one store under test.
type Edge struct {
	Store  kv.Store
	Leases kv.Leases
	// Clock is the time that the store lives in. The suite waits only through it.
	Clock clock.Clock
	// Compact forgets the history before rev.
	Compact func(t testing.TB, rev pool.Revision)
	// Do runs f where calls to the store may be made: in a simulation, as a coroutine, returning once it has ended.
	// nil calls f directly. f may end by t.FailNow.
	Do func(f func())
}

// limit bounds each wait of the suite, in the store's time.
const limit = 20 * time.Second

// leaseTTL is the life of leases that are meant to expire, and slack how late real etcd may be: half a second, and
// a minimum that its election time-out sets.
const (
	leaseTTL = 2 * time.Second
	slack    = 3 * time.Second
)

// check is one rule, with its own corner of the key space.
type check struct {
	testing.TB
	Edge
	ctx    context.Context
	prefix string
}

// Run checks that what open returns does everything that kv.Store and kv.Leases promise. open is called once for
// each rule; it may return the same store each time.
func Run(t *testing.T, open func(t *testing.T) Edge) {
	for _, rule := range rules {
		t.Run(rule.name, func(t *testing.T) {
			e := open(t)
			do := e.Do
			if do == nil {
				do = func(f func()) { f() }
			}
			do(func() {
				rule.check(&check{TB: t, Edge: e, ctx: context.Background(), prefix: "/kvtest/" + rule.name + "/"})
			})
		})
	}
}

type rule struct {
	name  string
	check func(*check)
}

var rules = []rule{
	{"AWriteIsReadBackWithItsRevisions", writeIsReadBack},
	{"AnAbsentKeyIsNoError", absentKey},
	{"AnOverwriteKeepsTheCreateRevision", overwriteKeepsCreation},
	{"ADeletedKeyIsCreatedAnew", deletedIsCreatedAnew},
	{"DeletingNothingChangesNothing", deletingNothing},
	{"ATransactionIsOneRevision", transactionIsOneRevision},
	{"GuardsHoldOrNothingHappens", guards},
	{"AFailedTransactionShowsWhatItSaw", failedShowsFound},
	{"ATransactionWithoutWritesTellsTheRevision", emptyTransaction},
	{"ImpossibleTransactionsAreRefused", impossible},
	{"AFullTransactionWorks", fullTransaction},
	{"AListIsOrderedAndOfOneRevision", listIsOrdered},
	{"AListOfManyPagesIsComplete", listOfManyPages},
	{"AnEndedContextChangesNothing", endedContext},
	{"AWatchDeliversThePastInOrder", watchPast},
	{"AWatchDeliversWhatHappensInOrder", watchPresent},
	{"AWatchSeesOnlyItsPrefix", watchPrefix},
	{"ABatchHoldsWholeRevisions", batchIsWhole},
	{"AWatchShowsDeletions", watchDeletions},
	{"AQuietWatchReportsProgress", watchProgress},
	{"AnImpatientCallerLosesNothing", impatientNext},
	{"AWatchFromCompactedHistorySaysSo", watchCompacted},
	{"AWatchFromTheFutureWaits", watchFuture},
	{"AKeyGoesWithItsLeaseAndTheWatchTells", leaseExpires},
	{"ARenewedLeaseLives", leaseRenewed},
	{"ALeaseThatIsGoneCannotBeRenewed", renewGone},
	{"ARevokedLeaseTakesItsKeysInOneRevision", leaseRevoked},
	{"APutWithoutLeaseDetachesTheKey", putDetaches},
	{"APutMovesTheKeyToAnotherLease", putMoves},
	{"APutUnderALeaseThatIsGoneIsRefused", putUnderGone},
	{"LeasesAreWholeSeconds", leaseTTLs},
}

// key returns a key of this rule's own.
func (c *check) key(name string) string { return c.prefix + name }

// must commits ops and returns their revision.
func (c *check) must(ops ...kv.Op) pool.Revision {
	c.Helper()
	return c.apply(kv.Txn{Then: ops})
}

func (c *check) apply(txn kv.Txn) pool.Revision {
	c.Helper()
	res := c.try(txn)
	if !res.Applied {
		c.Fatalf("txn %+v was not applied", txn)
	}
	return res.Revision
}

func (c *check) try(txn kv.Txn) kv.Result {
	c.Helper()
	res, err := c.Store.Txn(c.ctx, txn)
	if err != nil {
		c.Fatalf("txn %+v: %v", txn, err)
	}
	return res
}

func (c *check) get(name string) (kv.KeyValue, bool) {
	c.Helper()
	entry, ok, err := c.Store.Get(c.ctx, c.key(name))
	if err != nil {
		c.Fatalf("get %s: %v", name, err)
	}
	return entry, ok
}

func (c *check) put(name, value string) pool.Revision {
	c.Helper()
	return c.must(kv.Put(c.key(name), []byte(value)))
}

func (c *check) grant(ttl time.Duration) kv.LeaseID {
	c.Helper()
	id, err := c.Leases.Grant(c.ctx, ttl)
	if err != nil || id == 0 {
		c.Fatalf("grant %v: %x, %v", ttl, int64(id), err)
	}
	return id
}

func (c *check) putLeased(name string, lease kv.LeaseID) pool.Revision {
	c.Helper()
	return c.must(kv.PutLeased(c.key(name), []byte("x"), lease))
}

func (c *check) wait(d time.Duration) {
	c.Helper()
	if err := c.Clock.Sleep(c.ctx, d); err != nil {
		c.Fatalf("sleep: %v", err)
	}
}

// gone waits until a key has disappeared and returns how long that took.
func (c *check) gone(name string, since pool.Instant, within time.Duration) time.Duration {
	c.Helper()
	for {
		if _, ok := c.get(name); !ok {
			return c.Clock.Now().Sub(since)
		}
		if took := c.Clock.Now().Sub(since); took > within {
			c.Fatalf("%s is still there after %v", name, took)
		}
		c.wait(50 * time.Millisecond)
	}
}

// watch starts a watch on this rule's keys that is closed when the rule ends.
func (c *check) watch(from pool.Revision) *follower {
	c.Helper()
	return c.watchOn(c.prefix, from)
}

func (c *check) watchOn(prefix string, from pool.Revision) *follower {
	c.Helper()
	w, err := c.Store.Watch(c.ctx, prefix, from)
	if err != nil {
		c.Fatalf("watch %s from %d: %v", prefix, from, err)
	}
	return &follower{check: c, watcher: w}
}

// follower checks what every batch must be while it collects events.
type follower struct {
	check   *check
	watcher kv.Watcher
	last    pool.Revision
	batches []kv.Batch
}

// next returns the next batch, be it empty.
func (f *follower) next(limit time.Duration) (kv.Batch, error) {
	c := f.check
	c.Helper()
	ctx, cancel := c.Clock.WithTimeout(c.ctx, limit)
	defer cancel()
	b, err := f.watcher.Next(ctx)
	if err != nil {
		return b, err
	}
	before := f.last
	for _, e := range b.Events {
		if e.ModRevision <= before && e.ModRevision != f.last {
			c.Errorf("event of revision %d after %d", e.ModRevision, before)
		}
		if e.ModRevision <= before {
			c.Errorf("revision %d was split between batches, or came twice", e.ModRevision)
		}
		f.last = max(f.last, e.ModRevision)
	}
	if b.Revision < f.last {
		c.Errorf("batch of revision %d holds an event of %d", b.Revision, f.last)
	}
	if len(b.Events) > 0 {
		f.batches = append(f.batches, b)
	}
	return b, nil
}

// events collects until n events have come.
func (f *follower) events(n int) []kv.Event {
	f.check.Helper()
	var all []kv.Event
	until := f.check.Clock.Now().Add(limit)
	for len(all) < n {
		b, err := f.next(limit)
		if err != nil {
			f.check.Fatalf("watch after %d events of %d: %v", len(all), n, err)
		}
		all = append(all, b.Events...)
		if !f.check.Clock.Now().Before(until) {
			f.check.Fatalf("only %d events of %d within %v", len(all), n, limit)
		}
	}
	return all
}

// words renders events for comparison.
func words(events []kv.Event, prefix string) []string {
	out := make([]string, len(events))
	for i, e := range events {
		name := e.Key[len(prefix):]
		if e.Deleted {
			out[i] = "-" + name
		} else {
			out[i] = fmt.Sprintf("+%s=%s", name, e.Value)
		}
	}
	return out
}

func (c *check) same(got []string, want ...string) {
	c.Helper()
	if !slices.Equal(got, want) {
		c.Errorf("got %v, want %v", got, want)
	}
}

func (c *check) fails(err, want error, what string) {
	c.Helper()
	if !errors.Is(err, want) {
		c.Errorf("%s: got %v, want %v", what, err, want)
	}
}
