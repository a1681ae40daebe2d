package mesh

import (
	"context"
	"fmt"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/holdfast-ha/holdfast/pkg/pool"
	"github.com/holdfast-ha/holdfast/pkg/rpc"
	pb "github.com/holdfast-ha/holdfast/proto/holdfast/v1"
)

// AskPromise asks another agent not to act as leader for hold, counted from its answer. why says why it did not
// promise; an error, that it did not answer.
func (p *Peers) AskPromise(ctx context.Context, server pool.ServerID, hold time.Duration) (promised bool, why string, err error) {
	c, err := p.mesh(server)
	if err != nil {
		return false, "", err
	}
	r, err := c.AskPromise(ctx, &pb.AskPromiseRequest{From: string(p.self), Incarnation: p.snapshot().Config.Incarnation, Hold: durationpb.New(hold)})
	if err != nil {
		return false, "", fmt.Errorf("ask %s for a promise: %w", server, rpc.FromStatus(err))
	}
	return r.GetPromised(), r.GetReason(), nil
}

// Promiser makes promises for this agent. app.Agent implements it.
type Promiser interface {
	Promise(ctx context.Context, incarnation string, hold time.Duration) (promised bool, why string)
}

// UsePromises makes the server answer for p when it is asked for promises. Call it before it serves; without, it
// promises nothing.
func (s *Server) UsePromises(p Promiser) { s.promiser = p }

// AskPromise answers whether this agent will not act as leader for a while. The promise binds before the answer leaves.
func (s *Server) AskPromise(ctx context.Context, r *pb.AskPromiseRequest) (*pb.AskPromiseResponse, error) {
	if s.promiser == nil {
		return &pb.AskPromiseResponse{Reason: "it makes no promises"}, nil
	}
	promised, why := s.promiser.Promise(ctx, r.GetIncarnation(), r.GetHold().AsDuration())
	return &pb.AskPromiseResponse{Promised: promised, Reason: why}, nil
}
