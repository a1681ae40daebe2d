package rpc

import (
	"crypto/tls"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/keepalive"
)

// Limits of what a server accepts.
const (
	// maxMessage bounds one request, in bytes; the largest is a VM's definition.
	maxMessage = 4 << 20
	// maxStreams bounds the calls that one connection has open at a time.
	maxStreams = 250
	// maxHeaders bounds the names and values that come with a call, in bytes.
	maxHeaders = 64 << 10
)

// Sizes for connections that carry much, as a migration does: how much one stream, and one connection, may have under
// way unread, and how much is read or written at a time, in bytes. gRPC's own defaults are made for small messages; with
// these the bound is the processor's. They are upper bounds: an idle connection holds none of it but the buffer to write
// from. A larger window is no faster within a site (4 MiB are 4 GiB a second over a round trip of a millisecond), and
// what waits in it has left the processor's cache when its turn comes.
const (
	StreamWindow = 4 << 20
	ConnWindow   = 8 << 20
	IOBuffer     = 128 << 10
)

// ServerOptions returns the settings of a gRPC server of ours with the usual limits and no revocations; see
// Gate.Options.
func ServerOptions(tlsConfig *tls.Config) []grpc.ServerOption {
	return NewGate(ServeLimits{}, nil).Options(tlsConfig)
}

// Options returns the settings of the gRPC server behind the gate: errors as statuses, callers checked, limits, and
// keep-alives that notice a dead client. tlsConfig nil serves plaintext, which only loopback callers are answered on.
func (g *Gate) Options(tlsConfig *tls.Config) []grpc.ServerOption {
	return []grpc.ServerOption{
		grpc.Creds(g.credentials(tlsConfig)),
		grpc.ChainUnaryInterceptor(UnaryErrors, g.unary),
		grpc.ChainStreamInterceptor(StreamErrors, g.stream),
		grpc.ConnectionTimeout(g.limits.Handshake),
		grpc.MaxRecvMsgSize(maxMessage),
		grpc.MaxHeaderListSize(maxHeaders),
		grpc.MaxConcurrentStreams(maxStreams),
		grpc.InitialWindowSize(StreamWindow),
		grpc.InitialConnWindowSize(ConnWindow),
		grpc.WriteBufferSize(IOBuffer),
		grpc.ReadBufferSize(readBuffer(tlsConfig)),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: 10 * time.Second, Timeout: 5 * time.Second}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: time.Second, PermitWithoutStream: true}),
	}
}

// readBuffer returns how much gRPC reads ahead: nothing above TLS, which does so itself; a second buffer is a second copy.
func readBuffer(tlsConfig *tls.Config) int {
	if tlsConfig != nil {
		return 0
	}
	return IOBuffer
}
