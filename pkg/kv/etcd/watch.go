package etcd

import (
	"context"
	"fmt"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/holdfast-ha/holdfast/pkg/kv"
	"github.com/holdfast-ha/holdfast/pkg/pool"
)

// silence is how long a watch may say nothing before it counts as broken.
const silence = 3 * kv.ProgressEvery

// Watch implements kv.Store: one stream to one member.
func (e *Etcd) Watch(ctx context.Context, prefix string, from pool.Revision) (kv.Watcher, error) {
	m, c, err := e.connected(ctx)
	if err != nil {
		return nil, fmt.Errorf("watch %s: %w", prefix, err)
	}
	life, cancel := context.WithCancel(clientv3.WithRequireLeader(context.WithoutCancel(ctx)))
	stream, err := pb.NewWatchClient(c.ActiveConnection()).Watch(life)
	if err == nil {
		err = stream.Send(createWatch(prefix, from))
	}
	if err != nil {
		cancel()
		e.failed(m)
		return nil, fmt.Errorf("watch %s at etcd %s: %w: %w", prefix, m.endpoint, pool.ErrUnavailable, err)
	}
	w := &watcher{etcd: e, member: m, cancel: cancel, life: life, stream: stream, received: make(chan received)}
	go w.receive()
	go w.beat()
	return w, nil
}

func createWatch(prefix string, from pool.Revision) *pb.WatchRequest {
	key, end := []byte(prefix), []byte(clientv3.GetPrefixRangeEnd(prefix))
	if prefix == "" {
		key, end = []byte{0}, []byte{0}
	}
	return &pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: &pb.WatchCreateRequest{
		Key: key, RangeEnd: end, StartRevision: int64(from), ProgressNotify: true,
	}}}
}

// watcher is one stream, with a goroutine for each direction; both end with life.
type watcher struct {
	etcd     *Etcd
	member   *member
	life     context.Context
	cancel   context.CancelFunc
	stream   pb.Watch_WatchClient
	received chan received
	// broken is set once the watch has failed; only Next touches it.
	broken error
}

type received struct {
	response *pb.WatchResponse
	err      error
}

func (w *watcher) receive() {
	for {
		res, err := w.stream.Recv()
		select {
		case w.received <- received{res, err}:
		case <-w.life.Done():
			return
		}
		if err != nil {
			return
		}
	}
}

// epoch is what all watches of the process count their beats from.
var epoch = time.Now()

// beat asks for progress. etcd answers once everything before is delivered, so an answer proves both the
// connection and that nothing is missing. All watches of the process ask at the same moments: on an idle server that
// is one wake-up instead of several.
func (w *watcher) beat() {
	for {
		next := time.NewTimer(kv.ProgressEvery - time.Since(epoch)%kv.ProgressEvery)
		select {
		case <-w.life.Done():
			next.Stop()
			return
		case <-next.C:
		}
		ask := &pb.WatchRequest{RequestUnion: &pb.WatchRequest_ProgressRequest{ProgressRequest: &pb.WatchProgressRequest{}}}
		if w.stream.Send(ask) != nil {
			return // receive has the reason
		}
	}
}

// Next implements kv.Watcher.
func (w *watcher) Next(ctx context.Context) (kv.Batch, error) {
	if w.broken != nil {
		return kv.Batch{}, w.broken
	}
	quiet := time.NewTimer(silence)
	defer quiet.Stop()
	for {
		select {
		case <-ctx.Done():
			return kv.Batch{}, ctx.Err()
		case <-w.life.Done():
			return kv.Batch{}, w.fail(fmt.Errorf("the watch is closed: %w", pool.ErrUnavailable))
		case <-quiet.C:
			return kv.Batch{}, w.fail(fmt.Errorf("etcd %s has been silent for %v: %w", w.member.endpoint, silence, pool.ErrUnavailable))
		case r := <-w.received:
			b, ok, err := w.batch(r)
			if err != nil {
				return kv.Batch{}, w.fail(err)
			}
			if ok {
				return b, nil
			}
			quiet.Reset(silence)
		}
	}
}

// batch turns a response into a batch; ok is false for one that only confirms the watch.
func (w *watcher) batch(r received) (b kv.Batch, ok bool, err error) {
	switch {
	case r.err != nil:
		return b, false, fmt.Errorf("etcd %s ended the watch: %w: %w", w.member.endpoint, pool.ErrUnavailable, r.err)
	case r.response.GetCompactRevision() != 0:
		return b, false, &kv.CompactedError{Oldest: pool.Revision(r.response.GetCompactRevision())}
	case r.response.GetCanceled():
		return b, false, fmt.Errorf("etcd %s cancelled the watch: %w: %s", w.member.endpoint, pool.ErrUnavailable, r.response.GetCancelReason())
	case r.response.GetCreated():
		return b, false, nil
	}
	events := r.response.GetEvents()
	if len(events) == 0 {
		return kv.Batch{Revision: pool.Revision(r.response.GetHeader().GetRevision())}, true, nil
	}
	b.Events = make([]kv.Event, len(events))
	for i, event := range events {
		b.Events[i] = kv.Event{KeyValue: keyValue(event.GetKv()), Deleted: event.GetType() == clientv3.EventTypeDelete}
	}
	b.Revision = b.Events[len(events)-1].ModRevision
	return b, true, nil
}

// fail ends the watch for good and makes the next one begin elsewhere.
func (w *watcher) fail(err error) error {
	w.broken = err
	w.cancel()
	w.etcd.failed(w.member)
	return err
}

// Close implements kv.Watcher.
func (w *watcher) Close() { w.cancel() }
