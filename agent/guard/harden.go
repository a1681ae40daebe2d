package guard

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strconv"
	"strings"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/holdfast-ha/holdfast/pkg/clock"
)

// priority is the guard's real-time priority: above everything ordinary, below the kernel's own threads (50).
const priority = 10

// harden makes it likely that the guard runs when it must: whatever else eats the processors or the memory.
func harden(log *slog.Logger) {
	for _, step := range []struct {
		what string
		do   func() error
	}{
		{"exemption from the OOM killer", func() error { return os.WriteFile("/proc/self/oom_score_adj", []byte("-1000"), 0) }},
		{"locked memory", lockMemory},
		{"real-time priority", func() error { return realTime(priority) }},
	} {
		if err := step.do(); err != nil {
			log.Warn("guard runs without "+step.what, "err", err)
		}
	}
}

// lockMemory keeps what the guard touches in memory, and its program text as a whole: the path that kills must not
// wait for a disk that is gone. Locking everything at once would fill the Go runtime's reserves with real memory.
func lockMemory() error {
	if err := unix.Mlockall(unix.MCL_CURRENT | unix.MCL_FUTURE | unix.MCL_ONFAULT); err != nil {
		return fmt.Errorf("mlockall: %w", err)
	}
	maps, err := os.Open("/proc/self/maps")
	if err != nil {
		return err
	}
	defer func() { _ = maps.Close() }()
	scan := bufio.NewScanner(maps)
	for scan.Scan() {
		// start-end perms offset device inode path
		f := strings.Fields(scan.Text())
		if len(f) < 6 || !strings.HasPrefix(f[5], "/") || !strings.HasPrefix(f[1], "r-x") {
			continue
		}
		start, end, err := span(f[0])
		if err != nil {
			return err
		}
		// The plain call reads the pages in, where mlockall with ONFAULT waits until they are used.
		if _, _, errno := unix.Syscall(unix.SYS_MLOCK, start, end-start, 0); errno != 0 {
			return fmt.Errorf("mlock %s: %w", f[5], errno)
		}
	}
	return scan.Err()
}

func span(s string) (start, end uintptr, err error) {
	from, to, _ := strings.Cut(s, "-")
	a, err1 := strconv.ParseUint(from, 16, 64)
	b, err2 := strconv.ParseUint(to, 16, 64)
	return uintptr(a), uintptr(b), errors.Join(err1, err2)
}

// realTime gives every thread SCHED_FIFO. Threads to come inherit it from those that make them; but one that is just
// being made has copied the old policy already and is not listed yet. So it looks until it has seen nothing to do
// three times in a row, a moment apart.
func realTime(priority int) error {
	clean := 0
	for range 100 {
		changed, err := raiseThreads(priority)
		if err != nil {
			return err
		}
		if clean++; changed {
			clean = 0
		}
		if clean == 3 {
			return nil
		}
		if err := clock.Real().Sleep(context.Background(), 5*time.Millisecond); err != nil {
			return err
		}
	}
	return errors.New("new threads keep appearing")
}

// raiseThreads does so for the threads of this moment and reports whether any had another policy.
func raiseThreads(priority int) (changed bool, err error) {
	threads, err := os.ReadDir("/proc/self/task")
	if err != nil {
		return false, err
	}
	param := struct{ priority int32 }{int32(priority)}
	for _, t := range threads {
		tid, err := strconv.Atoi(t.Name())
		if err != nil {
			return false, err
		}
		policy, _, errno := unix.Syscall(unix.SYS_SCHED_GETSCHEDULER, uintptr(tid), 0, 0)
		if errno == 0 && policy == unix.SCHED_FIFO {
			continue
		}
		changed = true
		_, _, errno = unix.Syscall(unix.SYS_SCHED_SETSCHEDULER, uintptr(tid), unix.SCHED_FIFO, uintptr(unsafe.Pointer(&param)))
		if errno != 0 && errno != unix.ESRCH {
			return false, fmt.Errorf("sched_setscheduler: %w", errno)
		}
	}
	return changed, nil
}
