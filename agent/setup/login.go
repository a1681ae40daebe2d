package setup

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/holdfast-ha/holdfast/pkg/kv"
	"github.com/holdfast-ha/holdfast/pkg/pki"
	"github.com/holdfast-ha/holdfast/pkg/pool"
	"github.com/holdfast-ha/holdfast/pkg/rpc"
	"github.com/holdfast-ha/holdfast/pkg/store"
	holdfastv1 "github.com/holdfast-ha/holdfast/proto/holdfast/v1"
)

// Login implements holdfastv1.JoinServiceServer: it gives the holder of a login token its certificate. Errors are
// pkg/pool's kinds.
func (s *JoinService) Login(ctx context.Context, r *holdfastv1.LoginRequest) (*holdfastv1.LoginResponse, error) {
	key, err := requestKey(r.GetCsr())
	if err != nil {
		return nil, err
	}
	token, entry, err := s.token(ctx, r.GetTokenId(), r.GetSecret())
	if err != nil {
		return nil, err
	}
	if token.GetRole() == "" {
		return nil, pool.Refuse("TOKEN_FOR_MACHINE", "use it with `holdfast-agent join`; a login token is made with `holdfast-agent token create --role ROLE --name NAME`",
			"this token admits a machine, it gives nobody a certificate")
	}
	again := bytes.Equal(token.GetUsedKeyHash(), key)
	if len(token.GetUsedKeyHash()) > 0 && !again {
		return nil, pool.Refuse("TOKEN_USED", "ask for a new one: each token gives one certificate", "this token was used already")
	}
	snap, err := s.o.Store.Load(ctx, "")
	if err != nil {
		return nil, err
	}
	cert, ca, serial, err := s.o.certify(r.GetCsr(), token.GetName(), token.GetRole(), snap.IssueAt(false, token.GetName(), s.o.Clock.Wall()))
	if err != nil {
		return nil, err
	}
	if err := s.useLogin(ctx, token, entry, key, serial); err != nil {
		return nil, err
	}
	out := &holdfastv1.LoginResponse{Pool: s.o.Settings.Pool, Name: token.GetName(), Role: token.GetRole(), Certificate: cert, Ca: ca,
		Servers: []string{s.o.Settings.Address}}
	for _, server := range snap.Servers.All() {
		if server.Address != s.o.Settings.Address && server.Address != "" {
			out.Servers = append(out.Servers, server.Address)
		}
	}
	return out, nil
}

// useLogin uses the token up for this key and leaves an event, also when an answer was lost and is given again: that is
// another certificate.
func (s *JoinService) useLogin(ctx context.Context, token *holdfastv1.JoinToken, entry kv.KeyValue, key []byte, serial string) error {
	token.UsedBy, token.UsedKeyHash = token.GetName(), key
	value, err := encodeRecord(token)
	if err != nil {
		return err
	}
	wall := s.o.Clock.Wall()
	event := pool.Event{ID: store.EventID(wall, pool.ServerID(s.o.Settings.Server), uint64(wall.Nanosecond())), At: wall, Kind: "LOGIN", //nolint:gosec // never negative
		Server: pool.ServerID(s.o.Settings.Server), Actor: token.GetName(),
		Text: fmt.Sprintf("%s logged in as %s: certificate with serial number %s", token.GetName(), token.GetRole(), serial)}
	event.Audit = withAfter(rpc.AuditOf(ctx), "certificates/"+serial, map[string]string{"name": token.GetName(), "role": token.GetRole()})
	keys := s.o.Store.Keys()
	_, err = s.o.Store.Commit(ctx, kv.Txn{If: []kv.Compare{kv.ModIs(entry.Key, entry.ModRevision)},
		Then: []kv.Op{keys.PutToken(token.GetId(), value, entry.Lease), keys.PutEvent(event)}})
	if errors.Is(err, pool.ErrStale) {
		return fmt.Errorf("this token was used at the same moment; try again: %w", err)
	}
	return err
}

// certify makes an operator's certificate for the key of a signing request.
func (o ServiceOptions) certify(csr []byte, name, role string, issued time.Time) (cert, ca []byte, serial string, err error) {
	authority, err := pki.LoadAuthority(o.Settings.TLS.CA, o.Settings.TLS.CAKey)
	if err != nil {
		return nil, nil, "", fmt.Errorf("%s cannot sign certificates: %w", o.Settings.Server, err)
	}
	if !pki.Role(role).Operator() {
		return nil, nil, "", fmt.Errorf("role %q is no operator's: %w", role, pool.ErrInvalid)
	}
	if cert, err = authority.Sign(csr, pki.Request{Name: name, Role: pki.Role(role)}, issued, 0); err != nil {
		return nil, nil, "", err
	}
	leaf, err := pki.ParseCert(cert)
	if err != nil {
		return nil, nil, "", err
	}
	trusted, err := authority.PEM()
	return cert, trusted.Cert, leaf.SerialNumber.Text(16), err
}

// Identities makes certificates of operators for the API. Safe for concurrent use.
type Identities struct {
	// ServiceOptions without Endpoints.
	ServiceOptions
	Leases kv.Leases
}

// CreateLogin makes a login token; see TokenOptions.
func (i *Identities) CreateLogin(ctx context.Context, name, role string, ttl time.Duration, m pool.Mark, tag string) (string, time.Time, error) {
	if role == "" {
		return "", time.Time{}, pool.InField("role", fmt.Errorf("no role: use viewer, operator or admin: %w", pool.ErrInvalid))
	}
	t, err := CreateToken(ctx, TokenOptions{Settings: i.Settings, Store: i.Store.Edge(), Leases: i.Leases, Clock: i.Clock, TTL: ttl, By: m.By, Why: m.Why,
		Name: name, Role: pki.Role(role), Tag: tag, Audit: rpc.AuditOf(ctx)})
	if err != nil {
		return "", time.Time{}, err
	}
	return t.String(), t.Expires, nil
}

// Certify makes a certificate for the key of a signing request.
func (i *Identities) Certify(csr []byte, name, role string, issued time.Time) (cert, ca []byte, serial string, err error) {
	return i.certify(csr, name, role, issued)
}
