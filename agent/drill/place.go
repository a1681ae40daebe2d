package drill

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"text/template"

	"github.com/holdfast-ha/holdfast/agent/guard"
	"github.com/holdfast-ha/holdfast/pkg/pool"
)

// Place is what a drill needs of a server. Safe for concurrent use.
type Place interface {
	// Make makes a canary's disk in dir, a folder of the shared storage ("": the first of the server's settings), and
	// returns its path and the VM's definition.
	Make(ctx context.Context, dir string, vm pool.VMID) (disk, xml string, err error)
	// Remove deletes a canary's disk. One that is not there: deleted is false, without an error.
	Remove(ctx context.Context, disk string) (deleted bool, err error)
	// Crash ends a VM's process by SIGKILL as if it had crashed.
	Crash(ctx context.Context, vm pool.VMID, p guard.Process) error
	// EndAgent kills this server's agent hard, a moment after it has returned.
	EndAgent()
}

// diskSize is more than an empty disk needs.
const diskSize = 1 << 20

// diskMode lets QEMU open it as whichever user it runs, on whichever server: there is nothing in it.
const diskMode = 0o666

// memoryMiB is what a canary has: enough for firmware that finds nothing to boot.
const memoryMiB = 32

// definitionText is the smallest machine that executes: its firmware looks for something to boot, finds nothing and
// waits.
var definitionText = template.Must(template.New("canary").Parse(`<domain type='{{.Type}}'>
  <name>{{.VM}}</name>
  <memory unit='MiB'>{{.MemoryMiB}}</memory>
  <vcpu>1</vcpu>
  <os>
    <type{{with .Arch}} arch='{{.}}'{{end}}{{with .MachineType}} machine='{{.}}'{{end}}>hvm</type>
  </os>
  <on_poweroff>destroy</on_poweroff>
  <on_reboot>restart</on_reboot>
  <on_crash>destroy</on_crash>
  <devices>
    <disk type='file' device='disk'>
      <driver name='qemu' type='raw' cache='none'/>
      <source file='{{.Disk}}'/>
      <target dev='vda' bus='virtio'/>
    </disk>
    <controller type='usb' model='none'/>
    <memballoon model='none'/>
  </devices>
</domain>
`))

// Machine is what a canary's definition says of the server; its zero value leaves it to libvirt.
type Machine struct {
	// Type is kvm or qemu. Arch and Machine may be empty.
	Type, Arch, Machine string
}

// Definition returns a canary's definition.
func Definition(vm pool.VMID, disk string, m Machine) (string, error) {
	if strings.ContainsAny(disk, "<>&'\"\n") {
		return "", fmt.Errorf("folder %s: its name has a character that XML does not take: %w", filepath.Dir(disk), pool.ErrInvalid)
	}
	var b strings.Builder
	err := definitionText.Execute(&b, struct {
		Type, Arch, MachineType string
		VM                      pool.VMID
		Disk                    string
		MemoryMiB               int
	}{m.Type, m.Arch, m.Machine, vm, disk, memoryMiB})
	return b.String(), err
}

// Files makes canaries' disks in folders.
type Files struct {
	// Folders are the server's storage, by its settings.
	Folders []string
	Machine Machine
}

// Make makes a disk and returns it with the definition.
func (f Files) Make(dir string, vm pool.VMID) (disk, xml string, err error) {
	if dir == "" && len(f.Folders) > 0 {
		dir = f.Folders[0]
	}
	if !filepath.IsAbs(dir) {
		return "", "", pool.Refuse("NO_STORAGE", "name one that every server sees: --storage DIR", "no folder of the shared storage is known here")
	}
	disk = filepath.Join(dir, pool.CanaryFile(vm))
	if xml, err = Definition(vm, disk, f.Machine); err != nil {
		return "", "", err
	}
	file, err := os.OpenFile(disk, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return "", "", fmt.Errorf("make the canary's disk: %w: %w", err, pool.ErrUnavailable)
	}
	if err = errors.Join(file.Truncate(diskSize), file.Chmod(diskMode), file.Close()); err != nil {
		return "", "", fmt.Errorf("make the canary's disk: %w", errors.Join(err, os.Remove(disk)))
	}
	return disk, xml, nil
}

// Remove deletes a disk that Make made.
func (f Files) Remove(disk string) (deleted bool, err error) {
	name := filepath.Base(disk)
	if !strings.HasPrefix(name, "holdfast-canary-") || !strings.HasSuffix(name, ".raw") {
		return false, fmt.Errorf("%s was made by no drill: %w", disk, pool.ErrRefused)
	}
	switch err := os.Remove(disk); {
	case err == nil:
		return true, nil
	case errors.Is(err, os.ErrNotExist):
		return false, nil
	default:
		return false, fmt.Errorf("delete the canary's disk: %w: %w", err, pool.ErrUnavailable)
	}
}
