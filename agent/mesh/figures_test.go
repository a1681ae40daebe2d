package mesh

import (
	"context"
	"errors"
	"net"
	"testing"
	"time"

	"google.golang.org/grpc"

	"github.com/holdfast-ha/holdfast/agent/figures"
	"github.com/holdfast-ha/holdfast/agent/local"
	"github.com/holdfast-ha/holdfast/pkg/clock"
	"github.com/holdfast-ha/holdfast/pkg/pki"
	"github.com/holdfast-ha/holdfast/pkg/pool"
	"github.com/holdfast-ha/holdfast/pkg/rpc"
	pb "github.com/holdfast-ha/holdfast/proto/holdfast/v1"
)

// busy is a server with one VM.
type busy struct{}

func (busy) Host(context.Context) (figures.Host, error) {
	return figures.Host{Busy: time.Second, CPUs: 4, MemoryUsedBytes: 1, MemoryBytes: 2}, nil
}

func (busy) Usage(context.Context) ([]local.Usage, error) {
	return []local.Usage{{VM: "web", CPUTime: time.Second, MemoryBytes: 7}}, nil
}
func (busy) Job(context.Context, pool.VMID) (local.Job, error) { return local.Job{}, nil }

func TestFiguresFlowFromAgentToAgentAndEndWithTheAgent(t *testing.T) {
	s := newSite(t)
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := grpc.NewServer(rpc.ServerOptions(s.certificate("srv-2", pki.RoleServer).Server(true))...)
	answers := NewServer("srv-2", "1.2.3", func() string { return life }, &machine{})
	answers.UseFigures(figures.NewMeter(figures.MeterConfig{Server: "srv-2", Clock: clock.Real(), Source: busy{}, Snapshot: s.shown}))
	pb.RegisterMeshServiceServer(srv, answers)
	go srv.Serve(lis) //nolint:errcheck // ends with Stop
	t.Cleanup(srv.Stop)
	s.registerAt("srv-2", lis.Addr().String())

	p := s.peers("srv-1", &machine{})
	n := 0
	err = p.Figures(within(t, 30*time.Second), "srv-2", func(f *pb.ServerFigures) {
		if f.GetServer() != "srv-2" || f.GetCpus() != 4 || len(f.GetVms()) != 1 || f.GetVms()[0].GetMemoryBytes() != 7 {
			t.Errorf("figures are %v", f)
		}
		if n++; n == 2 {
			go srv.Stop()
		}
	})
	if n < 2 || err == nil || errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("heard %d times, then %v; want the end of the other agent", n, err)
	}
}

func TestAServerThatMeasuresNothingSaysSo(t *testing.T) {
	s := newSite(t)
	s.serve("srv-2", &machine{})
	err := s.peers("srv-1", &machine{}).Figures(within(t, 10*time.Second), "srv-2", func(*pb.ServerFigures) {})
	if !errors.Is(err, pool.ErrUnavailable) {
		t.Errorf("the error is %v", err)
	}
}
