package leader

import (
	"context"
	"sync"
	"time"

	"github.com/holdfast-ha/holdfast/pkg/clock"
	"github.com/holdfast-ha/holdfast/pkg/pool"
)

// How often power switches are asked whether they work. A switch that does not is found before it is needed.
const (
	switchEvery = 10 * time.Minute
	// switchAgain is after one that did not work.
	switchAgain = time.Minute
	// switchLook is how often it is looked whether one is due: new settings are tried soon.
	switchLook = 5 * time.Second
	// switchLimit bounds one question with all devices of a server.
	switchLimit = time.Minute
)

// switches asks the power switches of the servers that are up, one server after the other, while this agent leads.
type switches struct {
	cfg Config
	// changed is set when something else is known than before; begun when a leadership began.
	changed, begun clock.Signal

	mu    sync.Mutex
	known map[pool.ServerID]answer
}

// answer is what was learned of one server's switches.
type answer struct {
	// revision of the registration whose switches were asked.
	revision pool.Revision
	next     pool.Instant
	// wrong says what is wrong; empty: nothing.
	wrong string
}

func newSwitches(cfg Config, changed clock.Signal) *switches {
	return &switches{cfg: cfg, changed: changed, begun: cfg.Clock.NewSignal()}
}

// found says what is wrong with each switch that was asked.
func (s *switches) found() map[pool.ServerID]string {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make(map[pool.ServerID]string, len(s.known))
	for id, a := range s.known {
		out[id] = a.wrong
	}
	return out
}

// run asks until ctx ends.
func (s *switches) run(ctx context.Context) {
	if s.cfg.Fencer == nil {
		return
	}
	for ctx.Err() == nil {
		wait := switchEvery
		if _, leads := s.cfg.Office.Leading(); !leads {
			s.forget(nil)
		} else if s.askAll(ctx) {
			wait = switchLook
		}
		s.begun.Wait(ctx, wait)
	}
}

// askAll asks those that are due. It reports whether there are switches at all.
func (s *switches) askAll(ctx context.Context) (any bool) {
	snap := s.cfg.Pool.Snapshot()
	s.forget(snap)
	for id, server := range snap.Servers.All() {
		if len(server.Fence) == 0 {
			continue
		}
		any = true
		if !snap.Members.Has(id) || !s.due(server) {
			continue
		}
		s.ask(ctx, server)
		if _, leads := s.cfg.Office.Leading(); !leads || ctx.Err() != nil {
			return any
		}
	}
	return any
}

func (s *switches) due(server pool.Server) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	a, asked := s.known[server.ID]
	return !asked || a.revision != server.Revision || !s.cfg.Clock.Now().Before(a.next)
}

func (s *switches) ask(ctx context.Context, server pool.Server) {
	limited, cancel := s.cfg.Clock.WithTimeout(ctx, switchLimit)
	defer cancel()
	err := s.cfg.Fencer.CheckOn(limited, server)
	if ctx.Err() != nil || !s.cfg.Pool.Snapshot().Members.Has(server.ID) {
		return // it went down meanwhile: that its switch says so is right
	}
	a := answer{revision: server.Revision, next: s.cfg.Clock.Now().Add(switchEvery)}
	if err != nil {
		a.wrong, a.next = err.Error(), s.cfg.Clock.Now().Add(switchAgain)
	}
	s.mu.Lock()
	old, had := s.known[server.ID]
	if s.known == nil {
		s.known = map[pool.ServerID]answer{}
	}
	s.known[server.ID] = a
	s.mu.Unlock()
	if !had || old.wrong != a.wrong {
		s.changed.Set()
	}
}

// forget drops what is known of servers without switches; of all if snap is nil.
func (s *switches) forget(snap *pool.Snapshot) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for id := range s.known {
		if snap != nil {
			if server, ok := snap.Servers.Get(id); ok && len(server.Fence) > 0 {
				continue
			}
		}
		delete(s.known, id)
	}
}
