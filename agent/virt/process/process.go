package process

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/holdfast-ha/holdfast/agent/guard"
	"github.com/holdfast-ha/holdfast/pkg/pool"
)

// ErrNone says that there is no such process.
var ErrNone = errors.New("no such process")

// Table reads the processes of this server. The zero value reads /proc and libvirt's own run directory.
type Table struct {
	// Proc is where procfs is mounted; "/proc" if empty.
	Proc string
	// Run is where libvirt keeps NAME.pid; "/run/libvirt/qemu" if empty.
	Run string
}

func (t Table) proc(pid int, file string) string {
	root := t.Proc
	if root == "" {
		root = "/proc"
	}
	return filepath.Join(root, strconv.Itoa(pid), file)
}

// QEMU is one QEMU process as its command line describes it.
type QEMU struct {
	guard.Process
	Name, UUID string
	// Incoming: it was started as the destination of a migration.
	Incoming bool
	// Monitors are the paths of the QMP sockets that -qmp opened; libvirt's own monitor is not among them.
	Monitors []string
}

// Find returns the process of a domain: the one that libvirt's PID file names if it is that VM's, else the one
// that the process table shows. ErrNone if there is neither.
func (t Table) Find(name, uuid string) (QEMU, error) {
	run := t.Run
	if run == "" {
		run = "/run/libvirt/qemu"
	}
	if text, err := os.ReadFile(filepath.Join(run, name+".pid")); err == nil {
		if pid, err := strconv.Atoi(strings.TrimSpace(string(text))); err == nil {
			if q, err := t.read(pid); err == nil && q.Name == name && strings.EqualFold(q.UUID, uuid) {
				return q, nil
			}
		}
	}
	all, _, err := t.scan()
	if err != nil {
		return QEMU{}, err
	}
	for _, q := range all {
		if q.Name == name && strings.EqualFold(q.UUID, uuid) {
			return q, nil
		}
	}
	return QEMU{}, fmt.Errorf("QEMU of %s: %w", name, ErrNone)
}

// Absent reports whether no process of the VM with this UUID exists. A QEMU that is ending, and can no longer be told
// apart from others, is waited for a moment; then Absent fails rather than guess.
func (t Table) Absent(ctx context.Context, uuid string) (bool, error) {
	for try := 0; ; try++ {
		all, dying, err := t.scan()
		if err != nil {
			return false, err
		}
		for _, q := range all {
			if strings.EqualFold(q.UUID, uuid) {
				return false, nil
			}
		}
		if len(dying) == 0 {
			return true, nil
		}
		if try == endings {
			return false, fmt.Errorf("process %d is ending and may be the VM's: %w", dying[0], pool.ErrUnavailable)
		}
		select {
		case <-ctx.Done():
			return false, fmt.Errorf("process %d is ending: %w", dying[0], ctx.Err())
		case <-time.After(ending):
		}
	}
}

// A process of a few GiB takes some 0.1 s to give its memory back (docs/facts.md).
const (
	ending  = 10 * time.Millisecond
	endings = 50
)

// scan lists the QEMU processes, and those that have lost their command line but not their last thread.
func (t Table) scan() (all []QEMU, dying []int, err error) {
	root := t.Proc
	if root == "" {
		root = "/proc"
	}
	entries, err := os.ReadDir(root)
	if err != nil {
		return nil, nil, fmt.Errorf("process table: %w", err)
	}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		q, err := t.read(pid)
		switch {
		case err == nil && q.UUID != "":
			all = append(all, q)
		case errors.Is(err, errDying):
			dying = append(dying, pid)
		case err != nil && !errors.Is(err, ErrNone) && !errors.Is(err, errStranger):
			return nil, nil, err
		}
	}
	return all, dying, nil
}

var (
	errDying    = errors.New("process is ending")
	errStranger = errors.New("not a QEMU")
)

// read describes the process with the given PID. The start time is read on both sides of the command line, so
// both belong to one process.
func (t Table) read(pid int) (QEMU, error) {
	before, err := t.stat(pid)
	if err != nil {
		return QEMU{}, err
	}
	line, err := os.ReadFile(t.proc(pid, "cmdline"))
	if err != nil && !gone(err) {
		return QEMU{}, fmt.Errorf("command line of %d: %w", pid, err)
	}
	if len(line) == 0 {
		if before.state == 'Z' && before.threads > 1 && (strings.Contains(before.comm, "qemu") || strings.Contains(before.comm, "kvm")) {
			return QEMU{}, errDying
		}
		return QEMU{}, errStranger
	}
	after, err := t.stat(pid)
	if err != nil {
		return QEMU{}, err
	}
	if before.start != after.start {
		return QEMU{}, ErrNone
	}
	q := parse(line)
	q.Process = guard.Process{PID: pid, StartTicks: after.start}
	return q, nil
}

// parse reads name, UUID and -incoming from a NUL-separated command line. QEMU writes a comma in a value as two.
func parse(line []byte) QEMU {
	var q QEMU
	args := bytes.Split(bytes.TrimSuffix(line, []byte{0}), []byte{0})
	for i, a := range args[:len(args)-1] {
		value := string(args[i+1])
		switch string(a) {
		case "-uuid":
			q.UUID = strings.ToLower(value)
		case "-incoming":
			q.Incoming = true
		case "-name":
			if rest, ok := strings.CutPrefix(value, "guest="); ok {
				value = rest
			}
			q.Name = firstOption(value)
		case "-qmp":
			if rest, ok := strings.CutPrefix(value, "unix:"); ok {
				q.Monitors = append(q.Monitors, firstOption(rest))
			}
		}
	}
	return q
}

// firstOption returns what stands before the first single comma.
func firstOption(value string) string {
	value = strings.ReplaceAll(value, ",,", "\x00")
	value, _, _ = strings.Cut(value, ",")
	return strings.ReplaceAll(value, "\x00", ",")
}

type stat struct {
	comm    string
	state   byte
	threads int
	start   uint64
}

// stat reads state (field 3), number of threads (20) and start time (22) of a process; see proc(5).
func (t Table) stat(pid int) (stat, error) {
	text, err := os.ReadFile(t.proc(pid, "stat"))
	if err != nil {
		if gone(err) {
			return stat{}, ErrNone
		}
		return stat{}, fmt.Errorf("process %d: %w", pid, err)
	}
	// The name in field 2 may hold anything, also spaces and brackets.
	name := bytes.LastIndexByte(text, ')')
	fields := strings.Fields(string(text[name+1:]))
	if name < 0 || len(fields) < 20 {
		return stat{}, fmt.Errorf("process %d: stat cannot be read", pid)
	}
	threads, err := strconv.Atoi(fields[17])
	if err != nil {
		return stat{}, fmt.Errorf("process %d: stat cannot be read: %w", pid, err)
	}
	start, err := strconv.ParseUint(fields[19], 10, 64)
	if err != nil {
		return stat{}, fmt.Errorf("process %d: stat cannot be read: %w", pid, err)
	}
	return stat{comm: string(text[:name]), state: fields[0][0], threads: threads, start: start}, nil
}

func gone(err error) bool { return errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ESRCH) }
