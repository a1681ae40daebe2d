package world

import (
	"context"
	"time"

	"github.com/holdfast-ha/holdfast/agent/guard"
	"github.com/holdfast-ha/holdfast/agent/local"
	"github.com/holdfast-ha/holdfast/agent/sim/vtime"
	"github.com/holdfast-ha/holdfast/pkg/clock"
	"github.com/holdfast-ha/holdfast/pkg/pool"
)

var (
	_ local.Hypervisor = (*Outside)(nil)
	_ local.Needs      = (*Outside)(nil)
	_ guard.Client     = (*OutsideGuard)(nil)
)

// Outside is a server's hypervisor for an agent that runs in real time, in goroutines, while the world is paced. Safe
// for concurrent use. It lives as long as its process, which the caller makes with Server.NewProc and kills with the
// agent.
type Outside struct {
	paced   *vtime.Paced
	proc    *vtime.Proc
	h       *Hypervisor
	changed clock.Signal
	// cpu is what its VMs had used when the server's load was read last, and spent what they used all together; they
	// belong to the scheduler.
	cpu   map[pool.VMID]time.Duration
	spent time.Duration
}

// Outside returns the edge for process p. Call it in Paced.Do.
func (s *Server) Outside(paced *vtime.Paced, p *vtime.Proc) *Outside {
	o := &Outside{paced: paced, proc: p, h: s.Hypervisor(p), changed: clock.Real().NewSignal()}
	o.h.changed = o.changed
	return o
}

// outside runs f in the world and returns what it returned.
func outside[T any](ctx context.Context, paced *vtime.Paced, p *vtime.Proc, f func(context.Context) (T, error)) (T, error) {
	var out T
	var err error
	if cerr := paced.Call(ctx, p, func(ctx context.Context) { out, err = f(ctx) }); cerr != nil {
		var none T
		return none, cerr
	}
	return out, err
}

// only makes a call that returns nothing but an error fit for outside.
func only(f func(context.Context) error) func(context.Context) (struct{}, error) {
	return func(ctx context.Context) (struct{}, error) { return struct{}{}, f(ctx) }
}

// Domains implements local.Hypervisor.
func (o *Outside) Domains(ctx context.Context) ([]local.Domain, error) {
	return outside(ctx, o.paced, o.proc, o.h.Domains)
}

// Create implements local.Hypervisor.
func (o *Outside) Create(ctx context.Context, xml string, m local.Marker) (local.Domain, error) {
	return outside(ctx, o.paced, o.proc, func(ctx context.Context) (local.Domain, error) { return o.h.Create(ctx, xml, m) })
}

// Resume implements local.Hypervisor.
func (o *Outside) Resume(ctx context.Context, vm pool.VMID, m local.Marker) error {
	return o.do(ctx, func(ctx context.Context) error { return o.h.Resume(ctx, vm, m) })
}

// Adopt implements local.Hypervisor.
func (o *Outside) Adopt(ctx context.Context, vm pool.VMID, m local.Marker) error {
	return o.do(ctx, func(ctx context.Context) error { return o.h.Adopt(ctx, vm, m) })
}

// Shutdown implements local.Hypervisor.
func (o *Outside) Shutdown(ctx context.Context, vm pool.VMID) error {
	return o.do(ctx, func(ctx context.Context) error { return o.h.Shutdown(ctx, vm) })
}

// Kill implements local.Hypervisor.
func (o *Outside) Kill(ctx context.Context, p guard.Process) error {
	return o.do(ctx, func(ctx context.Context) error { return o.h.Kill(ctx, p) })
}

// Dead implements local.Hypervisor.
func (o *Outside) Dead(ctx context.Context, p guard.Process) (bool, error) {
	return outside(ctx, o.paced, o.proc, func(ctx context.Context) (bool, error) { return o.h.Dead(ctx, p) })
}

// Absent implements local.Hypervisor.
func (o *Outside) Absent(ctx context.Context, uuid string) (bool, error) {
	return outside(ctx, o.paced, o.proc, func(ctx context.Context) (bool, error) { return o.h.Absent(ctx, uuid) })
}

// Migrate implements local.Hypervisor.
func (o *Outside) Migrate(ctx context.Context, m local.Migration) (local.Transfer, error) {
	t, err := outside(ctx, o.paced, o.proc, func(ctx context.Context) (local.Transfer, error) { return o.h.Migrate(ctx, m) })
	if rest := t.Rest; rest != nil {
		t.Rest = func(ctx context.Context) {
			_ = o.do(ctx, func(ctx context.Context) error { rest(ctx); return nil }) // it ends with ctx at the latest
		}
	}
	return t, err
}

// PutsAway implements local.Hypervisor.
func (o *Outside) PutsAway(ctx context.Context, vm pool.VMID) (bool, error) {
	return outside(ctx, o.paced, o.proc, func(ctx context.Context) (bool, error) { return o.h.PutsAway(ctx, vm) })
}

// Abort implements local.Hypervisor.
func (o *Outside) Abort(ctx context.Context, vm pool.VMID) error {
	return o.do(ctx, func(ctx context.Context) error { return o.h.Abort(ctx, vm) })
}

// Job implements local.Hypervisor.
func (o *Outside) Job(ctx context.Context, vm pool.VMID) (local.Job, error) {
	return outside(ctx, o.paced, o.proc, func(ctx context.Context) (local.Job, error) { return o.h.Job(ctx, vm) })
}

// CloseWay closes the connections of an operation's job that run through this server's agent.
func (o *Outside) CloseWay(op pool.OperationID) { o.paced.Do(func() { o.h.s.CloseWay(op) }) }

// Forget implements local.Hypervisor.
func (o *Outside) Forget(vm pool.VMID) { o.paced.Do(func() { o.h.Forget(vm) }) }

// Changed implements local.Hypervisor.
func (o *Outside) Changed() clock.Signal { return o.changed }

// Missing implements local.Needs.
func (o *Outside) Missing(ctx context.Context, needs []pool.Need) ([]string, error) {
	return outside(ctx, o.paced, o.proc, func(ctx context.Context) ([]string, error) { return o.h.Missing(ctx, needs) })
}

// StorageLost implements local.Needs.
func (o *Outside) StorageLost(ctx context.Context) (bool, error) {
	return outside(ctx, o.paced, o.proc, o.h.StorageLost)
}

// Capacity returns what the server has.
func (o *Outside) Capacity(ctx context.Context) (local.Capacity, error) {
	return outside(ctx, o.paced, o.proc, o.h.Capacity)
}

func (o *Outside) do(ctx context.Context, f func(context.Context) error) error {
	_, err := outside(ctx, o.paced, o.proc, only(f))
	return err
}

// OutsideGuard reaches a guard that runs in the paced world from goroutines. Safe for concurrent use.
type OutsideGuard struct {
	paced *vtime.Paced
	proc  *vtime.Proc
	inner guard.Client
}

// NewOutsideGuard returns a client of inner, a guard's loop that runs in process p.
func NewOutsideGuard(paced *vtime.Paced, p *vtime.Proc, inner guard.Client) *OutsideGuard {
	return &OutsideGuard{paced, p, inner}
}

// Extend implements guard.Client.
func (g *OutsideGuard) Extend(ctx context.Context, l guard.Lease) error {
	return g.do(ctx, func(ctx context.Context) error { return g.inner.Extend(ctx, l) })
}

// Hold implements guard.Client.
func (g *OutsideGuard) Hold(ctx context.Context, h guard.Held) error {
	return g.do(ctx, func(ctx context.Context) error { return g.inner.Hold(ctx, h) })
}

// LetGo implements guard.Client.
func (g *OutsideGuard) LetGo(ctx context.Context, vm pool.VMID) error {
	return g.do(ctx, func(ctx context.Context) error { return g.inner.LetGo(ctx, vm) })
}

// Status implements guard.Client.
func (g *OutsideGuard) Status(ctx context.Context) (guard.Status, error) {
	return outside(ctx, g.paced, g.proc, g.inner.Status)
}

func (g *OutsideGuard) do(ctx context.Context, f func(context.Context) error) error {
	_, err := outside(ctx, g.paced, g.proc, only(f))
	return err
}

// OutsideFencer uses power switches for an agent that runs in goroutines. Safe for concurrent use.
type OutsideFencer struct {
	paced *vtime.Paced
	inner *Fencer
}

// OutsideFencer returns the fence programs as process p runs them.
func (s *Server) OutsideFencer(paced *vtime.Paced, p *vtime.Proc) *OutsideFencer {
	return &OutsideFencer{paced, s.Fencer(p)}
}

// PowerOff is Fencer's.
func (f *OutsideFencer) PowerOff(ctx context.Context, server pool.Server) (string, error) {
	return outside(ctx, f.paced, f.inner.p, func(ctx context.Context) (string, error) { return f.inner.PowerOff(ctx, server) })
}

// PowerOn is Fencer's.
func (f *OutsideFencer) PowerOn(ctx context.Context, server pool.Server) error {
	_, err := outside(ctx, f.paced, f.inner.p, only(func(ctx context.Context) error { return f.inner.PowerOn(ctx, server) }))
	return err
}

// CheckOn is Fencer's.
func (f *OutsideFencer) CheckOn(ctx context.Context, server pool.Server) error {
	_, err := outside(ctx, f.paced, f.inner.p, only(func(ctx context.Context) error { return f.inner.CheckOn(ctx, server) }))
	return err
}

// OutsideMachine is how an agent that runs in goroutines sees and delays the shutdown of its server. Safe for
// concurrent use; once its process has ended nothing is asked of it and nothing is done.
type OutsideMachine struct {
	paced *vtime.Paced
	inner *Machine
}

// OutsideMachine returns the edge for an agent that runs as p.
func (s *Server) OutsideMachine(paced *vtime.Paced, p *vtime.Proc) *OutsideMachine {
	return &OutsideMachine{paced, s.Machine(p)}
}

// while runs f in the world if the process lives.
func (m *OutsideMachine) while(f func()) {
	m.paced.Do(func() {
		if m.inner.p.Alive() {
			f()
		}
	})
}

// GoingDown is Machine's.
func (m *OutsideMachine) GoingDown() (down, reboot bool) {
	m.while(func() { down, reboot = m.inner.GoingDown() })
	return down, reboot
}

// Subscribe is Machine's.
func (m *OutsideMachine) Subscribe(sig clock.Signal) { m.while(func() { m.inner.Subscribe(sig) }) }

// LetGo is Machine's.
func (m *OutsideMachine) LetGo(ctx context.Context) (err error) {
	m.while(func() { err = m.inner.LetGo(ctx) })
	return err
}

// PowerOff is Machine's.
func (m *OutsideMachine) PowerOff(ctx context.Context, reboot bool) (err error) {
	m.while(func() { err = m.inner.PowerOff(ctx, reboot) })
	return err
}

// HoldUp is Machine's.
func (m *OutsideMachine) HoldUp() time.Duration { return m.inner.HoldUp() }
