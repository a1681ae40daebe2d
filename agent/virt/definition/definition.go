package definition

import (
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"

	"github.com/holdfast-ha/holdfast/pkg/pool"
)

// DiskKind says where a disk's content is.
type DiskKind string

// Kinds of disks, by the type attribute of <disk>.
const (
	DiskFile    DiskKind = "file"
	DiskBlock   DiskKind = "block"
	DiskNetwork DiskKind = "network"
	DiskDir     DiskKind = "dir"
	DiskNVMe    DiskKind = "nvme"
	DiskOther   DiskKind = "other"
)

// Disk is one disk, CD-ROM or floppy of a definition.
type Disk struct {
	// Target is the guest's name for it, such as "vda".
	Target string
	// Device is "disk", "lun", "cdrom" or "floppy".
	Device string
	Kind   DiskKind
	// Path is the file, block device or directory; for network disks protocol and name. Empty: no medium.
	Path   string
	Format string
	// Backing lists the backing images that the definition names, nearest first. Those that only the images
	// themselves name are not here.
	Backing []string
	// ReadOnly: the guest cannot write to it.
	ReadOnly bool
	// Shareable: QEMU's lock on it is switched off.
	Shareable bool
	// Optional: a start without the medium is allowed.
	Optional bool
}

// Writable reports whether a second writer could damage the disk.
func (d Disk) Writable() bool { return !d.ReadOnly && d.Path != "" }

// Definition is what Holdfast knows of a domain from its XML. It is a value; nobody changes it after Read.
type Definition struct {
	// Name and UUID; the UUID is in lower case, and empty if the XML has none.
	Name, UUID string
	// MemoryBytes is the guest's memory including what is plugged in.
	MemoryBytes int64
	CPUs        int
	// Type is "kvm" or "qemu" (no hardware acceleration).
	Type string
	// Arch and Machine as given; empty means libvirt's default.
	Arch, Machine string
	Emulator      string
	// CPUMode is custom, host-model, host-passthrough, maximum, or empty.
	CPUMode string
	Disks   []Disk
	Needs   []pool.Need
	// DiskLocks: every writable disk is a file, whose lock stops a second writer if its file system keeps locks.
	// Unlocked says why not.
	DiskLocks bool
	Unlocked  []string
	// Movable: it can migrate live. Fixed says why not.
	Movable bool
	Fixed   []string
	// Notes are for the operator: what behaves otherwise than the definition suggests.
	Notes []string
}

// Apply copies what is known of the domain into a registration. xml is the text that Read was given.
func (d *Definition) Apply(vm *pool.VM, xml string) {
	vm.UUID, vm.XML = d.UUID, xml
	vm.MemoryBytes, vm.CPUs = d.MemoryBytes, d.CPUs
	vm.Movable, vm.DiskLocks = d.Movable, d.DiskLocks
	vm.Needs = append([]pool.Need(nil), d.Needs...)
}

// Read parses domain XML and refuses what must not run in a pool. The error is pool.ErrInvalid for text that is no
// such definition, and a *pool.Refusal (pool.ErrRefused) with a remedy for one that is not safe.
func Read(text string) (*Definition, error) {
	root, err := parseDomain(text)
	if err != nil {
		return nil, err
	}
	return read(root)
}

// singles are elements of which libvirt reads the first only; a second one is a mistake, or a trick.
var singles = []string{"name", "uuid", "metadata", "memory", "currentMemory", "vcpu", "os", "cpu", "devices",
	"on_poweroff", "on_reboot", "on_crash"}

func parseDomain(text string) (*node, error) {
	root, err := parseTree(text)
	if err != nil {
		return nil, err
	}
	if root.name != "domain" {
		return nil, invalid("the outermost element is <%s>, want <domain>", root.name)
	}
	for _, s := range singles {
		if len(root.all(s)) > 1 {
			return nil, invalid("<%s> occurs twice", s)
		}
	}
	return root, nil
}

var uuidRE = regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$`)

func read(root *node) (*Definition, error) {
	d := &Definition{Type: root.get("type"), Emulator: root.word("devices/emulator")}
	// libvirt does not trim the name, so neither do we: a space in it is refused, not hidden.
	if n := root.at("name"); n != nil {
		d.Name = n.text
	}
	if err := pool.CheckName("vm", d.Name); err != nil {
		return nil, err
	}
	if d.Type != "kvm" && d.Type != "qemu" {
		return nil, invalid("domain type %q: only kvm and qemu can run here", d.Type)
	}
	d.UUID = strings.ToLower(root.word("uuid"))
	if d.UUID != "" && !uuidRE.MatchString(d.UUID) {
		return nil, invalid("%q is no UUID", d.UUID)
	}
	d.Arch, d.Machine = root.at("os/type").get("arch"), root.at("os/type").get("machine")
	d.CPUMode = root.at("cpu").get("mode")
	var err error
	if d.MemoryBytes, err = memory(root); err != nil {
		return nil, err
	}
	if d.CPUs, err = cpus(root); err != nil {
		return nil, err
	}
	for _, n := range root.all("devices/disk") {
		d.Disks = append(d.Disks, readDisk(n))
	}
	if err := refuse(root, d); err != nil {
		return nil, err
	}
	d.Needs = needs(root, d)
	d.Unlocked = unlocked(root, d)
	d.DiskLocks = len(d.Unlocked) == 0
	d.Fixed = fixed(root, d)
	d.Movable = len(d.Fixed) == 0
	d.Notes = notes(root, d)
	return d, nil
}

func readDisk(n *node) Disk {
	d := Disk{Target: n.at("target").get("dev"), Device: n.get("device")}
	if d.Device == "" {
		d.Device = "disk"
	}
	d.Format = n.at("driver").get("type")
	d.ReadOnly = n.at("readonly") != nil || d.Device == "cdrom"
	d.Shareable = n.at("shareable") != nil
	src := n.at("source")
	d.Kind, d.Path = source(n.get("type"), src)
	d.Optional = d.Device != "disk" && d.Device != "lun" && src.get("startupPolicy") == "optional"
	for b := n.at("backingStore"); b != nil; b = b.at("backingStore") {
		if _, path := source(b.get("type"), b.at("source")); path != "" {
			d.Backing = append(d.Backing, path)
		}
	}
	return d
}

// source tells where a <source> of the given type points. libvirt's default type is file.
func source(kind string, src *node) (DiskKind, string) {
	switch kind {
	case "file", "":
		return DiskFile, src.get("file")
	case "block":
		return DiskBlock, src.get("dev")
	case "dir":
		return DiskDir, src.get("dir")
	case "network":
		if src == nil {
			return DiskNetwork, ""
		}
		return DiskNetwork, src.get("protocol") + ":" + src.get("name")
	case "nvme":
		return DiskNVMe, pciAddress(src.at("address"))
	case "volume":
		if src == nil {
			return DiskOther, ""
		}
		return DiskOther, src.get("pool") + "/" + src.get("volume")
	}
	return DiskOther, kind
}

func memory(root *node) (int64, error) {
	n := root.at("memory")
	if n == nil {
		return 0, invalid("there is no <memory>")
	}
	bytes, err := size(strings.TrimSpace(n.text), n.get("unit"))
	if err != nil {
		return 0, fmt.Errorf("memory: %w", err)
	}
	return bytes, nil
}

// units as libvirt reads them (virScaleInteger): KB is 1000, K and KiB are 1024.
var units = map[string]float64{
	"b": 1, "bytes": 1, "byte": 1, "": 1 << 10, "k": 1 << 10, "kib": 1 << 10, "kb": 1e3,
	"m": 1 << 20, "mib": 1 << 20, "mb": 1e6, "g": 1 << 30, "gib": 1 << 30, "gb": 1e9,
	"t": 1 << 40, "tib": 1 << 40, "tb": 1e12, "p": 1 << 50, "pib": 1 << 50, "pb": 1e15,
}

func size(number, unit string) (int64, error) {
	v, err := strconv.ParseUint(number, 10, 63)
	if err != nil || v == 0 {
		return 0, invalid("%.40q is no size", number)
	}
	f, ok := units[strings.ToLower(unit)]
	if !ok {
		return 0, invalid("unit %.20q is unknown", unit)
	}
	if float64(v) > math.MaxInt64/2/f {
		return 0, invalid("%s %s is more than any server has", number, unit)
	}
	return int64(v) * int64(f), nil
}

func cpus(root *node) (int, error) {
	n := root.at("vcpu")
	if n == nil {
		return 1, nil // libvirt's default
	}
	v, err := strconv.ParseUint(strings.TrimSpace(n.text), 10, 15)
	if err != nil || v == 0 {
		return 0, invalid("%.40q is no number of CPUs", strings.TrimSpace(n.text))
	}
	return int(v), nil
}
