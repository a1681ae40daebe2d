package lab

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/holdfast-ha/holdfast/test/lab/inside"
)

// QEMU is one QEMU process that runs a guest, seen from outside.
type QEMU struct {
	Server string
	VM     string // libvirt's domain name
	UUID   string
	PID    int // on this machine
	Inner  int // inside the server
	// Incoming says that it was started to receive a live migration.
	Incoming bool
}

// Truth is what a QEMU process does now.
type Truth struct {
	QEMU
	// Status is QEMU's own run state, "unknown" if it did not answer.
	Status string
	// Stopped says that the process (SIGSTOP) or its server is stopped as a whole.
	Stopped bool
	// Executing says that guest code runs: run state running and not stopped. Of
	// a QEMU that did not answer it is not claimed.
	Executing bool
}

// QEMUs lists the server's QEMU processes that hold a guest.
func (s *Server) QEMUs() ([]QEMU, error) {
	pids, err := s.cgroup().procs()
	if err != nil {
		return nil, err
	}
	var found []QEMU
	for _, pid := range pids {
		if q, ok := s.qemu(pid); ok {
			found = append(found, q)
		}
	}
	return found, nil
}

// qemu reads a process's command line; the lab's wrapper, before it becomes
// QEMU, does not count.
func (s *Server) qemu(pid int) (QEMU, bool) {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	if err != nil {
		return QEMU{}, false
	}
	q, ok := parseQEMU(raw)
	q.Server, q.PID = s.Name(), pid
	return q, ok
}

func parseQEMU(cmdline []byte) (QEMU, bool) {
	var q QEMU
	argv := strings.Split(string(bytes.TrimRight(cmdline, "\x00")), "\x00")
	for i := 0; i+1 < len(argv); i++ {
		value := argv[i+1]
		switch argv[i] {
		case "-name":
			name, _, _ := strings.Cut(strings.TrimPrefix(value, "guest="), ",")
			q.VM = name
		case "-uuid":
			q.UUID = value
		case "-incoming":
			q.Incoming = true
		case "-qmp":
			if rest, ok := strings.CutPrefix(value, "unix:"+inside.QMPDir+"/"); ok {
				inner, _, _ := strings.Cut(rest, ".")
				q.Inner, _ = strconv.Atoi(inner)
			}
		}
	}
	return q, q.VM != "" && q.Inner > 0
}

// qmpSocket is where this machine finds one of QEMU's two private sockets:
// "watch" belongs to a Watcher, "tool" to whoever asks once.
func (s *Server) qmpSocket(q QEMU, use string) string {
	return filepath.Join(s.Path(inside.QMPDir), fmt.Sprintf("%d.%s", q.Inner, use))
}

// Look asks each of the server's QEMU processes, directly, what it does.
func (s *Server) Look() ([]Truth, error) {
	list, err := s.QEMUs()
	if err != nil {
		return nil, err
	}
	truths := make([]Truth, len(list))
	for i, q := range list {
		truths[i] = s.look(q)
	}
	return truths, nil
}

func (s *Server) look(q QEMU) Truth {
	t := Truth{QEMU: q, Status: "unknown", Stopped: s.stopped(q.PID)}
	if t.Stopped {
		return t
	}
	conn, err := dialQMP(s.qmpSocket(q, "tool"), nil)
	if err != nil {
		return t
	}
	defer conn.close()
	running, name, err := conn.status()
	if err != nil {
		return t
	}
	t.Status, t.Executing = name, running
	return t
}

// stopped says whether a process is stopped by a signal or frozen with its server.
func (s *Server) stopped(pid int) bool {
	return s.cgroup().event("frozen") || strings.ContainsRune("Tt", rune(procState(pid)))
}

// procState is the state letter of proc_pid_stat(5); 0 if there is no such process.
func procState(pid int) byte {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	if i := bytes.LastIndex(raw, []byte(") ")); i >= 0 && i+2 < len(raw) {
		return raw[i+2]
	}
	return 0
}

// Look asks every QEMU process of the lab, ordered by VM, then server.
func (l *Lab) Look() ([]Truth, error) {
	var all []Truth
	for _, s := range l.Servers() {
		truths, err := s.Look()
		if err != nil {
			return nil, err
		}
		all = append(all, truths...)
	}
	slices.SortFunc(all, func(a, b Truth) int {
		return strings.Compare(a.VM+" "+a.Server, b.VM+" "+b.Server)
	})
	return all, nil
}

// Executing names the servers on which the VM executes at this moment.
func (l *Lab) Executing(vm string) ([]string, error) {
	all, err := l.Look()
	var servers []string
	for _, t := range all {
		if t.VM == vm && t.Executing {
			servers = append(servers, t.Server)
		}
	}
	return servers, err
}
