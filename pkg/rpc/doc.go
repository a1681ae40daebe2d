// Package rpc is the edge between pool and gRPC: how errors become status codes and back, which connection
// settings both ends use, and how records and views become messages.
//
// It is the only place that knows which kind of failure maps to which code and whether a caller may retry:
//
//	pool.ErrInvalid         INVALID_ARGUMENT     never retry
//	pool.ErrNotFound        NOT_FOUND            never retry
//	pool.ErrGone            OUT_OF_RANGE         never retry: begin anew
//	pool.ErrExists          ALREADY_EXISTS       never retry
//	pool.ErrRefused         FAILED_PRECONDITION  retry after doing what the message says
//	pool.ErrStale           ABORTED              retry at once: somebody changed it first
//	pool.ErrUnavailable     UNAVAILABLE          retry, nothing was changed
//	pool.ErrOutcomeUnknown  UNKNOWN              read back before repeating
//	pool.ErrLostSession     UNAVAILABLE
//	pool.ErrLostLeadership  UNAVAILABLE
//
// Every error carries a google.rpc.ErrorInfo with domain "holdfast" and a stable reason.
package rpc
