package rpc

import (
	"fmt"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/holdfast-ha/holdfast/pkg/pki"
)

// deny is a refusal before any handler: a status whose reason is stable (docs/api.md, "Reasons") and whose message ends
// with the way out.
func deny(code codes.Code, reason, remedy, format string, args ...any) error {
	text := fmt.Sprintf(format, args...)
	info := &errdetails.ErrorInfo{Reason: reason, Domain: ErrorDomain}
	if remedy != "" {
		text += "; " + remedy
		info.Metadata = map[string]string{"remedy": remedy}
	}
	st, err := status.New(code, text).WithDetails(info)
	if err != nil {
		return status.Error(code, text)
	}
	return st.Err()
}

func strangerError() error {
	return deny(codes.Unauthenticated, "CERTIFICATE_NEEDED", "get one with `holdfast login TOKEN`; an admin makes the token",
		"this call needs a certificate of the pool")
}

func plaintextError() error {
	return deny(codes.Unauthenticated, "TLS_NEEDED", "use a certificate of the pool", "without TLS only this machine itself is served")
}

func roleError(id pki.Identity, method string) error {
	return deny(codes.PermissionDenied, "ROLE_NEEDED", "", "%s may not call %s: it needs %s", id, method, neededFor(method))
}

func revokedError(id pki.Identity) error {
	return deny(codes.Unauthenticated, "CERTIFICATE_REVOKED", "ask an admin for a new login token",
		"the certificate of %s (serial number %s) was revoked", id, id.Serial)
}

func tooMany(name string, all, each int) error {
	return deny(codes.ResourceExhausted, "TOO_MANY_CONNECTIONS", "close some, share one connection for many calls, or ask another agent of the pool",
		"too many connections: this agent serves %d at a time, and %d of %s", all, each, name)
}

func slowError(limit time.Duration) error {
	return deny(codes.ResourceExhausted, "SLOW_CLIENT", "read faster, or watch less, and begin anew",
		"the stream was ended: a message was left unread for %v", limit)
}
