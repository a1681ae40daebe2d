package figures

import (
	"context"
	"sync"
	"time"

	"github.com/holdfast-ha/holdfast/pkg/clock"
	"github.com/holdfast-ha/holdfast/pkg/pool"
	pb "github.com/holdfast-ha/holdfast/proto/holdfast/v1"
)

const (
	// lookEvery is how often a Board looks who is a member.
	lookEvery = time.Second
	// firstPause and lastPause bound the pauses after a member did not answer.
	firstPause = time.Second
	lastPause  = 30 * time.Second
)

// Peers hears the figures of other servers. Safe for concurrent use.
type Peers interface {
	// Figures gives each measurement of server to take until ctx ends or the other agent is away; it always fails in
	// the end.
	Figures(ctx context.Context, server pool.ServerID, take func(*pb.ServerFigures)) error
}

// BoardConfig assembles a Board. All fields are required.
type BoardConfig struct {
	Server   pool.ServerID
	Clock    clock.Clock
	Meter    *Meter
	Peers    Peers
	Snapshot func() *pool.Snapshot
}

// Heard is what is known of one member.
type Heard struct {
	Server pool.ServerID
	// Figures is the newest measurement, not to be changed; nil before the first.
	Figures *pb.ServerFigures
	// At is when it arrived.
	At pool.Instant
	// Err says why nothing comes; nil while something does, or is waited for.
	Err error
}

// Board collects the figures of all members for those who watch. Create it with NewBoard; safe for concurrent use.
type Board struct {
	cfg  BoardConfig
	left clock.Signal

	mu       sync.Mutex
	watchers int
	running  bool
	members  map[pool.ServerID]*member
}

// member is one server that is listened to.
type member struct {
	heard  Heard
	cancel context.CancelCauseFunc
}

// NewBoard returns a Board that hears nobody until somebody watches.
func NewBoard(cfg BoardConfig) *Board {
	return &Board{cfg: cfg, left: cfg.Clock.NewSignal(), members: map[pool.ServerID]*member{}}
}

// Watch has the board listen to the members until the returned function is called, which must be called once.
func (b *Board) Watch() (leave func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.watchers++
	if !b.running {
		b.running = true
		b.cfg.Clock.Go("figures of members", b.run)
	}
	return func() {
		b.mu.Lock()
		b.watchers--
		last := b.watchers == 0
		b.mu.Unlock()
		if last {
			b.left.Set()
		}
	}
}

// Read returns what is known of each member, in name order.
func (b *Board) Read() []Heard {
	var out []Heard
	b.mu.Lock()
	defer b.mu.Unlock()
	for id := range b.cfg.Snapshot().Members.All() {
		h := Heard{Server: id}
		if m := b.members[id]; m != nil {
			h = m.heard
		}
		out = append(out, h)
	}
	return out
}

// run listens to whoever is a member while anybody watches.
func (b *Board) run() {
	ctx, cancel := b.cfg.Clock.WithCancel(context.Background())
	defer cancel(nil)
	for b.wanted() {
		b.look(ctx)
		b.left.Wait(ctx, lookEvery)
	}
}

// wanted reports whether anybody watches; if not, all that was heard is forgotten and the loop is over.
func (b *Board) wanted() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.watchers == 0 {
		for _, m := range b.members {
			m.cancel(nil)
		}
		b.running, b.members = false, map[pool.ServerID]*member{}
	}
	return b.running
}

// look begins to listen to new members and ends it with those that are none any more.
func (b *Board) look(ctx context.Context) {
	snap := b.cfg.Snapshot()
	b.mu.Lock()
	defer b.mu.Unlock()
	for id, m := range b.members {
		if !snap.Members.Has(id) {
			m.cancel(nil)
			delete(b.members, id)
		}
	}
	for id := range snap.Members.All() {
		if b.members[id] != nil {
			continue
		}
		each, cancel := b.cfg.Clock.WithCancel(ctx)
		m := &member{heard: Heard{Server: id}, cancel: cancel}
		b.members[id] = m
		b.cfg.Clock.Go("figures of "+string(id), func() { b.follow(each, m) })
	}
}

// follow listens to one member until ctx ends, with pauses that grow while it does not answer.
func (b *Board) follow(ctx context.Context, m *member) {
	pause := firstPause
	for ctx.Err() == nil {
		err := b.stream(ctx, m.heard.Server, func(f *pb.ServerFigures) {
			pause = firstPause
			b.mu.Lock()
			m.heard.Figures, m.heard.At, m.heard.Err = f, b.cfg.Clock.Now(), nil
			b.mu.Unlock()
		})
		b.mu.Lock()
		m.heard.Err = err
		b.mu.Unlock()
		if b.cfg.Clock.Sleep(ctx, pause) != nil {
			return
		}
		pause = min(2*pause, lastPause)
	}
}

func (b *Board) stream(ctx context.Context, server pool.ServerID, take func(*pb.ServerFigures)) error {
	if server == b.cfg.Server {
		return b.cfg.Meter.Stream(ctx, func(f *pb.ServerFigures) error { take(f); return nil })
	}
	return b.cfg.Peers.Figures(ctx, server, take)
}
