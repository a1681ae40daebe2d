package e2e

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-ha/holdfast/test/lab"
	"github.com/holdfast-ha/holdfast/test/lab/holdfast"

	pb "github.com/holdfast-ha/holdfast/proto/holdfast/v1"
)

func TestVMWhoseDiskOnlyOneServerSeesIsRefusedHAWithTheReason(t *testing.T) {
	b := prepare(t)
	s := b.l.Servers()[1]
	vm := lab.VM{Name: b.name("vm"), Disk: "/var/lib/libvirt/images/private.img"}
	b.must(b.l.CreateDisk(s.Path(vm.Disk)))
	xml, err := b.l.DomainXML(within(t, time.Minute), vm)
	b.must(err)
	_, err = b.p.VMs.RegisterVM(within(t, 10*time.Second), &pb.RegisterVMRequest{Xml: xml, Set: map[string]string{"ha": "on"}})
	if err == nil || !strings.Contains(err.Error(), vm.Disk) || !strings.Contains(err.Error(), b.other(s.Name())) {
		t.Fatalf("registered with HA: %v; want a refusal that names the disk and who lacks it", err)
	}
	t.Log(err)
	r, err := b.p.VMs.RegisterVM(within(t, 10*time.Second), &pb.RegisterVMRequest{Xml: xml})
	b.must(err)
	b.vms = append(b.vms, vm.Name)
	t.Logf("without HA: %v", r.GetNotes())
	_, err = b.p.VMs.SetVMHA(within(t, 10*time.Second), &pb.SetVMHARequest{Vms: []string{vm.Name}, On: true})
	if err == nil || !strings.Contains(err.Error(), vm.Disk) {
		t.Errorf("HA switched on: %v; want a refusal that names the disk", err)
	}
	b.start(vm.Name)
	v, err := b.p.UntilStatus(within(t, boot), vm.Name, pb.VMStatus_VM_STATUS_RUNNING)
	b.must(err)
	if got := v.GetClaim().GetServer(); got != s.Name() {
		t.Errorf("it runs on %s, want the only server that has its disk, %s", got, s.Name())
	}
}

func TestCorruptValuesInEtcdAreReportedByKeyAndStopNothingElse(t *testing.T) {
	b := prepare(t)
	vm := b.launch("ha", b.leader(), "ha=on")
	b.settle(vm)
	prefix := "/holdfast/v1/" + holdfast.PoolName + "/"
	keys := []string{prefix + "vms/broken", prefix + "claims/broken", prefix + "servers/broken"}
	c, err := b.p.Etcd(t.Context())
	b.must(err)
	defer func() {
		for _, key := range keys {
			_, _ = c.Delete(context.WithoutCancel(t.Context()), key) // if the test failed before it did so
		}
		_ = c.Close()
	}()
	for _, key := range keys {
		_, err := c.Put(within(t, 5*time.Second), key, `{"id": "broken", "xml": 7`)
		b.must(err)
	}
	b.quiet(2*time.Second, vm)
	v, err := b.p.Status(within(t, 5*time.Second))
	b.must(err)
	for _, key := range keys {
		if why := v.GetCorruptKeys()[key]; why == "" {
			t.Errorf("%s is not reported; reported are %v", key, v.GetCorruptKeys())
		} else {
			t.Logf("%s: %s", key, why)
		}
	}
	next := b.launch("next", b.other(b.leader()), "ha=on")
	b.settle(next)
	for _, key := range keys {
		_, err := c.Delete(within(t, 5*time.Second), key)
		b.must(err)
	}
	b.must(b.p.UntilUp(within(t, 10*time.Second)))
	b.must(b.p.UntilNoneCorrupt(within(t, 10*time.Second)))
}
