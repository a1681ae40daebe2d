//go:build libvirt_dlopen

package virt

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"libvirt.org/go/libvirt"

	"github.com/holdfast-ha/holdfast/agent/guard"
	"github.com/holdfast-ha/holdfast/agent/local"
	"github.com/holdfast-ha/holdfast/pkg/clock"
	"github.com/holdfast-ha/holdfast/pkg/pool"
	"github.com/holdfast-ha/holdfast/test/stopwatch"
)

// find returns a domain from the adapter's list.
func find(t *testing.T, a *Adapter, name string) (local.Domain, bool) {
	t.Helper()
	all, err := a.Domains(t.Context())
	if err != nil {
		t.Fatalf("domains: %v", err)
	}
	for _, d := range all {
		if string(d.VM) == name {
			return d, true
		}
	}
	return local.Domain{}, false
}

// until waits, woken by nothing but Changed, until a domain is in a state.
func until(t *testing.T, a *Adapter, name string, state local.DomainState) local.Domain {
	t.Helper()
	var d local.Domain
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); {
		if d, _ = find(t, a, name); d.State == state {
			return d
		}
		a.Changed().Wait(t.Context(), time.Until(end))
	}
	t.Fatalf("%s is not in state %d, but %+v", name, state, d)
	return d
}

func create(t *testing.T, a *Adapter, g guest) local.Domain {
	t.Helper()
	d, err := a.Create(t.Context(), g.xml, g.marker)
	if err != nil {
		t.Fatalf("create %s: %v", g.name, err)
	}
	return d
}

func start(t *testing.T, a *Adapter, g guest) local.Domain {
	t.Helper()
	d := create(t, a, g)
	if err := a.Resume(t.Context(), pool.VMID(g.name), g.marker); err != nil {
		t.Fatalf("resume %s: %v", g.name, err)
	}
	return d
}

func (g guest) vm() pool.VMID { return pool.VMID(g.name) }

func TestDomainIsCreatedPausedResumedKilledAndCreatedAgain(t *testing.T) {
	d := startDaemon(t)
	a := d.adapter(nil)
	g := d.guest("vm-1", 1, obeys)
	was := create(t, a, g)
	if was.State != local.DomainPaused || was.Marker == nil || *was.Marker != g.marker || was.Process.PID == 0 || was.UUID != g.uuid {
		t.Fatalf("created: %+v", was)
	}
	if again := create(t, a, g); again.Process != was.Process {
		t.Errorf("creating it twice made another: %+v", again)
	}
	dom, err := d.connect().LookupDomainByName(g.name)
	if err != nil {
		t.Fatal(err)
	}
	if persistent, err := dom.IsPersistent(); persistent || err != nil {
		t.Errorf("persistent %v, %v", persistent, err)
	}
	later := g.marker
	later.Epoch = 0
	if err := a.Resume(t.Context(), g.vm(), later); !errors.Is(err, pool.ErrStale) {
		t.Errorf("resumed under an earlier epoch: %v", err)
	}
	if err := a.Resume(t.Context(), g.vm(), g.marker); err != nil {
		t.Fatal(err)
	}
	if now := until(t, a, g.name, local.DomainRunning); !now.Marker.Started || now.Process != was.Process {
		t.Errorf("resumed: %+v", now)
	}
	if err := a.Kill(t.Context(), was.Process); err != nil {
		t.Fatal(err)
	}
	if dead, err := a.Dead(t.Context(), was.Process); !dead || err != nil {
		t.Errorf("dead %v, %v", dead, err)
	}
	gone, _ := find(t, a, g.name)
	if gone.State != local.DomainGone || gone.Exit != local.ExitDestroyed || gone.Marker == nil {
		t.Errorf("killed: %+v", gone)
	}
	a.Forget(g.vm())
	g.marker.Epoch++
	if next := create(t, a, g); next.Process == was.Process || next.Marker.Epoch != 2 {
		t.Errorf("created again: %+v", next)
	}
	if absent, err := a.Absent(t.Context(), g.uuid); absent || err != nil {
		t.Errorf("absent while it runs: %v, %v", absent, err)
	}
}

func TestWayInWhichADomainEndsIsReportedOnce(t *testing.T) {
	d := startDaemon(t)
	a := d.adapter(nil)
	conn := d.connect()
	signal := func(s syscall.Signal) func(local.Domain) error {
		return func(now local.Domain) error { return syscall.Kill(now.Process.PID, s) }
	}
	cases := []struct {
		name     string
		code     []byte
		end      func(local.Domain) error
		exit     local.Exit
		panicked bool
	}{
		{"asked", obeys, func(now local.Domain) error { return a.Shutdown(t.Context(), now.VM) }, local.ExitGuest, false},
		{"by-itself", leaves, nil, local.ExitGuest, false},
		{"panic", panics, nil, local.ExitCrashed, true},
		{"sigkill", obeys, signal(syscall.SIGKILL), local.ExitCrashed, false},
		{"sigterm", obeys, signal(syscall.SIGTERM), local.ExitDestroyed, false},
		{"destroyed", obeys, func(now local.Domain) error {
			dom, err := conn.LookupDomainByName(string(now.VM))
			if err != nil {
				return err
			}
			return dom.Destroy()
		}, local.ExitDestroyed, false},
	}
	for i, c := range cases {
		g := d.guest(c.name, 10+i, c.code)
		start(t, a, g)
		if c.end != nil {
			now := until(t, a, g.name, local.DomainRunning)
			if c.name == "asked" {
				booted(t, conn, g.name)
			}
			if err := c.end(now); err != nil {
				t.Fatalf("%s: %v", c.name, err)
			}
		}
		gone := until(t, a, g.name, local.DomainGone)
		if gone.Exit != c.exit || gone.Panicked != c.panicked || gone.ExitDetail == "" || gone.Marker == nil {
			t.Errorf("%s: got %+v, want exit %d", c.name, gone, c.exit)
		}
		if again, _ := find(t, a, g.name); again.Exit != gone.Exit {
			t.Errorf("%s: asked again: %+v", c.name, again)
		}
		a.Forget(g.vm())
		if left, ok := find(t, a, g.name); ok {
			t.Errorf("%s: not forgotten: %+v", c.name, left)
		}
	}
}

// booted waits until the guest's firmware has read the boot sector.
func booted(t *testing.T, conn *libvirt.Connect, name string) {
	t.Helper()
	dom, err := conn.LookupDomainByName(name)
	if err != nil {
		t.Fatal(err)
	}
	within(t, 30*time.Second, "the guest boots", func() bool {
		regs, err := dom.QemuMonitorCommand("info registers", libvirt.DOMAIN_QEMU_MONITOR_COMMAND_HMP)
		return err == nil && strings.Contains(regs, "EIP=00007c")
	})
}

func TestGuestsOutliveTheDaemonAndAreFoundAgain(t *testing.T) {
	d := startDaemon(t)
	a := d.adapter(nil)
	var before []local.Domain
	for i := range 3 {
		g := d.guest(fmt.Sprint("vm-", i), 20+i, obeys)
		start(t, a, g)
		before = append(before, until(t, a, g.name, local.DomainRunning))
	}
	d.kill()
	within(t, 10*time.Second, "the loss is noticed", func() bool { return !a.Health().Connected })
	if now, _ := find(t, a, "vm-0"); now.Process != before[0].Process || now.State != local.DomainRunning {
		t.Errorf("while libvirtd is down: %+v", now)
	}
	// One is killed by us, one dies by itself, while there is no libvirtd.
	if err := a.Kill(t.Context(), before[1].Process); err != nil {
		t.Errorf("kill without libvirtd: %v", err)
	}
	if err := syscall.Kill(before[2].Process.PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if gone := until(t, a, "vm-2", local.DomainGone); gone.Exit != local.ExitUnknown {
		t.Errorf("died unseen: %+v", gone)
	}
	if gone := until(t, a, "vm-1", local.DomainGone); gone.Exit != local.ExitDestroyed {
		t.Errorf("killed by us: %+v", gone)
	}
	if _, err := a.Create(t.Context(), d.guest("vm-9", 29, obeys).xml, local.Marker{Pool: "lab", VM: "vm-9"}); !errors.Is(err, pool.ErrUnavailable) {
		t.Errorf("create without libvirtd: %v", err)
	}
	began := time.Now()
	d.start()
	within(t, 20*time.Second, "it connects again", func() bool { return a.Health().Connected })
	t.Logf("connected %v after the restart began", time.Since(began).Round(time.Millisecond))
	for i, want := range []local.DomainState{local.DomainRunning, local.DomainGone, local.DomainGone} {
		now := until(t, a, fmt.Sprint("vm-", i), want)
		if now.Process != before[i].Process || now.Marker == nil || !now.Marker.Started {
			t.Errorf("after the restart: %+v, before: %+v", now, before[i])
		}
	}
	// An agent that starts now finds the same.
	if now := until(t, d.adapter(nil), "vm-0", local.DomainRunning); now.Process != before[0].Process || now.Marker == nil {
		t.Errorf("a new adapter: %+v", now)
	}
}

func TestHungGuestOrDaemonBlocksNothingElse(t *testing.T) {
	d := startDaemon(t)
	a := d.adapter(func(o *Options) { o.CallLimit, o.KeepAlive, o.KeepAliveCount = time.Second, time.Second, 2 })
	hung, fine := d.guest("hung", 30, obeys), d.guest("fine", 31, obeys)
	hungDomain := start(t, a, hung)
	start(t, a, fine)
	until(t, a, "fine", local.DomainRunning)
	if err := syscall.Kill(hungDomain.Process.PID, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	if err := a.Shutdown(t.Context(), hung.vm()); !errors.Is(err, pool.ErrOutcomeUnknown) || time.Since(began) > 15*time.Second {
		t.Errorf("a call that hangs: %v after %v", err, time.Since(began))
	}
	if h := a.Health(); len(h.Stuck) != 1 || h.Stuck[0].VM != "hung" {
		t.Errorf("stuck: %+v", h.Stuck)
	}
	if err := a.Shutdown(t.Context(), hung.vm()); !errors.Is(err, pool.ErrUnavailable) {
		t.Errorf("the next one: %v", err)
	}
	look := func() time.Duration {
		return stopwatch.Of(func() {
			if now, _ := find(t, a, "fine"); now.State != local.DomainRunning {
				t.Errorf("%+v", now)
			}
		})
	}
	stopwatch.Within(t, time.Second, "a look beside a hung guest", look)
	if _, err := a.Usage(t.Context()); err != nil {
		t.Errorf("usage beside a hung guest: %v", err)
	}
	if err := a.Kill(t.Context(), hungDomain.Process); err != nil {
		t.Errorf("kill a stopped QEMU: %v", err)
	}
	within(t, 20*time.Second, "the hung call comes back", func() bool { return len(a.Health().Stuck) == 0 })

	// Now the daemon itself.
	if err := syscall.Kill(d.server.Process.Pid, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	if err := a.Shutdown(t.Context(), fine.vm()); err == nil {
		t.Error("a frozen daemon answered")
	}
	stopwatch.Within(t, 3*time.Second, "a look beside a frozen daemon", look)
	within(t, 20*time.Second, "the frozen daemon is given up", func() bool { return !a.Health().Connected })
	if err := syscall.Kill(d.server.Process.Pid, syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	within(t, 20*time.Second, "it connects again", func() bool { return a.Health().Connected && len(a.Health().Stuck) == 0 })
	if now := until(t, a, "fine", local.DomainRunning); now.Process.PID == 0 {
		t.Errorf("%+v", now)
	}
}

func TestStartRefusedByADiskLockIsNoOrdinaryFailure(t *testing.T) {
	d := startDaemon(t)
	a := d.adapter(nil)
	g := d.guest("first", 40, obeys)
	start(t, a, g)
	second := d.guest("second", 41, obeys)
	second.xml = strings.ReplaceAll(second.xml, second.disk, g.disk)
	if _, err := a.Create(t.Context(), second.xml, second.marker); !errors.Is(err, local.ErrDiskLocked) {
		t.Errorf("got %v, want %v", err, local.ErrDiskLocked)
	} else {
		t.Log(err)
	}
	second.xml = strings.ReplaceAll(second.xml, g.disk, "/nonexistent.img")
	if _, err := a.Create(t.Context(), second.xml, second.marker); err == nil || errors.Is(err, local.ErrDiskLocked) || errors.Is(err, pool.ErrUnavailable) {
		t.Errorf("an ordinary failure: %v", err)
	}
}

func TestRunningPersistentDomainIsAdoptedWithoutAStop(t *testing.T) {
	d := startDaemon(t)
	a := d.adapter(nil)
	g := d.guest("old", 50, obeys)
	dom, err := d.connect().DomainDefineXML(strings.Replace(g.xml, "</features>", "</features><on_crash>preserve</on_crash>", 1))
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(dom.SetAutostart(true), dom.Create()); err != nil {
		t.Fatal(err)
	}
	was := until(t, a, g.name, local.DomainRunning)
	if was.Marker != nil {
		t.Errorf("marked before: %+v", was.Marker)
	}
	f, ok, err := a.LookupDomain(t.Context(), g.name)
	if err != nil || !ok || !f.Running || !f.Persistent || !f.Autostart || f.UUID != g.uuid || f.Marker != nil || len(f.Notes) == 0 {
		t.Errorf("look-up: %+v, %v, %v", f, ok, err)
	}
	g.marker.Started = true
	for range 2 {
		if err := a.Adopt(t.Context(), g.vm(), g.marker); err != nil {
			t.Fatal(err)
		}
	}
	now := until(t, a, g.name, local.DomainRunning)
	if now.Process != was.Process || now.Marker == nil || *now.Marker != g.marker {
		t.Errorf("adopted: %+v, was %+v", now, was)
	}
	if persistent, err := dom.IsPersistent(); persistent || err != nil {
		t.Errorf("persistent %v, %v", persistent, err)
	}
	text, err := dom.GetXMLDesc(0)
	if err != nil || !strings.Contains(text, "<on_crash>destroy</on_crash>") {
		t.Errorf("crash action: %v\n%s", err, text)
	}
	other := g.marker
	other.Pool = "elsewhere"
	if err := a.Adopt(t.Context(), g.vm(), other); !errors.Is(err, pool.ErrRefused) {
		t.Errorf("adopted from another pool: %v", err)
	}
	// The definition found is what it can be created from.
	if err := a.Kill(t.Context(), now.Process); err != nil {
		t.Fatal(err)
	}
	a.Forget(g.vm())
	g.xml, g.marker.Started = f.XML, false
	create(t, a, g)
}

func TestDefinitionLeftInLibvirtIsRemovedAtAStart(t *testing.T) {
	d := startDaemon(t)
	a := d.adapter(nil)
	conn := d.connect()
	g := d.guest("left", 60, obeys)
	dom, err := conn.DomainDefineXML(g.xml)
	if err != nil {
		t.Fatal(err)
	}
	if err := dom.SetAutostart(true); err != nil {
		t.Fatal(err)
	}
	create(t, a, g)
	if persistent, err := dom.IsPersistent(); persistent || err != nil {
		t.Errorf("persistent %v, %v", persistent, err)
	}
	other := d.guest("other", 61, obeys)
	if _, err := conn.DomainDefineXML(strings.Replace(other.xml, other.uuid, "6f1c2a4e-0000-4000-8000-000000000999", 1)); err != nil {
		t.Fatal(err)
	}
	if _, err := a.Create(t.Context(), other.xml, other.marker); !errors.Is(err, pool.ErrExists) {
		t.Errorf("another machine has the name: %v", err)
	}
	if err := a.Kill(t.Context(), guard.Process{}); err == nil {
		t.Error("killed nothing, successfully")
	}
}

func TestSecondMonitorPausesAGuestWithoutLibvirt(t *testing.T) {
	d := startDaemon(t)
	a := d.adapter(func(o *Options) { o.MonitorDir = d.dir + "/qmp" })
	g := d.guest("paused", 100, obeys)
	was := start(t, a, g)
	if was.Monitor != d.dir+"/qmp/qmp.tunnelmigrate.dest.paused" {
		t.Fatalf("monitor: %q", was.Monitor)
	}
	until(t, a, g.name, local.DomainRunning)
	if err := (guard.Monitors{}).Pause(t.Context(), guard.Held{VM: g.vm(), Process: was.Process, Monitor: was.Monitor}); err != nil {
		t.Fatal(err)
	}
	until(t, a, g.name, local.DomainPaused)
	if err := a.Resume(t.Context(), g.vm(), g.marker); err != nil {
		t.Fatal(err)
	}
	until(t, a, g.name, local.DomainRunning)
	if err := a.Kill(t.Context(), was.Process); err != nil {
		t.Fatal(err)
	}
	a.Forget(g.vm())
	if _, err := os.Stat(was.Monitor); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("socket left: %v", err)
	}
}

func TestAVMStartsWithoutASecondMonitorWhereQEMUMayNotListen(t *testing.T) {
	d := startDaemon(t)
	a := d.adapter(func(o *Options) { o.MonitorDir = d.dir + "/qmp" })
	g := d.guest("first", 101, obeys)
	// A directory in the socket's place: QEMU cannot remove it, and is refused as by a security module.
	if err := os.MkdirAll(d.dir+"/qmp/qmp.tunnelmigrate.dest.first/x", 0o700); err != nil {
		t.Fatal(err)
	}
	if was := start(t, a, g); was.Monitor != "" {
		t.Errorf("monitor: %q", was.Monitor)
	}
	if why := a.NoPause(); !strings.Contains(why, "QEMU cannot listen in "+d.dir+"/qmp") {
		t.Errorf("the reason is %q", why)
	}
}

func TestSocketsOfMonitorsHaveNamesThatAppArmorAllows(t *testing.T) {
	a := New(Options{Clock: clock.Real(), MonitorDir: "/run/libvirt/qemu/holdfast"})
	// What virt-aa-helper allows: /run/libvirt/**/*.tunnelmigrate.dest.NAME
	for _, vm := range []string{"web-01", strings.Repeat("n", 56)} {
		if ok, err := filepath.Match("/run/libvirt/qemu/holdfast/*.tunnelmigrate.dest."+vm, a.monitorPath(pool.VMID(vm))); !ok || err != nil {
			t.Errorf("%s: %q, %v", vm, a.monitorPath(pool.VMID(vm)), err)
		}
	}
	if got := a.monitorPath(pool.VMID(strings.Repeat("n", 63))); got != "" {
		t.Errorf("a path that no socket can have: %q", got)
	}
}
