package logind

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"
	"github.com/godbus/dbus/v5/prop"

	"github.com/holdfast-ha/holdfast/pkg/clock"
)

// standIn answers in logind's name on a bus of its own.
type standIn struct {
	t    *testing.T
	conn *dbus.Conn
	// machine is who asks.
	machine *Machine
	// locks receives what watches each inhibitor; called what was asked for.
	locks  chan *lock
	called chan string

	props *prop.Properties

	mu   sync.Mutex
	held []*lock
}

// lock is the stand-in's end of an inhibitor.
type lock struct {
	what, mode  string
	read, write *os.File
}

// released waits until nobody holds the inhibitor any more.
func (l *lock) released(t *testing.T) {
	t.Helper()
	_ = l.write.Close()
	if err := l.read.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := l.read.Read(make([]byte, 1)); err != io.EOF {
		t.Fatalf("the inhibitor is still held: %v", err)
	}
}

// isHeld fails if the inhibitor is closed.
func (l *lock) isHeld(t *testing.T) {
	t.Helper()
	_ = l.write.Close()
	if err := l.read.SetReadDeadline(time.Now().Add(50 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	if _, err := l.read.Read(make([]byte, 1)); !os.IsTimeout(err) {
		t.Fatalf("the inhibitor is not held: %v", err)
	}
}

// Inhibit is logind's.
func (s *standIn) Inhibit(what, who, why, mode string) (dbus.UnixFD, *dbus.Error) {
	r, w, err := os.Pipe()
	if err != nil {
		return 0, dbus.MakeFailedError(err)
	}
	l, fd := &lock{what, mode, r, w}, dbus.UnixFD(w.Fd())
	s.mu.Lock()
	s.held = append(s.held, l)
	s.mu.Unlock()
	s.locks <- l
	return fd, nil
}

// PowerOff is logind's.
func (s *standIn) PowerOff(bool) *dbus.Error { s.called <- "PowerOff"; return nil }

// Reboot is logind's.
func (s *standIn) Reboot(bool) *dbus.Error { s.called <- "Reboot"; return nil }

// bus starts a private bus and returns its address.
func bus(t *testing.T) string {
	t.Helper()
	program, err := exec.LookPath("dbus-daemon")
	if err != nil {
		t.Skip("no dbus-daemon here")
	}
	dir := t.TempDir()
	address := "unix:path=" + filepath.Join(dir, "bus")
	conf := filepath.Join(dir, "bus.conf")
	text := fmt.Sprintf(`<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN" "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig><type>session</type><listen>%s</listen><policy context="default"><allow send_destination="*"/><allow eavesdrop="true"/><allow own="*"/></policy></busconfig>`, address)
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program, "--config-file="+conf, "--nofork", "--print-address")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(line)
}

// start runs a stand-in and a Machine on a bus of their own.
func start(t *testing.T, preparing bool) (*standIn, *Machine) {
	t.Helper()
	return startAsked(t, preparing, scheduled{"", math.MaxUint64})
}

// startAsked is start with what the stand-in was asked for before.
func startAsked(t *testing.T, preparing bool, last scheduled) (*standIn, *Machine) {
	t.Helper()
	address := bus(t)
	conn, err := dbus.Connect(address)
	if err != nil {
		t.Fatal(err)
	}
	s := &standIn{t: t, conn: conn, locks: make(chan *lock, 8), called: make(chan string, 8)}
	if err := conn.Export(s, path, manager); err != nil {
		t.Fatal(err)
	}
	s.props, err = prop.Export(conn, path, prop.Map{manager: {
		"InhibitDelayMaxUSec":  {Value: uint64(900_000_000)},
		"PreparingForShutdown": {Value: preparing},
		"ScheduledShutdown":    {Value: last},
	}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := conn.RequestName(service, dbus.NameFlagDoNotQueue); err != nil {
		t.Fatal(err)
	}
	m := New(Options{Clock: clock.Real(), Log: slog.New(slog.DiscardHandler), Dial: func(context.Context) (*dbus.Conn, error) { return dbus.Connect(address) }})
	s.machine = m
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- m.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
		_ = conn.Close()
		s.mu.Lock()
		defer s.mu.Unlock()
		for _, l := range s.held {
			_, _ = l.read.Close(), l.write.Close()
		}
	})
	return s, m
}

// lock returns the stand-in's end of an inhibitor that the Machine has by now: before the answer has left, the
// stand-in's own copy of it must stay open.
func (s *standIn) lock() *lock {
	s.t.Helper()
	limit := time.After(10 * time.Second)
	select {
	case l := <-s.locks:
		tick := time.NewTicker(time.Millisecond)
		defer tick.Stop()
		for !s.machine.holds() {
			select {
			case <-tick.C:
			case <-limit:
				s.t.Fatal("the inhibitor never arrived")
			}
		}
		return l
	case <-limit:
		s.t.Fatal("nobody asked for an inhibitor")
		return nil
	}
}

func (m *Machine) holds() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.lock != nil
}

func (s *standIn) emit(name string, values ...any) {
	s.t.Helper()
	if err := s.conn.Emit(path, name, values...); err != nil {
		s.t.Fatal(err)
	}
}

// until waits for the Machine to see the shutdown as wanted.
func until(t *testing.T, m *Machine, down, reboot bool) {
	t.Helper()
	sig := clock.Real().NewSignal()
	m.Subscribe(sig)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	for {
		if d, r := m.GoingDown(); d == down && r == reboot {
			return
		}
		if ctx.Err() != nil {
			d, r := m.GoingDown()
			t.Fatalf("going down %v, reboot %v; want %v, %v", d, r, down, reboot)
		}
		sig.Wait(ctx, 20*time.Millisecond)
	}
}

func TestAShutdownWaitsUntilTheAgentLetsItGo(t *testing.T) {
	s, m := start(t, false)
	l := s.lock()
	if l.what != "shutdown" || l.mode != "delay" {
		t.Errorf("inhibits %s, mode %s", l.what, l.mode)
	}
	until(t, m, false, false)
	if got := m.HoldUp(); got != 15*time.Minute {
		t.Errorf("hold-up of %v", got)
	}
	s.emit(prepare, true)
	until(t, m, true, false)
	l.isHeld(t)
	if err := m.LetGo(t.Context()); err != nil {
		t.Fatal(err)
	}
	l.released(t)
}

func TestARebootIsToldFromAShutdownByItsMetadata(t *testing.T) {
	s, m := start(t, false)
	s.lock()
	s.emit(prepareAs, true, map[string]dbus.Variant{"type": dbus.MakeVariant("reboot")})
	s.emit(prepare, true)
	until(t, m, true, true)
}

// An older logind sends no metadata, and keeps in a property what was asked for.
func TestAnOldLogindsRebootIsToldByWhatWasAskedOfItLast(t *testing.T) {
	s, m := start(t, false)
	s.lock()
	for _, c := range []struct {
		last   scheduled
		reboot bool
	}{
		{scheduled{"reboot", 0}, true},
		{scheduled{"poweroff", 0}, false},
		{scheduled{"kexec", uint64(time.Now().Add(-time.Second).UnixMicro())}, true},
		{scheduled{"reboot", uint64(time.Now().Add(time.Hour).UnixMicro())}, false},
		{scheduled{"dry-reboot", 0}, false},
		{scheduled{"", math.MaxUint64}, false},
	} {
		s.props.SetMust(manager, "ScheduledShutdown", c.last)
		s.emit(prepare, true)
		until(t, m, true, c.reboot)
		s.emit(prepare, false)
		until(t, m, false, false)
	}
}

func TestAnAgentThatStartsDuringAnOldLogindsRebootSeesIt(t *testing.T) {
	_, m := startAsked(t, true, scheduled{"reboot", 0})
	until(t, m, true, true)
}

func TestAShutdownThatIsCalledOffIsForgottenAndTheNextOneWaitsAgain(t *testing.T) {
	s, m := start(t, false)
	s.lock()
	s.emit(prepare, true)
	until(t, m, true, false)
	if err := m.LetGo(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.emit(prepare, false)
	until(t, m, false, false)
	s.lock().isHeld(t)
}

func TestAnAgentThatStartsDuringAShutdownSeesIt(t *testing.T) {
	_, m := start(t, true)
	until(t, m, true, false)
}

func TestPowerOffAndRebootAreAskedOfLogind(t *testing.T) {
	s, m := start(t, false)
	s.lock()
	until(t, m, false, false)
	for reboot, want := range map[bool]string{false: "PowerOff", true: "Reboot"} {
		if err := m.PowerOff(t.Context(), reboot); err != nil {
			t.Fatal(err)
		}
		if got := <-s.called; got != want {
			t.Errorf("asked for %s, want %s", got, want)
		}
	}
}

func TestWithoutABusNothingIsHeldUpAndPowerOffSaysWhy(t *testing.T) {
	m := New(Options{Clock: clock.Real(), Log: slog.New(slog.DiscardHandler),
		Dial: func(context.Context) (*dbus.Conn, error) { return nil, fmt.Errorf("no bus") }})
	if down, _ := m.GoingDown(); down {
		t.Error("going down")
	}
	if err := m.PowerOff(t.Context(), false); err == nil || !strings.Contains(err.Error(), "systemd-logind") {
		t.Errorf("%v", err)
	}
}
