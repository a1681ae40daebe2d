package process

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/holdfast-ha/holdfast/agent/guard"
	"github.com/holdfast-ha/holdfast/pkg/pool"
)

// Handle is an open pidfd: it names its process for good. Close it. Safe for concurrent use.
type Handle struct{ file *os.File }

// Open returns a handle on a process; ErrNone if it has ended, or its PID belongs to another one by now.
func (t Table) Open(p guard.Process) (*Handle, error) {
	if p.PID <= 1 {
		return nil, fmt.Errorf("%v: not a process to act on: %w", p, pool.ErrInvalid)
	}
	fd, err := unix.PidfdOpen(p.PID, unix.PIDFD_NONBLOCK)
	switch {
	case errors.Is(err, unix.ESRCH):
		return nil, ErrNone
	case err != nil:
		return nil, fmt.Errorf("pidfd of %v: %w", p, err)
	}
	h := &Handle{os.NewFile(uintptr(fd), p.String())}
	// Only now does the number stand still: the descriptor is either the process's own or another's.
	st, err := t.stat(p.PID)
	if err == nil && st.start == p.StartTicks {
		return h, nil
	}
	h.Close()
	if err == nil || errors.Is(err, ErrNone) {
		return nil, ErrNone
	}
	return nil, err
}

// Close frees the descriptor and ends a Wait.
func (h *Handle) Close() { _ = h.file.Close() }

// Ended reports whether every thread has ended.
func (h *Handle) Ended() (bool, error) {
	var ended bool
	raw, err := h.file.SyscallConn()
	if err != nil {
		return false, fmt.Errorf("%s: %w", h.file.Name(), err)
	}
	var perr error
	err = raw.Control(func(fd uintptr) { ended, perr = readable(fd) })
	if err = errors.Join(err, perr); err != nil {
		return false, fmt.Errorf("%s: %w", h.file.Name(), err)
	}
	return ended, nil
}

// Wait returns nil once every thread has ended. It occupies no thread of the agent meanwhile.
func (h *Handle) Wait(ctx context.Context) error {
	raw, err := h.file.SyscallConn()
	if err != nil {
		return fmt.Errorf("%s: %w", h.file.Name(), err)
	}
	stop := context.AfterFunc(ctx, func() { _ = h.file.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	var perr error
	err = raw.Read(func(fd uintptr) bool {
		var ended bool
		ended, perr = readable(fd)
		return ended || perr != nil
	})
	if ctx.Err() != nil && err != nil {
		err = ctx.Err()
	}
	if err = errors.Join(err, perr); err != nil {
		return fmt.Errorf("wait for the end of %s: %w", h.file.Name(), err)
	}
	return nil
}

// Kill sends SIGKILL.
func (h *Handle) Kill() error {
	raw, err := h.file.SyscallConn()
	if err != nil {
		return fmt.Errorf("%s: %w", h.file.Name(), err)
	}
	var kerr error
	err = raw.Control(func(fd uintptr) { kerr = unix.PidfdSendSignal(int(fd), unix.SIGKILL, nil, 0) })
	if errors.Is(kerr, unix.ESRCH) {
		kerr = nil
	}
	if err = errors.Join(err, kerr); err != nil {
		return fmt.Errorf("kill %s: %w", h.file.Name(), err)
	}
	return nil
}

func readable(fd uintptr) (bool, error) {
	for {
		fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		n, err := unix.Poll(fds, 0)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		return n > 0 && fds[0].Revents&unix.POLLIN != 0, err
	}
}

// Dead reports whether a process is seen dead.
func (t Table) Dead(p guard.Process) (bool, error) {
	h, err := t.Open(p)
	if errors.Is(err, ErrNone) {
		return true, nil
	}
	if err != nil {
		return false, err
	}
	defer h.Close()
	return h.Ended()
}

// Kill sends SIGKILL to a process and returns once it is seen dead. One that is stuck in the kernel (a disk that
// hangs) does not die: Kill then returns ctx's error, and only a reset of the machine would end it.
func (t Table) Kill(ctx context.Context, p guard.Process) error {
	h, err := t.Open(p)
	if errors.Is(err, ErrNone) {
		return nil
	}
	if err != nil {
		return err
	}
	defer h.Close()
	if err := h.Kill(); err != nil {
		return err
	}
	return h.Wait(ctx)
}
