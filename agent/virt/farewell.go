package virt

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"time"

	"golang.org/x/sys/unix"

	"github.com/holdfast-ha/holdfast/agent/guard"
)

// farewell is what a source's QEMU says on its second monitor while it leaves (QEMU, "QMP Reference Manual"). It is
// read from after the guest was stopped for the end of the copy until the process ends, in the order in which it
// happened: QEMU announces RESUME before it lets a CPU run, and nothing after SHUTDOWN does.
type farewell struct {
	// still: at the beginning the CPUs stood still for the migration. complete: all memory has been sent. over: QEMU
	// was told by a signal to end, and ends.
	still, complete, over bool
	// spoilt is the first thing that was not as it should be.
	spoilt string
}

// clean: from the beginning to the end of the process no CPU ran, and the memory that was sent is the guest's last.
func (f *farewell) clean() bool { return f.still && f.complete && f.over && f.spoilt == "" }

func (f *farewell) spoil(format string, a ...any) {
	if f.spoilt == "" {
		f.spoilt = fmt.Sprintf(format, a...)
	}
}

// Marks of our two questions.
const (
	askStatus  = "holdfast-status"
	askMigrate = "holdfast-migrate"
)

// word is any message of a monitor.
type word struct {
	ID     string
	Event  string
	Return json.RawMessage
	Error  json.RawMessage
	Data   struct {
		Status, Reason string
		Guest          bool
	}
}

// take takes in the next message.
func (f *farewell) take(line []byte) {
	var w word
	if err := json.Unmarshal(line, &w); err != nil {
		f.spoil("its monitor speaks nonsense: %v", err)
		return
	}
	switch {
	case w.Error != nil:
		f.spoil("its monitor answers %s", w.Error)
	case w.ID == askStatus:
		f.status(w.Return)
	case w.ID == askMigrate:
		var m struct{ Status string }
		if err := json.Unmarshal(w.Return, &m); err != nil {
			f.spoil("query-migrate: %v", err)
		}
		f.complete = f.complete || m.Status == "completed"
	case w.Event == "RESUME" && f.still:
		f.spoil("the guest ran on after it had been stopped for the end of the copy")
	case w.Event == "MIGRATION" && w.Data.Status == "completed":
		f.complete = true
	case w.Event == "MIGRATION" && (w.Data.Status == "failed" || w.Data.Status == "cancelling" || w.Data.Status == "cancelled"):
		f.spoil("its migration has %s", w.Data.Status)
	case w.Event == "SHUTDOWN" && !w.Data.Guest && w.Data.Reason == "host-signal":
		f.over = true
	case w.Event == "SHUTDOWN":
		f.spoil("it ends for another reason: %s", w.Data.Reason)
	}
}

// status judges how the CPUs were at the beginning. Both states are entered only by a migration; what leaves them for a
// state in which the guest runs is announced by RESUME.
func (f *farewell) status(answer json.RawMessage) {
	var s struct {
		Running *bool
		Status  string
	}
	if err := json.Unmarshal(answer, &s); err != nil {
		f.spoil("query-status: %v", err)
		return
	}
	if s.Running == nil || *s.Running || s.Status != "finish-migrate" && s.Status != "postmigrate" {
		f.spoil("it does not stand still for a migration, it is %q", s.Status)
		return
	}
	f.still = true
}

// hear listens to process p on its monitor until it has ended or ctx ends. over is called as soon as all is as it should
// be and QEMU ends; it is dead only when the process table says so.
func (f *farewell) hear(ctx context.Context, path string, p guard.Process, over func()) error {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", path)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	if err := listens(conn, p); err != nil {
		return err
	}
	in := bufio.NewReader(conn)
	if _, err := in.ReadBytes('\n'); err != nil { // QEMU's greeting
		return err
	}
	if _, err := fmt.Fprintf(conn, "{\"execute\":\"qmp_capabilities\"}\n{\"execute\":\"query-status\",\"id\":%q}\n{\"execute\":\"query-migrate\",\"id\":%q}\n",
		askStatus, askMigrate); err != nil {
		return err
	}
	told := false
	for f.spoilt == "" {
		line, err := in.ReadBytes('\n')
		if err != nil {
			return err
		}
		f.take(line)
		if f.clean() && !told {
			told = true
			over()
		}
	}
	return errors.New(f.spoilt)
}

// listens checks that it is process p that answers on a UNIX socket (unix(7), SO_PEERCRED).
func listens(conn net.Conn, p guard.Process) error {
	u, ok := conn.(*net.UnixConn)
	if !ok {
		return errors.New("not a UNIX socket")
	}
	raw, err := u.SyscallConn()
	if err != nil {
		return err
	}
	var cred *unix.Ucred
	var failed error
	if err := raw.Control(func(fd uintptr) {
		cred, failed = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) //nolint:gosec // a descriptor
	}); err != nil {
		return err
	}
	if failed != nil {
		return failed
	}
	if int(cred.Pid) != p.PID {
		return fmt.Errorf("the monitor is process %d's, not %v's", cred.Pid, p)
	}
	return nil
}
