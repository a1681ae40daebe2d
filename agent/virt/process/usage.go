package process

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/holdfast-ha/holdfast/agent/guard"
)

// userHZ is the unit of times in /proc: 100 a second on every architecture that QEMU virtualizes on.
const userHZ = 100

// Usage reads the CPU time and the resident memory of a process, all threads together; ErrNone if it has ended.
func (t Table) Usage(p guard.Process) (cpu time.Duration, memoryBytes int64, err error) {
	text, err := os.ReadFile(t.proc(p.PID, "stat"))
	if err != nil {
		if gone(err) {
			err = ErrNone
		}
		return 0, 0, fmt.Errorf("usage of %v: %w", p, err)
	}
	fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
	if len(fields) < 22 {
		return 0, 0, fmt.Errorf("usage of %v: stat cannot be read", p)
	}
	var n [4]uint64
	// Fields 14 and 15 are time in user mode and in the kernel (of the guest: in user mode), 22 the start, 24 pages.
	for i, field := range []int{14, 15, 22, 24} {
		if n[i], err = strconv.ParseUint(fields[field-3], 10, 64); err != nil {
			return 0, 0, fmt.Errorf("usage of %v: %w", p, err)
		}
	}
	if n[2] != p.StartTicks {
		return 0, 0, fmt.Errorf("usage of %v: %w", p, ErrNone)
	}
	return time.Duration(n[0]+n[1]) * (time.Second / userHZ), int64(n[3]) * int64(os.Getpagesize()), nil
}
