package mesh

import (
	"context"
	"errors"
	"fmt"
	"net"
	"syscall"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/holdfast-ha/holdfast/pkg/pool"
	"github.com/holdfast-ha/holdfast/pkg/rpc"
	pb "github.com/holdfast-ha/holdfast/proto/holdfast/v1"
)

// agentPatience is how long an agent may take to answer before its host is asked instead.
const agentPatience = 200 * time.Millisecond

// Alive returns nil when the host of a server gives a sign of life before ctx ends: its agent answers, with whatever,
// or its kernel does, by accepting or refusing a connection. An agent that is dead or hangs does not make a host
// silent.
func (p *Peers) Alive(ctx context.Context, server pool.ServerID) error {
	s, ok := p.snapshot().Servers.Get(server)
	if !ok || s.Address == "" {
		return fmt.Errorf("no address of server %s is known: %w", server, pool.ErrNotFound)
	}
	answered := make(chan bool, 1)
	go func() { answered <- p.agentAnswers(ctx, server) }()
	patience := time.NewTimer(agentPatience)
	defer patience.Stop()
	select {
	case yes := <-answered:
		if yes {
			return nil
		}
		return hostAnswers(ctx, s.Address)
	case <-patience.C:
	}
	host := make(chan error, 1)
	go func() { host <- hostAnswers(ctx, s.Address) }()
	var err error
	for range 2 {
		select {
		case yes := <-answered:
			if yes {
				return nil
			}
		case err = <-host:
			if err == nil {
				return nil
			}
		}
	}
	return err
}

// agentAnswers pings on the connection that is kept. Any answer of the other side counts, an error of its own included.
func (p *Peers) agentAnswers(ctx context.Context, server pool.ServerID) bool {
	c, err := p.mesh(server)
	if err != nil {
		return false
	}
	_, err = c.Ping(ctx, &pb.PingRequest{From: string(p.self), Incarnation: p.snapshot().Config.Incarnation})
	switch status.Code(err) {
	case codes.Unavailable, codes.DeadlineExceeded, codes.Canceled:
		return false
	}
	return true
}

// hostAnswers reports whether anything at all answers at an address: also "refused" does.
func hostAnswers(ctx context.Context, address string) error {
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
	if err == nil {
		return conn.Close()
	}
	if errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, syscall.ECONNRESET) {
		return nil
	}
	return err
}

// AskSilence asks another member how long it has listened to subject in vain.
func (p *Peers) AskSilence(ctx context.Context, witness, subject pool.ServerID) (time.Duration, error) {
	c, err := p.mesh(witness)
	if err != nil {
		return 0, err
	}
	r, err := c.AskSilence(ctx, &pb.AskSilenceRequest{From: string(p.self), Incarnation: p.snapshot().Config.Incarnation, Server: string(subject)})
	if err != nil {
		return 0, rpc.FromStatus(err)
	}
	return r.GetSilent().AsDuration(), nil
}

// AskSilence answers how long this server has listened to another in vain, and begins to listen.
func (s *Server) AskSilence(_ context.Context, r *pb.AskSilenceRequest) (*pb.AskSilenceResponse, error) {
	if mine := s.incarnation(); r.GetIncarnation() != "" && mine != "" && r.GetIncarnation() != mine {
		return nil, fmt.Errorf("%s belongs to another life of the pool (%s, not %s): %w", s.server, mine, r.GetIncarnation(), pool.ErrRefused)
	}
	return &pb.AskSilenceResponse{Silent: durationpb.New(s.host.Silence(pool.ServerID(r.GetServer())))}, nil
}
