package cli

import (
	"context"
	"errors"

	"google.golang.org/grpc"

	"github.com/holdfast-ha/holdfast/console/contexts"
	"github.com/holdfast-ha/holdfast/pkg/pool"
	"github.com/holdfast-ha/holdfast/pkg/rpc"
	pb "github.com/holdfast-ha/holdfast/proto/holdfast/v1"
)

// session is the connection to one pool.
type session struct {
	choice contexts.Choice
	client *rpc.Client

	pool       pb.PoolServiceClient
	servers    pb.ServerServiceClient
	vms        pb.VMServiceClient
	operations pb.OperationServiceClient
	events     pb.EventServiceClient
	drills     pb.DrillServiceClient
}

// connect finds the pool and prepares to talk to it; the first call connects.
func (a *app) connect(limits rpc.Limits) (*session, error) {
	choice, err := contexts.Find(contexts.Wish{
		Agents: a.agents, Context: a.context, File: a.configFile, Getenv: a.env.Getenv, ServerFile: a.env.ServerFile,
	})
	if err != nil {
		return nil, err
	}
	choice.ReadOnly = choice.ReadOnly || a.readOnly
	client, err := rpc.Dial(choice.Target, limits)
	if err != nil {
		return nil, err
	}
	s := &session{choice: choice, client: client}
	conn := gate{client, choice}
	s.pool, s.servers, s.vms = pb.NewPoolServiceClient(conn), pb.NewServerServiceClient(conn), pb.NewVMServiceClient(conn)
	s.operations, s.events = pb.NewOperationServiceClient(conn), pb.NewEventServiceClient(conn)
	s.drills = pb.NewDrillServiceClient(conn)
	return s, nil
}

func (s *session) close() {
	// Closing tells nobody anything; there is nothing to do about a failure.
	_ = s.client.Close()
}

// name is the pool for questions and messages: its context and label.
func (s *session) name() string {
	switch {
	case s.choice.Label != "" && s.choice.Name != "":
		return s.choice.Name + " (" + s.choice.Label + ")"
	case s.choice.Name != "":
		return s.choice.Name
	}
	return s.client.Agent()
}

// gate is the one place that every call passes: a read-only context lets no change through, and an error of
// reachability says where the addresses came from.
type gate struct {
	*rpc.Client
	choice contexts.Choice
}

// Invoke refuses changes where the context is read-only.
func (g gate) Invoke(ctx context.Context, method string, args, reply any, opts ...grpc.CallOption) error {
	if g.choice.ReadOnly && !rpc.IsRead(method) {
		return pool.Refuse("READ_ONLY", "use another context, or set read_only: false there",
			"this is read-only (%s): nothing was sent", g.choice.Why)
	}
	return g.explain(g.Client.Invoke(ctx, method, args, reply, opts...))
}

// NewStream opens a stream; all streams are reads.
func (g gate) NewStream(ctx context.Context, desc *grpc.StreamDesc, method string, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	s, err := g.Client.NewStream(ctx, desc, method, opts...)
	return s, g.explain(err)
}

func (g gate) explain(err error) error {
	var u *rpc.Unreachable
	if errors.As(err, &u) {
		return &fromWhere{err, g.choice.Why}
	}
	return err
}

// fromWhere adds to an error where the addresses came from.
type fromWhere struct {
	err error
	why string
}

func (f *fromWhere) Error() string { return f.err.Error() + " (" + f.why + ")" }
func (f *fromWhere) Unwrap() error { return f.err }
