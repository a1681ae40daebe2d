package world

import (
	"fmt"
	"testing"

	"github.com/holdfast-ha/holdfast/agent/fence/fencetest"
	"github.com/holdfast-ha/holdfast/agent/guard"
	"github.com/holdfast-ha/holdfast/agent/local"
	"github.com/holdfast-ha/holdfast/agent/local/localtest"
	"github.com/holdfast-ha/holdfast/agent/sim/vtime"
	"github.com/holdfast-ha/holdfast/pkg/pool"
)

func TestTheSimulatedHypervisorDoesWhatAHypervisorMust(t *testing.T) {
	localtest.Run(t, func(t *testing.T) localtest.Edge { return newBed(t).edge() })
}

func TestTheSimulatedHypervisorMigratesAsAHypervisorMust(t *testing.T) {
	localtest.RunTransfers(t, func(t *testing.T) localtest.Edge { return newBed(t).edge() })
}

// edge is the two servers as the conformance suite sees them.
func (b *bed) edge() localtest.Edge {
	n := 0
	p := b.w.Server("a").NewProc("suite")
	e := localtest.Edge{
		Clock: p,
		Guest: func(k localtest.Kind) localtest.Guest {
			n++
			vm := pool.VMID(fmt.Sprintf("vm-%d", n))
			im := b.w.AddVM(VMSpec{ID: vm, UUID: VMUUID(vm), MemoryBytes: 2 << 30, CPUs: 1, DirtyRate: 1 << 20})
			b.behave(im, k)
			return localtest.Guest{VM: vm, UUID: VMUUID(vm), XML: "<domain><uuid>" + VMUUID(vm) + "</uuid></domain>"}
		},
		Do: func(f func()) { b.play(p, f) },
		Migration: func(m local.Migration, slow bool) local.Migration {
			if slow {
				m.Bandwidth = 512 << 20
			}
			return m
		},
	}
	for _, name := range []string{"a", "b"} {
		e.Servers = append(e.Servers, b.under(name, p))
	}
	return e
}

// play runs f as part of process p until it returns.
func (b *bed) play(p *vtime.Proc, f func()) {
	done := false
	p.Go("rule", func() {
		defer func() { done = true }()
		f()
	})
	for !done {
		if ok, err := b.s.Step(); !ok || err != nil {
			b.t.Fatalf("idle: %v", err)
		}
	}
}

func TestTheSimulatedPowerSwitchDoesWhatAFencerMust(t *testing.T) {
	fencetest.Run(t, func(t *testing.T) fencetest.Edge {
		b := newBed(t)
		p, other := b.w.Server("a").NewProc("suite"), b.w.Server("b")
		other.Fencing = FencingPower
		return fencetest.Edge{Fencer: b.w.Server("a").Fencer(p), Server: pool.Server{ID: "b"},
			HasPower: func() bool { return other.powered },
			Break:    func() { other.FenceWorks(false) },
			Mend:     func() { other.FenceWorks(true) },
			Do:       func(f func()) { b.play(p, f) }}
	})
}

// behave has a guest do by itself what its kind does, once it runs.
func (b *bed) behave(im *Image, k localtest.Kind) {
	if k == localtest.Obedient {
		return
	}
	b.w.Observe(func(ev Event) {
		if ev.VM != im.ID || len(im.Executing()) == 0 {
			return
		}
		b.s.After(0, func() {
			if k == localtest.Leaving {
				b.w.GuestShutdown(im.ID)
			} else {
				b.w.GuestPanic(im.ID)
			}
		})
	})
}

func (b *bed) under(name string, p *vtime.Proc) localtest.Server {
	s := b.w.Server(name)
	return localtest.Server{
		Hypervisor: s.Hypervisor(p),
		KillDaemon: s.KillLibvirtd, StartDaemon: s.StartLibvirtd,
		KillQEMU: func(q guard.Process) {
			if found := s.process(q); found != nil {
				found.end(local.ExitCrashed, "QEMU crashed")
			}
		},
		Pause: func(vm pool.VMID) {
			if q := s.find(vm); q != nil {
				q.halt(statePaused, "by an operator")
			}
		},
		Stranger: func(g localtest.Guest) { b.w.Place(g.VM, name, nil) },
		Anew:     func() local.Hypervisor { return s.Hypervisor(p) },
	}
}
