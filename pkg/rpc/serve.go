package rpc

import (
	"crypto/tls"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"
)

// Limits of what a server accepts.
const (
	// maxMessage bounds one request, in bytes; the largest is a VM's definition.
	maxMessage = 4 << 20
	// maxStreams bounds the calls that one connection has open at a time.
	maxStreams = 250
)

// Sizes for connections that carry much, as a migration does: how much one stream, and one connection, may have under
// way unread, and how much is read or written at a time, in bytes. gRPC's own defaults are made for small messages; with
// these the bound is the processor's. They are upper bounds: an idle connection holds none of it but the two buffers.
const (
	StreamWindow = 8 << 20
	ConnWindow   = 16 << 20
	IOBuffer     = 128 << 10
)

// ServerOptions returns the settings of every gRPC server of ours: errors as statuses, callers checked, limits, and
// keep-alives that notice a dead client. tlsConfig nil serves plaintext, which only loopback callers are answered on.
func ServerOptions(tlsConfig *tls.Config) []grpc.ServerOption {
	opts := []grpc.ServerOption{
		grpc.ChainUnaryInterceptor(UnaryErrors, UnaryAccess),
		grpc.ChainStreamInterceptor(StreamErrors, StreamAccess),
		grpc.MaxRecvMsgSize(maxMessage),
		grpc.MaxConcurrentStreams(maxStreams),
		grpc.InitialWindowSize(StreamWindow),
		grpc.InitialConnWindowSize(ConnWindow),
		grpc.WriteBufferSize(IOBuffer),
		grpc.ReadBufferSize(IOBuffer),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: 10 * time.Second, Timeout: 5 * time.Second}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: time.Second, PermitWithoutStream: true}),
	}
	if tlsConfig != nil {
		opts = append(opts, grpc.Creds(credentials.NewTLS(tlsConfig)))
	}
	return opts
}
