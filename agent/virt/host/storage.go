package host

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/holdfast-ha/holdfast/pkg/clock"
	"github.com/holdfast-ha/holdfast/pkg/pool"
)

// Storage watches the paths to the shared storage. A path is lost when looks at it have failed, or not come back,
// for Limit. Create it with NewStorage, run Run; the other methods never touch storage and so never block.
type Storage struct {
	clock    clock.Clock
	bounded  *Bounded
	interval time.Duration
	limit    time.Duration
	fixed    []string
	derived  func() []string
	changed  func()
	facts    Facts

	mu    sync.Mutex
	paths map[string]*PathState
	lost  bool
}

// PathState is what is known of one path.
type PathState struct {
	Path string
	// Configured: an operator named it; otherwise it follows from a VM's disks.
	Configured bool
	// Lost: failing for the limit or longer. Why says how.
	Lost bool
	Why  string
	// source is the mount at the first good look: one that went away leaves an empty directory of another mount.
	source string
	good   pool.Instant
}

// StorageConfig assembles a Storage.
type StorageConfig struct {
	Clock clock.Clock
	// Paths are directories, files or block devices on shared storage. Each must work. If there are none, Derived
	// gives the paths of the VMs' disks, and the storage counts as lost only when none of those works: a single
	// image that somebody deleted is not a lost storage.
	Paths   []string
	Derived func() []string
	// Interval between looks; 5 s if zero. Limit: how long looks must fail before a path is lost, 10 s if zero.
	// Less than an NFS server's fail-over would move VMs for nothing.
	Interval, Limit time.Duration
	// Changed is called when Lost changes; may be nil.
	Changed func()
}

// NewStorage returns a Storage that takes every path for good until it has been looked at.
func NewStorage(c StorageConfig) *Storage {
	s := &Storage{clock: c.Clock, interval: c.Interval, limit: c.Limit, fixed: c.Paths, derived: c.Derived, changed: c.Changed,
		paths: map[string]*PathState{}}
	if s.interval == 0 {
		s.interval = 5 * time.Second
	}
	if s.limit == 0 {
		s.limit = 10 * time.Second
	}
	s.bounded = NewBounded(c.Clock, min(s.interval, s.limit))
	return s
}

// Run looks at the paths until ctx ends.
func (s *Storage) Run(ctx context.Context) error {
	for ctx.Err() == nil {
		s.Step(ctx)
		_ = s.clock.Sleep(ctx, s.interval) // ends early only with ctx
	}
	return nil
}

// Step looks at each path once, all at the same time.
func (s *Storage) Step(ctx context.Context) {
	now := s.clock.Now()
	paths := s.wanted(now)
	g := clock.NewGroup(s.clock)
	for _, p := range paths {
		g.Go("storage "+p, func() { s.look(ctx, p) })
	}
	g.Wait()
	if ctx.Err() == nil {
		s.judge()
	}
}

// wanted brings the table in line with the paths to watch and returns them sorted.
func (s *Storage) wanted(now pool.Instant) []string {
	paths, configured := s.fixed, true
	if len(paths) == 0 && s.derived != nil {
		paths, configured = s.derived(), false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for p := range s.paths {
		if !slices.Contains(paths, p) {
			delete(s.paths, p)
		}
	}
	for _, p := range paths {
		if s.paths[p] == nil {
			s.paths[p] = &PathState{Path: p, Configured: configured, good: now}
		}
	}
	out := make([]string, 0, len(s.paths))
	for p := range s.paths {
		out = append(out, p)
	}
	slices.Sort(out)
	return out
}

func (s *Storage) look(ctx context.Context, path string) {
	var source string
	m, err := s.facts.mount(path)
	if err == nil {
		source = m.kind + " " + m.source
		err = s.bounded.Do(ctx, path, func() error { return look(path) })
	}
	if ctx.Err() != nil {
		return
	}
	now := s.clock.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.paths[path]
	if st == nil {
		return
	}
	if err == nil && st.source != "" && st.source != source {
		err = fmt.Errorf("%s is on %s, not on %s as before: is it still mounted? %w", path, source, st.source, pool.ErrUnavailable)
	}
	if err != nil {
		st.Why = err.Error()
		st.Lost = now.Sub(st.good) >= s.limit
		return
	}
	st.source, st.good, st.Lost, st.Why = source, now, false, ""
}

func (s *Storage) judge() {
	s.mu.Lock()
	any, all := false, len(s.paths) > 0
	for _, p := range s.paths {
		any = any || p.Lost && p.Configured
		all = all && p.Lost
	}
	was := s.lost
	s.lost = any || all
	changed := was != s.lost
	s.mu.Unlock()
	if changed && s.changed != nil {
		s.changed()
	}
}

// Lost reports whether the path to the shared storage is gone.
func (s *Storage) Lost() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.lost
}

// Paths returns what is known of each path, sorted.
func (s *Storage) Paths() []PathState {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]PathState, 0, len(s.paths))
	for _, p := range s.paths {
		out = append(out, *p)
	}
	slices.SortFunc(out, func(a, b PathState) int { return strings.Compare(a.Path, b.Path) })
	return out
}

// look asks the storage itself, past every cache: the file system's statistics for a directory (an NFS client
// asks its server each time), the first block by direct I/O for a file or device.
func look(path string) error {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return &os.PathError{Op: "stat", Path: path, Err: err}
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return readFirst(path)
	}
	var fs unix.Statfs_t
	if err := unix.Statfs(path, &fs); err != nil {
		return &os.PathError{Op: "statfs", Path: path, Err: err}
	}
	return nil
}

// blockSize satisfies the alignment of every disk in use.
const blockSize = 4096

func readFirst(path string) error {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_DIRECT|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.EINVAL) { // a file system without direct I/O, such as tmpfs
		fd, err = unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	}
	if err != nil {
		return &os.PathError{Op: "open", Path: path, Err: err}
	}
	defer func() { _ = unix.Close(fd) }() // only read from
	buf := make([]byte, 2*blockSize)
	skip := int(-uintptr(unsafe.Pointer(&buf[0])) % blockSize)
	if _, err := unix.Pread(fd, buf[skip:skip+blockSize], 0); err != nil {
		return &os.PathError{Op: "read", Path: path, Err: err}
	}
	return nil
}

// Derive returns the paths to watch for disks: the directory of each file, and block devices themselves.
func Derive(disks []string) []string {
	var out []string
	for _, d := range disks {
		p := d
		if !strings.HasPrefix(d, "/dev/") {
			p = filepath.Dir(d)
		}
		if filepath.IsAbs(p) && !slices.Contains(out, p) {
			out = append(out, p)
		}
	}
	slices.Sort(out)
	return out
}
