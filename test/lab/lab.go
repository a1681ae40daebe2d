package lab

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// MaxServers is how many servers one lab may have: their addresses are
// 10.77.X.11 and up, one octet.
const MaxServers = 64

// Lab is one lab, running or not. Its state lives in files, so any number of
// processes may hold a Lab of the same name; Up and Down exclude each other.
// Methods are safe for concurrent use unless they concern the same server.
type Lab struct {
	opts Options
	root cgroup
	lock *os.File
}

// state is what the engine writes down about a lab that is up.
type state struct {
	Servers int
	// Made are the mount points that the lab made on this machine, to be
	// removed with it.
	Made []string
}

// Open returns the lab of that name without starting anything.
func Open(opts Options) (*Lab, error) {
	opts, err := opts.complete()
	if err != nil {
		return nil, err
	}
	root, err := cgroupRoot()
	if err != nil {
		return nil, err
	}
	return &Lab{opts: opts, root: root.child("holdfast-lab" + opts.suffix())}, nil
}

// SharedDir is the shared storage: a folder at the same path on every server
// and on this machine. Images in it belong to libvirt-qemu.
func (l *Lab) SharedDir() string { return filepath.Join(l.opts.dataDir(), "shared") }

// Agent is the path of the holdfast-agent binary, inside and outside.
func (l *Lab) Agent() string { return l.opts.Agent }

// Address is where this machine itself is reached from the servers.
func (l *Lab) Address() string { return l.opts.address(1) }

// Up starts a lab of n servers, named srv-1 to srv-n, and returns once every
// libvirtd answers. Whatever an earlier lab of this name left, running or
// crashed, is removed first. No Holdfast process is started: see Server.Enable.
func (l *Lab) Up(ctx context.Context, n int) error {
	if n < 1 || n > MaxServers {
		return fmt.Errorf("a lab of %d servers: want 1 to %d", n, MaxServers)
	}
	if err := l.take(ctx); err != nil {
		return err
	}
	if err := l.clear(ctx); err != nil {
		return fmt.Errorf("clear what an earlier lab left: %w", err)
	}
	if err := l.furnish(ctx, n); err != nil {
		return err
	}
	if err := l.opts.makeBridge(ctx); err != nil {
		return err
	}
	for _, s := range l.Servers() {
		if err := s.PowerOn(ctx); err != nil {
			return err
		}
	}
	for _, s := range l.Servers() {
		if err := s.WaitLibvirt(ctx); err != nil {
			return err
		}
	}
	return nil
}

// Down ends the lab and leaves nothing but the cache: no process, namespace,
// mount, cgroup, link or file. It is no error if nothing is there.
func (l *Lab) Down(ctx context.Context) error {
	if err := l.take(ctx); err != nil {
		return err
	}
	err := l.clear(ctx)
	l.Release()
	return err
}

// take makes sure that no other process brings this lab up or down. It waits
// for its turn.
func (l *Lab) take(ctx context.Context) error {
	if l.lock != nil {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(l.opts.lockFile()), 0o755); err != nil {
		return err
	}
	f, err := os.OpenFile(l.opts.lockFile(), os.O_CREATE|os.O_RDWR|unix.O_CLOEXEC, 0o644)
	if err != nil {
		return err
	}
	err = waitFor(ctx, 50*time.Millisecond, func() (bool, error) {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if errors.Is(err, unix.EWOULDBLOCK) {
			return false, nil
		}
		return err == nil, err
	})
	if err != nil {
		_ = f.Close()
		return fmt.Errorf("another program uses the lab %q (%s): %w", l.opts.Name, l.opts.lockFile(), err)
	}
	l.lock = f
	return nil
}

// Release lets other processes bring this lab down or replace it. The lab runs on.
func (l *Lab) Release() {
	if l.lock != nil {
		_ = l.lock.Close()
		l.lock = nil
	}
}

// Servers lists the lab's servers, srv-1 first; none if the lab is down.
func (l *Lab) Servers() []*Server {
	st, err := l.state()
	if err != nil {
		return nil
	}
	servers := make([]*Server, st.Servers)
	for i := range servers {
		servers[i] = l.server(i + 1)
	}
	return servers
}

// Server finds a server by name; the error names those that exist.
func (l *Lab) Server(name string) (*Server, error) {
	servers := l.Servers()
	names := make([]string, len(servers))
	for i, s := range servers {
		if s.Name() == name {
			return s, nil
		}
		names[i] = s.Name()
	}
	if len(servers) == 0 {
		return nil, fmt.Errorf("no server %q: the lab is down", name)
	}
	return nil, fmt.Errorf("no server %q in this lab: it has %s", name, strings.Join(names, ", "))
}

func (l *Lab) addressOf(server string) (string, error) {
	s, err := l.Server(server)
	if err != nil {
		return "", err
	}
	return s.Address(), nil
}

func (l *Lab) state() (state, error) {
	var st state
	err := readJSON(filepath.Join(l.opts.runDir(), "lab.json"), &st)
	return st, err
}

func (l *Lab) setState(st state) error {
	return writeJSON(filepath.Join(l.opts.runDir(), "lab.json"), st)
}

// clear removes every trace of a lab of this name, whoever made it and however
// far it came.
func (l *Lab) clear(ctx context.Context) error {
	if err := l.killAll(ctx); err != nil {
		return err
	}
	links, err := filepath.Glob("/sys/class/net/hf" + l.opts.Name + "v*")
	if err != nil {
		return err
	}
	for _, link := range links {
		name := filepath.Base(link)
		if _, err := strconv.Atoi(strings.TrimPrefix(name, "hf"+l.opts.Name+"v")); err != nil {
			continue // another lab's
		}
		if err := deleteLink(ctx, name); err != nil {
			return err
		}
	}
	if err := deleteLink(ctx, l.opts.bridge()); err != nil {
		return err
	}
	if st, err := l.state(); err == nil {
		slices.Reverse(st.Made)
		for _, dir := range st.Made {
			_ = os.Remove(dir) // only if it is empty
		}
	}
	return errors.Join(os.RemoveAll(l.opts.runDir()), os.RemoveAll(l.opts.dataDir()))
}

func (l *Lab) killAll(ctx context.Context) error {
	if err := l.root.kill(); err != nil {
		return err
	}
	if err := l.root.emptied(ctx); err != nil {
		return fmt.Errorf("processes of the lab do not die: %w", err)
	}
	children, err := os.ReadDir(string(l.root))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, c := range children {
		if c.IsDir() {
			if err := l.root.child(c.Name()).remove(); err != nil {
				return err
			}
		}
	}
	return l.root.remove()
}

func readJSON(path string, v any) error {
	raw, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(raw, v); err != nil {
		return fmt.Errorf("read %s: %w", path, err)
	}
	return nil
}

// writeJSON replaces the file in one step.
func writeJSON(path string, v any) error {
	raw, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	if err := writeFile(path+".new", append(raw, '\n'), 0o644); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}
