package lab

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// cgroup is one directory of the cgroup v2 hierarchy. Only core files are used
// (procs, kill, freeze, events), so it works on hybrid machines too, where the
// controllers belong to v1.
type cgroup string

// cgroupRoot finds where cgroup v2 is mounted: /sys/fs/cgroup on most machines,
// /sys/fs/cgroup/unified on hybrid ones.
func cgroupRoot() (cgroup, error) {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return "", err
	}
	defer func() { _ = f.Close() }()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if dir, ok := cgroup2Mount(lines.Text()); ok {
			return cgroup(dir), nil
		}
	}
	return "", errors.New("cgroup v2 is not mounted")
}

// cgroup2Mount reads one line of mountinfo (proc_pid_mountinfo(5)).
func cgroup2Mount(line string) (string, bool) {
	before, after, ok := strings.Cut(line, " - ")
	fields := strings.Fields(before)
	if !ok || len(fields) < 5 || !strings.HasPrefix(after, "cgroup2 ") {
		return "", false
	}
	return fields[4], true
}

func (c cgroup) child(name string) cgroup { return cgroup(filepath.Join(string(c), name)) }

func (c cgroup) create() error {
	if err := os.MkdirAll(string(c), 0o755); err != nil {
		return fmt.Errorf("make cgroup: %w", err)
	}
	if _, err := os.Stat(filepath.Join(string(c), "cgroup.kill")); err != nil {
		return fmt.Errorf("cgroup.kill is missing (Linux 5.14 or newer is needed): %w", err)
	}
	return nil
}

// kill sends SIGKILL to every process in the cgroup and below, in one go.
func (c cgroup) kill() error {
	err := os.WriteFile(filepath.Join(string(c), "cgroup.kill"), []byte("1"), 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// freeze stops every process in the cgroup, or lets them run on.
func (c cgroup) freeze(on bool) error {
	value := "0"
	if on {
		value = "1"
	}
	return os.WriteFile(filepath.Join(string(c), "cgroup.freeze"), []byte(value), 0)
}

// procs lists the PIDs, as this process sees them.
func (c cgroup) procs() ([]int, error) {
	raw, err := os.ReadFile(filepath.Join(string(c), "cgroup.procs"))
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, errNoDevice) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var pids []int
	for _, word := range strings.Fields(string(raw)) {
		if pid, err := strconv.Atoi(word); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids, nil
}

// event reads one flag of cgroup.events: "populated" or "frozen".
func (c cgroup) event(name string) bool {
	raw, err := os.ReadFile(filepath.Join(string(c), "cgroup.events"))
	return err == nil && strings.Contains(string(raw), name+" 1\n")
}

// emptied waits until no process lives in the cgroup.
func (c cgroup) emptied(ctx context.Context) error {
	return waitFor(ctx, time.Millisecond, func() (bool, error) { return !c.event("populated"), nil })
}

// remove deletes the cgroup, which must be empty.
func (c cgroup) remove() error {
	err := os.Remove(string(c))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
