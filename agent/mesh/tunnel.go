package mesh

import (
	"context"
	"fmt"

	"google.golang.org/grpc"

	"github.com/holdfast-ha/holdfast/agent/mesh/tunnel"
	"github.com/holdfast-ha/holdfast/pkg/pki"
	"github.com/holdfast-ha/holdfast/pkg/pool"
	"github.com/holdfast-ha/holdfast/pkg/rpc"
	pb "github.com/holdfast-ha/holdfast/proto/holdfast/v1"
)

// Admit judges whether server from may bring a copy of a VM to server self, whose session is session, for operation op:
// only the VM's owner may, under a claim that names both, as it was just read. It is pool.ErrRefused otherwise, and
// pool.ErrUnavailable while self has no session.
func Admit(c pool.Claim, from, self pool.ServerID, session pool.Session, op pool.OperationID) error {
	refuse := func(format string, args ...any) error {
		return pool.Refuse("NOT_ADMITTED", "", "%s is not to come to %s: "+format, append([]any{c.VM, self}, args...)...)
	}
	switch {
	case op == "":
		return refuse("there is no operation")
	case session == 0: // its agent has just been started, and takes its session up again in a moment
		return fmt.Errorf("%s has no session now: %w", self, pool.ErrUnavailable)
	case c.Phase != pool.PhaseMigrating || c.Incoming == nil:
		return refuse("its claim is %v", c.Phase)
	case c.Operation != op:
		return refuse("its claim is for operation %s, not %s", c.Operation, op)
	case c.Server != from:
		return refuse("it belongs to %s, not to %s", c.Server, from)
	case c.Incoming.Server != self || c.Incoming.Session != session:
		return refuse("it goes to %s in session %d", c.Incoming.Server, c.Incoming.Session)
	}
	return nil
}

// Gate judges who may open a tunnel. Admitted reads the VM's claim linearizably and returns Admit's verdict.
type Gate interface {
	Admitted(ctx context.Context, from pool.ServerID, op pool.OperationID, vm pool.VMID) error
}

// UseTunnels has the server answer the tunnels of live migrations. Without it they are refused.
func (s *Server) UseTunnels(ends *tunnel.Ends, gate Gate) { s.ends, s.gate = ends, gate }

// Tunnel carries one connection of a live migration.
func (s *Server) Tunnel(stream grpc.BidiStreamingServer[pb.TunnelRequest, pb.TunnelResponse]) error {
	if s.ends == nil {
		return fmt.Errorf("%s takes no live migrations: %w", s.server, pool.ErrUnavailable)
	}
	return s.ends.Serve(stream, func(ctx context.Context, open *pb.TunnelOpen) error {
		from, err := caller(ctx)
		if err != nil {
			return err
		}
		return s.gate.Admitted(ctx, from, pool.OperationID(open.GetOperation()), pool.VMID(open.GetVm()))
	})
}

// caller returns the server that is calling, by its certificate.
func caller(ctx context.Context) (pool.ServerID, error) {
	id := rpc.IdentityFrom(ctx)
	if id.Role != pki.RoleServer || id.Name == "" {
		return "", fmt.Errorf("%v is no server of the pool: %w", id, pool.ErrRefused)
	}
	return pool.ServerID(id.Name), nil
}

// Ways opens the tunnels by which this server's VMs leave. Create it with NewWays; safe for concurrent use.
type Ways struct {
	peers *Peers
	ends  *tunnel.Ends
}

// NewWays returns Ways over the mesh of peers.
func NewWays(peers *Peers, ends *tunnel.Ends) *Ways { return &Ways{peers, ends} }

// Open opens tunnels to a server that has prepared for an operation, and returns where this server's libvirt connects.
// dir is the directory that the other server named.
func (w *Ways) Open(ctx context.Context, to pool.ServerID, op pool.OperationID, vm pool.VMID, dir string) (tunnel.Sockets, error) {
	s, ok := w.peers.snapshot().Servers.Get(to)
	if !ok || s.Address == "" {
		return tunnel.Sockets{}, fmt.Errorf("no address of server %s is known: %w", to, pool.ErrNotFound)
	}
	return w.ends.Open(ctx, tunnel.Way{Operation: op, VM: vm, Dir: dir,
		Dial: func() (*grpc.ClientConn, error) { return tunnel.Dial(s.Address, w.peers.tls(to)) }})
}

// Close ends the tunnels of an operation, if there are any.
func (w *Ways) Close(op pool.OperationID) { w.ends.Close(op) }
