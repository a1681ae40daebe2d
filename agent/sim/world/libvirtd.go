package world

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/holdfast-ha/holdfast/agent/local"
	"github.com/holdfast-ha/holdfast/agent/sim/vtime"
	"github.com/holdfast-ha/holdfast/pkg/pool"
)

var (
	errNoDaemon   = errors.New("cannot connect to libvirtd")
	errConnection = errors.New("connection to libvirtd lost")
)

// hvCall is one call inside libvirtd. It goes on when its caller is gone, and fails when libvirtd dies.
type hvCall struct {
	call *vtime.Call
	err  error
	// returned: libvirtd has answered. A migration's caller may be let go on before: then rest is what ends with it.
	returned bool
	rest     *vtime.Call
}

func (k *hvCall) finish() {
	k.returned = true
	k.call.Finish()
	if k.rest != nil {
		k.rest.Finish()
	}
}

// LibvirtdUp reports whether libvirtd runs.
func (s *Server) LibvirtdUp() bool { return s.libvirtd }

// KillLibvirtd ends libvirtd; QEMU processes live on.
func (s *Server) KillLibvirtd() {
	if !s.libvirtd {
		return
	}
	s.w.emit(KindProcess, s.Name, "", "libvirtd of %s is killed", s.Name)
	s.libvirtd = false
	s.daemon++
	calls := s.calls
	s.calls = nil
	for _, c := range calls {
		c.err = fmt.Errorf("%w: %w", pool.ErrUnavailable, errConnection)
		c.finish()
	}
	s.domainsChanged()
}

// StartLibvirtd starts libvirtd again; it finds the QEMU processes that still live.
func (s *Server) StartLibvirtd() {
	if s.libvirtd || !s.booted {
		return
	}
	s.w.emit(KindProcess, s.Name, "", "libvirtd of %s starts", s.Name)
	s.libvirtd = true
	s.daemon++
	for _, q := range s.unseen {
		q.exit, q.detail = local.ExitUnknown, "ended while libvirtd was down"
		s.report(q)
	}
	s.unseen = nil
	s.domainsChanged()
}

// report lets every connected agent remember how a process ended.
func (s *Server) report(q *QEMU) {
	for _, h := range s.edges {
		if h.p.Alive() {
			h.gone[q.VM] = q.domain()
		}
	}
}

// domainsChanged sets the signal of every connected agent.
func (s *Server) domainsChanged() {
	s.edges = slices.DeleteFunc(s.edges, func(h *Hypervisor) bool { return !h.p.Alive() })
	for _, h := range s.edges {
		h.changed.Set()
	}
}

// libvirt has libvirtd do something that takes a while. do runs when the time is over, unless libvirtd died.
func (s *Server) libvirt(ctx context.Context, p *vtime.Proc, took time.Duration, do func() error) error {
	k := &hvCall{call: p.NewCall()}
	if !s.libvirtd {
		if err := p.Await(ctx, time.Millisecond); err != nil {
			return fmt.Errorf("%w: %w", pool.ErrUnavailable, err)
		}
		return fmt.Errorf("%w: %w", pool.ErrUnavailable, errNoDaemon)
	}
	life := s.daemon
	s.calls = append(s.calls, k)
	s.w.s.After(took, func() {
		if s.daemon != life {
			return
		}
		s.calls = slices.DeleteFunc(s.calls, func(o *hvCall) bool { return o == k })
		k.err = do()
		k.finish()
	})
	if err := k.call.Wait(ctx); err != nil {
		return fmt.Errorf("libvirtd has not answered: %w: %w", pool.ErrUnavailable, err)
	}
	return k.err
}

// find returns the live process that libvirtd knows for a VM.
func (s *Server) find(vm pool.VMID) *QEMU {
	for _, q := range s.qemus {
		if q.VM == vm {
			return q
		}
	}
	return nil
}
