package definition

import (
	"strings"

	"github.com/holdfast-ha/holdfast/agent/local"
	"github.com/holdfast-ha/holdfast/pkg/pool"
)

// lifecycle is what happens when a guest ends. A crashed or stopped guest must end its process, because only a
// process's death frees its disks; the pool, not libvirt, decides whether it runs again.
var lifecycle = map[string]string{"on_poweroff": "destroy", "on_reboot": "restart", "on_crash": "destroy"}

// order of the elements above in what Prepare writes.
var events = []string{"on_poweroff", "on_reboot", "on_crash"}

// Prepare returns what a VM is created from: the registered definition with the marker in its metadata, without
// what belongs to one run or one server, and with a TPM state that outlives a transient domain. It refuses what
// Read refuses, so that nothing unsafe is created even if it got into the registration. monitor is the path of a
// second QMP socket that QEMU is to open, through which the guard can pause it without libvirt; empty: none.
func Prepare(text string, m local.Marker, monitor string) (string, error) {
	root, err := parseDomain(text)
	if err != nil {
		return "", err
	}
	clean(root)
	d, err := read(root)
	if err != nil {
		return "", err
	}
	if pool.VMID(d.Name) != m.VM {
		return "", invalid("it defines %q, want %q", d.Name, m.VM)
	}
	if d.UUID == "" {
		return "", invalid("it has no <uuid>, so %s would be another machine at each start", m.VM)
	}
	for _, e := range events {
		root.ensure(e).setText(lifecycle[e])
	}
	for _, b := range root.all("devices/tpm/backend") {
		if b.get("type") == "emulator" {
			b.set("persistent_state", "yes")
		}
	}
	mark(root, m)
	if monitor != "" {
		openMonitor(root, monitor)
	}
	return root.String(), nil
}

// qemuNamespace is where libvirt looks for arguments to pass on to QEMU.
const qemuNamespace = "http://libvirt.org/schemas/domain/qemu/1.0"

// openMonitor has QEMU listen on a QMP socket, beside arguments that the definition may have already.
func openMonitor(root *node, path string) {
	var line *node
	for _, k := range root.kids {
		if k.local() == "commandline" {
			line = k
		}
	}
	if line == nil {
		line = &node{name: "qemu:commandline", attrs: []attr{{"xmlns:qemu", qemuNamespace}}}
		root.add(line)
	}
	prefix := strings.TrimSuffix(line.name, "commandline")
	for _, value := range []string{"-qmp", "unix:" + strings.ReplaceAll(path, ",", ",,") + ",server=on,wait=off"} {
		line.add(&node{name: prefix + "arg", attrs: []attr{{"value", value}}})
	}
}

// mark replaces Holdfast's metadata.
func mark(root *node, m local.Marker) {
	unmark(root)
	n := markerNode(Prefix+":vm", m)
	n.attrs = append([]attr{{"xmlns:" + Prefix, Namespace}}, n.attrs...)
	root.ensure("metadata").add(n)
}

// unmark removes Holdfast's metadata, and the element around it if nothing else is in there.
func unmark(root *node) {
	old := ours(root)
	for _, metadata := range root.all("metadata") {
		metadata.drop(func(k *node) bool {
			for _, o := range old {
				if o == k {
					return true
				}
			}
			return false
		})
	}
	root.drop(func(k *node) bool { return k.name == "metadata" && len(k.kids) == 0 && len(k.mixed) == 0 })
}
