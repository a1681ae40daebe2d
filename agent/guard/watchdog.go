package guard

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Device is a Linux watchdog (Documentation/watchdog/watchdog-api.rst). Opening it starts it; only a 'V' before the
// close stops it, and not even that where the kernel was built or told so ("nowayout").
type Device struct {
	// Path is /dev/watchdog or the like, Sys its folder below /sys/class/watchdog.
	Path, Sys string
	// Timeout is what to ask for; the driver may grant another.
	Timeout time.Duration

	file *os.File
}

var _ Watchdog = (*Device)(nil)

// Arm opens the device and sets its time-out.
func (d *Device) Arm() (Watch, error) {
	if d.file == nil {
		f, err := os.OpenFile(d.Path, os.O_WRONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			return Watch{}, err
		}
		d.file = f
	}
	fd := int(d.file.Fd())
	about, err := unix.IoctlGetWatchdogInfo(fd)
	if err != nil {
		return Watch{}, fmt.Errorf("%s: ask what it is: %w", d.Path, err)
	}
	// A driver with a fixed time-out refuses; what counts is the answer to the question after it.
	_ = unix.IoctlSetPointerInt(fd, unix.WDIOC_SETTIMEOUT, int(d.Timeout/time.Second))
	seconds, err := unix.IoctlGetInt(fd, unix.WDIOC_GETTIMEOUT)
	if err != nil || seconds <= 0 {
		return Watch{}, fmt.Errorf("%s: time-out of %d s: %w", d.Path, seconds, err)
	}
	name := string(bytes.TrimRight(about.Identity[:], "\x00"))
	return Watch{Timeout: time.Duration(seconds) * time.Second, Hardware: !isSoftware(name)}, d.Pet()
}

// isSoftware knows the kernel's softdog, which a frozen host stops with itself.
func isSoftware(identity string) bool {
	return strings.Contains(strings.ToLower(identity), "software watchdog")
}

// Pet starts the time-out anew.
func (d *Device) Pet() error {
	if d.file == nil {
		return os.ErrClosed
	}
	return unix.IoctlWatchdogKeepalive(int(d.file.Fd()))
}

// Disarm stops the watchdog, if it lets itself be stopped.
func (d *Device) Disarm() error {
	if d.file == nil {
		return nil
	}
	if b, err := os.ReadFile(d.Sys + "/nowayout"); err == nil && strings.TrimSpace(string(b)) == "1" {
		return ErrNoWayOut
	}
	about, err := unix.IoctlGetWatchdogInfo(int(d.file.Fd()))
	if err != nil {
		return err
	}
	if about.Options&unix.WDIOF_MAGICCLOSE == 0 {
		return ErrNoWayOut
	}
	_, err = d.file.WriteString("V")
	err = errors.Join(err, d.file.Close())
	d.file = nil
	return err
}
