package rebuild

import (
	"context"
	"log/slog"
	"slices"
	"time"

	"github.com/holdfast-ha/holdfast/pkg/clock"
	"github.com/holdfast-ha/holdfast/pkg/pool"
	"github.com/holdfast-ha/holdfast/pkg/saved"
)

// SaveEvery is the least time between two copies: a pool that changes all the time costs one write of its state every two
// seconds on each server. A large state takes longer to write, and is written less often: see saveShare.
const SaveEvery = 2 * time.Second

// saveShare: after a copy that took d to write, the next one comes d*saveShare later at the earliest.
const saveShare = 20

// votersEvery is how often the saver looks who votes: that changes without any change of the pool's state.
const votersEvery = 10 * time.Second

// SaverConfig is what a Saver needs; all fields are required.
type SaverConfig struct {
	Server  pool.ServerID
	Version string
	Clock   clock.Clock
	// Snapshot returns the pool as last seen, and Subscribe has a signal set whenever it changes.
	Snapshot  func() *pool.Snapshot
	Subscribe func(clock.Signal) (cancel func())
	// Voters returns the machines that have a vote in the embedded etcd, as last seen.
	Voters func() []string
	// Write keeps a copy; saved.Write, but in tests.
	Write func(saved.State) error
	Log   *slog.Logger
}

// Saver keeps a copy of the pool's persistent state. Run it in every agent.
type Saver struct {
	cfg    SaverConfig
	last   *pool.Snapshot // that was written; nil: none
	voters []string
	failed bool
}

// NewSaver returns a saver that does nothing until Run.
func NewSaver(cfg SaverConfig) *Saver { return &Saver{cfg: cfg} }

// Run writes a copy whenever the persistent state has changed, or who votes, until ctx ends.
func (s *Saver) Run(ctx context.Context) error {
	sig := s.cfg.Clock.NewSignal()
	defer s.cfg.Subscribe(sig)()
	for ctx.Err() == nil {
		pause, done := s.Step()
		if done {
			sig.Wait(ctx, votersEvery)
			continue
		}
		_ = s.cfg.Clock.Sleep(ctx, pause)
	}
	return ctx.Err()
}

// Step writes a copy if one is due. done says that there is nothing to do before the next change of the state or of the
// votes; else the next step comes after pause.
func (s *Saver) Step() (pause time.Duration, done bool) {
	snap, voters := s.cfg.Snapshot(), s.cfg.Voters()
	if s.last != nil && saved.Same(s.last, snap) && slices.Equal(voters, s.voters) {
		return 0, true
	}
	st, ok := saved.Of(snap)
	if !ok {
		return 0, true // nothing was read yet, or not all of it: the copy that there is stays
	}
	begun := s.cfg.Clock.Now()
	st.Server, st.Version, st.At, st.Voters = s.cfg.Server, s.cfg.Version, s.cfg.Clock.Wall(), voters
	if err := s.cfg.Write(st); err != nil {
		if !s.failed {
			s.cfg.Log.Warn("the copy of the pool's state is not kept", "err", err)
		}
		s.failed = true
		return SaveEvery, false
	}
	if s.failed {
		s.cfg.Log.Info("the copy of the pool's state is kept again", "revision", snap.Revision)
	}
	s.last, s.voters, s.failed = snap, voters, false
	return max(SaveEvery, saveShare*s.cfg.Clock.Now().Sub(begun)), false
}
