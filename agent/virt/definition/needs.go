package definition

import (
	"fmt"
	"slices"
	"strings"

	"github.com/holdfast-ha/holdfast/pkg/pool"
)

// Where libvirt keeps what a definition leaves open.
const (
	defaultNVRAM = "/var/lib/libvirt/qemu/nvram"
	defaultTPM   = "/var/lib/libvirt/swtpm"
)

// needs lists all that a definition names or implies, sorted and without doubles. Backing images that only other
// images name are not among them: package virt reads those from the running domain.
func needs(root *node, d *Definition) []pool.Need {
	var all []pool.Need
	add := func(kind pool.NeedKind, name string) {
		if n := (pool.Need{Kind: kind, Name: name}); name != "" && !slices.Contains(all, n) {
			all = append(all, n)
		}
	}
	for _, f := range files(root, d) {
		add(pool.NeedFile, f)
	}
	for _, i := range root.all("devices/interface") {
		src := i.at("source")
		switch i.get("type") {
		case "bridge":
			add(pool.NeedBridge, src.get("bridge"))
		case "direct":
			add(pool.NeedBridge, src.get("dev"))
		case "network":
			add(pool.NeedNetwork, src.get("network"))
		case "vhostuser":
			if src.get("mode") == "client" {
				add(pool.NeedFile, src.get("path"))
			}
		case "hostdev":
			add(pool.NeedHostDevice, "pci "+pciAddress(src.at("address")))
		case "vdpa":
			add(pool.NeedHostDevice, "vdpa "+src.get("dev"))
		}
	}
	for _, h := range root.all("devices/hostdev") {
		add(pool.NeedHostDevice, hostDevice(h))
	}
	for _, disk := range d.Disks {
		if disk.Kind == DiskNVMe {
			add(pool.NeedHostDevice, "pci "+disk.Path)
		}
	}
	for _, c := range append(root.all("devices/serial"), root.all("devices/parallel")...) {
		if c.get("type") == "dev" {
			add(pool.NeedHostDevice, "dev "+c.at("source").get("path"))
		}
	}
	for _, t := range root.all("devices/tpm/backend") {
		if t.get("type") == "passthrough" {
			add(pool.NeedHostDevice, "dev "+t.at("device").get("path"))
		}
	}
	for _, s := range secrets(root) {
		add(pool.NeedSecret, s)
	}
	add(pool.NeedMachine, Machine{Name: d.Machine, Arch: d.Arch, Type: d.Type}.String())
	add(pool.NeedCPU, cpuNeed(root.at("cpu")))
	slices.SortStableFunc(all, func(a, b pool.Need) int {
		if a.Kind != b.Kind {
			return int(a.Kind) - int(b.Kind)
		}
		return strings.Compare(a.Name, b.Name)
	})
	return all
}

// files are the paths that must exist on a server before the VM can start there.
func files(root *node, d *Definition) []string {
	all := []string{d.Emulator, root.word("os/kernel"), root.word("os/initrd"), root.word("os/dtb"), root.word("os/loader")}
	for _, disk := range d.Disks {
		if !disk.Optional && (disk.Kind == DiskFile || disk.Kind == DiskBlock || disk.Kind == DiskDir) {
			all = append(all, disk.Path)
			for _, b := range disk.Backing {
				if strings.HasPrefix(b, "/") {
					all = append(all, b)
				}
			}
		}
	}
	if p := nvramPath(root, d); p != "" {
		all = append(all, p)
	}
	if tpmEmulated(root) {
		all = append(all, tpmPath(root, d))
	}
	for _, fs := range root.all("devices/filesystem") {
		if p := filesystemSource(fs); strings.HasPrefix(p, "/") {
			all = append(all, p)
		}
	}
	for _, t := range root.all("os/acpi/table") {
		all = append(all, strings.TrimSpace(t.text))
	}
	for _, r := range append(root.all("devices/interface/rom"), root.all("devices/hostdev/rom")...) {
		all = append(all, r.get("file"))
	}
	for _, m := range root.all("devices/memory/source/path") {
		all = append(all, strings.TrimSpace(m.text))
	}
	return all
}

// nvramPath is where the UEFI variables are, "" for a VM without them.
func nvramPath(root *node, d *Definition) string {
	n := root.at("os/nvram")
	if n == nil && root.at("os").get("firmware") != "efi" {
		return ""
	}
	if p := n.at("source").get("file"); p != "" {
		return p
	}
	if p := n.at("source").get("dev"); p != "" {
		return p
	}
	if n != nil && len(n.kids) == 0 && strings.TrimSpace(n.text) != "" {
		return strings.TrimSpace(n.text)
	}
	if n.get("type") == "network" {
		return ""
	}
	return defaultNVRAM + "/" + d.Name + "_VARS.fd"
}

func tpmEmulated(root *node) bool {
	for _, b := range root.all("devices/tpm/backend") {
		if b.get("type") == "emulator" {
			return true
		}
	}
	return false
}

// tpmPath is where the state of an emulated TPM is. libvirt names it by UUID unless <source> (since 10.10) says
// otherwise.
func tpmPath(root *node, d *Definition) string {
	for _, s := range root.all("devices/tpm/backend/source") {
		if p := s.get("path"); p != "" {
			return p
		}
	}
	return defaultTPM + "/" + d.UUID
}

func secrets(root *node) []string {
	var all []string
	root.each(func(n *node) {
		if n.name != "secret" || n.get("type") == "" {
			return
		}
		switch {
		case n.get("uuid") != "":
			all = append(all, strings.ToLower(n.get("uuid")))
		case n.get("usage") != "":
			all = append(all, n.get("type")+" "+n.get("usage"))
		}
	})
	return all
}

// hostDevice names a <hostdev>: "pci 0000:03:00.0", "usb 046d:c52b", "mdev UUID", "scsi scsi_host0/0:0:0".
func hostDevice(h *node) string {
	src := h.at("source")
	switch kind := h.get("type"); kind {
	case "pci":
		return "pci " + pciAddress(src.at("address"))
	case "usb":
		if v := src.at("vendor"); v != nil {
			return "usb " + hex(v.get("id"), 4) + ":" + hex(src.at("product").get("id"), 4)
		}
		a := src.at("address")
		return "usb bus " + a.get("bus") + " device " + a.get("device")
	case "mdev":
		return "mdev " + src.at("address").get("uuid")
	case "scsi":
		if p := src.get("protocol"); p != "" {
			return "scsi " + p + " " + src.get("name")
		}
		a := src.at("address")
		return "scsi " + src.at("adapter").get("name") + "/" + a.get("bus") + ":" + a.get("target") + ":" + a.get("unit")
	case "scsi_host":
		return "scsi_host " + src.get("wwpn")
	default:
		for _, path := range []string{"block", "char", "interface"} {
			if v := src.word(path); v != "" {
				return kind + " " + v
			}
		}
		return "of type " + kind
	}
}

func pciAddress(a *node) string {
	return fmt.Sprintf("%s:%s:%s.%s", hex(a.get("domain"), 4), hex(a.get("bus"), 2), hex(a.get("slot"), 2), hex(a.get("function"), 1))
}

// hex writes a number such as 0x3 with the given number of digits and no prefix.
func hex(s string, digits int) string {
	s = strings.ToLower(strings.TrimPrefix(strings.ToLower(s), "0x"))
	for len(s) < digits {
		s = "0" + s
	}
	return s
}

func sortStrings(s []string) { slices.Sort(s) }
