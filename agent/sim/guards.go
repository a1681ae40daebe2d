package sim

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/holdfast-ha/holdfast/agent/guard"
	"github.com/holdfast-ha/holdfast/agent/sim/vtime"
	"github.com/holdfast-ha/holdfast/agent/sim/world"
	"github.com/holdfast-ha/holdfast/pkg/pool"
)

// socketDelay is what a message over a local socket takes.
const socketDelay = 50 * time.Microsecond

// guardLoop is a running guard.
type guardLoop struct{ *guard.Loop }

// StartGuard runs the real guard on the simulated processes of its server.
func (c *agents) StartGuard(s *world.Server, p *vtime.Proc) {
	edge := s.Processes(p)
	cfg := guard.LoopConfig{Core: guard.NewCore(), Processes: edge, Memory: &guardMemory{s, p}, Pauser: edge, Clock: p, Log: c.p.logger(p)}
	if dog := s.WatchdogEdge(p); dog != nil {
		cfg.Watchdog = dog
	}
	loop := guard.NewLoop(c.p.tamper.guard(cfg))
	c.guards[p] = guardLoop{loop}
	p.Go("guard", func() {
		if err := loop.Run(context.Background()); err != nil {
			c.p.Sched.Fail(fmt.Errorf("guard of %s ended: %w", s.Name, err))
		}
	})
}

// guardMemory keeps what a guard must know after a restart under the server's /run.
type guardMemory struct {
	s *world.Server
	p *vtime.Proc
}

func (m *guardMemory) Load() (guard.Saved, bool, error) {
	m.p.Check()
	saved, ok := m.s.Run["guard"].(guard.Saved)
	return saved, ok, nil
}

func (m *guardMemory) Save(saved guard.Saved) error {
	m.p.Check()
	m.s.Run["guard"] = saved
	return nil
}

var errNoGuard = errors.New("connection to the guard refused")

// guardClient is an agent's connection to the guard of its server. Each request runs in the guard's process; the
// request of a caller that gave up, or died, is carried out all the same.
type guardClient struct {
	crew *agents
	s    *world.Server
	p    *vtime.Proc
}

var _ guard.Client = (*guardClient)(nil)

// Extend implements guard.Client.
func (g *guardClient) Extend(ctx context.Context, l guard.Lease) error {
	return g.call(ctx, func(ctx context.Context, c guard.Client) error { return c.Extend(ctx, l) })
}

// Hold implements guard.Client.
func (g *guardClient) Hold(ctx context.Context, h guard.Held) error {
	return g.call(ctx, func(ctx context.Context, c guard.Client) error { return c.Hold(ctx, h) })
}

// LetGo implements guard.Client.
func (g *guardClient) LetGo(ctx context.Context, vm pool.VMID) error {
	return g.call(ctx, func(ctx context.Context, c guard.Client) error { return c.LetGo(ctx, vm) })
}

// Status implements guard.Client.
func (g *guardClient) Status(ctx context.Context) (guard.Status, error) {
	var answer guard.Status
	err := g.call(ctx, func(ctx context.Context, c guard.Client) error {
		st, err := c.Status(ctx)
		if err == nil {
			answer = st
		}
		return err
	})
	if err != nil {
		return guard.Status{}, err
	}
	return answer, nil
}

// guardLimit bounds a request whose caller sets no limit.
const guardLimit = 2 * time.Second

func (g *guardClient) call(ctx context.Context, f func(context.Context, guard.Client) error) error {
	k := g.p.NewCall()
	sched := g.crew.p.Sched
	left := guardLimit
	if d, ok := ctx.Deadline(); ok {
		left = max(0, min(left, d.Sub(g.p.Wall())))
	}
	answer := fmt.Errorf("%w: %w", pool.ErrUnavailable, errNoGuard)
	sched.After(socketDelay, func() {
		gp := g.s.Guard()
		loop, ok := g.crew.guards[gp]
		if gp == nil || !ok {
			k.Finish()
			return
		}
		gp.Go("guard request", func() {
			gctx, cancel := gp.WithTimeout(context.Background(), left)
			defer cancel()
			err := f(gctx, loop)
			sched.After(socketDelay, func() {
				if !k.Abandoned() {
					answer = err
				}
				k.Finish()
			})
		})
	})
	wctx, cancel := g.p.WithTimeout(ctx, left)
	defer cancel()
	if err := k.Wait(wctx); err != nil {
		return fmt.Errorf("guard: no answer: %w: %w", pool.ErrOutcomeUnknown, err)
	}
	return answer
}
