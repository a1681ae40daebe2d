package definition

import (
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/holdfast-ha/holdfast/pkg/pool"
)

// Codes of refusals, stable for programs.
const (
	// CodeSharedDisk: the lock on a writable disk is switched off.
	CodeSharedDisk = "SHARED_DISK"
	// CodeRawArguments: arguments passed to QEMU behind libvirt's back.
	CodeRawArguments = "QEMU_ARGUMENTS"
	// CodeStorageVolume: a disk named by storage pool and volume.
	CodeStorageVolume = "STORAGE_VOLUME"
	// CodeBlockJob: a copy, commit or pull is running.
	CodeBlockJob = "BLOCK_JOB"
	// CodeRelativePath: a path that depends on where a process was started.
	CodeRelativePath = "RELATIVE_PATH"
)

// refuse returns why a definition must not run in a pool, nil if it may. What it looks for would let a second
// QEMU write the same disk, or let a guest run when nobody said so. Source: docs/safety.md, "Disk locks".
func refuse(root *node, d *Definition) error {
	for i, disk := range d.Disks {
		n := root.all("devices/disk")[i]
		if err := refuseDisk(n, disk); err != nil {
			return err
		}
	}
	return refuseArguments(root)
}

func refuseDisk(n *node, d Disk) error {
	switch {
	case d.Shareable && !d.ReadOnly:
		return pool.Refuse(CodeSharedDisk, "remove <shareable/>, or add <readonly/>",
			"disk %s (%s) is <shareable/>: its image lock is off, so nothing would stop a second server from writing to it",
			d.Target, d.Path)
	case n.get("type") == "volume":
		return pool.Refuse(CodeStorageVolume, "give the path: <disk type='file'> or <disk type='block'>",
			"disk %s is volume %s of a storage pool, which may be something else on another server", d.Target, d.Path)
	case n.at("mirror") != nil:
		return pool.Refuse(CodeBlockJob, "wait until it has ended, or cancel it with `virsh blockjob`",
			"a block job is running on disk %s", d.Target)
	}
	if d.Kind == DiskFile || d.Kind == DiskBlock || d.Kind == DiskDir {
		for _, p := range append([]string{d.Path}, d.Backing...) {
			if p != "" && !path.IsAbs(p) && !strings.Contains(p, ":") {
				return pool.Refuse(CodeRelativePath, "give the full path", "disk %s: %q is a relative path", d.Target, p)
			}
		}
	}
	return nil
}

// unlockRE finds QEMU options that switch image locking off, in key=value and in JSON form.
var unlockRE = regexp.MustCompile(`(?i)locking"?\s*[=:]\s*"?(off|false|no)|share-rw"?\s*[=:]\s*"?(on|true|yes)`)

// forbidden are QEMU options that attach disks we cannot see, load a guest's old memory, or hide the process
// that we watch.
var forbidden = []string{"-drive", "-blockdev", "-hda", "-hdb", "-hdc", "-hdd", "-fda", "-fdb", "-sd", "-mtdblock", "-pflash",
	"-incoming", "-loadvm", "-daemonize", "-snapshot", "-S", "-set", "-readconfig", "-run-with", "-action", "-no-shutdown", "-name", "-uuid"}

// refuseArguments looks at <qemu:commandline> and <qemu:override>, under whatever prefix.
func refuseArguments(root *node) error {
	var bad string
	for _, top := range root.kids {
		if l := top.local(); l != "commandline" && l != "override" {
			continue
		}
		top.each(func(n *node) {
			for _, a := range n.attrs {
				option, _, _ := strings.Cut(strings.Replace(a.value, "--", "-", 1), "=")
				if unlockRE.MatchString(a.value) || (n.local() == "arg" && slices.Contains(forbidden, option)) {
					bad = a.value
				}
			}
			// <qemu:property name='locking' type='string' value='off'/>
			switch name := strings.ToLower(n.get("name")); {
			case n.local() != "property":
			case strings.HasSuffix(name, "locking"), strings.HasSuffix(name, "share-rw"):
				bad = n.get("name")
			}
		})
	}
	if bad == "" {
		return nil
	}
	return pool.Refuse(CodeRawArguments, "remove it; describe disks with <disk>",
		"QEMU argument %.80q hides a disk or its lock, or a saved state, from Holdfast", bad)
}
