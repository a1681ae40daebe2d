package main

import (
	"context"
	"os"
	"runtime"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/holdfast-ha/holdfast/agent/drill"
	"github.com/holdfast-ha/holdfast/agent/guard"
	"github.com/holdfast-ha/holdfast/agent/virt"
	"github.com/holdfast-ha/holdfast/pkg/pool"
)

// drillPlace is this server as drills use it.
type drillPlace struct {
	files drill.Files
	virt  *virt.Adapter
}

var _ drill.Place = drillPlace{}

// Make implements drill.Place.
func (p drillPlace) Make(_ context.Context, dir string, vm pool.VMID) (disk, xml string, err error) {
	return p.files.Make(dir, vm)
}

// Remove implements drill.Place.
func (p drillPlace) Remove(_ context.Context, disk string) (bool, error) { return p.files.Remove(disk) }

// Crash implements drill.Place.
func (p drillPlace) Crash(ctx context.Context, _ pool.VMID, process guard.Process) error {
	return p.virt.Crash(ctx, process)
}

// answerFirst is how long an agent that a drill kills lives on, so that its answer gets away.
const answerFirst = 100 * time.Millisecond

// EndAgent implements drill.Place.
func (drillPlace) EndAgent() {
	time.AfterFunc(answerFirst, func() { _ = syscall.Kill(os.Getpid(), syscall.SIGKILL) }) // it cannot fail, and nobody is left to tell
}

// kvmVersion is the only version of KVM's interface that there ever was, and getKVMVersion how to ask for it
// (linux/kvm.h).
const (
	kvmVersion    = 12
	getKVMVersion = 0xae00
)

// hasKVM reports whether a device is KVM's; a file of that name alone is not.
func hasKVM(device string) bool {
	f, err := os.OpenFile(device, os.O_RDWR, 0)
	if err != nil {
		return false
	}
	defer func() { _ = f.Close() }() // nothing was written
	version, err := unix.IoctlRetInt(int(f.Fd()), getKVMVersion)
	return err == nil && version == kvmVersion
}

// thisMachine is what a canary is made for: this server's own kind, with KVM if it is there.
func thisMachine() drill.Machine {
	m := drill.Machine{Type: "qemu"}
	if hasKVM("/dev/kvm") {
		m.Type = "kvm"
	}
	switch runtime.GOARCH {
	case "amd64":
		m.Arch, m.Machine = "x86_64", "q35"
	case "arm64":
		m.Arch, m.Machine = "aarch64", "virt"
	}
	return m
}
