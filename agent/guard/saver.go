package guard

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/holdfast-ha/holdfast/pkg/clock"
)

// saver writes the newest state to a Memory, beside the loop, so that a file system that hangs delays no kill.
type saver struct {
	memory Memory
	clock  clock.Clock
	log    *slog.Logger
	wake   clock.Signal // something to save
	saved  clock.Signal // set when it is

	mu            sync.Mutex
	state         Saved
	version, kept uint64
}

// retryEvery is the pause after a failed save.
const retryEvery = 100 * time.Millisecond

// next returns the version of the next put.
func (s *saver) next() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.version + 1
}

// put hands over a newer state.
func (s *saver) put(state Saved) {
	s.mu.Lock()
	s.state = state
	s.version++
	s.mu.Unlock()
	s.wake.Set()
}

// done reports whether a version, or a later one, is kept.
func (s *saver) done(version uint64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.memory == nil || s.kept >= version
}

func (s *saver) run(ctx context.Context) {
	wait, failing := time.Duration(-1), false
	for ctx.Err() == nil {
		s.wake.Wait(ctx, wait)
		wait = -1
		s.mu.Lock()
		state, version, news := s.state, s.version, s.version > s.kept
		s.mu.Unlock()
		if !news {
			continue
		}
		err := s.memory.Save(state)
		if err != nil {
			wait = retryEvery
		} else {
			s.mu.Lock()
			s.kept = version
			s.mu.Unlock()
			s.saved.Set()
		}
		if (err != nil) != failing {
			failing = err != nil
			s.log.Warn("guard's memory", "works", !failing, "err", err)
		}
	}
}
