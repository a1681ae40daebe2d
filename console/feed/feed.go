package feed

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	pb "github.com/holdfast-ha/holdfast/proto/holdfast/v1"
)

// mostOften is the shortest time between two updates.
const mostOften = 100 * time.Millisecond

// Update is what a console is woken with.
type Update struct {
	// View is the newest state; nil before the first snapshot.
	View *View
	Link Link
	// Back is set once after a stream was lost and found again.
	Back *Return
	// Figures are those since the last update, oldest first.
	Figures []Figures
}

// Source opens streams of a pool. *rpc.Client behind the generated client is one: it asks the agents in turn.
type Source interface {
	// Watch opens a stream on whichever agent answers: what changed after that revision, 0 for all there is.
	Watch(ctx context.Context, after int64) (Stream, error)
	// Avoid has the next stream go to another agent.
	Avoid()
}

// Learner is a Source that can take the addresses of more agents, as the pool tells them.
type Learner interface{ Learn(agents []string) }

// Stream is an open WatchPool.
type Stream interface {
	Recv() (*pb.WatchPoolResponse, error)
}

// Feed follows one pool. Create it with New and run it with Run; the other methods are safe for concurrent use.
type Feed struct {
	source Source
	hurry  chan struct{}
	news   chan struct{}

	mu sync.Mutex
	m  machine
	// told: nothing has changed since the last Next.
	told bool
	// figures nobody has taken yet.
	figures []Figures
}

// New returns a feed that does nothing until Run.
func New(source Source) *Feed {
	return &Feed{source: source, hurry: make(chan struct{}, 1), news: make(chan struct{}, 1), m: machine{random: rand.Float64}}
}

// Run follows the pool until ctx ends.
func (f *Feed) Run(ctx context.Context) {
	for ctx.Err() == nil {
		after := int64(0)
		f.with(true, func() { after = f.m.opening() })
		err := f.stream(ctx, after)
		if ctx.Err() != nil {
			return
		}
		var wait time.Duration
		f.with(true, func() { wait = f.m.broken(time.Now(), err) })
		f.pause(ctx, wait)
	}
}

// pause waits for d, or until somebody is in a hurry; without limit if d is negative.
func (f *Feed) pause(ctx context.Context, d time.Duration) {
	var after <-chan time.Time
	if d >= 0 {
		t := time.NewTimer(d)
		defer t.Stop()
		after = t.C
	}
	select {
	case <-after:
	case <-f.hurry:
	case <-ctx.Done():
	}
}

// stream passes one stream on until it ends.
func (f *Feed) stream(ctx context.Context, after int64) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s, err := f.source.Watch(ctx, after)
	if err != nil {
		return err
	}
	select {
	case <-f.hurry: // there is a stream, so nobody needs to hurry any more
	default:
	}
	f.with(false, func() { f.m.streams(time.Now()) })
	gaveUp := make(chan struct{})
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		if f.watchSilence(ctx) {
			close(gaveUp)
			cancel()
		}
	}()
	measured := make(chan struct{})
	go func() {
		defer close(measured)
		if src, ok := f.source.(FigureSource); ok {
			f.followFigures(ctx, src)
		}
	}()
	err = f.receive(s)
	cancel()
	<-watched
	<-measured
	select {
	case <-gaveUp:
		f.source.Avoid()
		return errSilent
	default:
	}
	return err
}

// receive folds messages until the stream ends.
func (f *Feed) receive(s Stream) error {
	for {
		r, err := s.Recv()
		if errors.Is(err, io.EOF) {
			return errEnded
		}
		if err != nil {
			return err
		}
		if l, ok := f.source.(Learner); ok {
			l.Learn(addresses(r))
		}
		f.mu.Lock()
		changed, err := f.m.message(time.Now(), r)
		f.mu.Unlock()
		if err != nil {
			return err
		}
		if changed {
			f.wake()
		}
	}
}

// addresses are those of the servers that a message tells of.
func addresses(r *pb.WatchPoolResponse) []string {
	var out []string
	for _, s := range slices.Concat(r.GetSnapshot().GetServers(), r.GetDelta().GetServers()) {
		out = append(out, s.GetServer().GetAddress())
	}
	return out
}

// watchSilence returns true once the stream has been silent for too long, false when ctx ends.
func (f *Feed) watchSilence(ctx context.Context) bool {
	t := time.NewTicker(500 * time.Millisecond)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return false
		case <-f.hurry: // asked to reconnect although a stream is there
			return true
		case <-t.C:
			silent := false
			f.with(false, func() { silent = f.m.silent(time.Now()) })
			if silent {
				return true
			}
		}
	}
}

func (f *Feed) with(wake bool, do func()) {
	f.mu.Lock()
	do()
	f.mu.Unlock()
	if wake {
		f.wake()
	}
}

func (f *Feed) wake() {
	f.mu.Lock()
	f.told = false
	f.mu.Unlock()
	select {
	case f.news <- struct{}{}:
	default:
	}
}

// Next waits for something new, at least mostOften after the last time, and returns it. It fails when ctx ends.
// One goroutine at a time may call it.
func (f *Feed) Next(ctx context.Context, last time.Time) (Update, error) {
	for {
		u, err := f.next(ctx, last)
		if !errors.Is(err, errTold) {
			return u, err
		}
	}
}

func (f *Feed) next(ctx context.Context, last time.Time) (Update, error) {
	select {
	case <-f.news:
	case <-ctx.Done():
		return Update{}, ctx.Err()
	}
	if early := mostOften - time.Since(last); early > 0 {
		t := time.NewTimer(early)
		defer t.Stop()
		select {
		case <-t.C:
		case <-ctx.Done():
			return Update{}, ctx.Err()
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.told { // what woke us was told last time already
		return Update{}, errTold
	}
	f.told = true
	figures := f.figures
	f.figures = nil
	return Update{View: f.m.view, Link: f.m.link, Back: f.m.takeReturn(), Figures: figures}, nil
}

// errTold says that a wake-up came with nothing new.
var errTold = errors.New("nothing new")

// Link is how the connection stands.
func (f *Feed) Link() Link {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.m.link
}

// Reconnect ends a pause, or a stream that is open, and asks another agent at once.
func (f *Feed) Reconnect() {
	select {
	case f.hurry <- struct{}{}:
	default:
	}
}
