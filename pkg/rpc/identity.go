package rpc

import (
	"context"
	"fmt"
	"net"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"github.com/holdfast-ha/holdfast/pkg/pki"
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

// identify finds out who is at the other end of ctx's connection.
func identify(ctx context.Context) (pki.Identity, error) {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return pki.Identity{}, status.Error(codes.Unauthenticated, "no connection to judge")
	}
	info, ok := p.AuthInfo.(credentials.TLSInfo)
	if !ok {
		if fromLoopback(p.Addr) {
			return Local, nil
		}
		return pki.Identity{}, status.Error(codes.Unauthenticated, "without TLS only this machine itself is served; use a certificate of the pool")
	}
	id, ok := pki.Peer(info.State)
	if !ok {
		return pki.Identity{}, nil
	}
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

// admit returns ctx with the caller's identity, if the table lets it call method.
func admit(ctx context.Context, method string) (context.Context, error) {
	id, err := identify(ctx)
	if err != nil {
		return ctx, err
	}
	if Allowed(method, id.Role) {
		return WithIdentity(ctx, id), nil
	}
	if id.Role == "" {
		return ctx, status.Error(codes.Unauthenticated, "this call needs a certificate of the pool")
	}
	return ctx, status.Error(codes.PermissionDenied, fmt.Sprintf("%s may not call %s: it needs %s", id, method, neededFor(method)))
}

// UnaryAccess admits callers by the access table.
func UnaryAccess(ctx context.Context, req any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
	ctx, err := admit(ctx, info.FullMethod)
	if err != nil {
		return nil, err
	}
	return next(ctx, req)
}

// StreamAccess admits callers of streams by the access table.
func StreamAccess(srv any, s grpc.ServerStream, info *grpc.StreamServerInfo, next grpc.StreamHandler) error {
	ctx, err := admit(s.Context(), info.FullMethod)
	if err != nil {
		return err
	}
	return next(srv, &identifiedStream{s, ctx})
}

type identifiedStream struct {
	grpc.ServerStream
	ctx context.Context //nolint:containedctx // the stream's own context, with the caller's identity added
}

func (s *identifiedStream) Context() context.Context { return s.ctx }
