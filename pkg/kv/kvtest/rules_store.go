package kvtest

import (
	"context"
	"fmt"

	"github.com/holdfast-ha/holdfast/pkg/kv"
	"github.com/holdfast-ha/holdfast/pkg/pool"
)

func writeIsReadBack(c *check) {
	rev := c.put("a", "one")
	entry, ok := c.get("a")
	if !ok || string(entry.Value) != "one" || entry.Key != c.key("a") || entry.Lease != 0 {
		c.Errorf("got %+v, %v", entry, ok)
	}
	if entry.CreateRevision != rev || entry.ModRevision != rev {
		c.Errorf("created at %d, changed at %d, want both at %d", entry.CreateRevision, entry.ModRevision, rev)
	}
}

func absentKey(c *check) {
	if entry, ok := c.get("nothing"); ok {
		c.Errorf("got %+v", entry)
	}
}

func overwriteKeepsCreation(c *check) {
	first := c.put("a", "one")
	second := c.put("a", "two")
	entry, _ := c.get("a")
	if entry.CreateRevision != first || entry.ModRevision != second || second <= first {
		c.Errorf("created at %d, changed at %d, want %d, %d", entry.CreateRevision, entry.ModRevision, first, second)
	}
	third := c.put("a", "two")
	if third <= second {
		c.Errorf("writing the same value again gave revision %d after %d", third, second)
	}
}

func deletedIsCreatedAnew(c *check) {
	c.put("a", "one")
	c.must(kv.Delete(c.key("a")))
	if entry, ok := c.get("a"); ok {
		c.Errorf("after the deletion: %+v", entry)
	}
	rev := c.put("a", "two")
	if entry, _ := c.get("a"); entry.CreateRevision != rev {
		c.Errorf("created at %d, want %d", entry.CreateRevision, rev)
	}
}

func deletingNothing(c *check) {
	before := c.put("a", "one")
	after := c.must(kv.Delete(c.key("nothing")))
	if after != before {
		c.Errorf("revision %d after %d", after, before)
	}
}

func transactionIsOneRevision(c *check) {
	c.put("c", "old")
	rev := c.must(kv.Put(c.key("a"), []byte("1")), kv.Put(c.key("b"), []byte("2")), kv.Delete(c.key("c")))
	a, _ := c.get("a")
	b, _ := c.get("b")
	if _, ok := c.get("c"); ok || a.ModRevision != rev || b.ModRevision != rev {
		c.Errorf("a at %d, b at %d, c there: %v, want both at %d and c gone", a.ModRevision, b.ModRevision, ok, rev)
	}
}

func guards(c *check) {
	created := c.put("a", "one")
	changed := c.put("a", "two")
	other := c.put("b", "one")
	for _, tt := range []struct {
		name  string
		guard kv.Compare
		want  bool
	}{
		{"the mod revision", kv.ModIs(c.key("a"), changed), true},
		{"an old mod revision", kv.ModIs(c.key("a"), created), false},
		{"the create revision", kv.CreatedAt(c.key("a"), created), true},
		{"a wrong create revision", kv.CreatedAt(c.key("a"), changed), false},
		{"absent, but there", kv.Absent(c.key("a")), false},
		{"absent", kv.Absent(c.key("nothing")), true},
		{"created at 0, which means absent", kv.CreatedAt(c.key("nothing"), 0), true},
		{"a revision of an absent key", kv.ModIs(c.key("nothing"), other), false},
		{"a negative create revision", kv.CreatedAt(c.key("nothing"), -1), false},
		{"a negative mod revision", kv.ModIs(c.key("nothing"), -1), false},
	} {
		res := c.try(kv.Txn{If: []kv.Compare{tt.guard, kv.ModIs(c.key("b"), other)}, Then: []kv.Op{kv.Put(c.key("out"), []byte(tt.name))}})
		out, _ := c.get("out")
		if res.Applied != tt.want || (string(out.Value) == tt.name) != tt.want {
			c.Errorf("%s: applied %v, written %v, want %v", tt.name, res.Applied, string(out.Value) == tt.name, tt.want)
		}
	}
}

func failedShowsFound(c *check) {
	rev := c.put("a", "one")
	newest := c.put("b", "two")
	res := c.try(kv.Txn{
		If:   []kv.Compare{kv.Absent(c.key("a"))},
		Then: []kv.Op{kv.Put(c.key("a"), []byte("mine"))},
		Read: []string{c.key("a"), c.key("nothing"), c.key("b")},
	})
	if res.Applied || res.Revision < newest || len(res.Found) != 2 {
		c.Fatalf("got %+v", res)
	}
	if f := res.Found[0]; f.Key != c.key("a") || string(f.Value) != "one" || f.ModRevision != rev || f.CreateRevision != rev {
		c.Errorf("found %+v", f)
	}
	if f := res.Found[1]; f.Key != c.key("b") {
		c.Errorf("found %+v", f)
	}
}

func emptyTransaction(c *check) {
	rev := c.put("a", "one")
	for name, txn := range map[string]kv.Txn{
		"empty":             {},
		"with a read":       {Read: []string{c.key("a")}},
		"with a good guard": {If: []kv.Compare{kv.ModIs(c.key("a"), rev)}, Read: []string{c.key("a")}},
	} {
		if res := c.try(txn); !res.Applied || res.Revision < rev || len(res.Found) != 0 {
			c.Errorf("%s: got %+v, want revision %d", name, res, rev)
		}
	}
	res := c.try(kv.Txn{If: []kv.Compare{kv.Absent(c.key("a"))}, Read: []string{c.key("a")}})
	if res.Applied || len(res.Found) != 1 {
		c.Errorf("with a bad guard: got %+v", res)
	}
	if entry, _ := c.get("a"); entry.ModRevision != rev {
		c.Errorf("it wrote: %+v", entry)
	}
}

func impossible(c *check) {
	var many []kv.Op
	var compares []kv.Compare
	for i := range kv.MaxOps + 1 {
		many = append(many, kv.Put(c.key(fmt.Sprint(i)), nil))
		compares = append(compares, kv.Absent(c.key(fmt.Sprint(i))))
	}
	for name, txn := range map[string]kv.Txn{
		"an empty key":          {Then: []kv.Op{kv.Put(c.key("a"), nil), {}}},
		"a key put twice":       {Then: []kv.Op{kv.Put(c.key("a"), nil), kv.Put(c.key("a"), nil)}},
		"a key put and deleted": {Then: []kv.Op{kv.Put(c.key("a"), nil), kv.Delete(c.key("a"))}},
		"too many writes":       {Then: many},
		"too many guards":       {If: compares, Then: many[:1]},
		"a guard without a key": {If: []kv.Compare{{}}, Then: []kv.Op{kv.Put(c.key("a"), nil)}},
		"a read without a key":  {Then: []kv.Op{kv.Put(c.key("a"), nil)}, Read: []string{""}},
	} {
		_, err := c.Store.Txn(c.ctx, txn)
		c.fails(err, pool.ErrInvalid, name)
	}
	if _, ok := c.get("a"); ok {
		c.Error("part of a refused transaction was written")
	}
}

func fullTransaction(c *check) {
	txn := kv.Txn{}
	for i := range kv.MaxOps {
		key := c.key(fmt.Sprintf("%03d", i))
		txn.If = append(txn.If, kv.Absent(key))
		txn.Then = append(txn.Then, kv.Put(key, []byte("x")))
		txn.Read = append(txn.Read, key)
	}
	c.apply(txn)
	if res := c.try(txn); res.Applied || len(res.Found) != kv.MaxOps {
		c.Errorf("the second time: applied %v, found %d, want %d", res.Applied, len(res.Found), kv.MaxOps)
	}
}

func listIsOrdered(c *check) {
	c.put("b", "1")
	c.put("c/x", "2")
	rev := c.put("a", "3")
	all, at, err := c.Store.List(c.ctx, c.prefix)
	if err != nil {
		c.Fatalf("list: %v", err)
	}
	var keys []string
	for _, entry := range all {
		keys = append(keys, entry.Key[len(c.prefix):]+"="+string(entry.Value))
	}
	c.same(keys, "a=3", "b=1", "c/x=2")
	if at < rev {
		c.Errorf("listed at revision %d, want at least %d", at, rev)
	}
	none, _, err := c.Store.List(c.ctx, c.key("nothing"))
	if err != nil || len(none) != 0 {
		c.Errorf("list of nothing: %v, %v", none, err)
	}
}

func listOfManyPages(c *check) {
	const n = 2500
	for from := 0; from < n; from += 125 {
		var ops []kv.Op
		for i := from; i < from+125; i++ {
			ops = append(ops, kv.Put(c.key(fmt.Sprintf("%05d", i)), []byte("x")))
		}
		c.must(ops...)
	}
	all, _, err := c.Store.List(c.ctx, c.prefix)
	if err != nil || len(all) != n {
		c.Fatalf("listed %d of %d: %v", len(all), n, err)
	}
	for i, entry := range all {
		if want := c.key(fmt.Sprintf("%05d", i)); entry.Key != want {
			c.Fatalf("entry %d is %s, want %s", i, entry.Key, want)
		}
	}
}

func endedContext(c *check) {
	ctx, cancel := context.WithCancel(c.ctx)
	cancel()
	_, err := c.Store.Txn(ctx, kv.Txn{Then: []kv.Op{kv.Put(c.key("a"), nil)}})
	c.fails(err, pool.ErrUnavailable, "a write under an ended context")
	if _, _, err := c.Store.Get(ctx, c.key("a")); err == nil {
		c.Error("a read under an ended context succeeded")
	}
	if _, ok := c.get("a"); ok {
		c.Error("a write under an ended context took effect")
	}
}
