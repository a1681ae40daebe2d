//go:build libvirt_dlopen

package virt

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/holdfast-ha/holdfast/agent/local"
)

// libvirt writes a running domain's status file anew at each change of its disks or devices, before the call that
// made the change returns. No event tells of a snapshot (docs/facts.md), so the file does: its stamp is looked at
// whenever domains are listed, and a watch on its directory wakes the caller at once.
const statusSuffix = ".xml"

// shape sets the shape of every domain of a pool that has not ended.
func (a *Adapter) shape(domains []local.Domain) {
	for i := range domains {
		d := &domains[i]
		if d.Marker == nil || d.State == local.DomainGone || d.Process.PID == 0 {
			continue
		}
		rec, _ := a.records.get(string(d.VM))
		d.Shape = fmt.Sprintf("%v, %d changes told, %s", d.Process, rec.changes, a.statusStamp(string(d.VM)))
	}
}

// statusStamp tells one version of a domain's status file from another.
func (a *Adapter) statusStamp(name string) string {
	info, err := os.Stat(filepath.Join(a.opt.RunDir, name+statusSuffix))
	if err != nil {
		return "no status file"
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return info.ModTime().String()
	}
	return fmt.Sprintf("status %d of %d.%09d", st.Ino, st.Mtim.Sec, st.Mtim.Nsec)
}

// statusRetry is the pause before the directory of status files is watched again, as it appears with libvirt.
const statusRetry = 5 * time.Second

// watchStatus wakes the caller whenever libvirt has saved a domain's status, until ctx ends.
func (a *Adapter) watchStatus(ctx context.Context) {
	said := ""
	for ctx.Err() == nil {
		err := a.followStatus(ctx)
		if err != nil && ctx.Err() == nil && err.Error() != said {
			said = err.Error()
			a.opt.Log.Debug("changes of disks are looked for from time to time only", "dir", a.opt.RunDir, "err", err)
		}
		_ = a.clock.Sleep(ctx, statusRetry) // ends early only with ctx
	}
}

// followStatus returns once the directory cannot be watched, or is gone.
func (a *Adapter) followStatus(ctx context.Context) error {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return fmt.Errorf("inotify: %w", err)
	}
	f := os.NewFile(uintptr(fd), "inotify")
	stop := context.AfterFunc(ctx, func() { _ = f.Close() })
	defer func() {
		if stop() {
			_ = f.Close()
		}
	}()
	if _, err := unix.InotifyAddWatch(fd, a.opt.RunDir, unix.IN_MOVED_TO|unix.IN_CLOSE_WRITE|unix.IN_DELETE_SELF|unix.IN_MOVE_SELF|unix.IN_ONLYDIR); err != nil {
		return fmt.Errorf("inotify: %w", err)
	}
	a.changed.Set() // what changed before the watch
	buf := make([]byte, 16<<10)
	for {
		n, err := f.Read(buf)
		if err != nil {
			return err
		}
		if !a.statusChanged(buf[:n]) {
			return errors.New("the directory is gone")
		}
	}
}

// statusChanged reads inotify's events; false if the directory itself is gone.
func (a *Adapter) statusChanged(events []byte) (there bool) {
	ours := false
	for len(events) >= unix.SizeofInotifyEvent {
		mask := binary.NativeEndian.Uint32(events[4:])
		end := unix.SizeofInotifyEvent + int(binary.NativeEndian.Uint32(events[12:]))
		if end > len(events) {
			break
		}
		file := strings.TrimRight(string(events[unix.SizeofInotifyEvent:end]), "\x00")
		events = events[end:]
		if mask&(unix.IN_DELETE_SELF|unix.IN_MOVE_SELF|unix.IN_IGNORED) != 0 {
			return false
		}
		if mask&unix.IN_Q_OVERFLOW != 0 {
			ours = true
		}
		name, ok := strings.CutSuffix(file, statusSuffix)
		if rec, known := a.records.get(name); ok && known && rec.marker != nil && !rec.ended {
			ours = true
		}
	}
	if ours {
		a.changed.Set()
	}
	return true
}
