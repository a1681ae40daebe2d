package api

import (
	"errors"
	"fmt"
	"strings"

	"github.com/holdfast-ha/holdfast/pkg/pool"
)

func isStale(err error) bool { return errors.Is(err, pool.ErrStale) }

// maxNamed bounds how many names an error lists.
const maxNamed = 12

func findVM(snap *pool.Snapshot, name string) (pool.VM, error) {
	if err := pool.CheckName("vm", name); err != nil {
		return pool.VM{}, err
	}
	if vm, ok := snap.VMs.Get(pool.VMID(name)); ok {
		return vm, nil
	}
	return pool.VM{}, fmt.Errorf("no vm %s in this pool; there are %s: %w", name, listed(snap.VMs.Keys()), pool.ErrNotFound)
}

func findServer(snap *pool.Snapshot, name string) (pool.Server, error) {
	if err := pool.CheckName("server", name); err != nil {
		return pool.Server{}, err
	}
	if s, ok := snap.Servers.Get(pool.ServerID(name)); ok {
		return s, nil
	}
	return pool.Server{}, fmt.Errorf("no server %s in this pool; there are %s: %w", name, listed(snap.Servers.Keys()), pool.ErrNotFound)
}

// listed joins names for a message.
func listed[T ~string](names []T) string {
	if len(names) == 0 {
		return "none"
	}
	var b strings.Builder
	for i, n := range names {
		if i == maxNamed {
			fmt.Fprintf(&b, " and %d more", len(names)-i)
			break
		}
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(string(n))
	}
	return b.String()
}
