package pool

import (
	"errors"
	"fmt"
)

// Kinds of failure that callers tell apart with errors.Is. pkg/rpc maps them to gRPC codes.
var (
	// ErrInvalid: the request or value is wrong in itself.
	ErrInvalid = errors.New("invalid")
	// ErrNotFound: no such server, VM, operation or event.
	ErrNotFound = errors.New("not found")
	// ErrGone: it was there, and is not kept any more; begin anew.
	ErrGone = errors.New("not kept any more")
	// ErrExists: the name or UUID is taken.
	ErrExists = errors.New("already exists")
	// ErrRefused: valid, but the pool's state forbids it now. See Refusal for the reason.
	ErrRefused = errors.New("refused")
	// ErrStale: someone else changed the value first; read again and decide anew.
	ErrStale = errors.New("changed meanwhile")
	// ErrUnavailable: etcd, libvirt or a server cannot be reached; nothing was changed.
	ErrUnavailable = errors.New("unavailable")
	// ErrOutcomeUnknown: the request may or may not have taken effect; read back before acting.
	ErrOutcomeUnknown = errors.New("outcome unknown")
	// ErrLostLeadership: this agent is no longer the leader.
	ErrLostLeadership = errors.New("leadership lost")
	// ErrLostSession: this server's session has ended.
	ErrLostSession = errors.New("session lost")
)

// FieldError is an error about one field of a request, named as in the API: "server", "set[priority]".
type FieldError struct {
	Field string
	err   error
}

// InField says in which field of a request err was found. nil stays nil.
func InField(field string, err error) error {
	if err == nil {
		return nil
	}
	return &FieldError{field, err}
}

// Error is the error without the field, which its words name already.
func (f *FieldError) Error() string { return f.err.Error() }

// Unwrap returns the error without the field.
func (f *FieldError) Unwrap() error { return f.err }

// Refusal says why something cannot be done now and, where there is one, the way out. It is ErrRefused.
type Refusal struct {
	// Code is stable and machine-readable, such as "INBOUND_LOCK".
	Code string
	// Reason is one sentence for people, without a final full stop.
	Reason string
	// Remedy is what to do about it, or empty.
	Remedy string
}

// Error joins reason and remedy.
func (r *Refusal) Error() string {
	if r.Remedy == "" {
		return r.Reason
	}
	return r.Reason + "; " + r.Remedy
}

// Is makes errors.Is(r, ErrRefused) true.
func (r *Refusal) Is(target error) bool { return target == ErrRefused }

// Refuse builds a Refusal.
func Refuse(code, remedy, format string, args ...any) *Refusal {
	return &Refusal{Code: code, Reason: fmt.Sprintf(format, args...), Remedy: remedy}
}
