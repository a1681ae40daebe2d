package definition

import (
	"fmt"
	"strings"
)

// unlocked says why the image locks of QEMU would not stop a second writer.
func unlocked(root *node, d *Definition) []string {
	var why []string
	for _, disk := range d.Disks {
		if !disk.Writable() {
			continue
		}
		switch disk.Kind {
		case DiskFile:
			if strings.HasPrefix(disk.Path, "/dev/") {
				why = append(why, fmt.Sprintf("disk %s is the device %s: block devices have no lock across servers", disk.Target, disk.Path))
			}
		case DiskBlock:
			why = append(why, fmt.Sprintf("disk %s is the block device %s, which has no lock across servers", disk.Target, disk.Path))
		default:
			why = append(why, fmt.Sprintf("disk %s (%s) has no lock that Holdfast can rely on", disk.Target, disk.Path))
		}
	}
	for _, fs := range root.all("devices/filesystem") {
		if fs.at("readonly") == nil && fs.get("type") != "ram" {
			why = append(why, fmt.Sprintf("the shared folder %s has no lock", filesystemSource(fs)))
		}
	}
	for _, h := range root.all("devices/hostdev") {
		if t := h.get("type"); t == "scsi" || t == "scsi_host" {
			why = append(why, fmt.Sprintf("%s is passed through and has no lock", hostDevice(h)))
		}
	}
	return why
}

func filesystemSource(fs *node) string {
	for _, a := range []string{"dir", "file", "dev", "name", "socket"} {
		if v := fs.at("source").get(a); v != "" {
			return v
		}
	}
	return fs.at("target").get("dir")
}

// fixed says why a VM cannot migrate live.
func fixed(root *node, d *Definition) []string {
	var why []string
	for _, h := range root.all("devices/hostdev") {
		why = append(why, "it uses the host device "+hostDevice(h))
	}
	for _, i := range root.all("devices/interface") {
		if i.get("type") == "hostdev" || i.get("type") == "vdpa" {
			why = append(why, "its network interface is a host device")
		}
	}
	if d.CPUMode == "host-passthrough" || d.CPUMode == "maximum" {
		why = append(why, "its CPU mode is "+d.CPUMode+", which no two servers can be relied on to share")
	}
	for _, fs := range root.all("devices/filesystem") {
		why = append(why, "it shares the folder "+filesystemSource(fs)+" with its server")
	}
	for _, disk := range d.Disks {
		if disk.Kind == DiskNVMe || disk.Kind == DiskDir {
			why = append(why, fmt.Sprintf("disk %s (%s) belongs to one server", disk.Target, disk.Path))
		}
	}
	for _, n := range root.all("devices/disk") {
		if n.at("transient") != nil {
			why = append(why, "disk "+n.at("target").get("dev")+" is <transient/>")
		}
	}
	if root.at("launchSecurity") != nil {
		why = append(why, "its memory is encrypted by its server's CPU")
	}
	for _, t := range root.all("devices/tpm/backend") {
		if t.get("type") == "passthrough" {
			why = append(why, "it uses its server's TPM")
		}
	}
	for _, c := range append(root.all("devices/serial"), root.all("devices/parallel")...) {
		if c.get("type") == "dev" {
			why = append(why, "it uses the host device "+c.at("source").get("path"))
		}
	}
	return why
}

// notes tells the operator what behaves otherwise than the definition suggests.
func notes(root *node, d *Definition) []string {
	var say []string
	for event, want := range lifecycle {
		if got := root.word(event); got != "" && got != want {
			say = append(say, fmt.Sprintf("<%s> is %s while the pool runs it, not %s", event, want, got))
		}
	}
	if n := root.at("os/nvram"); n != nil || root.at("os").get("firmware") == "efi" {
		p := nvramPath(root, d)
		say = append(say, fmt.Sprintf("its UEFI variables are in %s: this must be on shared storage, and exist before HA can use another server", p))
	}
	if tpmEmulated(root) {
		say = append(say, fmt.Sprintf("its TPM state is in %s: this must be on shared storage", tpmPath(root, d)))
	}
	for _, n := range root.all("devices/disk") {
		if n.at("transient") != nil {
			say = append(say, "what is written to disk "+n.at("target").get("dev")+" is lost at every stop, also at a failover")
		}
	}
	if root.at("memoryBacking/hugepages") != nil {
		say = append(say, "it needs free huge pages on each server")
	}
	if root.at("cputune/vcpupin") != nil || root.at("vcpu").get("cpuset") != "" || root.at("numatune") != nil {
		say = append(say, "it is pinned to CPUs or memory by number, which may mean others on another server")
	}
	sortStrings(say)
	return say
}
