package mesh

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"google.golang.org/grpc"

	"github.com/holdfast-ha/holdfast/pkg/pki"
	"github.com/holdfast-ha/holdfast/pkg/pool"
	"github.com/holdfast-ha/holdfast/pkg/rpc"
	pb "github.com/holdfast-ha/holdfast/proto/holdfast/v1"
)

// lived is a server's place in the lives of the pool's data, with a copy.
type lived struct {
	copy   []byte
	refuse error
	asked  *pb.AdoptLifeRequest
}

func (l *lived) Standing(_ context.Context, brief bool) *pb.LifeStanding {
	s := &pb.LifeStanding{Server: "srv-2", Incarnation: "new", Earlier: []string{"old"}}
	if !brief {
		s.Known, s.Vms = true, []*pb.PresentVM{{Vm: "web", Epoch: 4}}
	}
	return s
}

func (l *lived) Copy() ([]byte, error) { return l.copy, nil }

func (l *lived) Adopt(_ context.Context, r *pb.AdoptLifeRequest) error {
	l.asked = r
	return l.refuse
}

func (s *site) living(id pool.ServerID, l Life) {
	s.t.Helper()
	s.answering(id, func(answers *Server) {
		if l != nil {
			answers.UseLife(l)
		}
	})
}

// answering serves a server of which more than a machine is known.
func (s *site) answering(id pool.ServerID, use func(*Server)) {
	s.t.Helper()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		s.t.Fatal(err)
	}
	srv := grpc.NewServer(rpc.ServerOptions(s.certificate(string(id), pki.RoleServer).Server(true))...)
	answers := NewServer(id, "1.2.3", func() string { return life }, &machine{})
	use(answers)
	pb.RegisterMeshServiceServer(srv, answers)
	go srv.Serve(lis) //nolint:errcheck // ends with Stop
	s.t.Cleanup(srv.Stop)
	s.registerAt(id, lis.Addr().String())
}

func TestACopyOfAnySizeIsHandedOverInParts(t *testing.T) {
	s := newSite(t)
	l := &lived{copy: bytes.Repeat([]byte("0123456789"), 70_000)}
	s.living("srv-2", l)
	s.living("srv-3", nil)
	p := s.peers("srv-1", &machine{})
	ctx := within(t, 30*time.Second)
	ask := func(server pool.ServerID, brief bool) (standing *pb.LifeStanding, data []byte, err error) {
		c, err := p.mesh(server)
		if err != nil {
			t.Fatal(err)
		}
		stream, err := c.GetSavedState(ctx, &pb.GetSavedStateRequest{Brief: brief})
		if err != nil {
			t.Fatal(err)
		}
		for {
			m, err := stream.Recv()
			if errors.Is(err, io.EOF) {
				return standing, data, nil
			}
			if err != nil {
				return nil, nil, rpc.FromStatus(err)
			}
			if m.GetStanding() != nil {
				standing = m.GetStanding()
			}
			data = append(data, m.GetPart()...)
		}
	}
	standing, data, err := ask("srv-2", false)
	if err != nil || !bytes.Equal(data, l.copy) || standing.GetIncarnation() != "new" || len(standing.GetVms()) != 1 {
		t.Errorf("%d bytes of %d, %v, %v", len(data), len(l.copy), standing, err)
	}
	standing, data, err = ask("srv-2", true)
	if err != nil || len(data) != 0 || standing.GetKnown() || len(standing.GetEarlier()) != 1 {
		t.Errorf("in brief: %d bytes, %v, %v", len(data), standing, err)
	}
	if _, _, err := ask("srv-3", false); !errors.Is(err, pool.ErrUnavailable) {
		t.Errorf("a server without a copy: %v", err)
	}
}

func TestAServerIsToldWhichLifeToFollowAndMayRefuse(t *testing.T) {
	s := newSite(t)
	l := &lived{}
	s.living("srv-2", l)
	p := s.peers("srv-1", &machine{})
	ctx := within(t, 30*time.Second)
	c, err := p.mesh("srv-2")
	if err != nil {
		t.Fatal(err)
	}
	want := &pb.AdoptLifeRequest{From: "old", To: "new", Earlier: []string{"old"}, Endpoints: []string{"https://10.0.0.1:2379"}}
	if _, err := c.AdoptLife(ctx, want); err != nil || l.asked.GetTo() != "new" || l.asked.GetFrom() != "old" || len(l.asked.GetEndpoints()) != 1 {
		t.Errorf("%v, %v", l.asked, err)
	}
	l.refuse = pool.Refuse("LIFE_CHANGED", "", "another rebuild has been here")
	if _, err := c.AdoptLife(ctx, want); !errors.Is(rpc.FromStatus(err), pool.ErrRefused) {
		t.Errorf("refused: %v", err)
	}
}
