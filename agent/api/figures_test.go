package api

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-ha/holdfast/agent/figures"
	"github.com/holdfast-ha/holdfast/pkg/clock"
	"github.com/holdfast-ha/holdfast/pkg/pool"
	pb "github.com/holdfast-ha/holdfast/proto/holdfast/v1"
)

// bubbleClock reads the bubble's time.
type bubbleClock struct{ clock.Clock }

func (bubbleClock) Now() pool.Instant { return pool.Instant(time.Now().UnixNano()) }

// board is a Figures that a test writes.
type board struct {
	mu       sync.Mutex
	watchers int
	heard    []figures.Heard
}

func (b *board) count(n int) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.watchers += n
	return b.watchers
}

func (b *board) Watch() func() { b.count(1); return func() { b.count(-1) } }

func (b *board) Read() []figures.Heard {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.heard)
}

// hear notes what a member told now.
func (b *board) hear(i int, f *pb.ServerFigures) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.heard[i].Figures, b.heard[i].At = f, pool.Instant(time.Now().UnixNano())
}

func TestWatchedFiguresAreToldOnceAndSilenceIsNamed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		one, three := &pb.ServerFigures{Server: "srv-1"}, &pb.ServerFigures{Server: "srv-3"}
		bd := &board{heard: []figures.Heard{{Server: "srv-1"}, {Server: "srv-2", Err: errors.New("connection refused")}, {Server: "srv-3"}}}
		b.cfg.Figures, b.cfg.Clock = bd, bubbleClock{clock.Real()}
		ctx, cancel := context.WithCancel(t.Context())
		st := stream[pb.WatchFiguresResponse]{ctx: ctx, sent: make(chan *pb.WatchFiguresResponse, 10)}
		ended := make(chan error, 1)
		go func() { ended <- b.WatchFigures(&pb.WatchFiguresRequest{}, st) }()
		if m := <-st.sent; len(m.GetServers()) != 0 || len(m.GetSilent()) != 3 || m.GetSilent()[1].GetReason() != "connection refused" || bd.count(0) != 1 {
			t.Fatalf("the first message is %v with %d watchers", m, bd.count(0))
		}
		bd.hear(0, one)
		bd.hear(2, three)
		if m := <-st.sent; len(m.GetServers()) != 2 || len(m.GetSilent()) != 1 {
			t.Fatalf("the second message is %v", m)
		}
		bd.hear(0, &pb.ServerFigures{Server: "srv-1", Cpus: 2})
		if m := <-st.sent; len(m.GetServers()) != 1 || m.GetServers()[0].GetCpus() != 2 || len(m.GetSilent()) != 1 {
			t.Fatalf("the third message is %v, want only what is new", m)
		}
		<-st.sent
		<-st.sent
		if m := <-st.sent; len(m.GetSilent()) != 3 || !strings.HasPrefix(m.GetSilent()[2].GetReason(), "not heard for ") {
			t.Fatalf("after a long silence: %v", m)
		}
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) || bd.count(0) != 0 {
			t.Errorf("the watch ended with %v and %d watchers", err, bd.count(0))
		}
	})
}

func TestAnAgentWithoutFiguresSaysSo(t *testing.T) {
	st := stream[pb.WatchFiguresResponse]{ctx: t.Context()}
	if err := newBench(t).WatchFigures(&pb.WatchFiguresRequest{}, st); !errors.Is(err, pool.ErrUnavailable) {
		t.Errorf("the error is %v", err)
	}
}
