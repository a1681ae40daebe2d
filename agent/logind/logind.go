package logind

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/godbus/dbus/v5"

	"github.com/holdfast-ha/holdfast/pkg/clock"
	"github.com/holdfast-ha/holdfast/pkg/pool"
)

// Names of logind on the bus.
const (
	service   = "org.freedesktop.login1"
	path      = dbus.ObjectPath("/org/freedesktop/login1")
	manager   = "org.freedesktop.login1.Manager"
	prepare   = manager + ".PrepareForShutdown"
	prepareAs = manager + ".PrepareForShutdownWithMetadata"
)

// reconnect is the pause before a lost connection to the bus is tried again.
const reconnect = 5 * time.Second

// callLimit bounds one call.
const callLimit = 5 * time.Second

// Options of a Machine. Clock and Log are required.
type Options struct {
	Clock clock.Clock
	Log   *slog.Logger
	// Dial connects to the bus; nil: the system bus.
	Dial func(ctx context.Context) (*dbus.Conn, error)
}

// Machine is the server's own power. Create it with New; Run connects it. Safe for concurrent use.
type Machine struct {
	o Options

	mu       sync.Mutex
	conn     *dbus.Conn
	lock     *os.File
	down     bool
	reboot   bool
	holdUp   time.Duration
	watchers []clock.Signal
}

// New returns a Machine that is not connected.
func New(o Options) *Machine {
	if o.Dial == nil {
		o.Dial = func(ctx context.Context) (*dbus.Conn, error) { return dbus.ConnectSystemBus(dbus.WithContext(ctx)) }
	}
	return &Machine{o: o}
}

// GoingDown reports whether the server was asked to shut down, or to reboot, and waits for the inhibitor.
func (m *Machine) GoingDown() (down, reboot bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.down, m.down && m.reboot
}

// HoldUp returns for how long logind waits for inhibitors; 0 while that is not known.
func (m *Machine) HoldUp() time.Duration {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.holdUp
}

// Subscribe sets sig whenever GoingDown changes.
func (m *Machine) Subscribe(sig clock.Signal) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.watchers = append(m.watchers, sig)
}

// LetGo closes the inhibitor, so that a shutdown goes on.
func (m *Machine) LetGo(context.Context) error {
	m.mu.Lock()
	lock := m.lock
	m.lock = nil
	m.mu.Unlock()
	if lock == nil {
		return nil
	}
	if err := lock.Close(); err != nil {
		return fmt.Errorf("close the inhibitor: %w", err)
	}
	return nil
}

// PowerOff asks logind to shut the server down, or to reboot it.
func (m *Machine) PowerOff(ctx context.Context, reboot bool) error {
	m.mu.Lock()
	conn := m.conn
	m.mu.Unlock()
	if conn == nil {
		return fmt.Errorf("power off: no connection to systemd-logind: %w", pool.ErrUnavailable)
	}
	method := manager + ".PowerOff"
	if reboot {
		method = manager + ".Reboot"
	}
	ctx, cancel := m.o.Clock.WithTimeout(ctx, callLimit)
	defer cancel()
	if err := conn.Object(service, path).CallWithContext(ctx, method, 0, false).Err; err != nil {
		return fmt.Errorf("%s: %w", method, err)
	}
	return nil
}

// Run keeps the connection and the inhibitor until ctx ends. A server without logind is told of once, and never goes
// down in an orderly way as far as the agent is concerned.
func (m *Machine) Run(ctx context.Context) error {
	said := ""
	for ctx.Err() == nil {
		err := m.follow(ctx)
		if ctx.Err() != nil {
			break
		}
		if err != nil && err.Error() != said {
			said = err.Error()
			m.o.Log.Warn("no connection to systemd-logind: a shutdown from this server's own shell does not wait for its VMs", "err", err)
		}
		if m.o.Clock.Sleep(ctx, reconnect) != nil {
			break
		}
	}
	return errors.Join(m.LetGo(ctx), m.close())
}

// follow connects once and follows the signals until the connection is lost.
func (m *Machine) follow(ctx context.Context) error {
	conn, err := m.o.Dial(ctx)
	if err != nil {
		return err
	}
	signals := make(chan *dbus.Signal, 16)
	conn.Signal(signals)
	m.mu.Lock()
	m.conn = conn
	m.mu.Unlock()
	defer func() { _ = m.close() }()
	for _, member := range []string{"PrepareForShutdown", "PrepareForShutdownWithMetadata"} {
		if err := conn.AddMatchSignalContext(ctx, dbus.WithMatchInterface(manager), dbus.WithMatchMember(member)); err != nil {
			return fmt.Errorf("listen for %s: %w", member, err)
		}
	}
	if err := m.look(ctx, conn); err != nil {
		return err
	}
	m.o.Log.Info("shutdowns of this server wait for its VMs", "at_most", m.HoldUp())
	for {
		select {
		case <-ctx.Done():
			return nil
		case s, ok := <-signals:
			if !ok {
				return fmt.Errorf("the bus closed the connection: %w", pool.ErrUnavailable)
			}
			m.signal(ctx, conn, s)
		}
	}
}

// look reads how logind stands and takes the inhibitor.
func (m *Machine) look(ctx context.Context, conn *dbus.Conn) error {
	var most uint64
	if err := property(ctx, m, conn, "InhibitDelayMaxUSec", &most); err != nil {
		return err
	}
	var preparing bool
	if err := property(ctx, m, conn, "PreparingForShutdown", &preparing); err != nil {
		return err
	}
	m.mu.Lock()
	m.holdUp = time.Duration(most) * time.Microsecond
	down, reboot := m.down, m.reboot
	m.mu.Unlock()
	if preparing {
		m.set(true, down && reboot || !down && m.rebootScheduled(ctx, conn))
		return nil // too late for an inhibitor
	}
	m.set(false, false)
	return m.inhibit(ctx, conn)
}

func property[T any](ctx context.Context, m *Machine, conn *dbus.Conn, name string, into *T) error {
	ctx, cancel := m.o.Clock.WithTimeout(ctx, callLimit)
	defer cancel()
	var v dbus.Variant
	if err := conn.Object(service, path).CallWithContext(ctx, "org.freedesktop.DBus.Properties.Get", 0, manager, name).Store(&v); err != nil {
		return fmt.Errorf("read %s of systemd-logind: %w", name, err)
	}
	if err := v.Store(into); err != nil {
		return fmt.Errorf("read %s of systemd-logind: %w", name, err)
	}
	return nil
}

// inhibit takes a delay inhibitor unless one is held.
func (m *Machine) inhibit(ctx context.Context, conn *dbus.Conn) error {
	m.mu.Lock()
	held := m.lock != nil
	m.mu.Unlock()
	if held {
		return nil
	}
	ctx, cancel := m.o.Clock.WithTimeout(ctx, callLimit)
	defer cancel()
	var fd dbus.UnixFD
	err := conn.Object(service, path).CallWithContext(ctx, manager+".Inhibit", 0, "shutdown", "Holdfast", "VMs leave this server first", "delay").Store(&fd)
	if err != nil {
		return fmt.Errorf("take an inhibitor: %w", err)
	}
	lock := os.NewFile(uintptr(fd), "logind inhibitor")
	m.mu.Lock()
	m.lock = lock
	m.mu.Unlock()
	return nil
}

// signal takes in what logind tells. The signal with metadata comes first, the other one always.
func (m *Machine) signal(ctx context.Context, conn *dbus.Conn, s *dbus.Signal) {
	if (s.Name != prepare && s.Name != prepareAs) || len(s.Body) == 0 {
		return
	}
	begins, ok := s.Body[0].(bool)
	if !ok {
		return
	}
	if !begins {
		m.set(false, false)
		if err := m.inhibit(ctx, conn); err != nil {
			m.o.Log.Warn("a shutdown was called off, and the next one will not wait for VMs", "err", err)
		}
		return
	}
	down, reboot := m.GoingDown()
	switch {
	case s.Name == prepareAs && len(s.Body) > 1:
		reboot = isReboot(s.Body[1])
	case !down:
		reboot = m.rebootScheduled(ctx, conn)
	}
	m.set(true, reboot)
}

// rebootScheduled reads from a logind without metadata what kind of shutdown was asked for last.
func (m *Machine) rebootScheduled(ctx context.Context, conn *dbus.Conn) bool {
	var s scheduled
	if err := property(ctx, m, conn, "ScheduledShutdown", &s); err != nil {
		m.o.Log.Warn("whether this server shuts down or reboots is not known; taken for a shutdown", "err", err)
		return false
	}
	return s.reboots(m.o.Clock.Wall())
}

// scheduled is logind's property ScheduledShutdown: what was asked for last, and when it is to happen, in microseconds
// since 1970; 0: at once.
type scheduled struct {
	Type string
	At   uint64
}

// slack is by how much earlier than its time a scheduled shutdown may begin.
const slack = 5 * time.Second

// reboots reports whether it is a reboot whose time has come: one that is scheduled for later says nothing about a
// shutdown that begins now.
func (s scheduled) reboots(now time.Time) bool {
	due := s.At <= uint64(now.Add(slack).UnixMicro()) //nolint:gosec // not before 1970
	return due && isRebootKind(s.Type)
}

// isReboot reads the kind of shutdown from the metadata.
func isReboot(metadata any) bool {
	all, ok := metadata.(map[string]dbus.Variant)
	if !ok {
		return false
	}
	kind, _ := all["type"].Value().(string)
	return isRebootKind(kind)
}

func isRebootKind(kind string) bool {
	return kind == "reboot" || kind == "kexec" || kind == "soft-reboot"
}

func (m *Machine) set(down, reboot bool) {
	m.mu.Lock()
	changed := m.down != down || m.reboot != reboot
	m.down, m.reboot = down, reboot
	watchers := m.watchers
	m.mu.Unlock()
	if !changed {
		return
	}
	m.o.Log.Info("systemd-logind", "going_down", down, "reboot", reboot)
	for _, w := range watchers {
		w.Set()
	}
}

func (m *Machine) close() error {
	m.mu.Lock()
	conn := m.conn
	m.conn = nil
	m.mu.Unlock()
	if conn == nil {
		return nil
	}
	return conn.Close()
}
