package lab

import (
	"context"
	"fmt"
	"strings"
	"time"
)

// Virsh runs virsh against the server's libvirtd, from this machine, and
// returns its output without surrounding space.
func (s *Server) Virsh(ctx context.Context, args ...string) (string, error) {
	out, err := run(ctx, "", append([]string{"virsh", "-q", "-c", s.LibvirtURI()}, args...)...)
	if err != nil {
		return strings.TrimSpace(out), fmt.Errorf("%s: %w", s.Name(), err)
	}
	return strings.TrimSpace(out), nil
}

// WaitLibvirt returns when libvirtd answers and has probed QEMU, so that what is
// timed later does not pay for the first use.
func (s *Server) WaitLibvirt(ctx context.Context) error {
	var last error
	err := waitFor(ctx, 20*time.Millisecond, func() (bool, error) {
		if !s.Running(Libvirtd) {
			return false, fmt.Errorf("libvirtd of %s ended, see %s", s.Name(), s.LogFile(Libvirtd))
		}
		_, last = s.Virsh(ctx, "domcapabilities", "--virttype", "qemu", "--machine", "q35")
		return last == nil, nil
	})
	if err != nil && last != nil {
		return fmt.Errorf("%w: %w", err, last)
	}
	return err
}
