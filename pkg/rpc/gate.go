package rpc

import (
	"context"
	"crypto/tls"
	"net"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/holdfast-ha/holdfast/pkg/pki"
)

// Gate is where everybody passes who calls a server of ours: it counts connections, finds out who is at the other end,
// looks into the access table and the revocations, and ends streams of those who do not read. One Gate serves one
// gRPC server. Safe for concurrent use.
type Gate struct {
	limits  ServeLimits
	revoked func(pki.Identity) bool

	mu        sync.Mutex
	callers   map[string]int // connections by name, and "" for all of people and scripts
	strangers map[string]int // connections without a certificate by address, and "" for all
	waiting   map[string]int // connections that have not said who they are, in the same way
	refusals  int
	open      map[*openStream]bool
}

// NewGate returns a gate. revoked reports whether a certificate is no longer accepted; nil: none is revoked.
func NewGate(l ServeLimits, revoked func(pki.Identity) bool) *Gate {
	if revoked == nil {
		revoked = func(pki.Identity) bool { return false }
	}
	return &Gate{
		limits: l.withDefaults(), revoked: revoked,
		callers: map[string]int{}, strangers: map[string]int{}, waiting: map[string]int{}, open: map[*openStream]bool{},
	}
}

// Recheck ends the open streams of those whose certificate has been revoked meanwhile. Calls are checked one by one.
func (g *Gate) Recheck() {
	g.mu.Lock()
	var ended []*openStream
	for s := range g.open {
		if g.revoked(s.id) {
			ended = append(ended, s)
		}
	}
	g.mu.Unlock()
	for _, s := range ended {
		s.cut(revokedError(s.id))
	}
}

// Listen returns a listener that closes what is too much unread: callers who do not say who they are.
func (g *Gate) Listen(l net.Listener) net.Listener { return &gateListener{l, g} }

type gateListener struct {
	net.Listener
	gate *Gate
}

// Accept returns the next connection that is not too much.
func (l *gateListener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		host := hostOf(c.RemoteAddr())
		if l.gate.take(l.gate.waiting, host, l.gate.limits.Handshakes, l.gate.limits.HandshakesPerAddress) {
			return &countedConn{Conn: c, release: func() { l.gate.give(l.gate.waiting, host) }}, nil
		}
		_ = c.Close() // it is told nothing: to speak with it is what there is no room for
	}
}

// countedConn gives its place free when it is closed, or before.
type countedConn struct {
	net.Conn
	once    sync.Once
	release func()
}

func (c *countedConn) free() { c.once.Do(c.release) }

// Close gives the place free.
func (c *countedConn) Close() error {
	c.free()
	return c.Conn.Close()
}

// take counts one more under name and under "" for all, unless that is too many.
func (g *Gate) take(counts map[string]int, name string, all, each int) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if counts[""] >= all || counts[name] >= each {
		return false
	}
	counts[""]++
	counts[name]++
	return true
}

func (g *Gate) give(counts map[string]int, name string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	counts[""]--
	if counts[name]--; counts[name] <= 0 {
		delete(counts, name)
	}
}

// credentials wraps TLS, or plaintext for loopback, with the gate's counting.
func (g *Gate) credentials(config *tls.Config) credentials.TransportCredentials {
	if config == nil {
		return &gateCredentials{insecure.NewCredentials(), g}
	}
	return &gateCredentials{credentials.NewTLS(config), g}
}

type gateCredentials struct {
	credentials.TransportCredentials
	gate *Gate
}

// Clone implements credentials.TransportCredentials.
func (c *gateCredentials) Clone() credentials.TransportCredentials {
	return &gateCredentials{c.TransportCredentials.Clone(), c.gate}
}

// ServerHandshake finds out who calls and gives it a place, or one among the refused.
func (c *gateCredentials) ServerHandshake(raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	conn, info, err := c.TransportCredentials.ServerHandshake(raw)
	if err != nil {
		return nil, nil, err
	}
	if w, ok := raw.(*countedConn); ok {
		w.free()
	}
	placed, refused, err := c.gate.place(conn, info)
	if err != nil {
		_ = conn.Close() // the error says why
		return nil, nil, err
	}
	return placed, &admission{AuthInfo: info, refused: refused}, nil
}

// admission is what is known of a connection.
type admission struct {
	credentials.AuthInfo
	// refused is what every call on it is answered; nil: it has its place.
	refused error
}

// place finds room for a connection. refused says that it is one too many; err that there is no room even to say so.
func (g *Gate) place(conn net.Conn, info credentials.AuthInfo) (placed net.Conn, refused, err error) {
	counts, name, all, each := g.callers, "local", g.limits.Connections, g.limits.PerCaller
	if t, ok := info.(credentials.TLSInfo); ok {
		id, known := pki.Peer(t.State)
		switch {
		case !known:
			counts, name, all, each = g.strangers, hostOf(conn.RemoteAddr()), g.limits.Strangers, g.limits.PerAddress
		case !id.Role.Operator():
			return conn, nil, nil
		default:
			name = id.String()
		}
	}
	if g.take(counts, name, all, each) {
		return &countedConn{Conn: conn, release: func() { g.give(counts, name) }}, nil, nil
	}
	refused = tooMany(name, all, each)
	g.mu.Lock()
	full := g.refusals >= g.limits.Refusals
	if !full {
		g.refusals++
	}
	g.mu.Unlock()
	if full {
		return nil, nil, refused
	}
	c := &countedConn{Conn: conn, release: func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		g.refusals--
	}}
	time.AfterFunc(g.limits.Farewell, func() { _ = c.Close() }) // it may be closed already
	return c, refused, nil
}

func hostOf(a net.Addr) string {
	if a == nil {
		return "unknown"
	}
	if host, _, err := net.SplitHostPort(a.String()); err == nil {
		return host
	}
	return a.String()
}

// unary checks one call.
func (g *Gate) unary(ctx context.Context, req any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
	ctx, err := g.admit(ctx, info.FullMethod, req)
	if err != nil {
		return nil, err
	}
	return next(ctx, req)
}
