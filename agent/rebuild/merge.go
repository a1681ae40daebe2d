package rebuild

import (
	"github.com/holdfast-ha/holdfast/pkg/saved"
)

// Merge returns state with what must not go back to it from newer, which may be the same: servers that joined since may run
// what is restored, and stay registered; servers are reached where they are now. A certificate that any copy knows to be
// revoked stays revoked, however old the copy is. state is not changed.
func Merge(state saved.State, newer *saved.State, copies []saved.State) saved.State {
	if newer != nil {
		for id, s := range newer.Servers.All() {
			have, ok := state.Servers.Get(id)
			if ok {
				have.Address = s.Address
				s = have
			}
			state.Servers = state.Servers.With(id, s)
		}
	}
	for _, c := range copies {
		for id, v := range c.Revocations.All() {
			if !state.Revocations.Has(id) {
				state.Revocations = state.Revocations.With(id, v)
			}
		}
	}
	return state
}

// Newer returns the newest of copies if it is newer than state, else nil. lives are as for saved.Newest.
func Newer(state saved.State, copies []saved.State, lives []string) *saved.State {
	i := saved.Newest(copies, lives)
	if i < 0 || saved.Newest([]saved.State{state, copies[i]}, lives) == 0 {
		return nil
	}
	return &copies[i]
}
