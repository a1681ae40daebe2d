//go:build libvirt_dlopen

package virt

import (
	"errors"
	"strings"
	"testing"

	"libvirt.org/go/libvirt"

	"github.com/holdfast-ha/holdfast/agent/local"
)

func TestRefusalByADiskLockReadsTheSameAtEachTry(t *testing.T) {
	refusal := func(at string) error {
		return failure(libvirt.Error{Code: libvirt.ERR_INTERNAL_ERROR, Message: "internal error: process exited while connecting to monitor: " + at +
			` qemu-system-x86_64: -device {"driver":"virtio-blk-pci"}: Failed to get "write" lock` + "\nIs another process using the image [/srv/vm.img]?"}, false)
	}
	first, second := refusal("2026-11-22T14:08:46.501863Z"), refusal("2026-11-22T14:08:47.611201Z")
	if !errors.Is(first, local.ErrDiskLocked) || !strings.Contains(first.Error(), "/srv/vm.img") {
		t.Errorf("refusal = %v, want a disk lock that names the image", first)
	}
	if first.Error() != second.Error() {
		t.Errorf("two tries give two texts:\n%v\n%v", first, second)
	}
}
