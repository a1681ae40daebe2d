package simkv

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/holdfast-ha/holdfast/agent/sim/simnet"
	"github.com/holdfast-ha/holdfast/agent/sim/vtime"
	"github.com/holdfast-ha/holdfast/pkg/kv"
	"github.com/holdfast-ha/holdfast/pkg/pool"
)

// watcher is one running watch. Events reach it in order, some time after they were committed; those that piled
// up meanwhile come as one batch.
type watcher struct {
	cl     *Client
	prefix string
	// next is the first revision not yet returned, sent the last one on its way, came the last one that arrived.
	next, sent, came pool.Revision
	moving           bool
	closed           bool
	// quiet: nothing came since the last beat. report: a progress report has arrived.
	quiet, report bool
	call          *vtime.Call
}

// Watch delivers changes below prefix from revision from on; 0 means from now.
func (cl *Client) Watch(ctx context.Context, prefix string, from pool.Revision) (kv.Watcher, error) {
	w := &watcher{cl: cl, prefix: prefix, next: from}
	err := cl.round(ctx, kindRead, "", func(r *request) {
		if w.next == 0 {
			w.next = cl.c.state.rev + 1
		}
		w.came = w.next - 1
		r.reply(nil)
	})
	if err != nil {
		return nil, fmt.Errorf("watch %s: %w", prefix, err)
	}
	c := cl.c
	c.watchers = slices.DeleteFunc(c.watchers, func(o *watcher) bool { return o.closed || !o.cl.p.Alive() })
	c.watchers = append(c.watchers, w)
	w.notify()
	w.beat()
	return w, nil
}

// Next returns what has arrived since the last call.
func (w *watcher) Next(ctx context.Context) (kv.Batch, error) {
	for {
		w.cl.p.Check()
		switch {
		case w.closed:
			return kv.Batch{}, fmt.Errorf("watch %s is closed: %w", w.prefix, pool.ErrUnavailable)
		case w.next < w.cl.c.state.compacted && w.came >= w.next:
			return kv.Batch{}, fmt.Errorf("watch %s: %w", w.prefix, &kv.CompactedError{Oldest: w.cl.c.state.compacted})
		case w.came >= w.next:
			if b, ok := w.take(); ok {
				return b, nil
			}
			continue
		case w.report:
			w.report = false
			return kv.Batch{Revision: w.next - 1}, nil
		}
		w.call = w.cl.p.NewCall()
		if err := w.call.Wait(ctx); err != nil {
			return kv.Batch{}, fmt.Errorf("watch %s: %w", w.prefix, err)
		}
	}
}

// Close ends the watch; a Next that waits fails.
func (w *watcher) Close() {
	w.closed = true
	w.wake()
}

// take returns the events that arrived; ok is false if none of them is below the prefix.
func (w *watcher) take() (kv.Batch, bool) {
	s := w.cl.c.state
	b := kv.Batch{Revision: w.came}
	first := s.since(w.next)
	for i := first; i < len(s.log) && s.log[i].rev <= w.came; i++ {
		all := s.log[i].events
		if len(b.Events) == 0 && w.covers(all) {
			b.Events = all[:len(all):len(all)]
			continue
		}
		for _, e := range all {
			if strings.HasPrefix(e.Key, w.prefix) {
				b.Events = append(b.Events, e)
			}
		}
	}
	w.next = w.came + 1
	return b, len(b.Events) > 0
}

func (w *watcher) covers(events []kv.Event) bool {
	for _, e := range events {
		if !strings.HasPrefix(e.Key, w.prefix) {
			return false
		}
	}
	return true
}

// notify sets out with what is new, if nothing is on its way and the way is open.
func (w *watcher) notify() {
	c := w.cl.c
	if w.closed || w.moving || !w.cl.p.Alive() || w.came >= c.state.rev || !w.open() {
		return
	}
	w.moving = true
	w.sent = c.state.rev
	c.s.After(c.net.Delay(w.cl.member, w.cl.server), w.arrive)
}

func (w *watcher) arrive() {
	w.moving = false
	if w.closed || !w.open() {
		return
	}
	w.came, w.quiet = max(w.came, w.sent), false
	w.wake()
	w.notify()
}

// beat asks for a progress report when nothing came for a while, as the real client does.
func (w *watcher) beat() {
	w.quiet = true
	w.cl.c.s.After(kv.ProgressEvery, func() {
		if w.closed || !w.cl.p.Alive() {
			return
		}
		if w.quiet && w.open() && w.cl.c.ready() && w.came >= w.cl.c.state.rev {
			w.report = true
			w.wake()
		}
		w.beat()
	})
}

// open reports whether the client's member can send to it. A member without quorum still serves old history.
func (w *watcher) open() bool {
	c, m := w.cl.c, w.cl.member
	return !w.cl.frozen && !c.dead[m] && c.net.Both(m, w.cl.server, simnet.Etcd) &&
		(c.leader == "" || m == c.leader || c.net.Both(m, c.leader, simnet.Etcd))
}

func (w *watcher) kick() {
	w.cl.look()
	w.notify()
}

func (w *watcher) wake() {
	if w.call != nil {
		w.call.Finish()
	}
}
