package api

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"

	"github.com/holdfast-ha/holdfast/pkg/plan"
	"github.com/holdfast-ha/holdfast/pkg/pool"
	pb "github.com/holdfast-ha/holdfast/proto/holdfast/v1"
)

// stream collects what a handler sends.
type stream[T any] struct {
	grpc.ServerStream
	ctx  context.Context
	sent chan *T
}

func (s stream[T]) Context() context.Context { return s.ctx }

func (s stream[T]) Send(m *T) error {
	s.sent <- m
	return nil
}

func TestAWatchBeginsWithASnapshotThenTellsChangesAndThatItLives(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		ctx, cancel := context.WithCancel(t.Context())
		st := stream[pb.WatchPoolResponse]{ctx: ctx, sent: make(chan *pb.WatchPoolResponse, 10)}
		ended := make(chan error, 1)
		go func() { ended <- b.WatchPool(&pb.WatchPoolRequest{}, st) }()

		first := <-st.sent
		if s := first.GetSnapshot(); len(s.GetServers()) != 3 || len(s.GetVms()) != 2 || first.GetRevision() != 100 {
			t.Fatalf("first message = %v", first)
		}
		if next := <-st.sent; next.GetHeartbeat() == nil {
			t.Fatalf("an idle pool: %v, want a heartbeat", next)
		}
		if _, err := b.SetVMHA(as(t), &pb.SetVMHARequest{Vms: []string{"web"}, On: true}); err != nil {
			t.Fatal(err)
		}
		d := (<-st.sent).GetDelta()
		if len(d.GetVms()) != 1 || d.GetVms()[0].GetVm().GetId() != "web" || len(d.GetEvents()) != 1 || len(d.GetServers()) != 0 {
			t.Fatalf("after one change: %v", d)
		}
		if _, err := b.RemoveVM(as(t), &pb.RemoveVMRequest{Vm: "db"}); err != nil {
			t.Fatal(err)
		}
		if d := (<-st.sent).GetDelta(); len(d.GetVmsRemoved()) != 1 || d.GetPool().GetVms() != 1 {
			t.Fatalf("after a removal: %v", d)
		}
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("the watch ended with %v", err)
		}
	})
}

func TestALostServerChangesWhatIsSaidOfItsVMs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.hold("web", "srv-2")
		ctx, cancel := context.WithCancel(t.Context())
		st := stream[pb.WatchPoolResponse]{ctx: ctx, sent: make(chan *pb.WatchPoolResponse, 10)}
		ended := make(chan error, 1)
		go func() { ended <- b.WatchPool(&pb.WatchPoolRequest{}, st) }()
		<-st.sent
		b.pool.change(func(s *pool.Snapshot) { s.Members = s.Members.Without("srv-2") })
		d := (<-st.sent).GetDelta()
		if len(d.GetServers()) != 1 || len(d.GetVms()) != 1 || d.GetVms()[0].GetStatus() != pb.VMStatus_VM_STATUS_LOST {
			t.Fatalf("delta = %v, want srv-2 and web as lost", d)
		}
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("the watch ended with %v", err)
		}
	})
}

func TestEventsAreWatchedFromAKnownOneOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		for _, vm := range []string{"db", "web", "db"} {
			if _, err := b.StopVM(as(t), &pb.StopVMRequest{Vm: vm}); err != nil {
				t.Fatal(err)
			}
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		st := stream[pb.WatchEventsResponse]{ctx: ctx, sent: make(chan *pb.WatchEventsResponse, 10)}
		ended := make(chan error, 1)
		go func() { ended <- b.WatchEvents(&pb.WatchEventsRequest{After: "00000001", Vm: "db"}, st) }()
		if e := (<-st.sent).GetEvent(); e.GetId() != "00000003" {
			t.Fatalf("first event = %v, want the third: the second is of another VM", e)
		}
		if _, err := b.KillVM(as(t), &pb.KillVMRequest{Vm: "db"}); err != nil {
			t.Fatal(err)
		}
		if e := (<-st.sent).GetEvent(); e.GetId() != "00000004" {
			t.Fatalf("next event = %v", e)
		}
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("the watch ended with %v", err)
		}
		if err := b.WatchEvents(&pb.WatchEventsRequest{After: "99999999"}, st); err == nil {
			t.Error("watching from an event that is not kept was accepted")
		}
	})
}

func TestTheWordsOfThePlannerAreTheNumbersOfTheAPI(t *testing.T) {
	for s := plan.VMUnspecified; s <= plan.VMMigrating; s++ {
		if got, want := pb.VMStatus(s).String(), "VM_STATUS_"+upper(s.String()); got != want {
			t.Errorf("VM status %d is %s in the API, want %s", s, got, want)
		}
	}
	for s := plan.ServerUnspecified; s <= plan.ServerDown; s++ {
		if got, want := pb.ServerState(s).String(), "SERVER_STATE_"+upper(s.String()); got != want {
			t.Errorf("server state %d is %s in the API, want %s", s, got, want)
		}
	}
}

func upper(s string) string {
	b := []byte(s)
	for i := range b {
		if b[i] >= 'a' && b[i] <= 'z' {
			b[i] -= 'a' - 'A'
		}
	}
	return string(b)
}
