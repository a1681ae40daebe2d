package cli

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/holdfast-ha/holdfast/pkg/rpc"
	pb "github.com/holdfast-ha/holdfast/proto/holdfast/v1"
)

// Times of following a pool. The agent says something at least once a second.
const (
	// quiet is when a stream that says nothing is worth a remark.
	quiet = 2 * time.Second
	// silent is when it is given up and another agent is asked: its server may have lost its power.
	silent = 5 * time.Second
	// firstRetry and lastRetry bound the pause before another attempt.
	firstRetry = 250 * time.Millisecond
	lastRetry  = 3 * time.Second
)

// update is one piece of news from a followed pool.
type update struct {
	// message is what the stream said; nil if it said nothing.
	message *pb.WatchPoolResponse
	// since is how long nothing has been heard.
	since time.Duration
	// broken says why the stream ended, until the next one is there.
	broken error
}

// follow streams the pool to handle until ctx ends or handle fails. A stream that breaks or goes silent is replaced
// by one of another agent, which begins with a snapshot again. It fails at once if no agent answers at the start.
func (s *session) follow(ctx context.Context, handle func(update) error) error {
	heard := time.Time{}
	pause := firstRetry
	for attempt := 0; ; attempt++ {
		before := heard
		err := s.stream(ctx, &heard, handle)
		var stop *handlerError
		switch {
		case errors.As(err, &stop):
			return stop.err
		case ctx.Err() != nil:
			return nil
		case heard.IsZero() && (attempt+1 >= len(s.client.Agents()) || s.triedAll(err)):
			return err
		case heard.IsZero():
			continue
		}
		if heard.After(before) {
			pause = firstRetry
		}
		if err := handle(update{since: time.Since(heard), broken: err}); err != nil {
			return err
		}
		if !waitFor(ctx, pause/2+rand.N(pause)) {
			return nil
		}
		pause = min(2*pause, lastRetry)
	}
}

// triedAll reports whether err says that no agent at all could be reached.
func (s *session) triedAll(err error) bool {
	var u *rpc.Unreachable
	return errors.As(err, &u) && len(u.Tried) == len(s.client.Agents())
}

// handlerError is an error of the handler, not of the stream.
type handlerError struct{ err error }

func (h *handlerError) Error() string { return h.err.Error() }

// stream passes one stream on until it ends.
func (s *session) stream(ctx context.Context, heard *time.Time, handle func(update) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	watch, err := s.pool.WatchPool(ctx, &pb.WatchPoolRequest{WithoutXml: true})
	if err != nil {
		return err
	}
	messages, ended := receive(ctx, watch)
	opened := time.Now()
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case m := <-messages:
			*heard = time.Now()
			opened = *heard
			if err := handle(update{message: m}); err != nil {
				return &handlerError{err}
			}
		case err := <-ended:
			if errors.Is(err, io.EOF) {
				return errors.New("the agent ended the stream")
			}
			return err
		case <-tick.C:
			since := time.Since(opened)
			if since >= silent {
				s.client.Avoid()
				return errors.New("the agent has gone silent")
			}
			if since >= quiet && !heard.IsZero() {
				if err := handle(update{since: since}); err != nil {
					return &handlerError{err}
				}
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// receiver is a stream of the pool.
type receiver interface {
	Recv() (*pb.WatchPoolResponse, error)
}

// receive reads a stream in a goroutine of its own, which ends with the stream or with ctx.
func receive(ctx context.Context, watch receiver) (<-chan *pb.WatchPoolResponse, <-chan error) {
	messages, ended := make(chan *pb.WatchPoolResponse), make(chan error, 1)
	go func() {
		for {
			m, err := watch.Recv()
			if err != nil {
				ended <- err
				return
			}
			select {
			case messages <- m:
			case <-ctx.Done():
				return
			}
		}
	}()
	return messages, ended
}

// waitFor waits for d; false if ctx ended first.
func waitFor(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// snapshot returns the pool at one revision: the first message of a stream.
func (s *session) snapshot(ctx context.Context) (*state, error) {
	st := newState()
	done := errors.New("done")
	err := s.follow(ctx, func(u update) error {
		if u.message == nil {
			return u.broken
		}
		st.fold(u.message)
		return done
	})
	switch {
	case errors.Is(err, done):
		return st, nil
	case err == nil:
		return nil, ctx.Err()
	}
	return nil, err
}

// state is the pool as the messages so far make it. It belongs to one goroutine.
type state struct {
	pool       *pb.PoolView
	servers    map[string]*pb.ServerView
	vms        map[string]*pb.VMView
	operations map[string]*pb.Operation
	events     []*pb.Event
	revision   int64
	servedBy   string
	etcdLost   bool
}

func newState() *state {
	return &state{
		pool: &pb.PoolView{}, servers: map[string]*pb.ServerView{}, vms: map[string]*pb.VMView{}, operations: map[string]*pb.Operation{},
	}
}

// eventsKept bounds the events kept in memory while following.
const eventsKept = 200

// fold brings the state to the message's revision.
func (st *state) fold(m *pb.WatchPoolResponse) {
	st.revision, st.servedBy = m.GetRevision(), m.GetServedBy()
	switch {
	case m.GetSnapshot() != nil:
		s := m.GetSnapshot()
		fresh := newState()
		st.servers, st.vms, st.operations = fresh.servers, fresh.vms, fresh.operations
		st.pool, st.events = s.GetPool(), s.GetEvents()
		st.put(s.GetServers(), s.GetVms(), s.GetOperations())
		st.etcdLost = s.GetPool().GetEtcdLost()
	case m.GetDelta() != nil:
		d := m.GetDelta()
		if d.GetPool() != nil {
			st.pool = d.GetPool()
			st.etcdLost = d.GetPool().GetEtcdLost()
		}
		st.put(d.GetServers(), d.GetVms(), d.GetOperations())
		remove(st.servers, d.GetServersRemoved())
		remove(st.vms, d.GetVmsRemoved())
		remove(st.operations, d.GetOperationsRemoved())
		st.events = append(st.events, d.GetEvents()...)
	case m.GetHeartbeat() != nil:
		st.etcdLost = m.GetHeartbeat().GetEtcdLost()
		st.pool.Failsafe, st.pool.FailsafeText = m.GetHeartbeat().GetFailsafe(), m.GetHeartbeat().GetFailsafeText()
	}
	if n := len(st.events); n > eventsKept {
		st.events = slices.Clone(st.events[n-eventsKept:])
	}
}

func (st *state) put(servers []*pb.ServerView, vms []*pb.VMView, operations []*pb.Operation) {
	for _, s := range servers {
		st.servers[s.GetServer().GetId()] = s
	}
	for _, v := range vms {
		st.vms[v.GetVm().GetId()] = v
	}
	for _, o := range operations {
		st.operations[o.GetId()] = o
	}
}

func remove[T any](from map[string]T, names []string) {
	for _, n := range names {
		delete(from, n)
	}
}

// sorted returns a map's values by name.
func sorted[T any](m map[string]T) []T {
	names := make([]string, 0, len(m))
	for n := range m {
		names = append(names, n)
	}
	slices.Sort(names)
	out := make([]T, 0, len(m))
	for _, n := range names {
		out = append(out, m[n])
	}
	return out
}

// operationsByTime returns the operations, oldest first.
func (st *state) operationsByTime() []*pb.Operation {
	all := sorted(st.operations)
	slices.SortStableFunc(all, func(a, b *pb.Operation) int {
		return a.GetRequested().GetAt().AsTime().Compare(b.GetRequested().GetAt().AsTime())
	})
	return all
}

// alertKey names an alert for comparing one state with the next.
func alertKey(a *pb.Alert) string {
	return strings.Join([]string{a.GetId(), a.GetKind(), a.GetServer(), a.GetVm()}, "\x00")
}
