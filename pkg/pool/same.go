package pool

// Same reports whether both are one table, or one is an unchanged copy of the other. Tables that hold the same by chance
// may differ.
func (t Table[K, V]) Same(other Table[K, V]) bool {
	if len(t.chunks) != len(other.chunks) || t.size != other.size {
		return false
	}
	return len(t.chunks) == 0 || &t.chunks[0] == &other.chunks[0]
}
