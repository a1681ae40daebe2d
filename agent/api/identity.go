package api

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"math/big"
	"strings"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/holdfast-ha/holdfast/pkg/pool"
	"github.com/holdfast-ha/holdfast/pkg/rpc"
	"github.com/holdfast-ha/holdfast/pkg/wire"
	pb "github.com/holdfast-ha/holdfast/proto/holdfast/v1"
)

// digest names a text by its beginning of SHA-256 and its length.
func digest(text []byte) string {
	sum := sha256.Sum256(text)
	return fmt.Sprintf("%d bytes, sha256 %s...", len(text), hex.EncodeToString(sum[:6]))
}

// authority returns what makes certificates.
func (s *Server) authority() (Authority, error) {
	if s.cfg.Authority == nil {
		return nil, pool.Refuse("NO_AUTHORITY", "make a pool with holdfast-agent init", "this pool has no certificates: it is served on this machine's loopback alone")
	}
	return s.cfg.Authority, nil
}

// CreateLogin makes a login token.
func (s *Server) CreateLogin(ctx context.Context, r *pb.CreateLoginRequest) (*pb.CreateLoginResponse, error) {
	m, err := s.mark(ctx, r.GetWhy())
	if err != nil {
		return nil, err
	}
	a, err := s.authority()
	if err != nil {
		return nil, err
	}
	token, expires, err := a.CreateLogin(ctx, r.GetName(), r.GetRole(), r.GetTtl().AsDuration(), m, r.GetRequestId())
	if err != nil {
		return nil, err
	}
	return &pb.CreateLoginResponse{Token: token, Expires: timestamppb.New(expires)}, nil
}

// RenewCertificate gives the caller a new certificate.
func (s *Server) RenewCertificate(ctx context.Context, r *pb.RenewCertificateRequest) (*pb.RenewCertificateResponse, error) {
	m, err := s.mark(ctx, "")
	if err != nil {
		return nil, err
	}
	a, err := s.authority()
	if err != nil {
		return nil, err
	}
	id := rpc.IdentityFrom(ctx)
	resp := &pb.RenewCertificateResponse{}
	err = s.applyRetry(ctx, func(snap *pool.Snapshot) (pool.Change, error) {
		cert, ca, serial, err := a.Certify(r.GetCsr(), id.Name, string(id.Role), snap.IssueAt(false, id.Name, m.At))
		if err != nil {
			return pool.Change{}, err
		}
		resp.Certificate, resp.Ca = cert, ca
		return pool.Change{Events: []pool.Event{s.event("CERTIFICATE_RENEWED", m, "", "", "%s renewed its certificate; the new one has serial number %s", id, serial)}}, nil
	})
	if err != nil {
		return nil, err
	}
	return resp, nil
}

// RevokeCertificate has every agent refuse certificates.
func (s *Server) RevokeCertificate(ctx context.Context, r *pb.RevokeCertificateRequest) (*pb.RevokeCertificateResponse, error) {
	m, err := s.mark(ctx, r.GetWhy())
	if err != nil {
		return nil, err
	}
	revocations, what, err := revocationsOf(r, m)
	if err != nil {
		return nil, err
	}
	resp := &pb.RevokeCertificateResponse{}
	err = s.applyRetry(ctx, func(snap *pool.Snapshot) (pool.Change, error) {
		if server := r.GetServer(); server != "" && snap.Servers.Has(pool.ServerID(server)) {
			return pool.Change{}, pool.Refuse("SERVER_BELONGS", "remove it with holdfast remove-server "+server+", which revokes its certificates",
				"%s is a server of this pool", server)
		}
		resp.Revocations = nil
		if old, done := repeated(snap, r.GetRequestId(), revocations); done {
			resp.Revocations = old
			return pool.Change{}, nil
		}
		for _, v := range revocations {
			resp.Revocations = append(resp.Revocations, wire.Revocation(v))
		}
		return pool.Change{Revocations: revocations,
			Events: []pool.Event{s.event("CERTIFICATE_REVOKED", m, "", "", "%s revoked %s", m.By, what)}}, nil
	})
	if err != nil {
		return nil, err
	}
	return resp, nil
}

// repeated returns what an earlier request of that ID revoked: repeated, it must not revoke what was issued since.
func repeated(snap *pool.Snapshot, requestID string, wanted []pool.Revocation) (out []*pb.Revocation, done bool) {
	if requestID == "" {
		return nil, false
	}
	for _, e := range snap.Events.All() {
		done = done || e.Kind == "CERTIFICATE_REVOKED" && e.Audit != nil && e.Audit.RequestID == requestID
	}
	for _, v := range wanted {
		old, ok := snap.Revocations.Get(v.ID)
		done = done && ok
		out = append(out, wire.Revocation(old))
	}
	return out, done
}

// revocationsOf reads a request: exactly one thing to revoke.
func revocationsOf(r *pb.RevokeCertificateRequest, m pool.Mark) (revocations []pool.Revocation, what string, err error) {
	given := 0
	for _, v := range []string{r.GetSerial(), r.GetOperator(), r.GetServer()} {
		if v != "" {
			given++
		}
	}
	if given != 1 {
		return nil, "", pool.InField("serial", fmt.Errorf("name exactly one of serial, operator and server: %w", pool.ErrInvalid))
	}
	switch {
	case r.GetSerial() != "":
		n, ok := new(big.Int).SetString(strings.ToLower(r.GetSerial()), 16)
		if !ok || n.Sign() <= 0 {
			return nil, "", pool.InField("serial", fmt.Errorf("serial number %q: it is a number in hex, as `holdfast whoami` and events show it: %w", clean(r.GetSerial()), pool.ErrInvalid))
		}
		serial := n.Text(16)
		return []pool.Revocation{{ID: pool.RevokedSerial(serial), IssuedUntil: m.At, Revoked: m}}, "the certificate with serial number " + serial, nil
	case r.GetOperator() != "":
		if err := pool.CheckName("operator", r.GetOperator()); err != nil {
			return nil, "", err
		}
		return []pool.Revocation{{ID: pool.RevokedOperator(r.GetOperator()), IssuedUntil: m.At, Revoked: m}},
			"all certificates issued to " + r.GetOperator() + " until now", nil
	}
	if err := pool.CheckName("server", r.GetServer()); err != nil {
		return nil, "", err
	}
	return pool.RevokeServer(pool.ServerID(r.GetServer()), m), "all certificates of the server " + r.GetServer() + " issued until now", nil
}

// ListRevocations lists what is revoked.
func (s *Server) ListRevocations(_ context.Context, _ *pb.ListRevocationsRequest) (*pb.ListRevocationsResponse, error) {
	snap, err := s.snapshot()
	if err != nil {
		return nil, err
	}
	resp := &pb.ListRevocationsResponse{Revision: int64(snap.Revision)}
	for _, r := range snap.Revocations.All() {
		resp.Revocations = append(resp.Revocations, wire.Revocation(r))
	}
	return resp, nil
}
