package host

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/holdfast-ha/holdfast/pkg/pool"
)

// Facts looks things up on this server. Create it with the bounded runner that its looks at files go through.
type Facts struct {
	// Root is put before /proc and /sys; empty outside of tests.
	Root    string
	Bounded *Bounded
}

// BootID identifies this boot of the kernel.
func (f Facts) BootID() (string, error) {
	b, err := os.ReadFile(filepath.Join(f.Root, "/proc/sys/kernel/random/boot_id"))
	if err != nil {
		return "", fmt.Errorf("boot id: %w", err)
	}
	return strings.TrimSpace(string(b)), nil
}

// File reports whether a path exists. It fails, as pool.ErrUnavailable, if the storage below it does not answer.
func (f Facts) File(ctx context.Context, path string) (bool, error) {
	err := f.Bounded.Do(ctx, "file "+path, func() error {
		_, err := os.Stat(path)
		return err
	})
	switch {
	case err == nil:
		return true, nil
	case errors.Is(err, fs.ErrNotExist):
		return false, nil
	}
	return false, err
}

// Link reports whether a network device exists: a bridge, or the lower device of a macvtap interface.
func (f Facts) Link(name string) bool {
	return safe(name) && f.has("/sys/class/net", name)
}

// Device reports whether a host device exists, by the name that a pool.NeedHostDevice has, such as
// "pci 0000:03:00.0". Kinds that cannot be looked up are reported as present: libvirt says more at the start.
func (f Facts) Device(name string) bool {
	kind, rest, _ := strings.Cut(name, " ")
	switch kind {
	case "pci":
		return safe(rest) && f.has("/sys/bus/pci/devices", rest)
	case "mdev":
		return safe(rest) && f.has("/sys/bus/mdev/devices", rest)
	case "usb":
		return f.usb(rest)
	case "dev", "vdpa":
		_, err := os.Stat(filepath.Join(f.Root, rest))
		return err == nil
	}
	return true
}

func (f Facts) usb(id string) bool {
	vendor, product, ok := strings.Cut(id, ":")
	if !ok {
		return true // by bus and number, which change with every plugging in
	}
	all, _ := filepath.Glob(filepath.Join(f.Root, "/sys/bus/usb/devices/*/idVendor")) // the pattern is fixed
	for _, v := range all {
		a, errA := os.ReadFile(v)
		b, errB := os.ReadFile(filepath.Join(filepath.Dir(v), "idProduct"))
		if errA == nil && errB == nil && strings.TrimSpace(string(a)) == vendor && strings.TrimSpace(string(b)) == product {
			return true
		}
	}
	return false
}

func (f Facts) has(dir, name string) bool {
	_, err := os.Stat(filepath.Join(f.Root, dir, name))
	return err == nil
}

// safe keeps names from a definition inside the directory they are looked up in.
func safe(name string) bool {
	return name != "" && name != "." && name != ".." && !strings.ContainsAny(name, "/\x00")
}

// Locks reports whether the file system of path keeps locks between servers: why is empty if it does, or if
// nothing speaks against it. Read from the mount options; a wrong answer of the storage itself stays unseen.
func (f Facts) Locks(path string) (why string, err error) {
	m, err := f.mount(path)
	if err != nil {
		return "", err
	}
	options := "," + m.options + ","
	has := func(o string) bool { return strings.Contains(options, ","+o+",") }
	switch {
	case strings.HasPrefix(m.kind, "nfs") && (has("nolock") || has("local_lock=all") || has("local_lock=posix")):
		return fmt.Sprintf("%s is mounted without locks between servers (%s on %s)", path, m.kind, m.point), nil
	case (m.kind == "cifs" || m.kind == "smb3") && has("nobrl"):
		return fmt.Sprintf("%s is mounted without locks between servers (%s on %s)", path, m.kind, m.point), nil
	case m.kind == "9p" || m.kind == "overlay":
		return fmt.Sprintf("%s is on a %s file system, whose locks other servers do not see", path, m.kind), nil
	}
	return "", nil
}

type mount struct{ point, kind, source, options string }

// mount finds the mount that a path is on, from /proc/self/mountinfo; see proc(5). It does not touch the path.
func (f Facts) mount(path string) (mount, error) {
	text, err := os.ReadFile(filepath.Join(f.Root, "/proc/self/mountinfo"))
	if err != nil {
		return mount{}, fmt.Errorf("mounts: %w", err)
	}
	var best mount
	for line := range strings.SplitSeq(string(text), "\n") {
		left, right, ok := strings.Cut(line, " - ")
		l, r := strings.Fields(left), strings.Fields(right)
		if !ok || len(l) < 6 || len(r) < 3 {
			continue
		}
		point := unescape.Replace(l[4])
		// A later line lies above an earlier one at the same point.
		if within(path, point) && len(point) >= len(best.point) {
			best = mount{point: point, kind: r[0], source: unescape.Replace(r[1]), options: l[5] + "," + r[2]}
		}
	}
	if best.point == "" {
		return mount{}, fmt.Errorf("no mount holds %s: %w", path, pool.ErrNotFound)
	}
	return best, nil
}

var unescape = strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`)

func within(path, dir string) bool {
	return dir == "/" || path == dir || strings.HasPrefix(path, dir+"/")
}
