package world

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/holdfast-ha/holdfast/agent/sim/vtime"
	"github.com/holdfast-ha/holdfast/pkg/pool"
)

// powerSwitch is a server's fence device.
type powerSwitch struct {
	works bool
}

var errFence = errors.New("the fence device does not answer (a simulated failure)")

// FenceWorks sets whether the server's power switch works.
func (s *Server) FenceWorks(works bool) {
	if s.psu.works == works {
		return
	}
	s.psu.works = works
	if works {
		s.w.emit(KindFence, s.Name, "", "the fence device of %s works again", s.Name)
	} else {
		s.w.emit(KindFence, s.Name, "", "the fence device of %s fails", s.Name)
	}
}

// Fencer uses power switches from one server. A server without any network reaches none; the switch of a server
// that is cut off is reached all the same.
type Fencer struct {
	s *Server
	p *vtime.Proc
}

// Fencer returns the fence programs as process p of this server runs them.
func (s *Server) Fencer(p *vtime.Proc) *Fencer { return &Fencer{s, p} }

// Off takes the power of a server and returns once the device confirms that it is off.
func (f *Fencer) Off(ctx context.Context, server string) error {
	t, err := f.target(ctx, server)
	if err != nil {
		return err
	}
	k := f.p.NewCall()
	f.s.w.emit(KindFence, server, "", "%s asks the fence device of %s to switch it off", f.s.Name, server)
	var failed error
	f.s.w.s.After(t.FenceDelay, func() {
		if !t.psu.works {
			failed = errFence
		} else {
			t.PowerOff(" (fenced)")
		}
		k.Finish()
	})
	if err := k.Wait(ctx); err != nil {
		return fmt.Errorf("fence %s: %w", server, err)
	}
	if failed != nil {
		return fmt.Errorf("fence %s: %w", server, failed)
	}
	return nil
}

// PowerOff is what a leader asks for: off, and confirmed to be off. It returns a sentence of evidence.
func (f *Fencer) PowerOff(ctx context.Context, server pool.Server) (string, error) {
	if err := f.Off(ctx, string(server.ID)); err != nil {
		return "", err
	}
	off, err := f.IsOff(ctx, string(server.ID))
	switch {
	case err != nil:
		return "", err
	case !off:
		return "", fmt.Errorf("fence %s: the device says that it is on again", server.ID)
	}
	return "its fence device switched it off and says that it is off", nil
}

// PowerOn is what a leader asks for: on, and confirmed to be on.
func (f *Fencer) PowerOn(ctx context.Context, server pool.Server) error {
	return f.On(ctx, string(server.ID))
}

// CheckOn is what a leader asks now and then: does the device answer, and say on?
func (f *Fencer) CheckOn(ctx context.Context, server pool.Server) error {
	off, err := f.IsOff(ctx, string(server.ID))
	if err == nil && off {
		err = fmt.Errorf("the device says that it is off while %s runs", server.ID)
	}
	return err
}

// On gives a server power.
func (f *Fencer) On(ctx context.Context, server string) error {
	t, err := f.target(ctx, server)
	if err != nil {
		return err
	}
	if err := f.p.Await(ctx, 100*time.Millisecond); err != nil {
		return err
	}
	if !t.psu.works {
		return fmt.Errorf("switch %s on: %w", server, errFence)
	}
	t.PowerOn()
	return nil
}

// IsOff asks the device for the server's power.
func (f *Fencer) IsOff(ctx context.Context, server string) (bool, error) {
	t, err := f.target(ctx, server)
	if err != nil {
		return false, err
	}
	if err := f.p.Await(ctx, 100*time.Millisecond); err != nil {
		return false, err
	}
	if !t.psu.works {
		return false, fmt.Errorf("status of %s: %w", server, errFence)
	}
	return !t.powered, nil
}

func (f *Fencer) target(ctx context.Context, server string) (*Server, error) {
	f.p.Check()
	t := f.s.w.servers[server]
	if t == nil || t.Fencing != FencingPower {
		return nil, fmt.Errorf("server %s has no fence device", server)
	}
	if f.s.w.net.Isolated(f.s.Name) {
		if err := f.p.Await(ctx, 5*time.Second); err != nil {
			return nil, fmt.Errorf("fence %s: %w", server, err)
		}
		return nil, fmt.Errorf("fence %s: %w", server, errFence)
	}
	return t, nil
}

// Fenceable reports whether the server has a power switch that works.
func (s *Server) Fenceable() bool { return s.Fencing == FencingPower && s.psu.works }
