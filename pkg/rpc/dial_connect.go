package rpc

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/status"

	"github.com/holdfast-ha/holdfast/pkg/pool"
	pb "github.com/holdfast-ha/holdfast/proto/holdfast/v1"
)

// Attempt is one agent that could not be used, and why.
type Attempt struct {
	Agent string
	Err   error
}

// Unreachable says that no agent could do what was asked. It is pool.ErrUnavailable: nothing was changed.
type Unreachable struct {
	Tried []Attempt
}

// Error names each agent and its trouble.
func (u *Unreachable) Error() string {
	parts := make([]string, 0, len(u.Tried))
	for _, a := range u.Tried {
		parts = append(parts, fmt.Sprintf("%s: %v", a.Agent, a.Err))
	}
	if slices.ContainsFunc(u.Tried, func(a Attempt) bool { return fromHandler(a.Err) }) {
		return "no agent can do this now: " + strings.Join(parts, "; ")
	}
	return "no agent answered: " + strings.Join(parts, "; ")
}

// Is makes errors.Is(u, pool.ErrUnavailable) true.
func (u *Unreachable) Is(target error) bool { return target == pool.ErrUnavailable }

// GRPCStatus is UNAVAILABLE with the same text.
func (u *Unreachable) GRPCStatus() *status.Status { return status.New(codes.Unavailable, u.Error()) }

// Unwrap gives the errors of the attempts.
func (u *Unreachable) Unwrap() []error {
	var out []error
	for _, a := range u.Tried {
		out = append(out, a.Err)
	}
	return out
}

// arrival is the end of one agent's race.
type arrival struct {
	agent int
	err   error
}

// connect returns the first agent in order that is connected; each later one gets its chance a little after the
// one before. The attempts that failed are returned when none is left.
func (c *Client) connect(ctx context.Context, order []int) (int, []Attempt, error) {
	if err := ctx.Err(); err != nil {
		return 0, nil, err
	}
	race, cancel := context.WithTimeout(ctx, c.limits.Connect)
	defer cancel()
	arrivals := make(chan arrival, len(order))
	start := func(i int) { go func() { arrivals <- arrival{i, c.hint(ready(race, c.agent(i).conn))} }() }

	failed := make(map[int]error)
	next, running := 0, 0
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
			if next < len(order) {
				start(order[next])
				next, running = next+1, running+1
				timer.Reset(c.limits.Stagger)
			}
		case a := <-arrivals:
			if a.err == nil {
				return a.agent, nil, nil
			}
			failed[a.agent] = a.err
			running--
			if next < len(order) {
				timer.Reset(0)
			} else if running == 0 {
				return 0, attempts(c, order, failed), ctx.Err()
			}
		}
	}
}

func attempts(c *Client, order []int, failed map[int]error) []Attempt {
	var out []Attempt
	for _, i := range order {
		out = append(out, Attempt{c.agent(i).address, failed[i]})
	}
	return out
}

// hint adds what a connection cut right after the TLS handshake usually means. With TLS 1.3 a client has finished
// its handshake before the server has seen its certificate, and the alert may be lost in the cut.
func (c *Client) hint(err error) error {
	if err == nil {
		return err
	}
	means := "it may not accept this certificate"
	if c.tls == nil {
		means = "it may want a certificate: name a context that has one"
	}
	for _, cut := range []string{"broken pipe", "connection reset", "EOF", "HTTP/1.1 header"} {
		if strings.Contains(err.Error(), cut) {
			return fmt.Errorf("%w (the agent closed the connection; %s)", err, means)
		}
	}
	return err
}

// ready waits until conn is connected. Its error says why it is not.
func ready(ctx context.Context, conn *grpc.ClientConn) error {
	for {
		state := conn.GetState()
		switch state {
		case connectivity.Ready:
			return nil
		case connectivity.TransientFailure, connectivity.Shutdown:
			return whyNot(ctx, conn)
		case connectivity.Idle:
			conn.Connect()
		}
		if !conn.WaitForStateChange(ctx, state) {
			return errors.New("no answer in time")
		}
	}
}

// whyNot asks gRPC for the trouble of a connection that failed: only a call returns it. The call never reaches an
// agent, or it does, and all is well.
func whyNot(ctx context.Context, conn *grpc.ClientConn) error {
	err := conn.Invoke(ctx, pb.PoolService_GetPool_FullMethodName, &pb.GetPoolRequest{}, &pb.GetPoolResponse{})
	switch code := status.Code(err); {
	case fromHandler(err):
		return nil
	case code == codes.DeadlineExceeded || code == codes.Canceled:
		return errors.New("no answer in time")
	case code == codes.Unavailable:
		return errors.New(plainCause(status.Convert(err).Message()))
	}
	return nil
}

// plainCause takes gRPC's wrapping off a connection error.
func plainCause(message string) string {
	for _, wrap := range []string{
		"last connection error: ", "connection error: ", "desc = ", "transport: ", "Error while dialing: ",
		"authentication handshake failed: ", "error reading server preface: ",
	} {
		if _, rest, ok := strings.Cut(message, wrap); ok {
			message = strings.TrimPrefix(rest, `"`)
		}
	}
	return strings.TrimSuffix(message, `"`)
}
