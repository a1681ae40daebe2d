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

// monitorPrefix makes names that the AppArmor profile allows which libvirt's virt-aa-helper writes for each VM:
// "/run/libvirt/**/*.tunnelmigrate.dest.NAME" rw. There is no other place where such a QEMU may make a socket of a name
// that we choose. SELinux lets it below /run/libvirt/qemu.
const monitorPrefix = "qmp.tunnelmigrate.dest."

// monitorOptions is how QEMU's message about a monitor goes on after the path.
const monitorOptions = ",server=on,wait=off"

// maxSocket is how long the path of a UNIX socket may be: unix(7).
const maxSocket = 107

// monitorPath is where a VM's second monitor listens; empty if none is wanted.
func (a *Adapter) monitorPath(vm pool.VMID) string {
	path := filepath.Join(a.opt.MonitorDir, monitorPrefix+string(vm))
	if a.opt.MonitorDir == "" || len(path) > maxSocket {
		return ""
	}
	return path
}

// monitorFor returns the path for a VM that is about to be created, once QEMU can make a socket there. A VM without
// it still starts: at a deadline it is killed where it would have been paused.
func (a *Adapter) monitorFor(ctx context.Context, vm pool.VMID) string {
	if a.opt.MonitorDir == "" || pool.CheckName("vm", string(vm)) != nil || !a.monitorsReady(ctx) {
		return ""
	}
	return a.monitorPath(vm)
}

// monitorsReady makes the directory for monitors if that was not done, nor found impossible, under this daemon.
func (a *Adapter) monitorsReady(ctx context.Context) bool {
	a.mu.Lock()
	tried, ready := a.monitorsTried, a.noMonitors == ""
	a.mu.Unlock()
	if tried {
		return ready
	}
	err := a.makeMonitorDir(ctx)
	if errors.Is(err, pool.ErrUnavailable) {
		return false // libvirt is away; tried again
	}
	why := ""
	if err != nil {
		why = err.Error()
	}
	a.setNoMonitors(why)
	return err == nil
}

// setNoMonitors notes why QEMU can have no second monitor here; empty if it can.
func (a *Adapter) setNoMonitors(why string) {
	a.mu.Lock()
	news := !a.monitorsTried || a.noMonitors != why
	a.monitorsTried, a.noMonitors = true, why
	a.mu.Unlock()
	if news && why != "" {
		a.opt.Log.Warn("no second monitor for QEMU: VMs cannot be paused at a deadline, only killed", "reason", why)
	}
	if news {
		a.changed.Set()
	}
}

// NoPause says why VMs that start here cannot be paused by the guard, but only killed; empty if they can.
func (a *Adapter) NoPause() string {
	if a.opt.MonitorDir == "" {
		return "guard.monitor_dir is off"
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.noMonitors
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
