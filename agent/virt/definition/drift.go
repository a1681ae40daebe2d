package definition

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/holdfast-ha/holdfast/pkg/pool"
)

// Comparison is what Compare found.
type Comparison struct {
	// Disks are the disks that are not what was recorded, by target.
	Disks []Drift
	// XML is the recorded definition with the disks that run, and Definition what it says; it is the recorded text if
	// nothing moved. Both are empty where Doubt says why what runs cannot be recorded.
	XML        string
	Definition *Definition
	// Backing lists the images below those that run, as QEMU has opened them; sorted.
	Backing []string
	// Doubt says why a start from XML could lose what the guest wrote; empty if it could not.
	Doubt string
	// Devices tells what else was attached or detached: it would be as recorded after the next start.
	Devices []string
}

// Compare compares the recorded definition with what runs (live XML without security parts). A snapshot or backup
// tool may have moved the VM to an overlay, and a start from the recorded base would lose what was written since.
// While a copy or an active commit runs, its end may move the VM at any moment: that is a doubt. Removable media, and
// disks that libvirt may leave out or lays an overlay of its own over, are not compared.
func Compare(recorded, live string) (Comparison, error) {
	r, err := parseDomain(recorded)
	if err != nil {
		return Comparison{}, err
	}
	l, err := parseDomain(live)
	if err != nil {
		return Comparison{}, err
	}
	var c Comparison
	was, is := comparableDisks(r), comparableDisks(l)
	for _, target := range slices.Sorted(maps.Keys(is)) {
		n := is[target]
		d := readDisk(n)
		c.Backing = append(c.Backing, d.Backing...)
		if n.at("mirror") != nil && c.Doubt == "" {
			c.Doubt = "a block job was running on disk " + target
		}
		if own := find(r, target); own == nil || was[target] != nil && readDisk(own).Path != d.Path {
			c.Disks = append(c.Disks, Drift{Target: target, Recorded: readDisk(or(own)).Path, Live: d.Path})
		}
	}
	for target, n := range was {
		if find(l, target) == nil {
			c.Disks = append(c.Disks, Drift{Target: target, Recorded: readDisk(n).Path})
		}
	}
	slices.SortFunc(c.Disks, func(a, b Drift) int { return strings.Compare(a.Target, b.Target) })
	c.Backing = slices.Compact(slices.Sorted(slices.Values(c.Backing)))
	c.Devices = devicesDiffer(r, l)
	return c, c.rebase(recorded, r, l)
}

// comparableDisks returns the disks of a definition by target, without those whose path says nothing about what was
// written.
func comparableDisks(root *node) map[string]*node {
	disks := map[string]*node{}
	for _, n := range root.all("devices/disk") {
		d := readDisk(n)
		if (d.Device == "disk" || d.Device == "lun") && n.at("transient") == nil && n.at("source").get("startupPolicy") == "" {
			disks[d.Target] = n
		}
	}
	return disks
}

// find returns the disk with that target, nil if there is none.
func find(root *node, target string) *node {
	for _, n := range root.all("devices/disk") {
		if n.at("target").get("dev") == target {
			return n
		}
	}
	return nil
}

// or returns n, or an empty element.
func or(n *node) *node {
	if n == nil {
		return &node{}
	}
	return n
}

// rebase fills XML and Definition: the disks that moved are those that run, everything else stays as recorded.
func (c *Comparison) rebase(recorded string, r, l *node) error {
	clean(l)
	devices := r.ensure("devices")
	for _, d := range c.Disks {
		devices.drop(func(k *node) bool { return k.name == "disk" && k.at("target").get("dev") == d.Target })
		if n := find(l, d.Target); n != nil {
			n.dropNamed("mirror")
			n.dropNamed("backingStore")
			devices.add(n)
		}
	}
	def, err := read(r)
	switch {
	case err != nil && len(c.Disks) == 0:
		return err
	case err != nil:
		c.Doubt = fmt.Sprintf("%s, which cannot be recorded: %v", c.words(), err)
		return nil
	case len(c.Disks) == 0:
		c.XML, c.Definition = recorded, def
	default:
		c.XML, c.Definition = r.String(), def
	}
	return nil
}

// words tells what moved, empty if nothing did.
func (c *Comparison) words() string {
	said := make([]string, 0, len(c.Disks))
	for _, d := range c.Disks {
		said = append(said, d.String())
	}
	return strings.Join(said, ", ")
}

// Apply returns the registration with what the comparison found, and in words what changed by that; empty if nothing
// did. locked reports whether a file's file system keeps locks.
func (c *Comparison) Apply(vm pool.VM, locked func(path string) bool) (pool.VM, string) {
	why := c.words()
	if c.Definition != nil {
		if len(c.Disks) > 0 {
			vm.XML = c.XML
			vm.DiskLocks = vm.DiskLocks && c.Definition.DiskLocks && c.locked(locked)
			vm.Movable = vm.Movable && c.Definition.Movable
		}
		if needs := c.needs(); !sameNeeds(needs, vm.Needs) {
			vm.Needs = needs
			if why == "" {
				why = "it needs others than the recorded files"
			}
		}
	}
	if c.Doubt != vm.DisksInDoubt {
		vm.DisksInDoubt = c.Doubt
		switch {
		case why != "":
		case c.Doubt == "":
			why = "its disks are not in doubt any more"
		default:
			why = c.Doubt
		}
	}
	return vm, why
}

// locked asks about the disks that moved.
func (c *Comparison) locked(locked func(path string) bool) bool {
	return !slices.ContainsFunc(c.Disks, func(d Drift) bool { return d.Live != "" && !locked(d.Live) })
}

// needs are those of the definition and the images below its disks.
func (c *Comparison) needs() []pool.Need {
	all := slices.Clone(c.Definition.Needs)
	for _, b := range c.Backing {
		if n := (pool.Need{Kind: pool.NeedFile, Name: b}); strings.HasPrefix(b, "/") && !slices.Contains(all, n) {
			all = append(all, n)
		}
	}
	return all
}

func sameNeeds(a, b []pool.Need) bool {
	return len(a) == len(b) && !slices.ContainsFunc(a, func(n pool.Need) bool { return !slices.Contains(b, n) })
}

// Drift is one disk that is not what was recorded.
type Drift struct {
	Target string
	// Recorded and Live are paths; empty where the disk does not exist on that side.
	Recorded, Live string
}

// String says it in words.
func (d Drift) String() string {
	switch {
	case d.Recorded == "":
		return fmt.Sprintf("disk %s (%s) was attached", d.Target, d.Live)
	case d.Live == "":
		return fmt.Sprintf("disk %s (%s) was detached", d.Target, d.Recorded)
	}
	return fmt.Sprintf("disk %s is %s now, not %s", d.Target, d.Live, d.Recorded)
}

// devicesDiffer tells which devices other than disks were attached or detached while the VM ran.
func devicesDiffer(recorded, live *node) []string {
	was, is := devicesOf(recorded), devicesOf(live)
	var all []string
	for name, n := range is {
		if n > was[name] {
			all = append(all, name+" was attached")
		}
	}
	for name, n := range was {
		if n > is[name] {
			all = append(all, name+" was detached")
		}
	}
	slices.Sort(all)
	return all
}

// devicesOf counts, by name, the devices that can come and go while a VM runs.
func devicesOf(root *node) map[string]int {
	devices := map[string]int{}
	for _, i := range root.all("devices/interface") {
		if mac := strings.ToLower(i.at("mac").get("address")); mac != "" {
			devices["network interface "+mac]++
		}
	}
	for _, h := range root.all("devices/hostdev") {
		devices["host device "+hostDevice(h)]++
	}
	for range root.all("devices/memory") {
		devices["a memory module"]++
	}
	return devices
}
