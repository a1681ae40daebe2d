//go:build libvirt_dlopen

package virt

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"libvirt.org/go/libvirt"

	"github.com/holdfast-ha/holdfast/agent/local"
	"github.com/holdfast-ha/holdfast/pkg/pool"
)

func TestDefinitionIsInspectedWithoutATrace(t *testing.T) {
	d := startDaemon(t)
	a := d.adapter(nil)
	conn := d.connect()
	g := d.guest("look", 70, obeys)
	in, err := a.Inspect(t.Context(), g.xml, []pool.Need{
		{Kind: pool.NeedFile, Name: g.disk}, {Kind: pool.NeedFile, Name: "/srv/x.iso"}, {Kind: pool.NeedBridge, Name: "br5"},
		{Kind: pool.NeedNetwork, Name: "lan"}, {Kind: pool.NeedSecret, Name: "0d7d0f5e-7e4a-4d7c-8f4f-0a4c7c1f4a11"},
		{Kind: pool.NeedSecret, Name: "ceph nobody"}, {Kind: pool.NeedMachine, Name: "q35 (x86_64, qemu)"},
		{Kind: pool.NeedMachine, Name: "pc-q35-99.0 (x86_64, qemu)"}, {Kind: pool.NeedHostDevice, Name: "pci 0000:ff:1f.7"}})
	if err != nil {
		t.Fatal(err)
	}
	if in.Rejected != "" {
		t.Errorf("rejected: %s", in.Rejected)
	}
	want := []string{"file /srv/x.iso", "bridge br5", "network lan", "secret 0d7d0f5e-7e4a-4d7c-8f4f-0a4c7c1f4a11", "secret ceph nobody",
		"machine type pc-q35-99.0 (x86_64, qemu)", "host device pci 0000:ff:1f.7"}
	if len(in.Missing) != len(want) {
		t.Errorf("missing: %q", in.Missing)
	}
	for i := range min(len(want), len(in.Missing)) {
		if !strings.HasPrefix(in.Missing[i], want[i]) {
			t.Errorf("missing: %q, want %q", in.Missing[i], want[i])
		}
	}
	for name, change := range map[string][2]string{
		"machine type": {"machine='q35'", "machine='pc-q35-99.0'"},
		"bus":          {"bus='virtio'", "bus='no-such-bus'"},
		"target":       {"dev='vda'", "dev='not a disk'"},
	} {
		in, err := a.Inspect(t.Context(), strings.Replace(g.xml, change[0], change[1], 1), nil)
		if err != nil || in.Rejected == "" {
			t.Errorf("%s: %+v, %v", name, in, err)
		} else {
			t.Logf("%s: %s", name, in.Rejected)
		}
	}
	all, err := conn.ListAllDomains(0)
	if err != nil || len(all) != 0 {
		t.Errorf("left behind: %d, %v", len(all), err)
	}
	if _, ok, err := a.LookupDomain(t.Context(), "look"); ok || err != nil {
		t.Errorf("found: %v, %v", ok, err)
	}
}

func TestServerTellsWhatItHasAndWhatItsVMsUse(t *testing.T) {
	d := startDaemon(t)
	a := d.adapter(nil)
	c, err := a.Capacity(t.Context())
	if err != nil || c.HostUUID != d.hostUUID || c.MemoryBytes < 1<<28 || c.CPUs < 1 || c.BootID == "" {
		t.Errorf("capacity: %+v, %v", c, err)
	}
	model, err := a.CPUModel(t.Context())
	if err != nil {
		t.Error(err)
	}
	t.Logf("CPU model: %q", model)
	lacks, err := a.Missing(t.Context(), []pool.Need{{Kind: pool.NeedMachine, Name: "q35 (x86_64, qemu)"}, {Kind: pool.NeedCPU, Name: "qemu64"},
		{Kind: pool.NeedCPU, Name: "EPYC-Milan,+amx-tile"}})
	if err != nil || len(lacks) != 1 || !strings.Contains(lacks[0], "EPYC-Milan") {
		t.Errorf("lacks %q, %v", lacks, err)
	}
	g := d.guest("busy", 80, obeys)
	start(t, a, g)
	until(t, a, g.name, local.DomainRunning)
	u, err := a.Usage(t.Context())
	if err != nil || len(u) != 1 || u[0].VM != "busy" || u[0].CPUTime <= 0 || u[0].MemoryBytes <= 0 {
		t.Errorf("usage: %+v, %v", u, err)
	}
	if lost, err := a.StorageLost(t.Context()); lost || err != nil {
		t.Errorf("storage lost: %v, %v", lost, err)
	}
	if got := a.records.diskPaths(); len(got) != 1 || got[0] != g.disk {
		t.Errorf("disks watched: %v", got)
	}
}

func TestSnapshotIsSeenAtOnceAsDriftAndCanBeRecorded(t *testing.T) {
	d := startDaemon(t)
	a := d.adapter(nil)
	g := d.guest("snap", 90, obeys)
	start(t, a, g)
	vm := pool.VM{ID: g.vm(), XML: g.xml, DiskLocks: true}
	drift, err := a.Drift(t.Context(), vm)
	if err != nil || drift.VM.XML != g.xml || drift.VM.DisksInDoubt != "" || drift.Differs != "" {
		t.Fatalf("at first: %+v, %v", drift, err)
	}
	vm = drift.VM
	was, _ := find(t, a, g.name)
	dom, err := d.connect().LookupDomainByName(g.name)
	if err != nil {
		t.Fatal(err)
	}
	overlay := g.disk + ".snap"
	_, err = dom.CreateSnapshotXML(fmt.Sprintf("<domainsnapshot><disks><disk name='vda'><source file='%s'/></disk></disks></domainsnapshot>", overlay),
		libvirt.DOMAIN_SNAPSHOT_CREATE_DISK_ONLY|libvirt.DOMAIN_SNAPSHOT_CREATE_NO_METADATA)
	if err != nil {
		t.Fatal(err)
	}
	if now, _ := find(t, a, g.name); was.Shape == "" || now.Shape == was.Shape {
		t.Errorf("the snapshot left the shape as it was: %q", now.Shape)
	}
	drift, err = a.Drift(t.Context(), vm)
	if err != nil || !strings.Contains(drift.Why, overlay) || !strings.Contains(drift.VM.XML, overlay) || !drift.VM.DiskLocks {
		t.Fatalf("after a snapshot: %+v, %v", drift, err)
	}
	if !slices.Contains(drift.VM.Needs, pool.Need{Kind: pool.NeedFile, Name: g.disk}) {
		t.Errorf("the image below is not needed: %v", drift.VM.Needs)
	}
	chains, err := a.Chains(t.Context(), g.vm())
	if err != nil || len(chains) != 1 || len(chains[0].Backing) != 1 || chains[0].Backing[0] != g.disk {
		t.Errorf("chains: %+v, %v", chains, err)
	}
	now, _ := find(t, a, g.name)
	if err := a.Kill(t.Context(), now.Process); err != nil {
		t.Fatal(err)
	}
	a.Forget(g.vm())
	g.xml, g.marker.Epoch = drift.VM.XML, 2
	create(t, a, g)
	if again, err := a.Drift(t.Context(), drift.VM); err != nil || again.Why != "" {
		t.Errorf("started from the record: %+v, %v", again, err)
	}
	if _, err := os.Stat(overlay); err != nil {
		t.Error(err)
	}
}

func TestACallerIsWokenWhenASnapshotWasTaken(t *testing.T) {
	d := startDaemon(t)
	a := d.adapter(nil)
	g := d.guest("woken", 91, obeys)
	start(t, a, g)
	dom, err := d.connect().LookupDomainByName(g.name)
	if err != nil {
		t.Fatal(err)
	}
	for a.Changed().Wait(t.Context(), time.Second) { // until nothing is left of the start
	}
	_, err = dom.CreateSnapshotXML(fmt.Sprintf("<domainsnapshot><disks><disk name='vda'><source file='%s.snap'/></disk></disks></domainsnapshot>", g.disk),
		libvirt.DOMAIN_SNAPSHOT_CREATE_DISK_ONLY|libvirt.DOMAIN_SNAPSHOT_CREATE_NO_METADATA)
	if err != nil {
		t.Fatal(err)
	}
	if !a.Changed().Wait(t.Context(), time.Second) {
		t.Error("nobody was woken")
	}
}
