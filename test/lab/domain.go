package lab

import (
	"context"
	"crypto/sha256"
	"encoding/xml"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"text/template"

	"github.com/holdfast-ha/holdfast/test/lab/guest/record"
)

// VM describes a small guest. The zero value of each field but Name has a default.
type VM struct {
	Name string
	// UUID follows from the name if empty.
	UUID string
	// MemoryMiB is 80 by default, of which the kernel takes half, plus the set of
	// a guest that dirties memory and what it fills.
	MemoryMiB int
	// Disk is the image; by default NAME.img on shared storage. It is made if
	// it does not exist and is not a device.
	Disk string
	// DirtyMiB is how much memory the guest dirties a second, in a working set of
	// DirtySetMiB (16 by default).
	DirtyMiB, DirtySetMiB int
	// FillMiB is how much memory the guest fills with noise before it begins to count: what a migration has to copy.
	FillMiB int
	// KernelArgs are appended to the guest's kernel command line.
	KernelArgs string
	// Extra is XML put among the devices.
	Extra string
}

// diskSize is small: only the first two blocks are ever used.
const diskSize = 1 << 20

// domainXML is what a user would register: nothing in it knows of the lab. The
// guest panics on an NMI (virsh inject-nmi), which reports a crash to libvirt.
var domainXML = template.Must(template.New("domain").Funcs(template.FuncMap{"x": escape}).Parse(
	`<domain type='qemu'>
  <name>{{x .Name}}</name>
  <uuid>{{.UUID}}</uuid>
  <memory unit='MiB'>{{.MemoryMiB}}</memory>
  <vcpu>1</vcpu>
  <os>
    <type arch='x86_64' machine='q35'>hvm</type>
    <kernel>{{x .Kernel}}</kernel>
    <initrd>{{x .Initrd}}</initrd>
    <cmdline>{{x .CommandLine}}</cmdline>
  </os>
  <features><acpi/><apic/></features>
  <on_poweroff>destroy</on_poweroff>
  <on_reboot>restart</on_reboot>
  <on_crash>destroy</on_crash>
  <devices>
    <disk type='file' device='disk'>
      <driver name='qemu' type='raw' cache='none'/>
      <source file='{{x .Disk}}'/>
      <target dev='vda' bus='virtio'/>
    </disk>
    <controller type='usb' model='none'/>
    <serial type='pty'/>
    <memballoon model='none'/>
    <panic model='isa'/>{{with .Extra}}
    {{.}}{{end}}
  </devices>
</domain>
`))

// DomainXML renders the VM as libvirt domain XML. Kernel and initramfs are made
// on first use.
func (l *Lab) DomainXML(ctx context.Context, vm VM) (string, error) {
	boot, err := l.GuestBoot(ctx)
	if err != nil {
		return "", err
	}
	return renderDomain(l.complete(vm), boot)
}

func renderDomain(vm VM, boot GuestBoot) (string, error) {
	var b strings.Builder
	err := domainXML.Execute(&b, struct {
		VM
		GuestBoot
		CommandLine string
	}{vm, boot, vm.commandLine()})
	return b.String(), err
}

func (l *Lab) complete(vm VM) VM {
	if vm.UUID == "" {
		vm.UUID = uuidOf(vm.Name)
	}
	if vm.Disk == "" {
		vm.Disk = l.Disk(vm.Name)
	}
	if vm.DirtySetMiB == 0 {
		vm.DirtySetMiB = 16
	}
	if vm.MemoryMiB == 0 {
		vm.MemoryMiB = 80
		if vm.DirtyMiB > 0 {
			vm.MemoryMiB += vm.DirtySetMiB
		}
		vm.MemoryMiB += vm.FillMiB + vm.FillMiB/8 // the kernel needs some of it
	}
	return vm
}

func (vm VM) commandLine() string {
	line := "console=ttyS0 quiet panic=-1 unknown_nmi_panic=1 tsc=reliable lpj=4000000"
	if vm.DirtyMiB > 0 {
		line += fmt.Sprintf(" hf.dirty=%d hf.dirtyset=%d", vm.DirtyMiB, vm.DirtySetMiB)
	}
	if vm.FillMiB > 0 {
		line += fmt.Sprintf(" hf.fill=%d", vm.FillMiB)
	}
	return strings.TrimSpace(line + " " + vm.KernelArgs)
}

// Disk is where the image of a VM lies unless its VM says otherwise.
func (l *Lab) Disk(vm string) string { return filepath.Join(l.SharedDir(), vm+".img") }

// CreateDisk makes an empty image that belongs to QEMU's user. An image that is
// there already is left alone.
func (l *Lab) CreateDisk(path string) error {
	uid, gid, err := qemuUser()
	if err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o660)
	if os.IsExist(err) {
		return nil
	}
	if err != nil {
		return err
	}
	if _, err := f.Write(make([]byte, diskSize)); err != nil {
		_ = f.Close()
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	return os.Chown(path, uid, gid)
}

// Create makes the VM's disk and returns its XML, ready to be registered or
// defined on any server.
func (l *Lab) Create(ctx context.Context, vm VM) (string, error) {
	vm = l.complete(vm)
	if err := l.CreateDisk(vm.Disk); err != nil {
		return "", fmt.Errorf("disk of %s: %w", vm.Name, err)
	}
	return l.DomainXML(ctx, vm)
}

// StartTransient creates the VM's domain on the server through libvirt and
// starts it, leaving no definition behind; with "--paused" its CPUs wait.
func (s *Server) StartTransient(ctx context.Context, domain string, flags ...string) error {
	return s.withXML(ctx, domain, append([]string{"create"}, flags...))
}

// Define gives the server's libvirt a persistent definition.
func (s *Server) Define(ctx context.Context, domain string) error {
	return s.withXML(ctx, domain, []string{"define"})
}

func (s *Server) withXML(ctx context.Context, domain string, args []string) error {
	f, err := os.CreateTemp("", "lab-*.xml")
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(f.Name()) }()
	if _, err := f.WriteString(domain); err != nil {
		_ = f.Close()
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	_, err = s.Virsh(ctx, append(append([]string{args[0]}, f.Name()), args[1:]...)...)
	return err
}

// uuidOf makes a UUID of a name, the same each time (RFC 9562, version 8).
func uuidOf(name string) string {
	h := sha256.Sum256([]byte("holdfast lab " + name))
	h[6], h[8] = h[6]&0x0f|0x80, h[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", h[0:4], h[4:6], h[6:8], h[8:10], h[10:16])
}

// UUID is the default UUID of a VM of that name.
func UUID(name string) string { return uuidOf(name) }

func escape(s string) (string, error) {
	var b strings.Builder
	err := xml.EscapeText(&b, []byte(s))
	return b.String(), err
}

// ReadRecord reads what the guest wrote last, past the page cache.
func ReadRecord(disk string) (record.Record, error) {
	block, err := readBlock(disk, record.RecordOffset)
	if err != nil {
		return record.Record{}, err
	}
	r, err := record.Decode(block)
	if err != nil {
		return r, fmt.Errorf("%s: %w", disk, err)
	}
	return r, nil
}

// ReadBoots reads the history of boots, oldest first.
func ReadBoots(disk string) ([]record.Boot, error) {
	block, err := readBlock(disk, record.BootsOffset)
	if err != nil {
		return nil, err
	}
	boots, err := record.DecodeBoots(block)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", disk, err)
	}
	return boots, nil
}
