package world

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-ha/holdfast/agent/local"
	"github.com/holdfast-ha/holdfast/agent/sim/simkv"
	"github.com/holdfast-ha/holdfast/agent/sim/simnet"
	"github.com/holdfast-ha/holdfast/agent/sim/vtime"
	"github.com/holdfast-ha/holdfast/pkg/pool"
)

// bed is two servers, one VM with file disks and one with block disks, and nothing running on the servers.
type bed struct {
	t   *testing.T
	s   *vtime.Scheduler
	w   *World
	log []string
}

func newBed(t *testing.T) *bed {
	t.Helper()
	s := vtime.New(3)
	t.Cleanup(s.Close)
	net := simnet.New(s)
	w := New(s, net, simkv.New(s, net, simkv.Options{}), DefaultOptions())
	b := &bed{t: t, s: s, w: w}
	w.Observe(func(e Event) { b.log = append(b.log, fmt.Sprintf("%v %s", s.Now(), e.Text)) })
	for _, n := range []string{"a", "b"} {
		w.AddServer(ServerSpec{Name: n, MemoryBytes: 64 << 30, CPUs: 16, Fencing: FencingPower, FenceDelay: time.Second, BootDelay: time.Second}).Start()
	}
	w.AddVM(VMSpec{ID: "web", UUID: VMUUID("web"), MemoryBytes: 2 << 30, CPUs: 1})
	w.AddVM(VMSpec{ID: "raw", UUID: VMUUID("raw"), MemoryBytes: 2 << 30, CPUs: 1, BlockDisks: true})
	return b
}

// on runs f as a process of a server and waits for its end.
func (b *bed) on(server string, f func(ctx context.Context, h *Hypervisor)) {
	b.t.Helper()
	s := b.w.Server(server)
	p := s.NewProc("test")
	h := s.Hypervisor(p)
	b.play(p, func() { f(context.Background(), h) })
}

func (b *bed) run(d time.Duration) {
	b.t.Helper()
	if err := b.s.Run(b.s.Now() + d); err != nil {
		b.t.Fatal(err)
	}
}

func start(ctx context.Context, t *testing.T, h *Hypervisor, vm pool.VMID) local.Domain {
	t.Helper()
	m := local.Marker{Pool: "p", VM: vm, Epoch: 1}
	d, err := h.Create(ctx, "<domain><uuid>"+VMUUID(vm)+"</uuid></domain>", m)
	if err != nil {
		t.Fatal(err)
	}
	m.Started = true
	if err := h.Resume(ctx, vm, m); err != nil {
		t.Fatal(err)
	}
	return d
}

func TestADomainIsMadePausedAndRunsOnlyAfterResume(t *testing.T) {
	b := newBed(t)
	b.on("a", func(ctx context.Context, h *Hypervisor) {
		began := b.s.Now()
		d, err := h.Create(ctx, "", local.Marker{VM: "web", Epoch: 4})
		if err != nil || d.State != local.DomainPaused || d.Marker == nil || d.Marker.Epoch != 4 {
			t.Fatalf("%+v %v", d, err)
		}
		if took := b.s.Now() - began; took < 300*time.Millisecond || took > 500*time.Millisecond {
			t.Errorf("creating took %v", took)
		}
		if n := b.w.Image("web").Starts; n != 0 || len(b.w.Image("web").Executing()) != 0 {
			t.Errorf("the guest executes before it was resumed; starts = %d", n)
		}
		if err := h.Resume(ctx, "web", *d.Marker); err != nil {
			t.Fatal(err)
		}
		if got := b.w.Image("web").Executing(); !slices.Equal(got, []string{"a"}) || b.w.Image("web").Starts != 1 {
			t.Errorf("executes on %v, starts = %d", got, b.w.Image("web").Starts)
		}
	})
}

func TestAnImageLockRefusesASecondStartUntilTheFirstIsDead(t *testing.T) {
	b := newBed(t)
	var d local.Domain
	b.on("a", func(ctx context.Context, h *Hypervisor) { d = start(ctx, t, h, "web") })
	b.on("b", func(ctx context.Context, h *Hypervisor) {
		if _, err := h.Create(ctx, "", local.Marker{VM: "web"}); !errors.Is(err, local.ErrDiskLocked) || !strings.Contains(err.Error(), "held on a") {
			t.Errorf("second start: %v", err)
		}
	})
	b.on("a", func(ctx context.Context, h *Hypervisor) {
		if err := h.Kill(ctx, d.Process); err != nil {
			t.Fatal(err)
		}
		if dead, err := h.Dead(ctx, d.Process); !dead || err != nil {
			t.Errorf("dead = %v, %v", dead, err)
		}
	})
	b.on("b", func(ctx context.Context, h *Hypervisor) { start(ctx, t, h, "web") })
}

func TestBlockDisksHaveNoLock(t *testing.T) {
	b := newBed(t)
	b.on("a", func(ctx context.Context, h *Hypervisor) { start(ctx, t, h, "raw") })
	b.on("b", func(ctx context.Context, h *Hypervisor) { start(ctx, t, h, "raw") })
	if got := b.w.Image("raw").Executing(); !slices.Equal(got, []string{"a", "b"}) {
		t.Errorf("executes on %v; without a lock nothing stops the second start", got)
	}
}

func TestGuestsOutliveLibvirtdAndEndWithTheServer(t *testing.T) {
	b := newBed(t)
	b.on("a", func(ctx context.Context, h *Hypervisor) {
		d := start(ctx, t, h, "web")
		start(ctx, t, h, "raw")
		b.w.Server("a").KillLibvirtd()
		if _, err := h.Domains(ctx); !errors.Is(err, pool.ErrUnavailable) {
			t.Errorf("listing without libvirtd: %v", err)
		}
		if len(b.w.Image("web").Executing()) != 1 {
			t.Error("the guest died with libvirtd")
		}
		if err := h.Kill(ctx, d.Process); err != nil {
			t.Errorf("killing without libvirtd: %v", err)
		}
		b.w.Server("a").StartLibvirtd()
		ds, err := h.Domains(ctx)
		if err != nil || len(ds) != 2 || ds[0].VM != "raw" || ds[0].State != local.DomainRunning || ds[1].State != local.DomainGone || ds[1].Exit != local.ExitUnknown {
			t.Errorf("after libvirtd's restart: %+v %v", ds, err)
		}
		h.Forget("web")
		if ds, _ = h.Domains(ctx); len(ds) != 1 {
			t.Errorf("forgotten, yet listed: %+v", ds)
		}
	})
	boot := b.w.Server("a").BootID()
	b.w.Server("a").PowerOff("")
	if len(b.w.Image("raw").Executing()) != 0 {
		t.Error("the guest survived the loss of power")
	}
	b.w.Server("a").PowerOn()
	b.run(2 * time.Second)
	if !b.w.Server("a").Booted() || b.w.Server("a").BootID() == boot {
		t.Error("the server did not boot anew")
	}
}

func TestACallInProgressFailsWhenLibvirtdDies(t *testing.T) {
	b := newBed(t)
	b.s.After(100*time.Millisecond, b.w.Server("a").KillLibvirtd)
	b.on("a", func(ctx context.Context, h *Hypervisor) {
		if _, err := h.Create(ctx, "", local.Marker{VM: "web"}); !errors.Is(err, pool.ErrUnavailable) {
			t.Errorf("err = %v", err)
		}
	})
	b.run(time.Second)
	if len(b.w.Image("web").Copies()) != 0 {
		t.Error("a process was left behind")
	}
}

func TestACreationGoesOnWhenItsCallerIsKilled(t *testing.T) {
	b := newBed(t)
	s := b.w.Server("a")
	p := s.NewProc("agent")
	h := s.Hypervisor(p)
	p.Go("x", func() { _, _ = h.Create(context.Background(), "", local.Marker{VM: "web"}) })
	b.s.After(50*time.Millisecond, p.Kill)
	b.run(time.Second)
	if len(b.w.Image("web").Copies()) != 1 {
		t.Error("libvirtd did not finish what it was asked")
	}
}

func TestStorageLossPausesGuestsAndResumeWorksOnceItIsBack(t *testing.T) {
	b := newBed(t)
	b.on("a", func(ctx context.Context, h *Hypervisor) {
		start(ctx, t, h, "web")
		b.w.Server("a").CutStorage()
		_ = h.p.Await(ctx, 2*time.Second)
		ds, _ := h.Domains(ctx)
		if ds[0].State != local.DomainIOError {
			t.Errorf("state = %v", ds[0].State)
		}
		if lost, _ := h.StorageLost(ctx); !lost {
			t.Error("the loss is not reported")
		}
		if _, err := h.Create(ctx, "", local.Marker{VM: "raw"}); err == nil || errors.Is(err, local.ErrDiskLocked) {
			t.Errorf("start without storage: %v", err)
		}
		b.w.Server("a").MendStorage()
		if err := h.Resume(ctx, "web", local.Marker{Pool: "p", VM: "web", Epoch: 1}); err != nil {
			t.Fatal(err)
		}
		if len(b.w.Image("web").Executing()) != 1 || b.w.Image("web").Starts != 1 {
			t.Error("the guest did not go on where it was")
		}
	})
}

func TestGuestsShutDownInTwoSecondsUnlessTheyFailTo(t *testing.T) {
	b := newBed(t)
	b.on("a", func(ctx context.Context, h *Hypervisor) {
		start(ctx, t, h, "web")
		_ = h.Shutdown(ctx, "web")
		_ = h.p.Await(ctx, 2100*time.Millisecond)
		ds, _ := h.Domains(ctx)
		if len(ds) != 1 || ds[0].State != local.DomainGone || ds[0].Exit != local.ExitGuest {
			t.Errorf("%+v", ds)
		}
		b.w.Image("raw").StopFails = 1
		d := start(ctx, t, h, "raw")
		_ = h.Shutdown(ctx, "raw")
		_ = h.p.Await(ctx, 3*time.Second)
		if len(b.w.Image("raw").Executing()) != 1 {
			t.Error("the guest shut down although it should fail to")
		}
		if err := h.Kill(ctx, d.Process); err == nil {
			t.Error("the first forced stop should fail too")
		}
		if err := h.Kill(ctx, d.Process); err != nil {
			t.Errorf("the second forced stop: %v", err)
		}
	})
}

func TestStartsFailAsOftenAsAskedAndWhereAsked(t *testing.T) {
	b := newBed(t)
	b.w.Image("web").StartFails, b.w.Image("web").StartFailsOn = Always, "a"
	b.on("a", func(ctx context.Context, h *Hypervisor) {
		for range 3 {
			if _, err := h.Create(ctx, "", local.Marker{VM: "web"}); err == nil {
				t.Error("the start on a should fail")
			}
		}
	})
	b.on("b", func(ctx context.Context, h *Hypervisor) { start(ctx, t, h, "web") })
}

func TestPowerFencingSwitchesOffUnlessTheDeviceFails(t *testing.T) {
	b := newBed(t)
	b.w.Server("b").FenceWorks(false)
	p := b.w.Server("a").NewProc("agent")
	f := b.w.Server("a").Fencer(p)
	var first, second error
	var off bool
	p.Go("fence", func() {
		first = f.Off(context.Background(), "b")
		b.w.Server("b").FenceWorks(true)
		second = f.Off(context.Background(), "b")
		off, _ = f.IsOff(context.Background(), "b")
	})
	b.run(10 * time.Second)
	if first == nil || second != nil || !off || b.w.Server("b").Powered() {
		t.Errorf("first %v, second %v, off %v", first, second, off)
	}
}

func TestAWatchdogResetsAServerThatDoesNotPetIt(t *testing.T) {
	b := newBed(t)
	s := b.w.AddServer(ServerSpec{Name: "c", Fencing: FencingWatchdog, Watchdog: 10 * time.Second, BootDelay: time.Second})
	s.Start()
	d := s.Dog()
	d.Open()
	for i := range 5 {
		b.s.After(time.Duration(i)*4*time.Second, d.Pet)
	}
	b.run(25 * time.Second)
	if s.Resets() != 0 {
		t.Fatal("reset although petted")
	}
	b.run(2 * time.Second)
	if s.Resets() != 1 {
		t.Errorf("resets = %d", s.Resets())
	}
	b.run(time.Minute)
	if s.Resets() != 1 || !s.Booted() {
		t.Errorf("after the boot: resets = %d, booted %v", s.Resets(), s.Booted())
	}
}
