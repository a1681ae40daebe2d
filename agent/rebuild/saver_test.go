package rebuild

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-ha/holdfast/pkg/clock"
	"github.com/holdfast-ha/holdfast/pkg/pool"
	"github.com/holdfast-ha/holdfast/pkg/saved"
)

func TestACopyIsWrittenWhenThePersistentStateChangesAndAtNoOtherTime(t *testing.T) {
	snap := &pool.Snapshot{Revision: 5, Config: pool.DefaultConfig("prod", "life")}
	snap.Config.Revision = 2
	var written []saved.State
	var refuse error
	s := NewSaver(SaverConfig{Server: "srv-1", Clock: clock.Real(), Snapshot: func() *pool.Snapshot { return snap }, Log: slog.New(slog.DiscardHandler),
		Voters: func() []string { return []string{"srv-1"} }, Write: func(st saved.State) error {
			if refuse == nil {
				written = append(written, st)
			}
			return refuse
		}})
	step := func(want int, done bool) {
		t.Helper()
		_, d := s.Step()
		if len(written) != want || d != done {
			t.Fatalf("%d copies, done %v; want %d, %v", len(written), d, want, done)
		}
	}
	step(1, false)
	step(1, true)
	next := *snap
	next.Revision, next.Members = 6, next.Members.With("srv-1", pool.Member{Server: "srv-1"})
	snap = &next
	step(1, true)
	changed := next
	changed.Revision, changed.Claims = 7, changed.Claims.With("web", pool.Claim{VM: "web"})
	snap = &changed
	refuse = errors.New("disk full")
	step(1, false)
	refuse = nil
	step(2, false)
	if got := written[1]; got.Revision != 7 || got.Server != "srv-1" || got.Claims.Len() != 1 || len(got.Voters) != 1 {
		t.Errorf("copy %+v", got)
	}
	broken := changed
	broken.Revision, broken.Corrupt = 8, broken.Corrupt.With("k", "no JSON")
	broken.Claims = broken.Claims.Without("web")
	snap = &broken
	step(2, true)
}

func TestACopyNamesTheVotesSoonAfterTheyAreKnownThoughNothingElseChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		snap := &pool.Snapshot{Revision: 5, Config: pool.DefaultConfig("prod", "life")}
		snap.Config.Revision = 2
		var voters, copied atomic.Pointer[[]string]
		voters.Store(&[]string{})
		ctx, cancel := context.WithCancel(t.Context())
		s := NewSaver(SaverConfig{Server: "srv-1", Clock: clock.Real(), Snapshot: func() *pool.Snapshot { return snap }, Log: slog.New(slog.DiscardHandler),
			Subscribe: func(clock.Signal) func() { return func() {} },
			Voters:    func() []string { return *voters.Load() },
			Write:     func(st saved.State) error { copied.Store(&st.Voters); return nil }})
		ended := make(chan error)
		go func() { ended <- s.Run(ctx) }()
		<-time.After(time.Minute)
		voters.Store(&[]string{"srv-1", "srv-2", "srv-3"})
		<-time.After(votersEvery)
		synctest.Wait()
		if got := *copied.Load(); len(got) != 3 {
			t.Errorf("the copy names voters %v", got)
		}
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
}
