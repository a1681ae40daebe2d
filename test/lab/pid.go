package lab

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/holdfast-ha/holdfast/test/lab/inside"
)

// PID is a process of the table as this machine numbers it.
func (s *Server) PID(name string) (int, error) {
	states, err := s.Processes()
	if err != nil {
		return 0, err
	}
	i := slices.IndexFunc(states, func(p inside.State) bool { return p.Name == name && p.Running() })
	if i < 0 {
		return 0, fmt.Errorf("%s does not run on %s", name, s.Name())
	}
	pids, err := s.cgroup().procs()
	if err != nil {
		return 0, err
	}
	for _, pid := range pids {
		if innerPID(pid) == states[i].PID {
			return pid, nil
		}
	}
	return 0, fmt.Errorf("%s has ended on %s", name, s.Name())
}

// innerPID is what a process is called in its own PID namespace: the last number of NSpid in proc_pid_status(5).
func innerPID(pid int) int {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(raw)) {
		if rest, ok := strings.CutPrefix(line, "NSpid:"); ok {
			numbers := strings.Fields(rest)
			n, _ := strconv.Atoi(numbers[len(numbers)-1]) // the kernel writes numbers
			return n
		}
	}
	return 0
}
