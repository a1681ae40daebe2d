package mesh

import (
	"context"
	"fmt"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/holdfast-ha/holdfast/agent/api"
	"github.com/holdfast-ha/holdfast/agent/figures"
	"github.com/holdfast-ha/holdfast/agent/local"
	"github.com/holdfast-ha/holdfast/agent/mesh/tunnel"
	"github.com/holdfast-ha/holdfast/pkg/clock"
	"github.com/holdfast-ha/holdfast/pkg/pool"
	"github.com/holdfast-ha/holdfast/pkg/wire"
	pb "github.com/holdfast-ha/holdfast/proto/holdfast/v1"
)

// Host is this agent as others ask about it. Safe for concurrent use.
type Host interface {
	// Session returns this server's session; 0 while there is none.
	Session() pool.Session
	// Reachable reports whether etcd answered lately.
	Reachable() bool
	// GuardAnswers reports whether this server's guard answers.
	GuardAnswers() bool
	// Silence begins or goes on to listen to another server, and returns how long that has given no sign of life.
	Silence(server pool.ServerID) time.Duration
	// Inspect checks whether this server can run a definition.
	Inspect(ctx context.Context, xml string, needs []pool.Need) (api.Inspection, error)
	// Lookup finds a domain in this server's libvirt.
	Lookup(ctx context.Context, name string) (api.FoundDomain, bool, error)
	// AdmitIncoming reports whether this server takes in the copy that operation op makes of vm; nil if it does.
	AdmitIncoming(ctx context.Context, op pool.OperationID, vm pool.VMID, epoch pool.Epoch) error
	// Incoming says how that copy stands here, under the session that its source knows.
	Incoming(ctx context.Context, op pool.OperationID, vm pool.VMID, session pool.Session) (local.Confirmed, error)
}

// Server answers the other agents. Create it with NewServer.
type Server struct {
	pb.UnimplementedMeshServiceServer

	server      pool.ServerID
	version     string
	incarnation func() string
	host        Host
	// canary is this agent's part in drills; nil without UseCanary.
	canary Canary
	// ends and gate answer tunnels; nil without UseTunnels.
	ends *tunnel.Ends
	gate Gate
	// promiser answers who asks for promises; nil without UsePromises.
	promiser Promiser
	// meter measures this server; nil without UseFigures.
	meter *figures.Meter
	// life answers who rebuilds the pool; nil without UseLife.
	life Life
	// authority answers who exchanges the pool's CA; nil without UseAuthority.
	authority Authority
}

// NewServer returns the answering side of one agent.
func NewServer(server pool.ServerID, version string, incarnation func() string, host Host) *Server {
	return &Server{server: server, version: version, incarnation: incarnation, host: host}
}

// Ping says how this agent is.
func (s *Server) Ping(_ context.Context, r *pb.PingRequest) (*pb.PingResponse, error) {
	if mine := s.incarnation(); r.GetIncarnation() != "" && mine != "" && r.GetIncarnation() != mine {
		return nil, fmt.Errorf("%s belongs to another life of the pool (%s, not %s): %w", s.server, mine, r.GetIncarnation(), pool.ErrRefused)
	}
	return &pb.PingResponse{Server: string(s.server), Session: int64(s.host.Session()), EtcdReachable: s.host.Reachable(),
		Version: s.version, Guard: s.host.GuardAnswers(), Now: timestamppb.New(clock.Real().Wall())}, nil
}

// InspectVM checks a definition against this server.
func (s *Server) InspectVM(ctx context.Context, r *pb.InspectVMRequest) (*pb.InspectVMResponse, error) {
	vm, err := wire.ParseVM(&pb.VM{Needs: r.GetNeeds()})
	if err != nil {
		return nil, err
	}
	in, err := s.host.Inspect(ctx, r.GetXml(), vm.Needs)
	if err != nil {
		return nil, err
	}
	return &pb.InspectVMResponse{Missing: in.Missing, Rejected: in.Rejected, Unlocked: in.Unlocked}, nil
}

// LookupDomain finds a domain in this server's libvirt.
func (s *Server) LookupDomain(ctx context.Context, r *pb.LookupDomainRequest) (*pb.LookupDomainResponse, error) {
	d, found, err := s.host.Lookup(ctx, r.GetDomain())
	if err != nil || !found {
		return &pb.LookupDomainResponse{}, err
	}
	return &pb.LookupDomainResponse{Found: true, Xml: d.XML, Uuid: d.UUID, Running: d.Running, Persistent: d.Persistent,
		Autostart: d.Autostart, OwnedByPool: d.OwnedBy}, nil
}
