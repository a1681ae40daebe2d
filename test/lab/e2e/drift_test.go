package e2e

import (
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/holdfast-ha/holdfast/test/lab"
	"github.com/holdfast-ha/holdfast/test/lab/guest/record"

	pb "github.com/holdfast-ha/holdfast/proto/holdfast/v1"
)

// A backup tool moves a VM to an overlay and tells nobody. When its server loses power, the VM must go on from the
// overlay: the image below ends with the snapshot.
func TestVMThatASnapshotMovedToAnOverlayStartsFromItElsewhere(t *testing.T) {
	b := prepare(t)
	home := b.other(b.leader())
	vm := b.launch("ha", home, "ha=on")
	b.settle(vm)
	overlay := strings.TrimSuffix(b.l.Disk(vm), ".img") + ".snap.qcow2"
	t.Cleanup(func() { _ = os.Remove(overlay) })
	b.overlay(overlay, b.l.Disk(vm))
	_, err := b.server(home).Virsh(within(t, 10*time.Second), "snapshot-create-as", vm, "--disk-only", "--no-metadata", "--atomic", "--reuse-external",
		"--diskspec", "vda,file="+overlay)
	b.must(err)
	taken := time.Now()
	v, err := b.p.UntilVM(within(t, 5*time.Second), vm, "is recorded on its overlay", func(v *pb.VMView) bool { return strings.Contains(v.GetVm().GetXml(), overlay) })
	b.must(err)
	t.Logf("recorded %v after the snapshot; disks locked: %v", time.Since(taken).Round(time.Millisecond), v.GetVm().GetDiskLocks())
	if !v.GetVm().GetDiskLocks() {
		t.Error("the pool takes the overlay for a disk without locks")
	}
	below, err := lab.ReadRecord(b.l.Disk(vm))
	b.must(err)
	before := b.inside(overlay)
	at := b.off(home)
	next := b.restarted(vm, at)
	var after record.Record
	for deadline := time.Now().Add(boot); after.Boots < 2 || after.Counter < before.Counter+3; {
		if time.Now().After(deadline) {
			t.Fatalf("%s on %s does not run on from the overlay: before the power cut %+v, now %+v", vm, next.Server, before, after)
		}
		_ = b.w.Until(lasting(t, 200*time.Millisecond), func([]lab.Life) bool { return false })
		after = b.inside(overlay)
	}
	if r, err := lab.ReadRecord(b.l.Disk(vm)); err != nil || r.Counter != below.Counter {
		t.Errorf("the image below the overlay was written: counter %d, was %d, %v", r.Counter, below.Counter, err)
	}
	if after.Foreign > 0 {
		t.Errorf("%s found %d writes that it did not make", vm, after.Foreign)
	}
	b.startedTimes(vm, 2)
	b.on(home)
	b.must(b.p.UntilUp(within(t, 30*time.Second)))
}

// overlay makes an empty image over another, for the same user.
func (b *bed) overlay(path, below string) {
	b.t.Helper()
	out, err := exec.CommandContext(within(b.t, 10*time.Second), "qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", below, path).CombinedOutput()
	if err != nil {
		b.t.Fatalf("make %s: %v: %s", path, err, out)
	}
	info, err := os.Stat(below)
	b.must(err)
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		b.t.Fatalf("%s has no owner", below)
	}
	b.must(os.Chown(path, int(st.Uid), int(st.Gid)))
}

// inside reads the guest's record in an image that is not raw, while it is in use.
func (b *bed) inside(image string) record.Record {
	b.t.Helper()
	raw := b.t.TempDir() + "/raw"
	out, err := exec.CommandContext(within(b.t, 10*time.Second), "qemu-img", "convert", "-U", "-O", "raw", image, raw).CombinedOutput()
	if err != nil {
		b.t.Fatalf("read %s: %v: %s", image, err, out)
	}
	r, err := lab.ReadRecord(raw)
	b.must(err)
	return r
}
