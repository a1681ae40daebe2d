package setup

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"syscall"

	"github.com/holdfast-ha/holdfast/agent/etcd"
	"github.com/holdfast-ha/holdfast/pkg/config"
	"github.com/holdfast-ha/holdfast/pkg/pool"
	"github.com/holdfast-ha/holdfast/pkg/statefile"
)

// NewLife returns a name for a new life of a pool's data.
func NewLife() (string, error) { return newUUID() }

// CopyFile is where an agent keeps its copy of the pool's state.
func CopyFile(stateDir string) string { return filepath.Join(stateDir, "pool-state.json") }

// ChangeLife moves this server for good from one life of the pool's data to another: what embedded etcd has here is put
// aside, and the agent refuses the old life's data from its next start on. from is the life that the caller knows of;
// earlier are all that the new one follows, newest first; endpoints are where the new life's embedded etcd will be. It is
// on disk when it returns. changed is false if this server belongs to the new life already. Errors: a *pool.Refusal if it
// belongs to any other life than from; of two rebuilds at once, one gets that.
func ChangeLife(c config.Config, from, to string, earlier, endpoints []string) (changed bool, err error) {
	unlock, err := LockLife(c.StateDir)
	if err != nil {
		return false, err
	}
	defer unlock()
	o, err := LoadOrigin(c.StateDir)
	if err != nil {
		return false, err
	}
	switch {
	case to == "" || slices.Contains(earlier, to) || slices.Contains(o.Earlier, to):
		return false, pool.Refuse("LIFE_CHANGED", "look which server rebuilds the pool", "%s has left the life %q of pool %s before", c.Server, to, o.Pool)
	case o.Incarnation == to:
		return false, nil
	case o.Incarnation != from || !slices.Contains(earlier, from):
		return false, pool.Refuse("LIFE_CHANGED", "let one rebuild finish, or run it once more on one server",
			"%s belongs to the life %s of pool %s, not to %s: another rebuild has been here", c.Server, o.Incarnation, o.Pool, from)
	}
	if c.Etcd.Mode != config.EtcdExternal {
		// Before the life is changed: no old data may be served once that counts.
		if err := etcd.PutAside(c.EtcdDir(), o.Incarnation, endpoints); err != nil {
			return false, err
		}
	}
	o.Incarnation, o.Earlier = to, slices.Clone(earlier)
	data, err := json.MarshalIndent(o, "", "  ")
	if err != nil {
		return false, fmt.Errorf("encode the pool's origin: %w", err)
	}
	return true, statefile.Replace(originFile(c.StateDir), append(data, '\n'), 0o600)
}

// LockLife keeps everybody else on this server from changing its life of the pool's data until unlock is called. It waits
// for its turn, which is short.
func LockLife(stateDir string) (unlock func(), err error) {
	f, err := os.OpenFile(filepath.Join(stateDir, "life.lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock this server's life of the pool: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != nil {
		return nil, errors.Join(fmt.Errorf("lock this server's life of the pool: %w", err), f.Close())
	}
	return func() { _ = f.Close() }, nil
}
