//go:build libvirt_dlopen

package virt

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"strings"

	"github.com/holdfast-ha/holdfast/pkg/pool"
)

// QEMUUser returns as which user libvirt runs QEMU here.
func (a *Adapter) QEMUUser(ctx context.Context) (uid, gid int, err error) { return a.qemuUser(ctx) }

// MakeReady makes what the QEMU of an arriving VM needs on this server besides libvirt's own doing: the directory of
// second monitors, whose path its definition may carry.
func (a *Adapter) MakeReady(ctx context.Context) error {
	if a.opt.MonitorDir == "" {
		return nil
	}
	return a.makeMonitorDir(ctx)
}

// Socket returns the path of the libvirt daemon's socket, to which a source's libvirt daemon is connected through the
// mesh. pool.ErrRefused: libvirt is configured by a URI without one.
func (a *Adapter) Socket() (string, error) {
	if a.opt.URI == "" {
		_, err := a.addresses()
		if err != nil {
			return "", err
		}
	}
	if u, err := url.Parse(a.opt.URI); err == nil {
		if s := u.Query().Get("socket"); s != "" {
			return s, nil
		}
	}
	if a.opt.URI != "" && !strings.HasPrefix(a.opt.URI, "qemu:///system") {
		return "", pool.Refuse("LIBVIRT_URI", "name the socket in it (?socket=PATH), or leave libvirt empty",
			"live migration needs a libvirt socket on this server, and libvirt is %q", a.opt.URI)
	}
	for _, s := range a.opt.Sockets {
		if _, err := os.Stat(s); err == nil {
			return s, nil
		}
	}
	return "", fmt.Errorf("no libvirt daemon: none of %s exists: %w", strings.Join(a.opt.Sockets, ", "), pool.ErrUnavailable)
}
