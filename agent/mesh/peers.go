package mesh

import (
	"context"
	"crypto/tls"
	"fmt"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"

	"github.com/holdfast-ha/holdfast/agent/api"
	"github.com/holdfast-ha/holdfast/pkg/clock"
	"github.com/holdfast-ha/holdfast/pkg/pool"
	"github.com/holdfast-ha/holdfast/pkg/rpc"
	"github.com/holdfast-ha/holdfast/pkg/wire"
	pb "github.com/holdfast-ha/holdfast/proto/holdfast/v1"
)

// Peers calls the other agents. Create it with NewPeers; safe for concurrent use.
type Peers struct {
	self pool.ServerID
	host Host
	// snapshot finds addresses.
	snapshot func() *pool.Snapshot
	// tls returns how to talk to a server; nil means plaintext to loopback (the demo).
	tls func(pool.ServerID) *tls.Config
	// canary is this agent's part in drills; nil without UseCanary.
	canary Canary

	mu    sync.Mutex
	conns map[pool.ServerID]conn
}

type conn struct {
	address string
	cc      *grpc.ClientConn
}

var _ api.Servers = (*Peers)(nil)

// NewPeers returns the calling side of one agent. Calls to self go to host directly.
func NewPeers(self pool.ServerID, host Host, snapshot func() *pool.Snapshot, tlsFor func(pool.ServerID) *tls.Config) *Peers {
	return &Peers{self: self, host: host, snapshot: snapshot, tls: tlsFor, conns: map[pool.ServerID]conn{}}
}

// Close ends all connections.
func (p *Peers) Close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for id, c := range p.conns {
		_ = c.cc.Close() // closing twice is its only error
		delete(p.conns, id)
	}
}

// Inspect asks one server whether it can run a definition.
func (p *Peers) Inspect(ctx context.Context, server pool.ServerID, xml string, needs []pool.Need) (api.Inspection, error) {
	if server == p.self {
		in, err := p.host.Inspect(ctx, xml, needs)
		in.Server = server
		return in, err
	}
	c, err := p.member(ctx, server)
	if err != nil {
		return api.Inspection{}, err
	}
	resp, err := c.InspectVM(ctx, &pb.InspectVMRequest{Xml: xml, Needs: wire.VM(pool.VM{Needs: needs}).GetNeeds()})
	if err != nil {
		return api.Inspection{}, rpc.FromStatus(err)
	}
	return api.Inspection{Server: server, Missing: resp.GetMissing(), Rejected: resp.GetRejected(), Unlocked: resp.GetUnlocked()}, nil
}

// Lookup asks one server for a libvirt domain.
func (p *Peers) Lookup(ctx context.Context, server pool.ServerID, name string) (api.FoundDomain, bool, error) {
	if server == p.self {
		d, ok, err := p.host.Lookup(ctx, name)
		d.Server = server
		return d, ok, err
	}
	c, err := p.member(ctx, server)
	if err != nil {
		return api.FoundDomain{}, false, err
	}
	r, err := c.LookupDomain(ctx, &pb.LookupDomainRequest{Domain: name})
	if err != nil {
		return api.FoundDomain{}, false, rpc.FromStatus(err)
	}
	return api.FoundDomain{Server: server, XML: r.GetXml(), UUID: r.GetUuid(), Running: r.GetRunning(), Persistent: r.GetPersistent(),
		Autostart: r.GetAutostart(), OwnedBy: r.GetOwnedByPool()}, r.GetFound(), nil
}

// Ping asks one server how it is.
func (p *Peers) Ping(ctx context.Context, server pool.ServerID) (*pb.PingResponse, error) {
	c, err := p.mesh(server)
	if err != nil {
		return nil, err
	}
	r, err := c.Ping(ctx, &pb.PingRequest{From: string(p.self), Incarnation: p.snapshot().Config.Incarnation})
	return r, rpc.FromStatus(err)
}

// mesh returns the client for a server, on a connection that is kept while its address stays the same.
func (p *Peers) mesh(server pool.ServerID) (pb.MeshServiceClient, error) {
	s, ok := p.snapshot().Servers.Get(server)
	if !ok || s.Address == "" {
		return nil, fmt.Errorf("no address of server %s is known: %w", server, pool.ErrNotFound)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if c, ok := p.conns[server]; ok {
		if c.address == s.Address {
			return pb.NewMeshServiceClient(c.cc), nil
		}
		_ = c.cc.Close() // the address changed; its calls fail and are made again
		delete(p.conns, server)
	}
	creds := insecure.NewCredentials()
	if t := p.tls(server); t != nil {
		creds = credentials.NewTLS(t)
	}
	cc, err := grpc.NewClient("passthrough:///"+s.Address, grpc.WithTransportCredentials(creds),
		grpc.WithConnectParams(grpc.ConnectParams{Backoff: reconnect, MinConnectTimeout: time.Second}),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 10 * time.Second, Timeout: 2 * time.Second, PermitWithoutStream: true}))
	if err != nil {
		return nil, fmt.Errorf("server %s at %s: %w", server, s.Address, err)
	}
	p.conns[server] = conn{s.Address, cc}
	return pb.NewMeshServiceClient(cc), nil
}

// memberPatience is for how long a member's connection is waited for: twice what its next attempt may take to begin.
const memberPatience = 2 * time.Second

// member returns the client for a server that somebody waits for. To one that is back, and a member of the pool again, the
// connection may still be down from when it was away: it is made first, rather than its last failure reported.
func (p *Peers) member(ctx context.Context, server pool.ServerID) (pb.MeshServiceClient, error) {
	c, err := p.mesh(server)
	if err != nil || !p.snapshot().Members.Has(server) {
		return c, err
	}
	p.mu.Lock()
	cc := p.conns[server].cc
	p.mu.Unlock()
	if cc == nil {
		return c, nil // its address has just changed; the call says so
	}
	ctx, cancel := clock.Real().WithTimeout(ctx, memberPatience)
	defer cancel()
	cc.ResetConnectBackoff()
	for state := cc.GetState(); state != connectivity.Ready && state != connectivity.Shutdown; state = cc.GetState() {
		if state == connectivity.Idle {
			cc.Connect()
		}
		if !cc.WaitForStateChange(ctx, state) {
			break // the call tells why
		}
	}
	return c, nil
}

// reconnect tries soon and often: a peer that is back should be heard within a second.
var reconnect = backoff.Config{BaseDelay: 200 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: time.Second}
