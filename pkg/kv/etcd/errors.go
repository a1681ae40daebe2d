package etcd

import (
	"errors"
	"fmt"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"

	"github.com/holdfast-ha/holdfast/pkg/kv"
	"github.com/holdfast-ha/holdfast/pkg/pool"
)

// invalid are refusals of requests that can never work. etcd checks them before it proposes anything.
var invalid = []error{
	rpctypes.ErrEmptyKey, rpctypes.ErrTooManyOps, rpctypes.ErrDuplicateKey, rpctypes.ErrRequestTooLarge,
	rpctypes.ErrValueProvided, rpctypes.ErrLeaseProvided, rpctypes.ErrInvalidSortOption,
}

// refused are answers after which the request has certainly not taken effect and never will: etcd did not propose
// it, or it applied it as a refusal. Everything else may have been proposed. In particular "database space
// exceeded" can come after the write was applied (etcd's quota applier looks only afterwards), and all kinds of
// time-out and "server stopped" come while the proposal may be on its way.
var refused = []error{
	rpctypes.ErrNoLeader, // of the interceptor: the request requires a leader
	rpctypes.ErrTooManyRequests, rpctypes.ErrPermissionDenied, rpctypes.ErrUserEmpty, rpctypes.ErrAuthFailed,
	rpctypes.ErrInvalidAuthToken, rpctypes.ErrAuthOldRevision,
}

// writeError gives the error of a write that was sent its kind.
func writeError(err error) error {
	switch {
	case errors.Is(err, rpctypes.ErrLeaseNotFound):
		return fmt.Errorf("%w: %w", kv.ErrLeaseNotFound, err)
	case anyOf(err, invalid):
		return fmt.Errorf("%w: %w", pool.ErrInvalid, err)
	case anyOf(err, refused):
		return fmt.Errorf("%w: %w", pool.ErrUnavailable, err)
	default:
		return fmt.Errorf("%w: %w", pool.ErrOutcomeUnknown, err)
	}
}

// final reports whether a read that failed with err would fail at every member alike, and why is for the caller.
func final(err error) bool { return errors.Is(err, rpctypes.ErrCompacted) }

func anyOf(err error, list []error) bool {
	for _, e := range list {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}
