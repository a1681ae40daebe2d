package inside

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// Weigh gives the session of a process the share of the CPUs that this process's own nice value asks for. Where the
// kernel schedules by session (autogroups, sched(7)), a nice value counts inside of a session only, and everything that
// a lab runs has one of its own: without this a lab that runs at `nice -n -10` would run like any other.
func Weigh(pid int) error {
	prio, err := unix.Getpriority(unix.PRIO_PROCESS, 0)
	if err != nil {
		return fmt.Errorf("own nice value: %w", err)
	}
	nice := 20 - prio // the system call's own coding: getpriority(2)
	if nice == 0 {
		return nil
	}
	err = os.WriteFile(fmt.Sprintf("/proc/%d/autogroup", pid), []byte(strconv.Itoa(nice)), 0)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ESRCH) { // a kernel without them, or it has ended
		return nil
	}
	return err
}
