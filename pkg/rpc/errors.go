package rpc

import (
	"context"
	"errors"
	"fmt"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/protoadapt"

	"github.com/holdfast-ha/holdfast/pkg/pool"
)

// ErrorDomain is the domain of every ErrorInfo that Holdfast returns.
const ErrorDomain = "holdfast"

// kinds is the one table of failures, codes and reasons, most specific first.
var kinds = []struct {
	err    error
	code   codes.Code
	reason string
}{
	{pool.ErrInvalid, codes.InvalidArgument, "INVALID"},
	{pool.ErrNotFound, codes.NotFound, "NOT_FOUND"},
	{pool.ErrGone, codes.OutOfRange, "GONE"},
	{pool.ErrExists, codes.AlreadyExists, "EXISTS"},
	{pool.ErrRefused, codes.FailedPrecondition, "REFUSED"},
	{pool.ErrStale, codes.Aborted, "CHANGED_MEANWHILE"},
	{pool.ErrOutcomeUnknown, codes.Unknown, "OUTCOME_UNKNOWN"},
	{pool.ErrLostSession, codes.Unavailable, "SESSION_LOST"},
	{pool.ErrLostLeadership, codes.Unavailable, "LEADERSHIP_LOST"},
	{pool.ErrUnavailable, codes.Unavailable, "UNAVAILABLE"},
}

// ToStatus turns an error into a gRPC status error. A nil error and one that is a status already pass unchanged.
func ToStatus(err error) error {
	if err == nil {
		return nil
	}
	if _, ok := status.FromError(err); ok {
		return err
	}
	code, reason := codes.Internal, "INTERNAL"
	for _, k := range kinds {
		if errors.Is(err, k.err) {
			code, reason = k.code, k.reason
			break
		}
	}
	switch {
	case code != codes.Internal:
	case errors.Is(err, context.Canceled):
		code, reason = codes.Canceled, "CANCELED"
	case errors.Is(err, context.DeadlineExceeded):
		code, reason = codes.DeadlineExceeded, "DEADLINE_EXCEEDED"
	}
	info := &errdetails.ErrorInfo{Reason: reason, Domain: ErrorDomain}
	details := []protoadapt.MessageV1{info}
	var refusal *pool.Refusal
	if errors.As(err, &refusal) {
		info.Reason = refusal.Code
		if refusal.Remedy != "" {
			info.Metadata = map[string]string{"remedy": refusal.Remedy}
		}
		details = append(details, &errdetails.PreconditionFailure{Violations: []*errdetails.PreconditionFailure_Violation{
			{Type: refusal.Code, Description: refusal.Error()}}})
	}
	if fields := fieldsOf(err); code == codes.InvalidArgument && len(fields) > 0 {
		details = append(details, &errdetails.BadRequest{FieldViolations: fields})
	}
	st, detailErr := status.New(code, err.Error()).WithDetails(details...)
	if detailErr != nil {
		return status.Error(code, err.Error())
	}
	return st.Err()
}

// fieldsOf lists the fields of a request that err complains of, each once.
func fieldsOf(err error) (out []*errdetails.BadRequest_FieldViolation) {
	switch e := err.(type) { //nolint:errorlint // the tree is walked here
	case *pool.FieldError:
		return []*errdetails.BadRequest_FieldViolation{{Field: e.Field, Description: e.Error()}}
	case interface{ Unwrap() []error }:
		for _, inner := range e.Unwrap() {
			out = append(out, fieldsOf(inner)...)
		}
	case interface{ Unwrap() error }:
		return fieldsOf(e.Unwrap())
	}
	return out
}

// remoteError is an error that came over the wire; it is the pool kind that its code stands for.
type remoteError struct {
	st   *status.Status
	kind error
}

func (e *remoteError) Error() string { return e.st.Message() }

// Is matches the pool kind.
func (e *remoteError) Is(target error) bool { return e.kind != nil && target == e.kind }

// GRPCStatus keeps the code and details for callers that want them.
func (e *remoteError) GRPCStatus() *status.Status { return e.st }

// FromStatus turns an error of a gRPC call into one that errors.Is knows by its pool kind.
func FromStatus(err error) error {
	if err == nil {
		return nil
	}
	st, ok := status.FromError(err)
	if !ok {
		return err
	}
	e := &remoteError{st: st}
	for _, k := range kinds {
		if k.code == st.Code() {
			e.kind = k.err
			break
		}
	}
	if st.Code() == codes.Unavailable {
		e.kind = pool.ErrUnavailable
	}
	if st.Code() == codes.Unimplemented {
		return fmt.Errorf("the agent there does not know this call; it is older than this program: %w", e)
	}
	return e
}

// UnaryErrors maps the errors of handlers to statuses.
func UnaryErrors(ctx context.Context, req any, _ *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
	resp, err := next(ctx, req)
	return resp, ToStatus(err)
}

// StreamErrors maps the errors of streaming handlers to statuses.
func StreamErrors(srv any, s grpc.ServerStream, _ *grpc.StreamServerInfo, next grpc.StreamHandler) error {
	return ToStatus(next(srv, s))
}
