package tunnel

import (
	"crypto/tls"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"

	"github.com/holdfast-ha/holdfast/pkg/rpc"
)

// silence is how long the other end may leave data unacknowledged, or a ping without answer, before its tunnels break.
// Less gives a migration up over a short disturbance; more leaves a guest whose CPUs stand still for the end of the
// copy standing still for so much longer when the destination is lost.
const silence = 8 * time.Second

// pingAfter is how long a quiet connection is left alone; gRPC allows no less.
const pingAfter = 10 * time.Second

// Dial connects to an agent for one socket's tunnels. tlsConfig nil talks plaintext, for tests.
func Dial(address string, tlsConfig *tls.Config) (*grpc.ClientConn, error) {
	creds := insecure.NewCredentials()
	if tlsConfig != nil {
		creds = rpc.BulkTLS(tlsConfig)
	}
	return grpc.NewClient("passthrough:///"+address, grpc.WithTransportCredentials(creds),
		grpc.WithConnectParams(grpc.ConnectParams{Backoff: backoff.DefaultConfig, MinConnectTimeout: 3 * time.Second}),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: pingAfter, Timeout: silence}),
		grpc.WithInitialWindowSize(rpc.StreamWindow), grpc.WithInitialConnWindowSize(rpc.ConnWindow),
		grpc.WithWriteBufferSize(rpc.IOBuffer),
		grpc.WithDisableServiceConfig())
}
