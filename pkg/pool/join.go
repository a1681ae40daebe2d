package pool

import (
	"cmp"
	"iter"
)

// Join walks two tables side by side, in key order, and yields what both hold under each key that either has; nil
// where one lacks it. It copies nothing: what the pointers show must not be changed. It is the cheap way to look at
// every VM with its claim.
func Join[K cmp.Ordered, V, W any](a Table[K, V], b Table[K, W]) iter.Seq2[*V, *W] {
	return func(yield func(*V, *W) bool) {
		x, y := cursor[K, V]{t: a}, cursor[K, W]{t: b}
		for {
			p, q := x.entry(), y.entry()
			switch {
			case p == nil && q == nil:
				return
			case p != nil && q != nil && p.key == q.key: // first: it is the common case, and cheaper to see than order
				if !yield(&p.value, &q.value) {
					return
				}
				x.next()
				y.next()
			case q == nil || (p != nil && p.key < q.key):
				if !yield(&p.value, nil) {
					return
				}
				x.next()
			default:
				if !yield(nil, &q.value) {
					return
				}
				y.next()
			}
		}
	}
}

// cursor is a place in a table.
type cursor[K cmp.Ordered, V any] struct {
	t            Table[K, V]
	chunk, index int
}

func (c *cursor[K, V]) entry() *entry[K, V] {
	if c.chunk >= len(c.t.chunks) {
		return nil
	}
	return &c.t.chunks[c.chunk][c.index]
}

func (c *cursor[K, V]) next() {
	if c.index++; c.index == len(c.t.chunks[c.chunk]) {
		c.chunk, c.index = c.chunk+1, 0
	}
}
