package rpc

import (
	"context"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"

	"github.com/holdfast-ha/holdfast/pkg/pki"
)

// openStream is a stream that can be ended from outside.
type openStream struct {
	grpc.ServerStream
	ctx context.Context //nolint:containedctx // the stream's own context, with the caller's identity added
	id  pki.Identity
	// slow bounds how long one message may wait to be read.
	slow time.Duration

	mu      sync.Mutex
	verdict error
	ended   chan struct{}
}

// Context returns the stream's context with the caller's identity.
func (s *openStream) Context() context.Context { return s.ctx }

// cut ends the stream with err, once.
func (s *openStream) cut(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.verdict == nil {
		s.verdict = err
		close(s.ended)
	}
}

func (s *openStream) end() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.verdict
}

// SendMsg waits until there is room for the message; not for ever.
func (s *openStream) SendMsg(m any) error {
	if err := s.end(); err != nil {
		return err
	}
	impatience := time.AfterFunc(s.slow, func() { s.cut(slowError(s.slow)) })
	defer impatience.Stop()
	return s.ServerStream.SendMsg(m)
}

// stream checks a call that streams, and stays with it. What servers stream among themselves is checked only: it has
// limits of its own (a migration may wait for a disk).
func (g *Gate) stream(srv any, s grpc.ServerStream, info *grpc.StreamServerInfo, next grpc.StreamHandler) error {
	ctx, err := g.admit(s.Context(), info.FullMethod, nil)
	if err != nil {
		return err
	}
	if strings.HasPrefix(info.FullMethod, "/holdfast.v1.MeshService/") {
		return next(srv, &identifiedStream{s, ctx})
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	o := &openStream{ServerStream: s, ctx: ctx, id: IdentityFrom(ctx), slow: g.limits.Slow, ended: make(chan struct{})}
	g.mu.Lock()
	g.open[o] = true
	g.mu.Unlock()
	defer func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		delete(g.open, o)
	}()
	if g.revoked(o.id) { // between the check and the place in the list
		return revokedError(o.id)
	}
	// The handler may hang in SendMsg until gRPC has ended the stream, which it does when this function returns.
	done := make(chan error, 1)
	go func() { done <- next(srv, o) }()
	select {
	case err := <-done:
		return err
	case <-o.ended:
		return o.end()
	}
}
