package lab_test

import (
	"testing"
	"time"

	"github.com/holdfast-ha/holdfast/test/lab"
)

func TestGuestMovesLiveAndIsSeenToMove(t *testing.T) {
	l := lab.Start(t, 2)
	w := lab.Watched(t, l)
	from, to := l.Servers()[0], l.Servers()[1]
	start(t, from, create(t, l, lab.VM{Name: "vm-1", DirtyMiB: 2}))
	rising(t, l, "vm-1")
	before, err := lab.ReadRecord(l.Disk("vm-1"))
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	// "unsafe": libvirt does not know that all servers see this folder.
	if _, err := from.Virsh(within(t, time.Minute), "migrate", "--live", "--unsafe", "vm-1", to.LibvirtURI(),
		"--migrateuri", "tcp://"+to.Address()+":49152"); err != nil {
		t.Fatal(err)
	}
	life, err := w.UntilExecuting(within(t, 10*time.Second), "vm-1", began)
	if err != nil {
		t.Fatal(err)
	}
	if life.Server != to.Name() || !life.Incoming {
		t.Errorf("vm-1 executes on %s (incoming %v), want %s", life.Server, life.Incoming, to.Name())
	}
	rising(t, l, "vm-1")
	after, err := lab.ReadRecord(l.Disk("vm-1"))
	if err != nil || after.Boot != before.Boot || after.Boots != 1 || after.Counter <= before.Counter {
		t.Errorf("record went from %+v to %+v, %v; want the same boot, counting on", before, after, err)
	}
	t.Logf("the guest paused %s", pause(w.Lives()).Round(time.Millisecond))
}

// pause is the time between the last instruction on the old server and the
// first on the new one.
func pause(lives []lab.Life) time.Duration {
	if len(lives) != 2 || len(lives[0].Spans) == 0 || len(lives[1].Spans) == 0 {
		return 0
	}
	return lives[1].Spans[0].From.Sub(lives[0].Spans[len(lives[0].Spans)-1].To)
}

func TestStoppedQEMUIsToldApartFromARunningOne(t *testing.T) {
	l := lab.Start(t, 1)
	w := lab.Watched(t, l)
	s := l.Servers()[0]
	start(t, s, create(t, l, lab.VM{Name: "vm-1"}))
	rising(t, l, "vm-1")
	look := func() lab.Truth {
		t.Helper()
		truths, err := s.Look()
		if err != nil || len(truths) != 1 {
			t.Fatalf("Look = %v, %v; want one QEMU", truths, err)
		}
		return truths[0]
	}
	if q := look(); !q.Executing || q.Stopped || q.Status != "running" {
		t.Errorf("running guest: %+v", q)
	}
	if _, err := s.Exec(within(t, 10*time.Second), "sh", "-c", "kill -STOP $(cat /run/libvirt/qemu/vm-1.pid)"); err != nil {
		t.Fatal(err)
	}
	if _, err := w.UntilStopped(within(t, 10*time.Second), "vm-1"); err != nil {
		t.Fatal(err)
	}
	if q := look(); q.Executing || !q.Stopped {
		t.Errorf("QEMU under SIGSTOP: %+v", q)
	}
	resumed := time.Now()
	if _, err := s.Exec(within(t, 10*time.Second), "sh", "-c", "kill -CONT $(cat /run/libvirt/qemu/vm-1.pid)"); err != nil {
		t.Fatal(err)
	}
	if _, err := w.UntilExecuting(within(t, 10*time.Second), "vm-1", resumed); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Virsh(within(t, 10*time.Second), "suspend", "vm-1"); err != nil {
		t.Fatal(err)
	}
	if _, err := w.UntilStopped(within(t, 10*time.Second), "vm-1"); err != nil {
		t.Fatal(err)
	}
	if q := look(); q.Executing || q.Stopped || q.Status != "paused" {
		t.Errorf("paused guest: %+v", q)
	}
}

func TestCutServerIsSilentAndHealsAndStaysCutOverAPowerCycle(t *testing.T) {
	l := lab.Start(t, 2)
	a, b := l.Servers()[0], l.Servers()[1]
	reaches := func(want bool, when string) {
		t.Helper()
		_, err := a.Exec(within(t, 20*time.Second), "ping", "-c1", "-W1", b.Name())
		if (err == nil) != want {
			t.Errorf("%s: ping gives %v, want reached %v", when, err, want)
		}
	}
	ctx := within(t, time.Minute)
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	reaches(true, "at first")
	must(b.Cut(ctx, lab.CutAll))
	reaches(false, "cut")
	_, err := b.PowerOff(ctx)
	must(err)
	must(b.PowerOn(ctx))
	reaches(false, "cut and power-cycled")
	must(b.Heal(ctx))
	reaches(true, "healed")
	must(b.Cut(ctx, lab.CutFrom(a.Name())))
	reaches(false, "cut from one server")
	must(b.Heal(ctx, lab.CutFrom(a.Name())))
	must(b.Cut(ctx, lab.CutEtcd))
	reaches(true, "cut from etcd only")
	must(a.Cut(ctx, lab.CutOut))
	reaches(false, "cut one way")
}
