package etcd_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/holdfast-ha/holdfast/pkg/kv"
	"github.com/holdfast-ha/holdfast/pkg/kv/etcd"
	"github.com/holdfast-ha/holdfast/pkg/pool"
	"github.com/holdfast-ha/holdfast/test/etcdtest"
	"github.com/holdfast-ha/holdfast/test/stopwatch"
)

func within(t *testing.T, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

func put(ctx context.Context, e *etcd.Etcd, key string) error {
	_, err := e.Txn(ctx, kv.Txn{Then: []kv.Op{kv.Put(key, []byte("x"))}})
	return err
}

// mustSoon tries until f succeeds.
func mustSoon(t *testing.T, what string, f func(ctx context.Context) error) {
	t.Helper()
	end := within(t, 20*time.Second)
	for {
		ctx, cancel := context.WithTimeout(end, 2*time.Second)
		err := f(ctx)
		cancel()
		if err == nil {
			return
		}
		if end.Err() != nil {
			t.Fatalf("%s: %v", what, err)
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-end.Done():
		}
	}
}

func TestALostReplyIsAnUnknownOutcome(t *testing.T) {
	t.Parallel()
	c := etcdtest.Start(t, 1)
	e := c.Open()
	mustSoon(t, "first put", func(ctx context.Context) error { return put(ctx, e, "a") })
	c.Member(0).HoldReplies()
	if err := put(within(t, 500*time.Millisecond), e, "b"); !errors.Is(err, pool.ErrOutcomeUnknown) {
		t.Errorf("got %v, want %v", err, pool.ErrOutcomeUnknown)
	}
	c.Member(0).PassClients()
	mustSoon(t, "read back", func(ctx context.Context) error {
		_, ok, err := e.Get(ctx, "b")
		if err == nil && !ok {
			return errors.New("not there although etcd had it")
		}
		return err
	})
}

func TestAConnectionCutWhileWaitingIsAnUnknownOutcome(t *testing.T) {
	t.Parallel()
	c := etcdtest.Start(t, 1)
	e := c.Open()
	mustSoon(t, "first put", func(ctx context.Context) error { return put(ctx, e, "a") })
	c.Member(0).HoldReplies()
	time.AfterFunc(300*time.Millisecond, c.Member(0).CutClients)
	if err := put(within(t, 5*time.Second), e, "b"); !errors.Is(err, pool.ErrOutcomeUnknown) {
		t.Errorf("got %v, want %v", err, pool.ErrOutcomeUnknown)
	}
}

func TestAWriteThatCannotBeSentHasCertainlyNotHappened(t *testing.T) {
	t.Parallel()
	c := etcdtest.Start(t, 1)
	e := c.Open()
	mustSoon(t, "first put", func(ctx context.Context) error { return put(ctx, e, "a") })
	c.Member(0).Stop()
	mustSoon(t, "notice the end of the connection", func(ctx context.Context) error {
		if err := put(ctx, e, "b"); !errors.Is(err, pool.ErrUnavailable) || errors.Is(err, pool.ErrOutcomeUnknown) {
			return err
		}
		return nil
	})
	stopwatch.Within(t, 3*time.Second, "to say so", func() time.Duration {
		return stopwatch.Of(func() {
			if err := put(within(t, 30*time.Second), e, "b"); !errors.Is(err, pool.ErrUnavailable) {
				t.Errorf("got %v, want %v", err, pool.ErrUnavailable)
			}
		})
	})
	if err := put(context.Background(), openAt(t, "http://127.0.0.1:1"), "b"); !errors.Is(err, pool.ErrUnavailable) {
		t.Errorf("an address where nobody listens: got %v, want %v", err, pool.ErrUnavailable)
	}
}

func openAt(t *testing.T, endpoints ...string) *etcd.Etcd {
	t.Helper()
	e, err := etcd.Open(etcd.Options{Endpoints: endpoints})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = e.Close() })
	return e
}

func TestARenewalThroughAFrozenMemberFailsAndTheNextMemberTakesIt(t *testing.T) {
	t.Parallel()
	c := etcdtest.Start(t, 3)
	e := c.Open()
	var lease kv.LeaseID
	mustSoon(t, "grant", func(ctx context.Context) (err error) { lease, err = e.Grant(ctx, 60*time.Second); return err })
	for i := range 3 {
		mustSoon(t, "renew", func(ctx context.Context) error { return e.KeepAlive(ctx, lease, i) })
	}
	frozen := (c.Leader() + 1) % 3
	c.Member(frozen).Freeze()
	if err := e.KeepAlive(within(t, 500*time.Millisecond), lease, frozen+3); err == nil || errors.Is(err, kv.ErrLeaseNotFound) {
		t.Errorf("through the frozen member: got %v, want a failure to reach it", err)
	}
	if err := e.KeepAlive(within(t, 10*time.Second), lease, frozen+4); err != nil {
		t.Errorf("through the next member: %v", err)
	}
}

func TestReadsAndWritesGoOnWhileOneMemberIsFrozen(t *testing.T) {
	t.Parallel()
	c := etcdtest.Start(t, 3)
	e := c.Open()
	mustSoon(t, "first put", func(ctx context.Context) error { return put(ctx, e, "a") })
	c.Member(c.Leader()).Freeze()
	mustSoon(t, "read", func(ctx context.Context) error { _, _, err := e.Get(ctx, "a"); return err })
	mustSoon(t, "write", func(ctx context.Context) error { return put(ctx, e, "b") })
	stopwatch.Within(t, 5*time.Second, "five writes when it has learned whom to ask", func() time.Duration {
		return stopwatch.Of(func() {
			for i := range 5 {
				if err := put(within(t, 30*time.Second), e, "c"); err != nil {
					t.Errorf("write %d: %v", i, err)
				}
			}
		})
	})
}

func TestAWatchOnAMemberWithoutQuorumEndsInsteadOfHanging(t *testing.T) {
	t.Parallel()
	c := etcdtest.Start(t, 3)
	lonely := (c.Leader() + 1) % 3
	e := openAt(t, c.Member(lonely).Endpoint())
	mustSoon(t, "first put", func(ctx context.Context) error { return put(ctx, e, "a") })
	w, err := e.Watch(t.Context(), "a", 0)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	if _, err := w.Next(within(t, 30*time.Second)); err != nil {
		t.Fatalf("a healthy watch: %v", err)
	}
	c.Member(lonely).CutPeers()
	ends(t, w)
}

func TestAWatchOnAFrozenMemberEndsInsteadOfHanging(t *testing.T) {
	t.Parallel()
	c := etcdtest.Start(t, 1)
	e := c.Open()
	mustSoon(t, "first put", func(ctx context.Context) error { return put(ctx, e, "a") })
	w, err := e.Watch(t.Context(), "a", 0)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	c.Member(0).Freeze()
	ends(t, w)
}

// ends demands that a watch breaks by itself.
func ends(t *testing.T, w kv.Watcher) {
	t.Helper()
	limit := within(t, 15*time.Second)
	for {
		_, err := w.Next(limit)
		if errors.Is(err, pool.ErrUnavailable) {
			if _, again := w.Next(limit); !errors.Is(again, pool.ErrUnavailable) {
				t.Errorf("after it broke: %v", again)
			}
			return
		}
		if err != nil {
			t.Fatalf("got %v, want %v", err, pool.ErrUnavailable)
		}
	}
}

func TestAListIsOfOneRevisionWhileOthersWrite(t *testing.T) {
	t.Parallel()
	c := etcdtest.Start(t, 1)
	e := c.Open()
	names := make([]string, 2400) // three pages
	for i := range names {
		names[i] = "k/" + string(rune('a'+i/100)) + string(rune('0'+i%100/10)) + string(rune('0'+i%10))
	}
	all := func(value string) {
		for from := 0; from < len(names); from += 100 {
			var ops []kv.Op
			for _, name := range names[from : from+100] {
				ops = append(ops, kv.Put(name, []byte(value)))
			}
			if _, err := e.Txn(t.Context(), kv.Txn{Then: ops}); err != nil {
				t.Errorf("write: %v", err)
			}
		}
	}
	all("0")
	done := make(chan struct{})
	go func() {
		defer close(done)
		for _, value := range []string{"1", "2", "3", "4", "5"} {
			all(value)
		}
	}()
	for running := true; running; {
		select {
		case <-done:
			running = false
		default:
		}
		list, rev, err := e.List(t.Context(), "k/")
		if err != nil || len(list) != len(names) {
			t.Fatalf("list: %d entries, %v", len(list), err)
		}
		newest := list[0].Value[0]
		for _, entry := range list {
			if entry.ModRevision > rev {
				t.Fatalf("%s of revision %d in a list of %d", entry.Key, entry.ModRevision, rev)
			}
			if entry.Value[0] > newest { // the writer goes from first to last
				t.Fatalf("%s is newer than an entry before it: not one revision", entry.Key)
			}
			newest = entry.Value[0]
		}
	}
}

func TestEndpointsCanChange(t *testing.T) {
	t.Parallel()
	c := etcdtest.Start(t, 1)
	e := openAt(t, "http://127.0.0.1:1")
	if err := put(within(t, 3*time.Second), e, "a"); !errors.Is(err, pool.ErrUnavailable) {
		t.Fatalf("got %v, want %v", err, pool.ErrUnavailable)
	}
	if err := e.SetEndpoints(c.Endpoints()); err != nil {
		t.Fatal(err)
	}
	mustSoon(t, "put at the new endpoint", func(ctx context.Context) error { return put(ctx, e, "a") })
	if err := e.SetEndpoints(nil); !errors.Is(err, pool.ErrInvalid) {
		t.Errorf("no endpoints: got %v, want %v", err, pool.ErrInvalid)
	}
}

func TestAMemberWithTheLeaseFixIsAccepted(t *testing.T) {
	t.Parallel()
	c := etcdtest.Start(t, 1)
	if err := openAt(t, "http://127.0.0.1:1", c.Endpoints()[0]).CheckVersions(t.Context()); err != nil {
		t.Errorf("got %v", err)
	}
	if err := openAt(t, "http://127.0.0.1:1").CheckVersions(t.Context()); !errors.Is(err, pool.ErrUnavailable) {
		t.Errorf("nobody to ask: got %v, want %v", err, pool.ErrUnavailable)
	}
}

func TestVersionsThatEndLeasesTooEarlyAreRefused(t *testing.T) {
	for version, good := range map[string]bool{
		"3.3.27": false, "3.4.30": false, "3.4.31": true, "3.5.0": false, "3.5.12": false, "3.5.13": true, "v3.5.21": true,
		"3.6.0": true, "3.6.0-rc.1": true, "3.7.3": true, "3.10.0": true, "4.0.0": true, "2.3.8": false,
	} {
		err := etcd.CheckVersion(version)
		var refusal *pool.Refusal
		if good != (err == nil) || (!good && !errors.As(err, &refusal)) {
			t.Errorf("%s: got %v, want good %v", version, err, good)
		}
	}
	for _, version := range []string{"", "3.5", "3.x.1", "newest"} {
		if err := etcd.CheckVersion(version); !errors.Is(err, pool.ErrInvalid) {
			t.Errorf("%q: got %v, want %v", version, err, pool.ErrInvalid)
		}
	}
}
