package rpc

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"net"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"github.com/holdfast-ha/holdfast/pkg/pki"
	"github.com/holdfast-ha/holdfast/pkg/pool"
)

type identityKey struct{}

// WithIdentity returns a context that carries who is calling. The interceptors set it; tests and the simulator too.
func WithIdentity(ctx context.Context, id pki.Identity) context.Context {
	return context.WithValue(ctx, identityKey{}, id)
}

// IdentityFrom returns who is calling; the zero value if nobody said.
func IdentityFrom(ctx context.Context) pki.Identity {
	id, _ := ctx.Value(identityKey{}).(pki.Identity)
	return id
}

// Local is who calls over a connection without TLS. Only loopback is served so.
var Local = pki.Identity{Name: "local", Role: pki.RoleAdmin}

// Call is the call that is being answered.
type Call struct {
	// Method is its full name, From host:port of the caller.
	Method, From string
	// RequestID is the caller's, or one that was made here.
	RequestID string
}

type callKey struct{}

// WithCall returns a context that carries the call that is being answered. The interceptors set it; tests too.
func WithCall(ctx context.Context, c Call) context.Context {
	return context.WithValue(ctx, callKey{}, c)
}

// CallFrom returns the call that is being answered; ok is false where no connection brought one, as in the simulator.
func CallFrom(ctx context.Context) (c Call, ok bool) {
	c, ok = ctx.Value(callKey{}).(Call)
	return c, ok
}

// AuditOf returns what an event says of the call that is being answered; nil where no connection brought one.
func AuditOf(ctx context.Context) *pool.Audit {
	c, ok := CallFrom(ctx)
	if !ok {
		return nil
	}
	id := IdentityFrom(ctx)
	return &pool.Audit{Role: string(id.Role), Serial: id.Serial, From: c.From, Method: c.Method, RequestID: c.RequestID}
}

// newCall describes a call. A request without an ID of its own is given one, to find it again in the audit.
func newCall(method string, p *peer.Peer, req any) Call {
	c := Call{Method: method}
	if p.Addr != nil {
		c.From = p.Addr.String()
	}
	if r, ok := req.(interface{ GetRequestId() string }); ok {
		c.RequestID = r.GetRequestId()
	}
	if c.RequestID == "" {
		var b [6]byte
		_, _ = rand.Read(b[:]) // never fails
		c.RequestID = "auto-" + hex.EncodeToString(b[:])
	}
	return c
}

// identify finds out who is at the other end of a connection; the zero value for somebody without a certificate.
func identify(p *peer.Peer) (pki.Identity, error) {
	auth := p.AuthInfo
	if a, ok := auth.(*admission); ok {
		if a.refused != nil {
			return pki.Identity{}, a.refused
		}
		auth = a.AuthInfo
	}
	info, ok := auth.(credentials.TLSInfo)
	if !ok {
		if fromLoopback(p.Addr) {
			return Local, nil
		}
		return pki.Identity{}, plaintextError()
	}
	id, _ := pki.Peer(info.State)
	return id, nil
}

func fromLoopback(addr net.Addr) bool {
	switch a := addr.(type) {
	case *net.TCPAddr:
		return a.IP.IsLoopback()
	case *net.UnixAddr:
		return true
	}
	return addr.Network() == "bufconn"
}

// admit returns ctx with the caller's identity and call, if the table and the revocations let it call method.
func (g *Gate) admit(ctx context.Context, method string, req any) (context.Context, error) {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return ctx, status.Error(codes.Unauthenticated, "no connection to judge")
	}
	id, err := identify(p)
	switch {
	case err != nil:
		return ctx, err
	case id.Role != "" && g.revoked(id):
		return ctx, revokedError(id)
	case Allowed(method, id.Role):
		return WithCall(WithIdentity(ctx, id), newCall(method, p, req)), nil
	case id.Role == "":
		return ctx, strangerError()
	}
	return ctx, roleError(id, method)
}

type identifiedStream struct {
	grpc.ServerStream
	ctx context.Context //nolint:containedctx // the stream's own context, with the caller's identity added
}

func (s *identifiedStream) Context() context.Context { return s.ctx }
