//go:build libvirt_dlopen

package virt

import (
	"errors"
	"fmt"
	"regexp"
	"strings"

	"libvirt.org/go/libvirt"

	"github.com/holdfast-ha/holdfast/agent/local"
	"github.com/holdfast-ha/holdfast/pkg/pool"
)

// lockedRE finds a start that a lock refused: QEMU's image locks, virtlockd's and sanlock's leases. A virtlockd that
// has lost its lockspaces ("does not exist") refuses too, but nobody holds anything then.
var lockedRE = regexp.MustCompile(`Failed to get (shared )?"[^"]*" lock|Is another process using the image|Lockspace resource .* is locked|Failed to acquire lock`)

// imageRE finds the image in QEMU's refusal. The rest of that text has QEMU's time in it, so that it is another at
// each try, and a reason must not change while nothing else does.
var imageRE = regexp.MustCompile(`Is another process using the image \[([^\]]*)\]`)

// lockText says which lock is held, the same at each try.
func lockText(message, text string) string {
	if m := imageRE.FindStringSubmatch(message); m != nil {
		return "image " + m[1]
	}
	return text
}

// failure translates libvirt's error into the kinds that callers know. reads says that the call changes nothing.
func failure(err error, reads bool) error {
	if err == nil {
		return nil
	}
	var e libvirt.Error
	if !errors.As(err, &e) {
		return err
	}
	text := message(e)
	lost := pool.ErrOutcomeUnknown
	if reads {
		lost = pool.ErrUnavailable
	}
	switch {
	case lockedRE.MatchString(e.Message), e.Code == libvirt.ERR_RESOURCE_BUSY && !reads:
		return fmt.Errorf("%s: %w", lockText(e.Message, text), local.ErrDiskLocked)
	case e.Code == libvirt.ERR_NO_DOMAIN:
		return fmt.Errorf("%s: %w", text, local.ErrNoDomain)
	case e.Code == libvirt.ERR_DOM_EXIST, strings.Contains(e.Message, "already exists with uuid"),
		strings.Contains(e.Message, "is already defined with uuid"), strings.Contains(e.Message, "is already active"):
		return fmt.Errorf("%s: %w", text, pool.ErrExists)
	case broken(e):
		return fmt.Errorf("%s: %w", text, lost)
	case e.Code == libvirt.ERR_OPERATION_TIMEOUT:
		// The job was never begun: another one holds the domain.
		return fmt.Errorf("%s: %w", text, pool.ErrUnavailable)
	case e.Code == libvirt.ERR_XML_ERROR, e.Code == libvirt.ERR_XML_DETAIL, e.Code == libvirt.ERR_CONFIG_UNSUPPORTED,
		e.Code == libvirt.ERR_XML_INVALID_SCHEMA:
		return fmt.Errorf("%s: %w", text, pool.ErrInvalid)
	}
	return errors.New(text)
}

// broken reports whether the connection failed, rather than the call.
func broken(e libvirt.Error) bool {
	switch {
	case e.Domain == libvirt.FROM_RPC, e.Domain == libvirt.FROM_REMOTE, e.Code == libvirt.ERR_RPC, e.Code == libvirt.ERR_NO_CONNECT:
		return true
	case e.Code == libvirt.ERR_AUTH_FAILED, e.Code == libvirt.ERR_AUTH_UNAVAILABLE, e.Code == libvirt.ERR_AUTH_CANCELLED:
		return true
	}
	return strings.Contains(e.Message, "client socket is closed") || strings.Contains(e.Message, "End of file while reading data")
}

// message is libvirt's text on one line, without control characters: QEMU's own output may be part of it.
func message(e libvirt.Error) string {
	text := strings.Map(func(r rune) rune {
		if r < 0x20 || (r >= 0x7f && r < 0xa0) {
			return ' '
		}
		return r
	}, e.Message)
	text = strings.Join(strings.Fields(text), " ")
	const most = 600
	if len(text) > most {
		text = strings.ToValidUTF8(text[:most], "") + "..."
	}
	return text
}

// isCode reports whether err is libvirt's error of that code.
func isCode(err error, code libvirt.ErrorNumber) bool {
	var e libvirt.Error
	return errors.As(err, &e) && e.Code == code
}
