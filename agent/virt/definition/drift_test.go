package definition

import (
	"slices"
	"strings"
	"testing"

	"github.com/holdfast-ha/holdfast/pkg/pool"
)

const mirror = "<mirror type='file' job='copy' ready='yes'><format type='qcow2'/><source file='/srv/new.qcow2'/></mirror>"

// drifted compares testdata's running domain, whose disk a snapshot has moved, with what was recorded before.
func drifted(t *testing.T, live string) (recorded string, c Comparison) {
	t.Helper()
	recorded = strings.ReplaceAll(load(t, "testdata/q35-running.registered.golden"), "web-1.snap.qcow2", "web-1.qcow2")
	c, err := Compare(recorded, live)
	if err != nil {
		t.Fatal(err)
	}
	return recorded, c
}

func locked(string) bool { return true }

func TestDriftOfDisksIsFoundAndRecorded(t *testing.T) {
	live := load(t, "testdata/q35-running.xml")
	recorded, c := drifted(t, live)
	if len(c.Disks) != 1 || c.Doubt != "" || len(c.Devices) != 0 {
		t.Fatalf("got %+v", c)
	}
	vm, why := c.Apply(pool.VM{XML: recorded, DiskLocks: true}, locked)
	if want := "disk vda is /srv/pool/web-1.snap.qcow2 now, not /srv/pool/web-1.qcow2"; why != want {
		t.Errorf("got %q, want %q", why, want)
	}
	for _, f := range []string{"/srv/pool/web-1.snap.qcow2", "/srv/pool/web-1.qcow2", "/srv/pool/templates/debian12.qcow2"} {
		if !slices.Contains(vm.Needs, pool.Need{Kind: pool.NeedFile, Name: f}) {
			t.Errorf("%s is not needed: %v", f, vm.Needs)
		}
	}
	for _, kept := range []string{"/srv/iso/debian-12.iso", "52:54:00:6b:3c:58"} {
		if !strings.Contains(vm.XML, kept) {
			t.Errorf("recording lost %s", kept)
		}
	}
	if strings.Contains(vm.XML, "backingStore") || strings.Contains(vm.XML, "index='3'") {
		t.Errorf("runtime parts were recorded:\n%s", vm.XML)
	}
	if !vm.DiskLocks {
		t.Error("the locks went lost")
	}
	again, err := Compare(vm.XML, live)
	if err != nil || len(again.Disks) != 0 {
		t.Errorf("after recording: %+v, %v", again.Disks, err)
	}
	if same, why := again.Apply(vm, locked); why != "" || same.XML != vm.XML {
		t.Errorf("recorded twice: %s", why)
	}
}

func TestADiskThatMovedToAFileSystemWithoutLocksHasNoneAnyMore(t *testing.T) {
	recorded, c := drifted(t, load(t, "testdata/q35-running.xml"))
	vm, _ := c.Apply(pool.VM{XML: recorded, DiskLocks: true}, func(string) bool { return false })
	if vm.DiskLocks {
		t.Error("its disks are said to have locks")
	}
}

func TestARunningBlockJobPutsTheRecordedDisksInDoubtUntilItEnds(t *testing.T) {
	live := load(t, "testdata/q35-running.xml")
	busy := strings.Replace(live, "<target dev='vda' bus='virtio'/>", mirror+"<target dev='vda' bus='virtio'/>", 1)
	recorded, c := drifted(t, busy)
	vm, why := c.Apply(pool.VM{XML: recorded}, locked)
	if vm.DisksInDoubt != "a block job was running on disk vda" || !strings.Contains(vm.XML, "web-1.snap.qcow2") || strings.Contains(vm.XML, "mirror") {
		t.Errorf("got doubt %q, %s\n%s", vm.DisksInDoubt, why, vm.XML)
	}
	_, c = drifted(t, live)
	if vm, why = c.Apply(vm, locked); vm.DisksInDoubt != "" || why == "" {
		t.Errorf("after the job: doubt %q, %q", vm.DisksInDoubt, why)
	}
}

func TestDisksThatMustNotBeRecordedAreADoubt(t *testing.T) {
	live := strings.Replace(load(t, "testdata/q35-running.xml"), "<target dev='vda' bus='virtio'/>", "<shareable/><target dev='vda' bus='virtio'/>", 1)
	recorded, c := drifted(t, live)
	vm, _ := c.Apply(pool.VM{XML: recorded}, locked)
	if vm.XML != recorded || !strings.Contains(vm.DisksInDoubt, "cannot be recorded") {
		t.Errorf("got doubt %q", vm.DisksInDoubt)
	}
}

func TestDisksThatWereAttachedOrDetachedAreRecorded(t *testing.T) {
	live := load(t, "testdata/q35-running.xml")
	extra := "<disk type='file' device='disk'><driver name='qemu' type='raw'/><source file='/srv/pool/data.img'/><target dev='vdb' bus='virtio'/></disk>"
	more := strings.Replace(live, "<controller ", extra+"<controller ", 1)
	base := load(t, "testdata/q35-running.registered.golden")
	c, err := Compare(base, more)
	if err != nil {
		t.Fatal(err)
	}
	vm, why := c.Apply(pool.VM{XML: base}, locked)
	if why != "disk vdb (/srv/pool/data.img) was attached" || !strings.Contains(vm.XML, "/srv/pool/data.img") {
		t.Errorf("attached: %q", why)
	}
	if c, err = Compare(vm.XML, live); err != nil {
		t.Fatal(err)
	}
	if vm, why = c.Apply(vm, locked); why != "disk vdb (/srv/pool/data.img) was detached" || strings.Contains(vm.XML, "/srv/pool/data.img") {
		t.Errorf("detached: %q", why)
	}
}

func TestWhatLibvirtItselfChangesIsNoDrift(t *testing.T) {
	live := load(t, "testdata/q35-running.xml")
	base := load(t, "testdata/q35-running.registered.golden")
	disk := func(inner string) string {
		return "<disk type='file' device='disk'><source file='/srv/a.img'/><target dev='vdc'/>" + inner + "</disk>"
	}
	for what, texts := range map[string][2]string{
		"nothing":    {base, live},
		"another CD": {base, strings.Replace(live, "/srv/iso/debian-12.iso", "/srv/iso/other.iso", 1)},
		"libvirt's throw-away layer": {strings.Replace(base, "<controller ", disk("<transient/>")+"<controller ", 1),
			strings.Replace(live, "<controller ", strings.Replace(disk("<transient/>"), "a.img", "a.img.TRANSIENT", 1)+"<controller ", 1)},
		"an optional disk left out": {strings.Replace(base, "<controller ", strings.Replace(disk(""), "<source ", "<source startupPolicy='optional' ", 1)+"<controller ", 1), live},
	} {
		c, err := Compare(texts[0], texts[1])
		if err != nil || len(c.Disks)+len(c.Devices) != 0 || c.XML != texts[0] {
			t.Errorf("%s: %v %v, %v", what, c.Disks, c.Devices, err)
		}
	}
}

func TestDevicesThatCameOrWentAreTold(t *testing.T) {
	live := strings.Replace(load(t, "testdata/q35-running.xml"), "52:54:00:6b:3c:58", "52:54:00:00:00:01", 1)
	c, err := Compare(load(t, "testdata/q35-running.registered.golden"), live)
	if err != nil || strings.Join(c.Devices, "; ") != "network interface 52:54:00:00:00:01 was attached; network interface 52:54:00:6b:3c:58 was detached" {
		t.Errorf("got %v, %v", c.Devices, err)
	}
}
