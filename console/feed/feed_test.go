package feed

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-ha/holdfast/console/cli/fakepool"
	"github.com/holdfast-ha/holdfast/pkg/rpc"
	"github.com/holdfast-ha/holdfast/test/stopwatch"

	pb "github.com/holdfast-ha/holdfast/proto/holdfast/v1"
)

// channelSource hands out streams that a test writes to.
type channelSource struct {
	streams chan *channelStream
	avoided int
}

type channelStream struct {
	after    int64
	ctx      context.Context
	messages chan *pb.WatchPoolResponse
	fail     chan error
}

func (c *channelSource) Watch(ctx context.Context, after int64) (Stream, error) {
	s := &channelStream{after: after, ctx: ctx, messages: make(chan *pb.WatchPoolResponse), fail: make(chan error)}
	c.streams <- s
	return s, nil
}

func (c *channelSource) Avoid() { c.avoided++ }

func (s *channelStream) Recv() (*pb.WatchPoolResponse, error) {
	select {
	case m := <-s.messages:
		return m, nil
	case err := <-s.fail:
		return nil, err
	case <-s.ctx.Done():
		return nil, s.ctx.Err()
	}
}

func TestASilentAgentIsGivenUpForAnother(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		src := &channelSource{streams: make(chan *channelStream, 10)}
		f := New(src)
		done := make(chan struct{})
		go func() { defer close(done); f.Run(ctx) }()
		first := <-src.streams
		first.messages <- snapshot(10, "srv-1")
		synctest.Wait()
		start := time.Now()
		second := <-src.streams // nothing more is said on the first
		if waited := time.Since(start); waited < SilentAfter || waited > SilentAfter+time.Second {
			t.Errorf("given up after %s", waited)
		}
		if src.avoided != 1 {
			t.Errorf("avoided %d times", src.avoided)
		}
		second.messages <- snapshot(11, "srv-1")
		synctest.Wait()
		if got := f.Link().Freshness(time.Now()); got != Live {
			t.Errorf("%s, want live", got)
		}
		cancel()
		<-done
	})
}

func TestWakeUpsAreAtMostTenASecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		src := &channelSource{streams: make(chan *channelStream, 10)}
		f := New(src)
		done := make(chan struct{})
		go func() { defer close(done); f.Run(ctx) }()
		s := <-src.streams
		var count atomic.Int64
		go func() {
			last := time.Time{}
			for {
				if _, err := f.Next(ctx, last); err != nil {
					return
				}
				count.Add(1)
				last = time.Now()
			}
		}()
		s.messages <- snapshot(1, "srv-1")
		for i := range 100 { // a second of a busy pool
			time.Sleep(10 * time.Millisecond) // synctest's clock: no real time passes
			s.messages <- delta(int64(2+i), &pb.Delta{Vms: []*pb.VMView{vm("a", "srv-1", running)}})
		}
		synctest.Wait()
		before := count.Load()
		if before < 5 || before > 12 {
			t.Errorf("woken %d times in a second", before)
		}
		time.Sleep(4 * time.Second) // synctest's clock
		synctest.Wait()
		if woken := count.Load(); woken > before+1 {
			t.Errorf("woken %d times by nothing", woken-before)
		}
		cancel()
		<-done
	})
}

func TestAnotherAgentTakesOverWithinTwoSeconds(t *testing.T) {
	stopwatch.Within(t, 2*time.Second, "to be live again after the loss was seen", func() time.Duration { return takeOver(t) })
}

// takeOver ends the agent that serves the feed, and returns how long after the loss was seen another one serves it.
func takeOver(t *testing.T) time.Duration {
	t.Helper()
	pool := fakepool.New(fakepool.Healthy())
	t.Cleanup(pool.Close)
	agents, err := pool.Start(3)
	if err != nil {
		t.Fatal(err)
	}
	client, err := rpc.Dial(rpc.Target{Agents: agents}, rpc.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	f := New(Agents{client})
	go f.Run(ctx)
	next := func(want Freshness) time.Time {
		t.Helper()
		for {
			u, err := f.Next(ctx, time.Time{})
			if err != nil {
				t.Fatalf("waiting for %s: %v", want, err)
			}
			if u.Link.Freshness(time.Now()) == want {
				return time.Now()
			}
		}
	}
	next(Live)
	if err := pool.Kill(0); err != nil {
		t.Fatal(err)
	}
	broken := next(Stale)
	took := next(Live).Sub(broken)
	t.Logf("live again %s after the loss was seen", took)
	return took
}

func TestACallIsSentOnceAndItsLostAnswerIsUnknown(t *testing.T) {
	pool := fakepool.New(fakepool.Healthy())
	t.Cleanup(pool.Close)
	agents, err := pool.Start(2)
	if err != nil {
		t.Fatal(err)
	}
	client, err := rpc.Dial(rpc.Target{Agents: agents}, rpc.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	pool.Fail("SetPoolHA", fakepool.Fault{Die: true, Done: true})
	c := Caller{client}
	if _, err := c.Call(t.Context(), &pb.SetPoolHARequest{On: false}); !OutcomeUnknown(err) {
		t.Errorf("error %v, want an unknown outcome", err)
	}
	if n := len(pool.Calls("SetPoolHA")); n != 1 {
		t.Errorf("sent %d times", n)
	}
	reply, err := c.Call(t.Context(), &pb.GetVMRequest{Vm: "web-01"})
	if err != nil {
		t.Fatal(err)
	}
	if got, ok := reply.(*pb.GetVMResponse); !ok || got.GetVm().GetVm().GetId() != "web-01" {
		t.Errorf("reply %v", reply)
	}
	if _, err := c.Call(t.Context(), &pb.VM{}); err == nil || errors.Is(err, context.Canceled) {
		t.Errorf("a record was sent: %v", err)
	}
}
