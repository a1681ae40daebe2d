package world

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/holdfast-ha/holdfast/agent/guard"
	"github.com/holdfast-ha/holdfast/agent/local"
	"github.com/holdfast-ha/holdfast/agent/sim/vtime"
	"github.com/holdfast-ha/holdfast/pkg/clock"
	"github.com/holdfast-ha/holdfast/pkg/pool"
)

var (
	_ local.Hypervisor = (*Hypervisor)(nil)
	_ local.Needs      = (*Hypervisor)(nil)
)

// Hypervisor is one agent's connection to its server's libvirt, and its view of the server. It ends with the
// agent's process, and with it what is remembered of domains that ended.
type Hypervisor struct {
	s       *Server
	p       *vtime.Proc
	changed clock.Signal
	gone    map[pool.VMID]local.Domain
}

// Hypervisor returns a connection for process p of this server.
func (s *Server) Hypervisor(p *vtime.Proc) *Hypervisor {
	h := &Hypervisor{s: s, p: p, changed: p.NewSignal(), gone: map[pool.VMID]local.Domain{}}
	s.edges = append(s.edges, h)
	return h
}

// Domains lists active domains in name order, and those that ended and were not forgotten.
func (h *Hypervisor) Domains(ctx context.Context) ([]local.Domain, error) {
	var out []local.Domain
	err := h.s.libvirt(ctx, h.p, 2*time.Millisecond, func() error {
		out = make([]local.Domain, 0, len(h.s.qemus)+len(h.gone))
		for _, q := range h.s.qemus {
			out = append(out, q.domain())
			delete(h.gone, q.VM)
		}
		for _, d := range h.gone {
			out = append(out, d)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list domains: %w", err)
	}
	slices.SortFunc(out, func(a, b local.Domain) int { return cmp.Compare(a.VM, b.VM) })
	return out, nil
}

// Create makes a process with stopped CPUs.
func (h *Hypervisor) Create(ctx context.Context, xml string, marker local.Marker) (local.Domain, error) {
	var d local.Domain
	jitter := h.s.w.s.Between(0, h.s.w.o.StartDelay/5)
	err := h.s.libvirt(ctx, h.p, h.s.w.o.StartDelay*9/10+jitter, func() error {
		if q := h.s.find(marker.VM); q != nil && q.state == statePrelaunch && q.marker != nil && *q.marker == marker {
			d = q.domain() // an earlier call of unknown outcome made it
			return nil
		}
		q, err := h.s.create(marker)
		if err != nil {
			return err
		}
		if u := uuidOf(xml); u != "" {
			q.uuid = u
		}
		q.disk = diskOf(xml)
		q.image.chain.opened(q.disk)
		delete(h.gone, q.VM)
		d = q.domain()
		h.s.domainsChanged()
		return nil
	})
	if err != nil {
		return local.Domain{}, fmt.Errorf("create %s: %w", marker.VM, err)
	}
	return d, nil
}

// create makes a cold copy of a VM, CPUs stopped. QEMU takes the image lock as it opens the disk.
func (s *Server) create(marker local.Marker) (*QEMU, error) {
	im := s.w.images[marker.VM]
	switch {
	case im == nil:
		return nil, fmt.Errorf("disk of %s: no such file", marker.VM)
	case s.find(marker.VM) != nil:
		return nil, fmt.Errorf("domain %s is active already", marker.VM)
	case !s.storage:
		return nil, fmt.Errorf("disk of %s: cannot access storage file: input/output error", marker.VM)
	case im.failsStart(s.Name):
		return nil, fmt.Errorf("internal error: process exited while connecting to monitor (a simulated start failure)")
	}
	if !im.BlockDisks && !im.lockless && im.holder != nil {
		return nil, fmt.Errorf("failed to get \"write\" lock, held on %s: %w", im.holder.server.Name, local.ErrDiskLocked)
	}
	m := marker
	q := s.spawn(im, statePrelaunch, &m)
	im.lock(q)
	return q, nil
}

// Resume lets the CPUs run. QEMU takes the image lock for it if it has it not.
func (h *Hypervisor) Resume(ctx context.Context, vm pool.VMID, marker local.Marker) error {
	err := h.s.libvirt(ctx, h.p, h.s.w.s.Between(4*time.Millisecond, 12*time.Millisecond), func() error {
		q := h.s.find(vm)
		switch {
		case q == nil:
			return local.ErrNoDomain
		case q.marker == nil || q.marker.Pool != marker.Pool || q.marker.Epoch > marker.Epoch:
			return fmt.Errorf("the domain is not the one to resume, its marker is %+v: %w", q.marker, pool.ErrStale)
		case q.state == stateIncoming:
			return fmt.Errorf("domain %s is still arriving: %w", vm, pool.ErrRefused)
		case q.state == statePanicked:
			return fmt.Errorf("domain %s: its guest has panicked: %w", vm, pool.ErrRefused)
		case !q.image.lock(q):
			return fmt.Errorf("failed to get \"write\" lock, held on %s: %w", q.image.holder.server.Name, local.ErrDiskLocked)
		}
		m := marker
		m.Started = true
		q.marker = &m
		if q.state == stateIOError && !h.s.storage {
			return nil // it runs into the same error at once
		}
		q.run("goes on")
		return nil
	})
	if err != nil {
		return fmt.Errorf("resume %s: %w", vm, err)
	}
	return nil
}

// Adopt marks a running domain.
func (h *Hypervisor) Adopt(ctx context.Context, vm pool.VMID, marker local.Marker) error {
	err := h.s.libvirt(ctx, h.p, 5*time.Millisecond, func() error {
		q := h.s.find(vm)
		switch {
		case q == nil:
			return local.ErrNoDomain
		case q.marker != nil && q.marker.Pool != marker.Pool:
			return pool.Refuse("OTHER_POOL", "remove it from that pool first", "domain %s belongs to pool %s", vm, q.marker.Pool)
		}
		m := marker
		q.marker = &m
		return nil
	})
	if err != nil {
		return fmt.Errorf("adopt %s: %w", vm, err)
	}
	return nil
}

// Shutdown asks the guest to power off.
func (h *Hypervisor) Shutdown(ctx context.Context, vm pool.VMID) error {
	err := h.s.libvirt(ctx, h.p, 5*time.Millisecond, func() error {
		q := h.s.find(vm)
		if q == nil {
			return local.ErrNoDomain
		}
		if q.image.StopFails == 0 {
			q.powerOff("the guest shut down when asked")
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("shut down %s: %w", vm, err)
	}
	return nil
}

// killWait is how long Kill watches a process that does not die.
const killWait = time.Second

// Kill sends SIGKILL and waits for the end of the process. It needs no libvirtd.
func (h *Hypervisor) Kill(ctx context.Context, p guard.Process) error {
	h.p.Check()
	q := h.s.process(p)
	if q == nil {
		return nil
	}
	if spend(&q.image.StopFails) {
		if err := h.p.Await(ctx, killWait); err != nil {
			return err
		}
		return fmt.Errorf("%v (%s) does not die (a simulated stop failure): %w", p, q.VM, pool.ErrUnavailable)
	}
	q.sigkill(local.ExitDestroyed, "killed by the agent")
	for range 100 {
		if err := h.p.Await(ctx, 10*time.Millisecond); err != nil {
			return err
		}
		if q.state == stateDead {
			return nil
		}
	}
	return fmt.Errorf("%v (%s) does not die: %w", p, q.VM, pool.ErrUnavailable)
}

// Dead reports whether a process has ended.
func (h *Hypervisor) Dead(ctx context.Context, p guard.Process) (bool, error) {
	if err := h.p.Await(ctx, 100*time.Microsecond); err != nil {
		return false, err
	}
	return h.s.process(p) == nil, nil
}

// Absent reports whether the server has no process of the VM with this UUID.
func (h *Hypervisor) Absent(ctx context.Context, uuid string) (bool, error) {
	if err := h.p.Await(ctx, 200*time.Microsecond); err != nil {
		return false, err
	}
	for _, q := range h.s.qemus {
		if q.uuid == uuid {
			return false, nil
		}
	}
	return true, nil
}

// Forget drops what is remembered of a VM that ended.
func (h *Hypervisor) Forget(vm pool.VMID) { delete(h.gone, vm) }

// Changed is set whenever a domain of this server changed.
func (h *Hypervisor) Changed() clock.Signal { return h.changed }

// Capacity returns what the server has.
func (h *Hypervisor) Capacity(ctx context.Context) (local.Capacity, error) {
	if err := h.p.Await(ctx, time.Millisecond); err != nil {
		return local.Capacity{}, err
	}
	return local.Capacity{HostUUID: HostUUID(h.s.Name), BootID: h.s.bootID, MemoryBytes: h.s.MemoryBytes, CPUs: h.s.CPUs}, nil
}

// process returns the live process p.
func (s *Server) process(p guard.Process) *QEMU {
	// They are in the order of their numbers: spawn hands out ever higher ones.
	i, ok := slices.BinarySearchFunc(s.qemus, p.PID, func(q *QEMU, pid int) int { return q.Process.PID - pid })
	if !ok || s.qemus[i].Process != p {
		return nil
	}
	return s.qemus[i]
}

// uuidOf returns the UUID that a domain definition names.
func uuidOf(xml string) string {
	_, rest, ok := strings.Cut(xml, "<uuid>")
	if !ok {
		return ""
	}
	u, _, ok := strings.Cut(rest, "</uuid>")
	if !ok {
		return ""
	}
	return strings.TrimSpace(u)
}
