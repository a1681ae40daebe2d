package guard

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/holdfast-ha/holdfast/pkg/pool"
)

// Pidfds reaches the processes of this machine through pidfds. The guard must live in the PID namespace of the
// processes, or above it. For one caller at a time.
type Pidfds struct {
	open map[Process]int
}

var _ Processes = (*Pidfds)(nil)

// NewPidfds returns a table without any open process.
func NewPidfds() *Pidfds { return &Pidfds{open: map[Process]int{}} }

// Open pins p. The descriptor is opened first and the start time read after: if the process behind the descriptor is
// still alive then, the PID was its own all the while, so the start time read is its own too.
func (t *Pidfds) Open(p Process) error {
	if fd, ok := t.open[p]; ok {
		if dead, err := ended(fd); err == nil && dead {
			return ErrNoProcess
		}
		return nil
	}
	if p.PID <= 1 {
		return fmt.Errorf("%v: not a process to act on: %w", p, pool.ErrInvalid)
	}
	fd, err := unix.PidfdOpen(p.PID, 0)
	if errors.Is(err, unix.ESRCH) {
		return ErrNoProcess
	}
	if err != nil {
		return fmt.Errorf("pidfd of %v: %w", p, err)
	}
	start, err := StartTicks(p.PID)
	dead, derr := ended(fd)
	switch {
	case derr == nil && dead, errors.Is(err, ErrNoProcess), err == nil && start != p.StartTicks:
		err = ErrNoProcess
	case err == nil:
		err = derr
	}
	if err != nil {
		_ = unix.Close(fd)
		return err
	}
	t.open[p] = fd
	return nil
}

// Kill sends SIGKILL.
func (t *Pidfds) Kill(p Process) error {
	err := t.Open(p)
	if err == nil {
		err = unix.PidfdSendSignal(t.open[p], unix.SIGKILL, nil, 0)
	}
	if err == nil || errors.Is(err, ErrNoProcess) || errors.Is(err, unix.ESRCH) {
		return nil
	}
	return fmt.Errorf("kill %v: %w", p, err)
}

// Dead reports whether every thread of p has ended.
func (t *Pidfds) Dead(p Process) (bool, error) {
	err := t.Open(p)
	if errors.Is(err, ErrNoProcess) {
		return true, nil
	}
	return false, err
}

// Close unpins p.
func (t *Pidfds) Close(p Process) {
	if fd, ok := t.open[p]; ok {
		_ = unix.Close(fd)
		delete(t.open, p)
	}
}

// ended asks a pidfd: it is readable once every thread has ended, reaped or not.
func ended(fd int) (bool, error) {
	fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	for {
		_, err := unix.Poll(fds, 0)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err == nil && fds[0].Revents&(unix.POLLERR|unix.POLLNVAL) != 0 {
			err = fmt.Errorf("poll answers %#x", fds[0].Revents)
		}
		return fds[0].Revents&unix.POLLIN != 0, err
	}
}

// StartTicks returns field 22 of /proc/PID/stat, the start time of a process; ErrNoProcess if there is none.
func StartTicks(pid int) (uint64, error) {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ESRCH) {
		return 0, ErrNoProcess
	}
	if err != nil {
		return 0, err
	}
	// Field 2, the command, is in brackets and may hold anything; field 3 follows the last bracket.
	fields := bytes.Fields(b[bytes.LastIndexByte(b, ')')+1:])
	if len(fields) < 20 {
		return 0, fmt.Errorf("/proc/%d/stat: %d fields after the command: %w", pid, len(fields), pool.ErrInvalid)
	}
	return strconv.ParseUint(string(fields[19]), 10, 64)
}
