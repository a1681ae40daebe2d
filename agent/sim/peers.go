package sim

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/holdfast-ha/holdfast/agent/api"
	"github.com/holdfast-ha/holdfast/agent/sim/simnet"
	"github.com/holdfast-ha/holdfast/agent/virt/definition"
	"github.com/holdfast-ha/holdfast/pkg/pool"
)

// meshLimit bounds a call between agents whose caller sets no limit.
const meshLimit = 10 * time.Second

var errConnRefused = errors.New("connection refused")

// peers is the mesh as one agent uses it: each call crosses the simulated network and runs in the process of the
// agent that answers.
type peers struct{ a *simAgent }

var _ api.Servers = (*peers)(nil)

// Inspect asks one server whether it can run a definition.
func (m *peers) Inspect(ctx context.Context, server pool.ServerID, xml string, needs []pool.Need) (api.Inspection, error) {
	var in api.Inspection
	err := m.call(ctx, server, func(ctx context.Context, other *simAgent) error {
		missing, err := other.hyper.Missing(ctx, needs)
		if err != nil {
			return err
		}
		answer := api.Inspection{Server: server, Missing: missing}
		if _, err := definition.Read(xml); err != nil {
			answer.Rejected = err.Error()
		}
		in = answer
		return nil
	})
	return in, err
}

// Lookup asks one server for a domain.
func (m *peers) Lookup(ctx context.Context, server pool.ServerID, name string) (api.FoundDomain, bool, error) {
	var found api.FoundDomain
	ok := false
	err := m.call(ctx, server, func(ctx context.Context, other *simAgent) error {
		all, err := other.hyper.Domains(ctx)
		if err != nil {
			return err
		}
		for _, d := range all {
			if string(d.VM) == name && d.Process.PID != 0 {
				vm := pool.DefaultVM(d.VM)
				vm.UUID = d.UUID
				if im := other.crew.p.World.Image(d.VM); im != nil {
					vm.MemoryBytes, vm.CPUs, vm.DiskLocks = im.MemoryBytes, im.CPUs, !im.BlockDisks
				}
				found, ok = api.FoundDomain{Server: server, XML: DomainXML(vm), UUID: d.UUID, Running: true}, true
				if d.Marker != nil {
					found.OwnedBy = d.Marker.Pool
				}
			}
		}
		return nil
	})
	return found, ok, err
}

// call runs f in the process of another agent. Without a way there or back it waits until ctx ends; a server that
// has power but no agent refuses at once.
func (m *peers) call(ctx context.Context, to pool.ServerID, f func(ctx context.Context, other *simAgent) error) error {
	from, self := m.a.proc, m.a.server.Name
	if string(to) == self {
		return f(ctx, m.a)
	}
	ctx, cancel := from.WithTimeout(ctx, meshLimit)
	defer cancel()
	p := m.a.crew.p
	other := p.World.Server(string(to))
	if other == nil {
		return fmt.Errorf("server %s: no such host: %w", to, pool.ErrUnavailable)
	}
	k := from.NewCall()
	var answer error
	reply := func(err error) {
		if !p.Net.Open(string(to), self, simnet.Mesh) {
			return
		}
		p.Sched.After(p.Net.Delay(string(to), self), func() {
			if !k.Abandoned() {
				answer = err
			}
			k.Finish()
		})
	}
	if p.Net.Open(self, string(to), simnet.Mesh) {
		p.Sched.After(p.Net.Delay(self, string(to)), func() {
			switch there := m.a.crew.running[string(to)]; {
			case !other.Booted():
			case there == nil || !there.proc.Alive():
				reply(fmt.Errorf("server %s: %w: %w", to, pool.ErrUnavailable, errConnRefused))
			default:
				there.proc.Go("mesh call", func() {
					tctx, cancel := there.proc.WithTimeout(context.Background(), meshLimit)
					defer cancel()
					reply(f(tctx, there))
				})
			}
		})
	}
	if err := k.Wait(ctx); err != nil {
		return fmt.Errorf("server %s does not answer: %w: %w", to, pool.ErrUnavailable, err)
	}
	return answer
}

// Alive returns nil when the host of a server answers anything: an agent that works, one that hangs, whose kernel
// accepts all the same, or a refusal where none runs. It crosses the network both ways and costs the other no time.
func (m *peers) Alive(ctx context.Context, server pool.ServerID) error {
	from, p, self, to := m.a.proc, m.a.crew.p, m.a.server.Name, string(server)
	host := p.World.Server(to)
	if host == nil {
		return fmt.Errorf("server %s: no such host: %w", to, pool.ErrUnavailable)
	}
	k := from.NewCall()
	if p.Net.Open(self, to, simnet.Mesh) {
		p.Sched.After(p.Net.Delay(self, to), func() {
			if !host.Booted() || !p.Net.Open(to, self, simnet.Mesh) {
				return
			}
			p.Sched.After(p.Net.Delay(to, self), k.Finish)
		})
	}
	if err := k.Wait(ctx); err != nil {
		return fmt.Errorf("server %s does not answer: %w: %w", to, pool.ErrUnavailable, err)
	}
	return nil
}

// AskSilence asks another agent how long it has listened to subject in vain.
func (m *peers) AskSilence(ctx context.Context, witness, subject pool.ServerID) (time.Duration, error) {
	var silent time.Duration
	err := m.call(ctx, witness, func(_ context.Context, other *simAgent) error {
		silent = other.Silence(subject)
		return nil
	})
	return silent, err
}
