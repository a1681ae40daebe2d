package mesh

import (
	"context"
	"fmt"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/holdfast-ha/holdfast/agent/api"
	"github.com/holdfast-ha/holdfast/agent/drill"
	"github.com/holdfast-ha/holdfast/pkg/pool"
	"github.com/holdfast-ha/holdfast/pkg/rpc"
	pb "github.com/holdfast-ha/holdfast/proto/holdfast/v1"
)

var _ api.Canaries = (*Peers)(nil)

// Canary is an agent's part in drills: app.Agent.
type Canary interface {
	TouchCanary(ctx context.Context, h drill.Hit) (drill.Facts, error)
}

// UseCanary makes the server, and calls to itself, take part in drills; without, they are refused. Call it before either
// is used.
func (s *Server) UseCanary(c Canary) { s.canary = c }

// UseCanary is where calls to this very server go.
func (p *Peers) UseCanary(c Canary) { p.canary = c }

// TouchCanary asks a server how a canary stands there, and to do to it what h says.
func (p *Peers) TouchCanary(ctx context.Context, server pool.ServerID, h drill.Hit) (drill.Facts, error) {
	if server == p.self {
		return touch(ctx, p.self, p.canary, h)
	}
	c, err := p.mesh(server)
	if err != nil {
		return drill.Facts{}, err
	}
	r, err := c.TouchCanary(ctx, &pb.TouchCanaryRequest{From: string(p.self), Incarnation: p.snapshot().Config.Incarnation, Canary: string(h.VM),
		Level: pb.DrillLevel(h.Level), Limit: durationpb.New(h.Limit), BesideOthers: h.BesideOthers, CutPower: h.CutPower}) //nolint:gosec // four levels
	if err != nil {
		return drill.Facts{}, rpc.FromStatus(err)
	}
	return api.ParseCanaryFacts(r.GetFacts()), nil
}

func touch(ctx context.Context, self pool.ServerID, c Canary, h drill.Hit) (drill.Facts, error) {
	if c == nil {
		return drill.Facts{}, pool.Refuse("NO_DRILL", "", "%s takes no part in drills", self)
	}
	return c.TouchCanary(ctx, h)
}

// TouchCanary says how a canary stands here, and does to it what is asked for.
func (s *Server) TouchCanary(ctx context.Context, r *pb.TouchCanaryRequest) (*pb.TouchCanaryResponse, error) {
	if mine := s.incarnation(); r.GetIncarnation() != mine {
		return nil, fmt.Errorf("%s belongs to another life of the pool (%s, not %s): %w", s.server, mine, r.GetIncarnation(), pool.ErrRefused)
	}
	facts, err := touch(ctx, s.server, s.canary, drill.Hit{VM: pool.VMID(r.GetCanary()), Level: pool.DrillLevel(r.GetLevel()), Limit: r.GetLimit().AsDuration(),
		BesideOthers: r.GetBesideOthers(), CutPower: r.GetCutPower()})
	if err != nil {
		return nil, err
	}
	return &pb.TouchCanaryResponse{Facts: api.CanaryFacts(facts)}, nil
}
