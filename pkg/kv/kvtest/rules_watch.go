package kvtest

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/holdfast-ha/holdfast/pkg/kv"
)

func watchPast(c *check) {
	first := c.put("a", "1")
	c.put("b", "2")
	c.put("a", "3")
	c.must(kv.Delete(c.key("b")))
	w := c.watch(first)
	defer w.watcher.Close()
	c.same(words(w.events(4), c.prefix), "+a=1", "+b=2", "+a=3", "-b")
	later := c.watch(first + 1)
	defer later.watcher.Close()
	c.same(words(later.events(3), c.prefix), "+b=2", "+a=3", "-b")
}

func watchPresent(c *check) {
	start := c.put("a", "0")
	w := c.watch(start + 1)
	defer w.watcher.Close()
	for i := range 5 {
		rev := c.put("a", fmt.Sprint(i))
		e := w.events(1)[0]
		if e.ModRevision != rev || e.CreateRevision != start || string(e.Value) != fmt.Sprint(i) || e.Deleted {
			c.Errorf("change %d at %d: got %+v", i, rev, e)
		}
	}
}

func watchPrefix(c *check) {
	start := c.put("in/a", "1")
	w := c.watchOn(c.key("in/"), start)
	defer w.watcher.Close()
	c.put("out/a", "2")
	c.put("in", "3")
	c.put("in/b", "4")
	c.same(words(w.events(2), c.key("in/")), "+a=1", "+b=4")
}

func batchIsWhole(c *check) {
	start := c.put("x", "0")
	w := c.watch(start + 1)
	defer w.watcher.Close()
	const revisions, keys = 20, 50
	for r := range revisions {
		var ops []kv.Op
		for k := range keys {
			ops = append(ops, kv.Put(c.key(fmt.Sprintf("%02d", k)), []byte(fmt.Sprint(r))))
		}
		c.must(ops...)
	}
	w.events(revisions * keys) // the follower complains about a revision in two batches
	for _, b := range w.batches {
		if len(b.Events)%keys != 0 {
			c.Errorf("a batch of %d events cuts a revision of %d", len(b.Events), keys)
		}
	}
}

func watchDeletions(c *check) {
	start := c.put("a", "1")
	w := c.watch(start + 1)
	defer w.watcher.Close()
	rev := c.must(kv.Delete(c.key("a")))
	e := w.events(1)[0]
	if !e.Deleted || e.Key != c.key("a") || e.ModRevision != rev || len(e.Value) != 0 {
		c.Errorf("got %+v, want the deletion at %d", e, rev)
	}
}

func watchProgress(c *check) {
	start := c.put("a", "1")
	w := c.watch(start + 1)
	defer w.watcher.Close()
	other := c.must(kv.Put("/kvtest-elsewhere", []byte(c.Name())))
	for range 3 {
		began := c.Clock.Now()
		b, err := w.next(limit)
		if err != nil || len(b.Events) != 0 {
			c.Fatalf("got %+v, %v, want a progress report", b, err)
		}
		if took := c.Clock.Now().Sub(began); took > 2*kv.ProgressEvery+time.Second {
			c.Errorf("a progress report took %v, want about %v", took, kv.ProgressEvery)
		}
		if b.Revision >= other {
			return // everything before is known to be delivered
		}
	}
	c.Errorf("progress reports do not come to revision %d", other)
}

func impatientNext(c *check) {
	start := c.put("a", "1")
	w := c.watch(start + 1)
	defer w.watcher.Close()
	for i := range 10 {
		c.put("a", fmt.Sprint(i))
		if _, err := w.next(time.Millisecond); err != nil && !errors.Is(err, context.DeadlineExceeded) {
			c.Fatalf("a short wait: %v", err)
		}
	}
	c.put("a", "end")
	for {
		b, err := w.next(limit)
		if err != nil {
			c.Fatalf("watch: %v", err)
		}
		if n := len(b.Events); n > 0 && string(b.Events[n-1].Value) == "end" {
			break
		}
	}
	total := 0
	for _, b := range w.batches {
		total += len(b.Events)
	}
	if total != 11 {
		c.Errorf("%d events, want 11", total)
	}
}

func watchCompacted(c *check) {
	first := c.put("a", "1")
	c.put("a", "2")
	newest := c.put("a", "3")
	c.Compact(c.TB, newest)
	w, err := c.Store.Watch(c.ctx, c.prefix, first)
	if err == nil {
		defer w.Close()
		ctx, cancel := c.Clock.WithTimeout(c.ctx, limit)
		defer cancel()
		for err == nil {
			_, err = w.Next(ctx)
		}
	}
	var compacted *kv.CompactedError
	if !errors.As(err, &compacted) || compacted.Oldest > newest || compacted.Oldest <= first {
		c.Fatalf("got %v, want a compaction between %d and %d", err, first, newest)
	}
	// What is left can be listed and watched on.
	all, rev, err := c.Store.List(c.ctx, c.prefix)
	if err != nil || len(all) != 1 || string(all[0].Value) != "3" {
		c.Fatalf("list after compaction: %+v, %v", all, err)
	}
	again := c.watch(rev + 1)
	defer again.watcher.Close()
	c.put("a", "4")
	c.same(words(again.events(1), c.prefix), "+a=4")
}

func watchFuture(c *check) {
	now := c.put("a", "1")
	w := c.watch(now + 3)
	defer w.watcher.Close()
	for i := 2; i <= 4; i++ {
		c.put("a", fmt.Sprint(i))
	}
	c.same(words(w.events(1), c.prefix), "+a=4")
}
