package pool

import (
	"cmp"
	"iter"
	"slices"
)

// chunkSize bounds one chunk of a Table. A change of one of n entries copies half a chunk to a whole one, of records
// of 150 to 500 bytes, and the list of chunks, 24 bytes for each. For the largest pool we size for (10,000 VMs) 64
// copies least; BenchmarkSnapshotUpdate in pkg/store measures it.
const chunkSize = 64

// Table is an immutable ordered map. With and Without return a changed copy that shares all but one chunk with
// the original, so a snapshot per revision is cheap. The zero value is an empty table. Safe for concurrent reads.
type Table[K cmp.Ordered, V any] struct {
	chunks [][]entry[K, V]
	size   int
}

type entry[K cmp.Ordered, V any] struct {
	key   K
	value V
}

// NewTable builds a table from m in one go.
func NewTable[K cmp.Ordered, V any](m map[K]V) Table[K, V] {
	all := make([]entry[K, V], 0, len(m))
	for k, v := range m {
		all = append(all, entry[K, V]{k, v})
	}
	slices.SortFunc(all, func(a, b entry[K, V]) int { return cmp.Compare(a.key, b.key) })
	t := Table[K, V]{size: len(all)}
	for c := range slices.Chunk(all, chunkSize/2) {
		t.chunks = append(t.chunks, slices.Clip(c))
	}
	return t
}

// Len returns the number of entries.
func (t Table[K, V]) Len() int { return t.size }

// Get returns the value stored under k.
func (t Table[K, V]) Get(k K) (V, bool) {
	c, i, ok := t.find(k)
	if !ok {
		var none V
		return none, false
	}
	return t.chunks[c][i].value, true
}

// Has reports whether k is present.
func (t Table[K, V]) Has(k K) bool {
	_, _, ok := t.find(k)
	return ok
}

// All yields entries in key order.
func (t Table[K, V]) All() iter.Seq2[K, V] {
	return func(yield func(K, V) bool) {
		for _, c := range t.chunks {
			for _, e := range c {
				if !yield(e.key, e.value) {
					return
				}
			}
		}
	}
}

// Keys returns all keys in order. The slice is the caller's.
func (t Table[K, V]) Keys() []K {
	keys := make([]K, 0, t.size)
	for k := range t.All() {
		keys = append(keys, k)
	}
	return keys
}

// With returns a copy in which k maps to v.
func (t Table[K, V]) With(k K, v V) Table[K, V] {
	if len(t.chunks) == 0 {
		return Table[K, V]{chunks: [][]entry[K, V]{{{k, v}}}, size: 1}
	}
	c, i, ok := t.find(k)
	chunk := slices.Clone(t.chunks[c])
	if ok {
		chunk[i].value = v
		return Table[K, V]{chunks: replaced(t.chunks, c, chunk), size: t.size}
	}
	chunk = slices.Insert(chunk, i, entry[K, V]{k, v})
	if len(chunk) <= chunkSize {
		return Table[K, V]{chunks: replaced(t.chunks, c, chunk), size: t.size + 1}
	}
	half := len(chunk) / 2
	return Table[K, V]{chunks: replaced(t.chunks, c, slices.Clone(chunk[:half]), slices.Clone(chunk[half:])), size: t.size + 1}
}

// Without returns a copy that lacks k.
func (t Table[K, V]) Without(k K) Table[K, V] {
	c, i, ok := t.find(k)
	if !ok {
		return t
	}
	if len(t.chunks[c]) == 1 {
		return Table[K, V]{chunks: replaced(t.chunks, c), size: t.size - 1}
	}
	chunk := slices.Delete(slices.Clone(t.chunks[c]), i, i+1)
	return Table[K, V]{chunks: replaced(t.chunks, c, chunk), size: t.size - 1}
}

// find returns the chunk and index where k is, or where it belongs. It compares once a step: keys are strings, and this
// is what a snapshot's readers spend their time in.
func (t Table[K, V]) find(k K) (chunk, index int, ok bool) {
	if len(t.chunks) == 0 {
		return 0, 0, false
	}
	from, to := 0, len(t.chunks) // the chunks that begin after k
	for from < to {
		if m := int(uint(from+to) >> 1); k < t.chunks[m][0].key {
			to = m
		} else {
			from = m + 1
		}
	}
	c := max(0, from-1)
	entries := t.chunks[c]
	from, to = 0, len(entries) // the entries at or after k
	for from < to {
		if m := int(uint(from+to) >> 1); entries[m].key < k {
			from = m + 1
		} else {
			to = m
		}
	}
	return c, from, from < len(entries) && entries[from].key == k
}

// replaced returns a copy of all with element i exchanged for with.
func replaced[T any](all []T, i int, with ...T) []T {
	out := make([]T, 0, len(all)-1+len(with))
	out = append(out, all[:i]...)
	out = append(out, with...)
	return append(out, all[i+1:]...)
}

// Delta is what a key maps to in an older table and in a newer one; nil where it is absent. Both point into the
// tables: read only.
type Delta[V any] struct{ Was, Is *V }

// ChangedSince yields, in order, every key whose entry may differ between old and t: added, changed or removed
// ones are all among them, and some that did not change. It costs little where the two share most chunks.
func (t Table[K, V]) ChangedSince(old Table[K, V]) iter.Seq[K] {
	return func(yield func(K) bool) {
		for k := range t.ChangesSince(old) {
			if !yield(k) {
				return
			}
		}
	}
}

// ChangesSince is ChangedSince with what each key maps to in both tables, without looking any of them up.
func (t Table[K, V]) ChangesSince(old Table[K, V]) iter.Seq2[K, Delta[V]] {
	return func(yield func(K, Delta[V]) bool) {
		if len(t.chunks) > 0 && len(t.chunks) == len(old.chunks) && &t.chunks[0] == &old.chunks[0] {
			return // the same table
		}
		was, is := cursor[K, V]{t: old}, cursor[K, V]{t: t}
		for {
			skipShared(&was, &is)
			o, n := was.entry(), is.entry()
			switch {
			case o == nil && n == nil:
				return
			case o != nil && n != nil && o.key == n.key:
				was.next()
				is.next()
				if !yield(n.key, Delta[V]{Was: &o.value, Is: &n.value}) {
					return
				}
			case n == nil || o != nil && o.key < n.key:
				was.next()
				if !yield(o.key, Delta[V]{Was: &o.value}) {
					return
				}
			default:
				is.next()
				if !yield(n.key, Delta[V]{Is: &n.value}) {
					return
				}
			}
		}
	}
}

// skipShared leaves out the chunks that both walks are at the beginning of. A walk in key order comes to the beginning of
// a shared chunk in both tables at the same time.
func skipShared[K cmp.Ordered, V any](a, b *cursor[K, V]) {
	for a.index == 0 && b.index == 0 && a.chunk < len(a.t.chunks) && b.chunk < len(b.t.chunks) && &a.t.chunks[a.chunk][0] == &b.t.chunks[b.chunk][0] {
		a.chunk++
		b.chunk++
	}
}

// From yields entries whose key is at or after k, in key order.
func (t Table[K, V]) From(k K) iter.Seq2[K, V] {
	return func(yield func(K, V) bool) {
		if len(t.chunks) == 0 {
			return
		}
		c, i, _ := t.find(k)
		for ; c < len(t.chunks); c, i = c+1, 0 {
			for _, e := range t.chunks[c][i:] {
				if !yield(e.key, e.value) {
					return
				}
			}
		}
	}
}

// Last returns the greatest key; ok is false in an empty table.
func (t Table[K, V]) Last() (k K, ok bool) {
	if len(t.chunks) == 0 {
		return k, false
	}
	c := t.chunks[len(t.chunks)-1]
	return c[len(c)-1].key, true
}
