package pool

import (
	"maps"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// oracle is a table beside the plain map that it must equal.
type oracle struct {
	table Table[int, string]
	want  map[int]string
}

func (o oracle) check(t *rapid.T) {
	if o.table.Len() != len(o.want) {
		t.Fatalf("%d entries, want %d", o.table.Len(), len(o.want))
	}
	keys := slices.Sorted(maps.Keys(o.want))
	if got := o.table.Keys(); !slices.Equal(got, keys) {
		t.Fatalf("keys %v, want %v", got, keys)
	}
	i := 0
	for k, v := range o.table.All() {
		if k != keys[i] || v != o.want[k] {
			t.Fatalf("entry %d is %d=%q, want %d=%q", i, k, v, keys[i], o.want[keys[i]])
		}
		i++
	}
	for k := -1; k <= 40; k++ {
		v, ok := o.table.Get(k)
		want, has := o.want[k]
		if ok != has || v != want || o.table.Has(k) != has {
			t.Fatalf("get %d: %q, %v, want %q, %v", k, v, ok, want, has)
		}
	}
	for _, c := range o.table.chunks {
		if len(c) == 0 || len(c) > chunkSize {
			t.Fatalf("a chunk of %d entries", len(c))
		}
	}
}

func (o oracle) with(k int, v string) oracle {
	want := maps.Clone(o.want)
	want[k] = v
	return oracle{o.table.With(k, v), want}
}

func (o oracle) without(k int) oracle {
	want := maps.Clone(o.want)
	delete(want, k)
	return oracle{o.table.Without(k), want}
}

func TestATableDoesWhatAMapDoesAndOldOnesNeverChange(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		start := rapid.MapOfN(rapid.IntRange(0, 700), rapid.StringN(0, 2, -1), 0, 400).Draw(t, "start")
		versions := []oracle{{NewTable(start), start}}
		key := rapid.OneOf(rapid.IntRange(0, 40), rapid.IntRange(0, 700))
		for range rapid.IntRange(0, 60).Draw(t, "changes") {
			from := versions[rapid.IntRange(0, len(versions)-1).Draw(t, "from")] // old versions branch, too
			if rapid.Bool().Draw(t, "put") {
				versions = append(versions, from.with(key.Draw(t, "key"), rapid.StringN(0, 2, -1).Draw(t, "value")))
			} else {
				versions = append(versions, from.without(key.Draw(t, "key")))
			}
		}
		for _, v := range versions {
			v.check(t)
		}
	})
}

func TestATableGrowsAndShrinksThroughItsChunks(t *testing.T) {
	var table Table[int, int]
	const n = 10 * chunkSize
	for i := range n {
		table = table.With((i*7919)%n, i) // every key once, in no order
	}
	if table.Len() != n {
		t.Fatalf("%d entries, want %d", table.Len(), n)
	}
	if got := table.Keys(); !slices.IsSorted(got) {
		t.Error("keys are not in order")
	}
	for i := range n {
		table = table.Without((i * 104729) % n)
	}
	if table.Len() != 0 || len(table.chunks) != 0 {
		t.Errorf("%d entries in %d chunks are left", table.Len(), len(table.chunks))
	}
}

func TestAnEmptyTableIsUsable(t *testing.T) {
	var table Table[string, int]
	if _, ok := table.Get("a"); ok || table.Has("a") || table.Len() != 0 || len(table.Keys()) != 0 {
		t.Error("an empty table holds something")
	}
	if got := table.Without("a"); got.Len() != 0 {
		t.Errorf("%d entries after removing nothing", got.Len())
	}
	if v, _ := table.With("a", 1).Get("a"); v != 1 {
		t.Errorf("got %d, want 1", v)
	}
}

func TestAllStopsWhenTheLoopEnds(t *testing.T) {
	table := NewTable(map[int]int{1: 1, 2: 2, 3: 3})
	for k := range table.All() {
		if k == 2 {
			break
		}
	}
}

func TestChangesOfATableNameEveryDifferenceOnceInOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		start := rapid.MapOfN(rapid.IntRange(0, 700), rapid.StringN(0, 2, -1), 0, 400).Draw(t, "start")
		versions := []oracle{{}, {NewTable(start), start}}
		key := rapid.OneOf(rapid.IntRange(0, 40), rapid.IntRange(0, 700))
		for range rapid.IntRange(0, 100).Draw(t, "changes") {
			from := versions[rapid.IntRange(1, len(versions)-1).Draw(t, "from")]
			if rapid.Bool().Draw(t, "put") {
				versions = append(versions, from.with(key.Draw(t, "key"), rapid.StringN(0, 2, -1).Draw(t, "value")))
			} else {
				versions = append(versions, from.without(key.Draw(t, "key")))
			}
		}
		pick := rapid.IntRange(0, len(versions)-1)
		for range 20 {
			checkChanges(t, versions[pick.Draw(t, "old")], versions[pick.Draw(t, "new")])
		}
	})
}

func checkChanges(t *rapid.T, old, new oracle) {
	told := map[int]bool{}
	last := -1
	for k, d := range new.table.ChangesSince(old.table) {
		if k <= last {
			t.Fatalf("%d after %d", k, last)
		}
		last, told[k] = k, true
		was, had := old.want[k]
		is, has := new.want[k]
		if had != (d.Was != nil) || has != (d.Is != nil) || had && *d.Was != was || has && *d.Is != is {
			t.Fatalf("%d: said to change from %v to %v, want %q (%v) to %q (%v)", k, d.Was, d.Is, was, had, is, has)
		}
	}
	for k := range 701 {
		was, had := old.want[k]
		is, has := new.want[k]
		if (had != has || was != is) && !told[k] {
			t.Fatalf("%d changed from %q (%v) to %q (%v), untold", k, was, had, is, has)
		}
	}
}

func TestAChangeOfOneEntryIsFoundWithoutReadingTheRest(t *testing.T) {
	m := map[int]int{}
	for i := range 10000 {
		m[i] = i
	}
	old := NewTable(m)
	n := 0
	for range old.With(5000, 0).ChangesSince(old) {
		n++
	}
	if n == 0 || n > chunkSize {
		t.Errorf("%d entries were looked at", n)
	}
	for k := range old.ChangesSince(old) {
		t.Errorf("a table differs from itself in %d", k)
	}
}
