package demo

import (
	"context"
	"fmt"
	"time"

	"github.com/holdfast-ha/holdfast/agent/api"
	"github.com/holdfast-ha/holdfast/agent/drill"
	"github.com/holdfast-ha/holdfast/agent/guard"
	"github.com/holdfast-ha/holdfast/agent/sim/world"
	"github.com/holdfast-ha/holdfast/pkg/clock"
	"github.com/holdfast-ha/holdfast/pkg/pool"
)

// place is a simulated server as drills use it.
type place struct {
	c *crew
	s *world.Server
}

var (
	_ drill.Place  = (*place)(nil)
	_ api.Canaries = (*peers)(nil)
)

// storageFolder is where canaries' disks would be.
const storageFolder = "/srv/vms"

// Make implements drill.Place.
func (p *place) Make(_ context.Context, dir string, vm pool.VMID) (disk, xml string, err error) {
	if dir == "" {
		dir = storageFolder
	}
	disk = dir + "/" + pool.CanaryFile(vm)
	if xml, err = drill.Definition(vm, disk, drill.Machine{Type: "kvm"}); err != nil {
		return "", "", err
	}
	p.c.paced.Do(func() { p.c.world.AddVM(world.VMSpec{ID: vm, MemoryBytes: 32 << 20, CPUs: 1}) })
	return disk, xml, nil
}

// Remove implements drill.Place. The world keeps the image of a VM that is forgotten.
func (p *place) Remove(context.Context, string) (bool, error) { return true, nil }

// Crash implements drill.Place.
func (p *place) Crash(_ context.Context, vm pool.VMID, _ guard.Process) error {
	ok := false
	p.c.paced.Do(func() { ok = p.c.world.Crash(vm) })
	if !ok {
		return fmt.Errorf("%s does not run at this moment: %w", vm, pool.ErrRefused)
	}
	return nil
}

// Pauses of an agent that a drill kills: its answer gets away first, and systemd starts it again.
const (
	answerFirst  = 100 * time.Millisecond
	startedAgain = 500 * time.Millisecond
)

// EndAgent implements drill.Place.
func (p *place) EndAgent() {
	p.c.group.Add(1)
	go func() {
		defer p.c.group.Done()
		if clock.Real().Sleep(p.c.ctx, answerFirst) != nil {
			return
		}
		p.c.paced.Do(p.s.KillAgent)
		for !p.c.gone(p.s.Name) { // its port must be free again
			if clock.Real().Sleep(p.c.ctx, closedLook) != nil {
				return
			}
		}
		if clock.Real().Sleep(p.c.ctx, startedAgain) == nil {
			p.c.paced.Do(p.s.StartAgent)
		}
	}()
}

const closedLook = 20 * time.Millisecond

// gone reports whether no agent of a server is left.
func (c *crew) gone(server string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.agents[server] == nil
}

// TouchCanary implements api.Canaries.
func (m *peers) TouchCanary(ctx context.Context, server pool.ServerID, h drill.Hit) (drill.Facts, error) {
	a, err := m.agent(server)
	if err != nil {
		return drill.Facts{}, err
	}
	return a.TouchCanary(ctx, h)
}
