package pool

import "strings"

// Unreadable reports whether the key "<folder>/<id>" holds a value that could not be read, such as
// Unreadable("claims", "web"). What belongs to such a key is left alone, never treated as absent.
func (s *Snapshot) Unreadable(folder, id string) bool {
	if s.Corrupt.Len() == 0 {
		return false
	}
	key := folder + "/" + id
	for k := range s.Corrupt.All() {
		if k == key || strings.HasSuffix(k, "/"+key) {
			return true
		}
	}
	return false
}
