package etcd

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"

	"github.com/holdfast-ha/holdfast/pkg/pool"
	"github.com/holdfast-ha/holdfast/pkg/statefile"
)

// aside asks the process of a machine to put its data aside: it belongs to a life of the pool that the machine has left.
type aside struct {
	// Life that the data belongs to.
	Life string `json:"life"`
	// Endpoints are where etcd is reached from then on.
	Endpoints []string `json:"endpoints"`
}

func asideFile(dir string) string { return filepath.Join(dir, "aside.json") }

// PutAside has the etcd data below dir (config.Config.EtcdDir) put aside, because it belongs to a life of the pool that
// this machine has left; endpoints are where etcd is reached from then on. It is on disk when it returns, so no process
// that starts later serves that data. A process that runs stops within a second: AsidePending says when it has. The
// data is kept beside, under the name of its life.
func PutAside(dir, life string, endpoints []string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make etcd's folder: %w", err)
	}
	data, err := json.Marshal(aside{Life: life, Endpoints: endpoints})
	if err != nil {
		return fmt.Errorf("encode what is put aside: %w", err)
	}
	if err := statefile.Replace(asideFile(dir), append(data, '\n'), 0o600); err != nil {
		return err
	}
	unlock, free, err := lockDir(dir)
	if err != nil || !free {
		return err // the process that runs does it
	}
	defer unlock()
	return clearAside(dir)
}

// AsidePending reports whether data of a life that this machine has left is still where a process may serve it.
func AsidePending(dir string) (bool, error) {
	_, err := os.Stat(asideFile(dir))
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// readAside reads what PutAside asked for and is not done yet.
func readAside(dir string) (a aside, pending bool, err error) {
	raw, err := os.ReadFile(asideFile(dir))
	if errors.Is(err, os.ErrNotExist) {
		return a, false, nil
	}
	if err != nil {
		return a, false, fmt.Errorf("read what is put aside: %w", err)
	}
	if err := json.Unmarshal(raw, &a); err != nil {
		return a, false, fmt.Errorf("%s: %w: %w", asideFile(dir), err, pool.ErrInvalid)
	}
	return a, true, nil
}

// clearAside does what PutAside asked for, if it did. No process may run on the data.
func clearAside(dir string) error {
	a, pending, err := readAside(dir)
	if err != nil || !pending {
		return err
	}
	c := Config{Dir: dir}
	if err := c.moveAside(a.Life); err != nil {
		return err
	}
	if err := SaveEndpoints(dir, a.Endpoints); err != nil {
		return err
	}
	if err := os.Remove(asideFile(dir)); err != nil {
		return fmt.Errorf("put etcd's data aside: %w", err)
	}
	return statefile.SyncDir(dir)
}

// moveAside keeps the data under the name of its life, and forgets whose member it was.
func (c Config) moveAside(life string) error {
	for i := 0; ; i++ {
		to := fmt.Sprintf("%s.of-%s", c.dataDir(), filepath.Base(life))
		if i > 0 {
			to = fmt.Sprintf("%s.%d", to, i)
		}
		if _, err := os.Lstat(to); err == nil {
			continue
		}
		if err := os.Rename(c.dataDir(), to); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("put etcd's data aside: %w", err)
		}
		break
	}
	if err := os.Remove(c.selfFile()); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("put etcd's data aside: %w", err)
	}
	return nil
}

// lockDir takes the folder for one process; free is false if another has it. It ends with the process.
func lockDir(dir string) (unlock func(), free bool, err error) {
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, false, fmt.Errorf("lock etcd's folder: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = f.Close() // nothing was written
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, false, nil
		}
		return nil, false, fmt.Errorf("lock etcd's folder: %w", err)
	}
	return func() { _ = f.Close() }, true, nil
}
