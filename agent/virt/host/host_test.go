package host

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"github.com/holdfast-ha/holdfast/pkg/clock"
	"github.com/holdfast-ha/holdfast/pkg/pool"
)

func tree(t *testing.T, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	for name, text := range files {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func TestHangingLookBlocksNobodyAndIsNotRepeated(t *testing.T) {
	b := NewBounded(clock.Real(), 20*time.Millisecond)
	release := make(chan struct{})
	var calls atomic.Int32
	hang := func() error { calls.Add(1); <-release; return nil }
	for range 3 {
		if err := b.Do(t.Context(), "file /mnt/dead", hang); !errors.Is(err, pool.ErrUnavailable) {
			t.Fatalf("got %v", err)
		}
	}
	if err := b.Do(t.Context(), "file /other", func() error { return nil }); err != nil {
		t.Errorf("another path waits too: %v", err)
	}
	if got := b.Running(); calls.Load() != 1 || !slices.Equal(got, []string{"file /mnt/dead"}) {
		t.Errorf("%d calls, running %v", calls.Load(), got)
	}
	close(release)
	for end := time.Now().Add(5 * time.Second); len(b.Running()) > 0 && time.Now().Before(end); {
		_ = b.Do(t.Context(), "file /mnt/dead", func() error { return nil })
	}
	if got := b.Running(); len(got) > 0 {
		t.Errorf("still running: %v", got)
	}
}

func TestDevicesAndBridgesAreFoundByName(t *testing.T) {
	root := tree(t, map[string]string{
		"sys/class/net/br5/bridge/x":            "",
		"sys/bus/pci/devices/0000:03:00.0/x":    "",
		"sys/bus/usb/devices/1-1/idVendor":      "046d\n",
		"sys/bus/usb/devices/1-1/idProduct":     "c52b\n",
		"proc/sys/kernel/random/boot_id":        "abc\n",
		"sys/bus/mdev/devices/uuid-of-device/x": "",
	})
	f := Facts{Root: root, Bounded: NewBounded(clock.Real(), time.Second)}
	if id, err := f.BootID(); id != "abc" || err != nil {
		t.Errorf("boot id %q, %v", id, err)
	}
	for name, want := range map[string]bool{"br5": true, "br6": false, "../net/br5": false, "": false} {
		if got := f.Link(name); got != want {
			t.Errorf("link %q: %v", name, got)
		}
	}
	for name, want := range map[string]bool{
		"pci 0000:03:00.0": true, "pci 0000:03:00.1": false, "usb 046d:c52b": true, "usb 046d:0000": false,
		"usb bus 1 device 2": true, "mdev uuid-of-device": true, "mdev other": false, "pci ../../usb": false,
	} {
		if got := f.Device(name); got != want {
			t.Errorf("device %q: %v", name, got)
		}
	}
}

func TestMountsWithoutLocksBetweenServersAreNamed(t *testing.T) {
	root := tree(t, map[string]string{"proc/self/mountinfo": `22 1 8:1 / / rw,relatime - ext4 /dev/vda rw
30 22 0:40 / /srv/pool rw,relatime shared:1 - nfs4 nas:/pool rw,vers=4.2,hard,local_lock=none
31 22 0:41 / /srv/old\040pool rw - nfs nas:/old rw,vers=3,nolock,local_lock=all
32 22 0:42 / /srv/win rw - cifs //nas/win rw,nobrl
`})
	f := Facts{Root: root, Bounded: NewBounded(clock.Real(), time.Second)}
	for path, bad := range map[string]bool{"/srv/pool/a.img": false, "/srv/old pool/a.img": true, "/srv/win/a": true, "/srv/poolx": false} {
		if why, err := f.Locks(path); err != nil || (why != "") != bad {
			t.Errorf("%s: %q, %v", path, why, err)
		}
	}
}

func TestFileThatExistsIsFound(t *testing.T) {
	f := Facts{Bounded: NewBounded(clock.Real(), time.Second)}
	path := filepath.Join(t.TempDir(), "a")
	if ok, err := f.File(t.Context(), path); ok || err != nil {
		t.Errorf("before: %v, %v", ok, err)
	}
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if ok, err := f.File(t.Context(), path); !ok || err != nil {
		t.Errorf("after: %v, %v", ok, err)
	}
}

// ticks is a clock whose Now the test sets; waits are the real clock's.
type ticks struct {
	clock.Clock
	now pool.Instant
}

func (c *ticks) Now() pool.Instant { return c.now }

func TestStorageIsLostOnlyAfterFailingForTheLimit(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "pool")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	c := &ticks{Clock: clock.Real(), now: 1}
	changes := 0
	s := NewStorage(StorageConfig{Clock: c, Paths: []string{dir}, Limit: 10 * time.Second, Changed: func() { changes++ }})
	step := func(d time.Duration) bool {
		c.now = c.now.Add(d)
		s.Step(t.Context())
		return s.Lost()
	}
	if step(0) {
		t.Fatal("lost at first sight")
	}
	if err := os.Rename(dir, dir+"2"); err != nil {
		t.Fatal(err)
	}
	if step(5 * time.Second) {
		t.Error("lost after 5 s")
	}
	if !step(5*time.Second) || s.Paths()[0].Why == "" {
		t.Errorf("not lost after 10 s: %+v", s.Paths())
	}
	if err := os.Rename(dir+"2", dir); err != nil {
		t.Fatal(err)
	}
	if step(time.Second) {
		t.Error("still lost when it is back")
	}
	if changes != 2 {
		t.Errorf("told of %d changes, want 2", changes)
	}
}

func TestEmptyMountPointIsNotTheStorage(t *testing.T) {
	dir := t.TempDir()
	c := &ticks{Clock: clock.Real(), now: 1}
	s := NewStorage(StorageConfig{Clock: c, Paths: []string{dir}, Limit: time.Second})
	s.Step(t.Context())
	s.paths[dir].source = "nfs4 nas:/pool" // as it had been before it was unmounted
	c.now = c.now.Add(time.Second)
	if s.Step(t.Context()); !s.Lost() {
		t.Errorf("got %+v", s.Paths())
	}
}

func TestOneDeletedImageIsNotALostStorage(t *testing.T) {
	root := tree(t, map[string]string{"a/x.img": "x", "b/y.img": "y"})
	disks := []string{filepath.Join(root, "a/x.img"), filepath.Join(root, "b/y.img"), "/dev/mapper/nothing-here"}
	c := &ticks{Clock: clock.Real(), now: 1}
	s := NewStorage(StorageConfig{Clock: c, Derived: func() []string { return Derive(disks) }, Limit: time.Second})
	s.Step(t.Context())
	c.now = c.now.Add(time.Minute)
	if s.Step(t.Context()); s.Lost() {
		t.Errorf("lost because of one: %+v", s.Paths())
	}
	if err := errors.Join(os.RemoveAll(filepath.Join(root, "a")), os.RemoveAll(filepath.Join(root, "b"))); err != nil {
		t.Fatal(err)
	}
	c.now = c.now.Add(time.Minute)
	if s.Step(t.Context()); !s.Lost() {
		t.Errorf("not lost with all gone: %+v", s.Paths())
	}
}

func TestFilesAreReadPastTheCache(t *testing.T) {
	path := filepath.Join(t.TempDir(), "disk")
	for _, size := range []int{0, 100, 10000} {
		if err := os.WriteFile(path, make([]byte, size), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := readFirst(path); err != nil {
			t.Errorf("%d bytes: %v", size, err)
		}
	}
	if err := readFirst(path + "x"); !errors.Is(err, unix.ENOENT) {
		t.Errorf("got %v", err)
	}
}

func TestWatchingEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		s := NewStorage(StorageConfig{Clock: clock.Real()})
		done := make(chan error)
		go func() { done <- s.Run(ctx) }()
		synctest.Wait()
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}
