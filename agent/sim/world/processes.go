package world

import (
	"context"
	"fmt"
	"time"

	"github.com/holdfast-ha/holdfast/agent/guard"
	"github.com/holdfast-ha/holdfast/agent/local"
	"github.com/holdfast-ha/holdfast/agent/sim/vtime"
	"github.com/holdfast-ha/holdfast/pkg/pool"
)

var (
	_ guard.Processes = (*Processes)(nil)
	_ guard.Pauser    = (*Processes)(nil)
	_ guard.Watchdog  = (*WatchdogEdge)(nil)
)

// Processes is how a guard reaches the QEMU processes of its server: by signals, and by their monitors.
type Processes struct {
	s *Server
	p *vtime.Proc
}

// Processes returns the edge for a guard that runs as p.
func (s *Server) Processes(p *vtime.Proc) *Processes { return &Processes{s, p} }

// Open reports whether the process exists.
func (e *Processes) Open(p guard.Process) error {
	e.p.Check()
	if e.s.process(p) == nil {
		return fmt.Errorf("%v: %w", p, guard.ErrNoProcess)
	}
	return nil
}

// Kill sends SIGKILL.
func (e *Processes) Kill(p guard.Process) error {
	e.p.Check()
	if q := e.s.process(p); q != nil {
		q.sigkill(local.ExitCrashed, "killed by the guard")
	}
	return nil
}

// Dead reports whether the process has ended.
func (e *Processes) Dead(p guard.Process) (bool, error) {
	e.p.Check()
	return e.s.process(p) == nil, nil
}

// Close does nothing: simulated processes need no handle.
func (e *Processes) Close(guard.Process) {}

// Pause stops the CPUs through the monitor. It waits for the disks to be quiet, which they never are without
// storage.
func (e *Processes) Pause(ctx context.Context, h guard.Held) error {
	k := e.p.NewCall()
	var err error
	e.s.w.s.After(e.s.w.s.Between(5*time.Millisecond, 50*time.Millisecond), func() {
		q := e.s.process(h.Process)
		switch {
		case q == nil:
			err = fmt.Errorf("pause %s: %w", h.VM, guard.ErrNoProcess)
		case !e.s.storage && q.state == stateRunning:
			return // the drain hangs
		case q.state == stateRunning:
			q.halt(statePaused, "by the guard, the server being cut off")
		}
		k.Finish()
	})
	if werr := k.Wait(ctx); werr != nil {
		return fmt.Errorf("pause %s: %w: %w", h.VM, pool.ErrUnavailable, werr)
	}
	return err
}

// WatchdogEdge is the watchdog device as a guard uses it.
type WatchdogEdge struct {
	s *Server
	p *vtime.Proc
}

// WatchdogEdge returns the edge for a guard that runs as p; nil if the server has no watchdog.
func (s *Server) WatchdogEdge(p *vtime.Proc) *WatchdogEdge {
	if s.dog == nil {
		return nil
	}
	return &WatchdogEdge{s, p}
}

// Arm starts the device.
func (e *WatchdogEdge) Arm() (guard.Watch, error) {
	e.p.Check()
	if e.s.dog == nil {
		return guard.Watch{}, fmt.Errorf("arm watchdog: %w", pool.ErrUnavailable)
	}
	e.s.dog.Open()
	return guard.Watch{Timeout: e.s.dog.Timeout, Hardware: true}, nil
}

// Pet puts the reset off.
func (e *WatchdogEdge) Pet() error {
	e.p.Check()
	if e.s.dog != nil {
		e.s.dog.Pet()
	}
	return nil
}

// Disarm stops the device.
func (e *WatchdogEdge) Disarm() error {
	e.p.Check()
	if e.s.dog != nil {
		e.s.dog.Close()
	}
	return nil
}
