//go:build libvirt_dlopen

package virt

import (
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"libvirt.org/go/libvirt"
	"libvirt.org/go/libvirtxml"

	"github.com/holdfast-ha/holdfast/pkg/pool"
)

// monitorPath is where a VM's second monitor listens; empty if none is wanted.
func (a *Adapter) monitorPath(vm pool.VMID) string {
	if a.opt.MonitorDir == "" {
		return ""
	}
	return filepath.Join(a.opt.MonitorDir, string(vm)+".sock")
}

// monitorFor returns the path for a VM that is about to be created, once QEMU can make a socket there. A VM without
// it still starts: at a deadline it is killed where it would have been paused.
func (a *Adapter) monitorFor(ctx context.Context, vm pool.VMID) string {
	if a.opt.MonitorDir == "" || pool.CheckName("vm", string(vm)) != nil {
		return ""
	}
	a.mu.Lock()
	ready := a.monitors
	a.mu.Unlock()
	if !ready {
		if err := a.makeMonitorDir(ctx); err != nil {
			a.opt.Log.Warn("no second monitor for QEMU: the VM cannot be paused at a deadline, only killed", "vm", vm, "err", err)
			return ""
		}
		a.mu.Lock()
		a.monitors = true
		a.mu.Unlock()
	}
	return a.monitorPath(vm)
}

func (a *Adapter) makeMonitorDir(ctx context.Context) error {
	uid, gid, err := a.qemuUser(ctx)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(a.opt.MonitorDir, 0o700); err != nil {
		return fmt.Errorf("directory for monitors: %w", err)
	}
	if err := errors.Join(os.Chmod(a.opt.MonitorDir, 0o700), os.Chown(a.opt.MonitorDir, uid, gid)); err != nil {
		return fmt.Errorf("directory for monitors: %w", err)
	}
	return nil
}

// qemuUser asks libvirt as which user it runs QEMU.
func (a *Adapter) qemuUser(ctx context.Context) (uid, gid int, err error) {
	r := request{what: "read capabilities", limit: a.opt.StartLimit, reads: true}
	text, err := run(ctx, a.calls, r, func(conn *libvirt.Connect) (string, error) {
		text, err := conn.GetCapabilities()
		return text, failure(err, true)
	})
	if err != nil {
		return 0, 0, err
	}
	var caps libvirtxml.Caps
	if err := xml.Unmarshal([]byte(text), &caps); err != nil {
		return 0, 0, fmt.Errorf("capabilities: %w", err)
	}
	for _, m := range caps.Host.SecModel {
		for _, l := range m.Labels {
			user, group, ok := strings.Cut(l.Value, ":")
			if m.Name != "dac" || !ok {
				continue
			}
			uid, e1 := strconv.Atoi(strings.TrimPrefix(user, "+"))
			gid, e2 := strconv.Atoi(strings.TrimPrefix(group, "+"))
			if e1 == nil && e2 == nil {
				return uid, gid, nil
			}
		}
	}
	return 0, 0, fmt.Errorf("libvirt does not say as which user it runs QEMU: %w", pool.ErrUnavailable)
}

// removeMonitor drops the socket file of a VM that ended. QEMU itself replaces one that is in its way.
func (a *Adapter) removeMonitor(vm pool.VMID) {
	if a.opt.MonitorDir == "" || pool.CheckName("vm", string(vm)) != nil {
		return
	}
	if err := os.Remove(a.monitorPath(vm)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		a.opt.Log.Debug("remove monitor", "vm", vm, "err", err)
	}
}
