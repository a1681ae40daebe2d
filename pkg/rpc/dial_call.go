package rpc

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"github.com/holdfast-ha/holdfast/pkg/pool"
)

// IsRead reports whether an API method ("/holdfast.v1.VMService/ListVMs") changes nothing. The API names those
// Get, List, Watch, Plan (what would happen) and WhoAmI; everything else is taken for a change.
func IsRead(method string) bool {
	name := method[strings.LastIndexByte(method, '/')+1:]
	for _, begin := range []string{"Get", "List", "Watch", "Plan"} {
		if strings.HasPrefix(name, begin) {
			return true
		}
	}
	return name == "WhoAmI"
}

// RefusalOf returns the agent's refusal inside err: code, reason and, apart from it, the way out.
func RefusalOf(err error) (*pool.Refusal, bool) {
	var local *pool.Refusal
	if errors.As(err, &local) {
		return local, true
	}
	if !errors.Is(err, pool.ErrRefused) {
		return nil, false
	}
	st, ok := statusOf(err)
	if !ok {
		return nil, false
	}
	r := &pool.Refusal{Code: "REFUSED", Reason: st.Message()}
	for _, d := range st.Details() {
		if info, ok := d.(*errdetails.ErrorInfo); ok && info.GetDomain() == ErrorDomain {
			r.Code, r.Remedy = info.GetReason(), info.GetMetadata()["remedy"]
			r.Reason = strings.TrimSuffix(r.Reason, "; "+r.Remedy)
		}
	}
	return r, true
}

func statusOf(err error) (*status.Status, bool) {
	var s interface{ GRPCStatus() *status.Status }
	if errors.As(err, &s) {
		return s.GRPCStatus(), true
	}
	return nil, false
}

// fromHandler reports whether an agent's handler made this error, rather than the connection to it.
func fromHandler(err error) bool {
	st, ok := statusOf(err)
	if !ok {
		return false
	}
	for _, d := range st.Details() {
		if info, ok := d.(*errdetails.ErrorInfo); ok && info.GetDomain() == ErrorDomain {
			return true
		}
	}
	return false
}

// unknownOutcome is a write that may have been made.
type unknownOutcome struct{ cause error }

func (u *unknownOutcome) Error() string {
	return "it is not known whether this was done: " + plainCause(status.Convert(u.cause).Message())
}

func (u *unknownOutcome) Is(target error) bool { return target == pool.ErrOutcomeUnknown }

func (u *unknownOutcome) GRPCStatus() *status.Status { return status.New(codes.Unknown, u.Error()) }

// Invoke makes one call, by the rules of Client.
func (c *Client) Invoke(ctx context.Context, method string, args, reply any, opts ...grpc.CallOption) error {
	limit := c.limits.Write
	if IsRead(method) {
		limit = c.limits.Read
	}
	var tried []int
	var failed []Attempt
	for {
		order := c.order(tried)
		if len(order) == 0 {
			return &Unreachable{failed}
		}
		i, lost, err := c.connect(ctx, order)
		if err != nil {
			return FromStatus(status.FromContextError(err).Err())
		}
		if lost != nil {
			return &Unreachable{append(failed, lost...)}
		}
		sent, err := c.attempt(ctx, i, limit, method, args, reply, opts)
		if err == nil {
			c.prefer(i)
			return nil
		}
		again, err := judge(ctx, method, sent, err)
		if !again {
			return err
		}
		c.avoid(i)
		tried, failed = append(tried, i), append(failed, Attempt{c.agent(i).address, err})
	}
}

// attempt makes a call to one agent. sent is false if it certainly did not go out: the connection, which was up a moment
// ago, has broken, and gRPC could make no new one.
func (c *Client) attempt(ctx context.Context, i int, limit time.Duration, method string, args, reply any, opts []grpc.CallOption) (sent bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	var to peer.Peer // gRPC fills it in if the call has had a stream on a connection
	err = c.agent(i).conn.Invoke(ctx, method, args, reply, append(slices.Clone(opts), grpc.Peer(&to))...)
	return err == nil || to.Addr != nil, err
}

// judge says what a failed call means and whether the next agent may be asked.
func judge(ctx context.Context, method string, sent bool, err error) (again bool, _ error) {
	code, handler := status.Code(err), fromHandler(err)
	switch {
	// A handler whose time ran out may have been in the middle of a change, whether its word of that or the limit here is first.
	case handler && (IsRead(method) || code != codes.DeadlineExceeded && code != codes.Canceled):
		return code == codes.Unavailable, FromStatus(err)
	case !sent && code == codes.Unavailable:
		return true, errors.New(plainCause(status.Convert(err).Message()))
	case IsRead(method):
		silent := code == codes.DeadlineExceeded && ctx.Err() == nil
		if silent {
			err = errors.New("connected, but no answer in time")
			return true, err
		}
		if code == codes.Unavailable {
			return true, errors.New(plainCause(status.Convert(err).Message()))
		}
		return false, FromStatus(err)
	}
	switch code {
	case codes.Unavailable, codes.DeadlineExceeded, codes.Canceled, codes.Internal, codes.Unknown:
		return false, &unknownOutcome{err}
	}
	return false, FromStatus(err)
}

// NewStream opens a stream on an agent that is connected. A stream that breaks is not opened again by itself; the
// next one goes to another agent.
func (c *Client) NewStream(ctx context.Context, desc *grpc.StreamDesc, method string, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	i, lost, err := c.connect(ctx, c.order(nil))
	if err != nil {
		return nil, FromStatus(status.FromContextError(err).Err())
	}
	if lost != nil {
		return nil, &Unreachable{lost}
	}
	s, err := c.agent(i).conn.NewStream(ctx, desc, method, opts...)
	if err != nil {
		c.avoid(i)
		return nil, c.named(i, err)
	}
	c.prefer(i)
	return &stream{ClientStream: s, client: c, agent: i}, nil
}

func (c *Client) named(i int, err error) error {
	if status.Code(err) == codes.Unavailable && !fromHandler(err) {
		return &Unreachable{[]Attempt{{c.agent(i).address, errors.New(plainCause(status.Convert(err).Message()))}}}
	}
	return FromStatus(err)
}

// stream turns errors into those of pkg/pool and has the next stream go elsewhere after a failure.
type stream struct {
	grpc.ClientStream
	client *Client
	agent  int
}

// RecvMsg fails with io.EOF at the stream's proper end.
func (s *stream) RecvMsg(m any) error {
	err := s.ClientStream.RecvMsg(m)
	if err == nil {
		return nil
	}
	if code := status.Code(err); code == codes.Unavailable || code == codes.Internal || code == codes.Unknown {
		s.client.avoid(s.agent)
	}
	if _, ok := statusOf(err); !ok {
		return err
	}
	return s.client.named(s.agent, err)
}

// Avoid has the next calls ask another agent first than the one that answered last: for a stream that went silent.
func (c *Client) Avoid() {
	c.mu.Lock()
	i := c.preferred
	c.mu.Unlock()
	c.avoid(i)
}
