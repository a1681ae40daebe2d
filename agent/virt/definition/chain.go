package definition

import (
	"fmt"
	"slices"
	"strings"

	"github.com/holdfast-ha/holdfast/pkg/pool"
)

// Chain is one disk as a running domain uses it.
type Chain struct {
	Disk
	// Job is the block job that runs on it ("copy", "active-commit", ...), empty without one.
	Job string
	// JobDestination is where a copy goes.
	JobDestination string
	// JobReady: the copy is complete and follows; a pivot would move the VM to the destination.
	JobReady bool
}

// Chains returns the disks of a running domain with their full backing chains, from its live XML, in its order.
func Chains(live string) ([]Chain, error) {
	root, err := parseDomain(live)
	if err != nil {
		return nil, err
	}
	var all []Chain
	for _, n := range root.all("devices/disk") {
		c := Chain{Disk: readDisk(n)}
		if m := n.at("mirror"); m != nil {
			c.Job = m.get("job")
			if c.Job == "" {
				c.Job = "copy"
			}
			_, c.JobDestination = source(m.get("type"), m.at("source"))
			if c.JobDestination == "" {
				c.JobDestination = m.get("file")
			}
			c.JobReady = m.get("ready") != ""
		}
		all = append(all, c)
	}
	return all, nil
}

// Drift is one difference between the recorded definition and what runs.
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

// Drifted compares the disks of the recorded definition with the live one's: a snapshot or backup tool may have
// moved the VM to an overlay, and a start from the recorded base would lose what was written since. Removable
// media are left out. Sorted by target.
func Drifted(recorded, live string) ([]Drift, error) {
	r, err := tops(recorded)
	if err != nil {
		return nil, err
	}
	l, err := tops(live)
	if err != nil {
		return nil, err
	}
	var all []Drift
	for target, d := range r {
		if l[target].Path != d.Path {
			all = append(all, Drift{Target: target, Recorded: d.Path, Live: l[target].Path})
		}
	}
	for target, d := range l {
		if _, ok := r[target]; !ok {
			all = append(all, Drift{Target: target, Live: d.Path})
		}
	}
	slices.SortFunc(all, func(a, b Drift) int { return strings.Compare(a.Target, b.Target) })
	return all, nil
}

func tops(text string) (map[string]Disk, error) {
	root, err := parseDomain(text)
	if err != nil {
		return nil, err
	}
	disks := map[string]Disk{}
	for _, n := range root.all("devices/disk") {
		if d := readDisk(n); d.Device == "disk" || d.Device == "lun" {
			disks[d.Target] = d
		}
	}
	return disks, nil
}

// Rebase returns the recorded definition with the disks that run now, so that a cold start uses what the guest
// wrote last. Everything else stays as recorded. It fails while a block job runs, because the end of the job
// changes the chain again.
func Rebase(recorded, live string) (string, error) {
	r, err := parseDomain(recorded)
	if err != nil {
		return "", err
	}
	l, err := parseDomain(live)
	if err != nil {
		return "", err
	}
	for _, n := range l.all("devices/disk") {
		if n.at("mirror") != nil {
			return "", pool.Refuse(CodeBlockJob, "wait until it has ended", "a block job is running on disk %s", n.at("target").get("dev"))
		}
	}
	clean(l)
	devices := r.ensure("devices")
	removable := func(n *node) bool { return n.get("device") == "cdrom" || n.get("device") == "floppy" }
	devices.drop(func(k *node) bool { return k.name == "disk" && !removable(k) })
	for _, n := range l.all("devices/disk") {
		if !removable(n) {
			devices.add(n)
		}
	}
	if _, err := read(r); err != nil {
		return "", err
	}
	return r.String(), nil
}
