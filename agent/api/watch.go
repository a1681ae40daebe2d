package api

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/holdfast-ha/holdfast/pkg/clock"
	"github.com/holdfast-ha/holdfast/pkg/plan"
	"github.com/holdfast-ha/holdfast/pkg/pool"
	"github.com/holdfast-ha/holdfast/pkg/wire"
	pb "github.com/holdfast-ha/holdfast/proto/holdfast/v1"
)

// Pace of a watch.
const (
	// heartbeatEvery is how often a watch without changes says that it lives.
	heartbeatEvery = time.Second
	// mergeFor collects changes, so that a busy pool costs a watcher at most ten messages a second.
	mergeFor = 100 * time.Millisecond
	// eventsShown bounds the events in the first message.
	eventsShown = 200
)

// WatchPool streams the pool: a snapshot, then what changed, and heartbeats.
func (s *Server) WatchPool(r *pb.WatchPoolRequest, stream grpc.ServerStreamingServer[pb.WatchPoolResponse]) error {
	v, err := s.view()
	if err != nil {
		return err
	}
	sig := s.cfg.Clock.NewSignal()
	defer s.cfg.Pool.Subscribe(sig)()
	w := &watch{server: s, withoutXML: r.GetWithoutXml()}
	ctx := stream.Context()
	message, err := s.opening(ctx, w, v, pool.Revision(r.GetAfterRevision()), sig)
	if err != nil {
		return err
	}
	if err := stream.Send(message); err != nil {
		return err
	}
	for ctx.Err() == nil {
		changed := sig.Wait(ctx, heartbeatEvery)
		v, err := s.view()
		if err != nil {
			return err
		}
		if err := stream.Send(w.next(v)); err != nil {
			return err
		}
		if changed {
			if err := s.cfg.Clock.Sleep(ctx, mergeFor); err != nil {
				return err
			}
		}
	}
	return ctx.Err()
}

// behindFor is how long a watcher that has seen more elsewhere waits for this agent to see it too.
const behindFor = 5 * time.Second

// opening builds the first message: the pool at v, or what changed since a revision that the watcher has
// seen.
func (s *Server) opening(ctx context.Context, w *watch, v *view, after pool.Revision, sig clock.Signal) (*pb.WatchPoolResponse, error) {
	if after == 0 {
		return w.first(v), nil
	}
	if after < 0 {
		return nil, pool.InField("after_revision", fmt.Errorf("after_revision %d: must be a revision that a watch showed: %w", after, pool.ErrInvalid))
	}
	for end := s.cfg.Clock.Now().Add(behindFor); v.snap.Revision < after; {
		left := end.Sub(s.cfg.Clock.Now())
		if left <= 0 || ctx.Err() != nil {
			return nil, fmt.Errorf("revision %d has not come to this agent yet, which has %d; try again, or ask another: %w", after, v.snap.Revision, pool.ErrUnavailable)
		}
		sig.Wait(ctx, left)
		var err error
		if v, err = s.view(); err != nil {
			return nil, err
		}
	}
	kept, ok := s.cfg.Pool.(interface {
		Since(rev pool.Revision) *pool.Snapshot
	})
	var old *pool.Snapshot
	switch {
	case v.snap.Revision == after:
		old = v.snap
	case ok:
		old = kept.Since(after)
	}
	if old == nil {
		return nil, pool.InField("after_revision", fmt.Errorf("revision %d is not kept any more by this agent; watch anew without after_revision: %w", after, pool.ErrGone))
	}
	if old.Revision != after {
		// This agent has not seen that very revision: what was another there and is as before now would not be told.
		return w.first(v), nil
	}
	before := *v
	before.snap, before.plan = old, plan.NewView(old)
	w.first(&before)
	w.pool = &pb.PoolView{} // told in any case: it says whose revisions these are
	return w.next(v), nil
}

// watch remembers what one watcher was sent.
type watch struct {
	server     *Server
	withoutXML bool
	seen       *pool.Snapshot
	pool       *pb.PoolView
	servers    map[pool.ServerID]*pb.ServerView
	vms        map[pool.VMID]*pb.VMView
}

func (w *watch) message(v *view) *pb.WatchPoolResponse {
	return &pb.WatchPoolResponse{Revision: int64(v.snap.Revision), ServerTime: timestamppb.New(w.server.cfg.Clock.Wall()),
		ServedBy: string(w.server.cfg.Server)}
}

// first builds the opening snapshot.
func (w *watch) first(v *view) *pb.WatchPoolResponse {
	w.seen, w.pool = v.snap, v.pool()
	w.servers, w.vms = map[pool.ServerID]*pb.ServerView{}, map[pool.VMID]*pb.VMView{}
	snap := &pb.Snapshot{Pool: w.pool}
	for id := range v.snap.Servers.All() {
		w.servers[id] = v.server(id)
		snap.Servers = append(snap.Servers, w.servers[id])
	}
	for id := range v.snap.VMs.All() {
		w.vms[id] = v.vm(id, w.withoutXML)
		snap.Vms = append(snap.Vms, w.vms[id])
	}
	for _, op := range operationsByTime(v.snap) {
		snap.Operations = append(snap.Operations, wire.Operation(op))
	}
	for _, e := range v.snap.Events.All() {
		snap.Events = append(snap.Events, wire.Event(e))
	}
	if n := len(snap.Events); n > eventsShown {
		snap.Events = snap.Events[n-eventsShown:]
	}
	m := w.message(v)
	m.Change = &pb.WatchPoolResponse_Snapshot{Snapshot: snap}
	return m
}

// next builds what changed since the message before, or a heartbeat.
func (w *watch) next(v *view) *pb.WatchPoolResponse {
	m := w.message(v)
	d := &pb.Delta{}
	if p := v.pool(); !samePool(p, w.pool) {
		d.Pool, w.pool = p, p
	}
	if v.snap != w.seen {
		w.changedServers(v, d)
		w.changedVMs(v, d)
		w.changedHistory(v, d)
		w.seen = v.snap
	}
	if proto.Size(d) == 0 {
		m.Change = &pb.WatchPoolResponse_Heartbeat{Heartbeat: &pb.Heartbeat{EtcdLost: v.lost, Failsafe: v.failsafe, FailsafeText: v.failsafeText}}
	} else {
		m.Change = &pb.WatchPoolResponse_Delta{Delta: d}
	}
	return m
}

// samePool compares two views of the pool, the revision apart, which every message carries.
func samePool(a, b *pb.PoolView) bool {
	revision := b.Revision
	b.Revision = a.Revision
	same := proto.Equal(a, b)
	b.Revision = revision
	return same
}

func (w *watch) changedServers(v *view, d *pb.Delta) {
	for id := range v.snap.Servers.All() {
		if now := v.server(id); !proto.Equal(now, w.servers[id]) {
			w.servers[id] = now
			d.Servers = append(d.Servers, now)
		}
	}
	for _, id := range slices.Sorted(maps.Keys(w.servers)) {
		if !v.snap.Servers.Has(id) {
			delete(w.servers, id)
			d.ServersRemoved = append(d.ServersRemoved, string(id))
		}
	}
}

// changedVMs looks at those VMs whose records may have changed; at all of them when a server's standing or the
// policy did, since that changes what is said about VMs.
func (w *watch) changedVMs(v *view, d *pb.Delta) {
	for _, id := range w.candidates(v, d) {
		now := v.vm(id, w.withoutXML)
		if now == nil {
			if _, known := w.vms[id]; known {
				delete(w.vms, id)
				d.VmsRemoved = append(d.VmsRemoved, string(id))
			}
			continue
		}
		if !proto.Equal(now, w.vms[id]) {
			w.vms[id] = now
			d.Vms = append(d.Vms, now)
		}
	}
}

func (w *watch) candidates(v *view, d *pb.Delta) []pool.VMID {
	ids := map[pool.VMID]bool{}
	if d.Pool != nil || len(d.Servers)+len(d.ServersRemoved) > 0 {
		for id := range v.snap.VMs.All() {
			ids[id] = true
		}
	}
	for id := range v.snap.VMs.ChangedSince(w.seen.VMs) {
		ids[id] = true
	}
	for id := range v.snap.Claims.ChangedSince(w.seen.Claims) {
		ids[id] = true
	}
	for id := range v.snap.States.ChangedSince(w.seen.States) {
		ids[id] = true
	}
	for id := range v.snap.Homes.ChangedSince(w.seen.Homes) {
		ids[id] = true
	}
	return slices.Sorted(maps.Keys(ids))
}

func (w *watch) changedHistory(v *view, d *pb.Delta) {
	for id := range v.snap.Operations.ChangedSince(w.seen.Operations) {
		op, ok := v.snap.Operations.Get(id)
		old, had := w.seen.Operations.Get(id)
		switch {
		case !ok && had:
			d.OperationsRemoved = append(d.OperationsRemoved, string(id))
		case ok && (!had || old.Revision != op.Revision):
			d.Operations = append(d.Operations, wire.Operation(op))
		}
	}
	last := lastEvent(w.seen)
	for id, e := range v.snap.Events.From(last) {
		if id != last {
			d.Events = append(d.Events, wire.Event(e))
		}
	}
}
