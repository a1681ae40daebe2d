package guard

import (
	"context"
	"log/slog"
	"sync/atomic"
)

// asyncLog passes records on in a goroutine of its own and drops them rather than wait: a journal that hangs must
// not delay a kill.
type asyncLog struct {
	slog.Handler
	queue   chan entry
	dropped *atomic.Int64
}

type entry struct {
	to     slog.Handler
	record slog.Record
}

// maxEntries is how many records may wait.
const maxEntries = 1024

func newAsyncLog(to slog.Handler) *asyncLog {
	return &asyncLog{Handler: to, queue: make(chan entry, maxEntries), dropped: &atomic.Int64{}}
}

// Handle implements slog.Handler.
func (a *asyncLog) Handle(_ context.Context, r slog.Record) error {
	select {
	case a.queue <- entry{a.Handler, r.Clone()}:
	default:
		a.dropped.Add(1)
	}
	return nil
}

// WithAttrs implements slog.Handler.
func (a *asyncLog) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &asyncLog{a.Handler.WithAttrs(attrs), a.queue, a.dropped}
}

// WithGroup implements slog.Handler.
func (a *asyncLog) WithGroup(name string) slog.Handler {
	return &asyncLog{a.Handler.WithGroup(name), a.queue, a.dropped}
}

// run writes until ctx ends, and then what is left.
func (a *asyncLog) run(ctx context.Context) {
	for {
		select {
		case e := <-a.queue:
			a.write(e)
		case <-ctx.Done():
			for len(a.queue) > 0 {
				a.write(<-a.queue)
			}
			return
		}
	}
}

func (a *asyncLog) write(e entry) {
	ctx := context.Background()
	if n := a.dropped.Swap(0); n > 0 {
		e.record.AddAttrs(slog.Int64("dropped", n))
	}
	_ = e.to.Handle(ctx, e.record) // there is nowhere to say that saying failed
}
