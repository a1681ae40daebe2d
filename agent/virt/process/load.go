package process

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// Load is how busy the whole server is.
type Load struct {
	// Busy is the time that all CPUs together were not idle since boot; waiting for disks counts as idle.
	Busy time.Duration
	CPUs int
	// MemoryUsedBytes is what is not available to programs; file cache is.
	MemoryUsedBytes, MemoryBytes int64
}

// Load reads the load of the whole server: /proc/stat and /proc/meminfo (proc(5)).
func (t Table) Load() (Load, error) {
	stat, err := os.ReadFile(t.file("stat"))
	if err != nil {
		return Load{}, fmt.Errorf("load of the CPUs: %w", err)
	}
	var l Load
	if l.Busy, l.CPUs, err = busyCPUs(stat); err != nil {
		return Load{}, err
	}
	text, err := os.ReadFile(t.file("meminfo"))
	if err != nil {
		return Load{}, fmt.Errorf("memory in use: %w", err)
	}
	total, ok := kilobytes(text, "MemTotal:")
	available, ok2 := kilobytes(text, "MemAvailable:")
	if !ok || !ok2 {
		return Load{}, fmt.Errorf("memory in use: meminfo cannot be read")
	}
	l.MemoryBytes, l.MemoryUsedBytes = total<<10, max(total-available, 0)<<10
	return l, nil
}

func (t Table) file(name string) string {
	if t.Proc == "" {
		return filepath.Join("/proc", name)
	}
	return filepath.Join(t.Proc, name)
}

// busyCPUs adds up the first line of /proc/stat: user, nice, system, idle, iowait, irq, softirq, steal; guest time is
// part of user's.
func busyCPUs(stat []byte) (busy time.Duration, cpus int, err error) {
	for line := range bytes.Lines(stat) {
		fields := strings.Fields(string(line))
		if len(fields) == 0 || !strings.HasPrefix(fields[0], "cpu") {
			break
		}
		if fields[0] != "cpu" {
			cpus++
			continue
		}
		for i, f := range fields[1:min(len(fields), 9)] {
			n, err := strconv.ParseUint(f, 10, 62)
			if err != nil {
				return 0, 0, fmt.Errorf("load of the CPUs: %w", err)
			}
			if i != 3 && i != 4 {
				busy += time.Duration(n) * (time.Second / userHZ) //nolint:gosec // at most 62 bits
			}
		}
	}
	if cpus == 0 {
		return 0, 0, fmt.Errorf("load of the CPUs: stat cannot be read")
	}
	return busy, cpus, nil
}

// kilobytes returns a line's number from meminfo.
func kilobytes(text []byte, name string) (int64, bool) {
	for line := range bytes.Lines(text) {
		fields := strings.Fields(string(line))
		if len(fields) >= 2 && fields[0] == name {
			n, err := strconv.ParseInt(fields[1], 10, 62)
			return n, err == nil
		}
	}
	return 0, false
}
