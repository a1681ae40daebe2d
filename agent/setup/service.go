package setup

import (
	"bytes"
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"strconv"
	"strings"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/holdfast-ha/holdfast/agent/etcd"
	"github.com/holdfast-ha/holdfast/pkg/clock"
	"github.com/holdfast-ha/holdfast/pkg/config"
	"github.com/holdfast-ha/holdfast/pkg/kv"
	"github.com/holdfast-ha/holdfast/pkg/pki"
	"github.com/holdfast-ha/holdfast/pkg/pool"
	"github.com/holdfast-ha/holdfast/pkg/rpc"
	"github.com/holdfast-ha/holdfast/pkg/store"
	holdfastv1 "github.com/holdfast-ha/holdfast/proto/holdfast/v1"
)

// Protocol is what this version speaks between agents; MinProtocol the oldest that it can share a pool with. A pool
// holds two versions in a row while it is upgraded. They change with the meaning of records, not with releases.
const (
	Protocol    = 1
	MinProtocol = 1
)

// ServiceOptions say what a JoinService needs.
type ServiceOptions struct {
	// Settings of the server that admits.
	Settings config.Config
	Store    *store.Store
	Clock    clock.Clock
	Log      *slog.Logger
	// Endpoints returns the members of embedded etcd that serve clients.
	Endpoints func() []string
}

// JoinService admits machines. It is the only service open to callers without a certificate: each call is judged by
// its token. Safe for concurrent use: etcd decides between two callers.
type JoinService struct {
	holdfastv1.UnimplementedJoinServiceServer
	o ServiceOptions
}

// NewJoinService returns the service.
func NewJoinService(o ServiceOptions) *JoinService { return &JoinService{o: o} }

// Join implements holdfastv1.JoinServiceServer. Errors are pkg/pool's kinds.
func (s *JoinService) Join(ctx context.Context, r *holdfastv1.JoinRequest) (*holdfastv1.JoinResponse, error) {
	if err := s.checkRequest(r); err != nil {
		return nil, err
	}
	key, err := requestKey(r.GetCsr())
	if err != nil {
		return nil, err
	}
	token, entry, err := s.token(ctx, r.GetTokenId(), r.GetSecret())
	if err != nil {
		return nil, err
	}
	if token.GetRole() != "" {
		return nil, pool.Refuse("TOKEN_FOR_LOGIN", "use it with `holdfast login`; a token for a machine is made with `holdfast-agent token create`",
			"this token gives %s a certificate, it admits no machine", token.GetName())
	}
	if r.GetProtocol() < MinProtocol {
		return nil, pool.Refuse("AGENT_TOO_OLD", "upgrade the package on "+r.GetServer()+" and join again",
			"%s runs Holdfast %s (protocol %d); this pool needs protocol %d or later", r.GetServer(), r.GetVersion(), r.GetProtocol(), MinProtocol)
	}
	ca, err := pki.LoadAuthority(s.o.Settings.TLS.CA, s.o.Settings.TLS.CAKey)
	if err != nil {
		return nil, fmt.Errorf("%s cannot sign certificates: %w", s.o.Settings.Server, err)
	}
	snap, err := s.o.Store.Load(ctx, "")
	if err != nil {
		return nil, err
	}
	if snap.Config.Incarnation == "" {
		return nil, fmt.Errorf("the pool's policy cannot be read: %w", pool.ErrUnavailable)
	}
	cert, err := ca.Sign(r.GetCsr(), certificateFor(r), snap.IssueAt(true, r.GetServer(), s.o.Clock.Wall()), 0)
	if err != nil {
		return nil, err
	}
	again := token.GetUsedBy() == r.GetServer() && bytes.Equal(token.GetUsedKeyHash(), key) &&
		(r.GetWitness() || snap.Servers.Has(pool.ServerID(r.GetServer())))
	if token.GetUsedBy() != "" && !again {
		return nil, pool.Refuse("TOKEN_USED", "make a new one with `holdfast-agent token create`: each token admits one machine",
			"this token was used by %s already", token.GetUsedBy())
	}
	if !again {
		if err := s.checkDuplicates(ctx, snap, r); err != nil {
			return nil, err
		}
		token.UsedBy, token.UsedKeyHash = r.GetServer(), key
		if err := s.register(ctx, snap, r, token, entry); err != nil {
			return nil, err
		}
		s.o.Log.Info("joined", "server", r.GetServer(), "address", r.GetAddress(), "witness", r.GetWitness(), "token", token.GetId())
	}
	return s.answer(r, snap, ca, cert)
}

func (s *JoinService) checkRequest(r *holdfastv1.JoinRequest) error {
	if err := pool.CheckName("server", r.GetServer()); err != nil {
		return err
	}
	if !r.GetWitness() {
		if _, err := splitAddress(r.GetAddress()); err != nil {
			return err
		}
		if r.GetHostUuid() == "" {
			return fmt.Errorf("no host UUID: %w", pool.ErrInvalid)
		}
	}
	if s.o.Settings.Etcd.Mode == config.EtcdExternal {
		if r.GetWitness() {
			return pool.Refuse("NO_WITNESS_NEEDED", "give the external etcd a third member instead", "pool %s uses an external etcd; a witness would carry no vote", s.o.Settings.Pool)
		}
		return nil
	}
	for _, raw := range []string{r.GetEtcdPeerUrl(), r.GetEtcdClientUrl()} {
		u, err := url.Parse(raw)
		if err != nil || u.Scheme != "https" || u.Hostname() == "" || u.Port() == "" {
			return fmt.Errorf("etcd URL %q: must be https://host:port: %w", raw, pool.ErrInvalid)
		}
	}
	return nil
}

// token finds the caller's token and checks the secret.
func (s *JoinService) token(ctx context.Context, id, secret string) (*holdfastv1.JoinToken, kv.KeyValue, error) {
	unknown := pool.Refuse("TOKEN_UNKNOWN", "make a new one with `holdfast-agent token create` on a server of the pool",
		"pool %s knows no such token: it has expired or was withdrawn", s.o.Settings.Pool)
	if id == "" || strings.Contains(id, "/") {
		return nil, kv.KeyValue{}, unknown
	}
	entry, ok, err := s.o.Store.Edge().Get(ctx, s.o.Store.Keys().Token(id))
	if err != nil {
		return nil, entry, fmt.Errorf("read the token: %w", err)
	}
	if !ok {
		return nil, entry, unknown
	}
	var t holdfastv1.JoinToken
	if err := (protojson.UnmarshalOptions{DiscardUnknown: true}).Unmarshal(entry.Value, &t); err != nil {
		return nil, entry, &store.CorruptError{Key: entry.Key, Reason: "not a JoinToken"}
	}
	if subtle.ConstantTimeCompare(hash([]byte(secret)), t.GetSecretHash()) != 1 {
		return nil, entry, unknown // nothing to learn for somebody who guesses
	}
	return &t, entry, nil
}

// checkDuplicates refuses what the pool has already, before anything is written. The transaction checks names again.
func (s *JoinService) checkDuplicates(ctx context.Context, snap *pool.Snapshot, r *holdfastv1.JoinRequest) error {
	name := pool.ServerID(r.GetServer())
	if old, ok := snap.Servers.Get(name); ok {
		return exists("choose another name with --name, or remove the old server first with `holdfast remove-server "+r.GetServer()+"`",
			"pool %s has a server %s already, at %s", s.o.Settings.Pool, name, old.Address)
	}
	for id, old := range snap.Servers.All() {
		switch {
		case r.GetWitness():
		case strings.EqualFold(old.HostUUID, r.GetHostUuid()):
			return exists("if they are two machines, give each its own host_uuid in libvirtd.conf; if it is the same one, remove "+string(id)+" first",
				"%s has the same host UUID %s", id, old.HostUUID)
		case old.Address == r.GetAddress():
			return exists("give this machine's own address with --address", "%s has the address %s already", id, old.Address)
		}
	}
	if s.o.Settings.Etcd.Mode == config.EtcdExternal {
		return nil
	}
	seats, err := etcd.ListSeats(ctx, s.o.Store)
	if err != nil {
		return err
	}
	for _, old := range seats {
		if old.Name == r.GetServer() || old.PeerURL == r.GetEtcdPeerUrl() || old.ClientURL == r.GetEtcdClientUrl() {
			return exists("choose another name or address; if it was just removed, wait until its vote is gone",
				"%s holds a place for a vote of etcd under that name or at %s", old.Name, old.PeerURL)
		}
	}
	return nil
}

// register makes the machine part of the pool and uses the token up, in one transaction.
func (s *JoinService) register(ctx context.Context, snap *pool.Snapshot, r *holdfastv1.JoinRequest, token *holdfastv1.JoinToken, entry kv.KeyValue) error {
	keys := s.o.Store.Keys()
	value, err := encodeRecord(token)
	if err != nil {
		return err
	}
	name, wall := pool.ServerID(r.GetServer()), s.o.Clock.Wall()
	event := pool.Event{ID: store.EventID(wall, pool.ServerID(s.o.Settings.Server), uint64(wall.Nanosecond())), At: wall, Kind: "SERVER_JOINED",
		Server: name, Actor: "token " + token.GetId(), Text: fmt.Sprintf("%s joined the pool as a server, admitted by %s", name, s.o.Settings.Server)}
	txn := kv.Txn{
		If:   []kv.Compare{kv.ModIs(entry.Key, entry.ModRevision), keys.ServerIs(name, 0), keys.ConfigIs(snap.Config.Revision)},
		Then: []kv.Op{keys.PutToken(token.GetId(), value, entry.Lease)},
	}
	if r.GetWitness() {
		event.Kind, event.Text = "WITNESS_JOINED", fmt.Sprintf("%s joined the pool as a witness, admitted by %s", name, s.o.Settings.Server)
	} else {
		txn.Then = append(txn.Then, keys.PutServer(pool.Server{ID: name, Address: r.GetAddress(), HostUUID: strings.ToLower(r.GetHostUuid()), Awaited: true}))
	}
	event.Audit = withAfter(rpc.AuditOf(ctx), "servers/"+r.GetServer(), map[string]string{"address": r.GetAddress(), "hostUuid": r.GetHostUuid(), "version": r.GetVersion()})
	txn.Then = append(txn.Then, keys.PutEvent(event))
	if s.o.Settings.Etcd.Mode == config.EtcdEmbedded {
		seat := etcd.Seat{Name: r.GetServer(), PeerURL: r.GetEtcdPeerUrl(), ClientURL: r.GetEtcdClientUrl(), Witness: r.GetWitness()}
		op, err := etcd.PutSeat(keys, seat, snap.Config.Incarnation)
		if err != nil {
			return err
		}
		txn.If = append(txn.If, kv.Absent(op.Key))
		txn.Then = append(txn.Then, op)
	}
	_, err = s.o.Store.Commit(ctx, txn)
	if errors.Is(err, pool.ErrStale) {
		return fmt.Errorf("the pool, this token or this name changed at the same moment; try again: %w", err)
	}
	return err
}

func (s *JoinService) answer(r *holdfastv1.JoinRequest, snap *pool.Snapshot, ca *pki.Authority, cert []byte) (*holdfastv1.JoinResponse, error) {
	own, err := ca.PEM()
	if err != nil {
		return nil, err
	}
	out := &holdfastv1.JoinResponse{
		Pool: s.o.Settings.Pool, Incarnation: snap.Config.Incarnation, Certificate: cert, Ca: own.Cert,
		Servers: []string{s.o.Settings.Address},
	}
	for _, old := range snap.Servers.All() {
		if old.Address != s.o.Settings.Address {
			out.Servers = append(out.Servers, old.Address)
		}
	}
	if !r.GetWitness() {
		out.CaKey = own.Key
	}
	out.Etcd, err = s.etcdAccess()
	return out, err
}

// etcdAccess tells the new machine how to reach etcd; for an external one, with the credentials that it needs.
func (s *JoinService) etcdAccess() (*holdfastv1.EtcdAccess, error) {
	e := s.o.Settings.Etcd
	out := &holdfastv1.EtcdAccess{Mode: e.Mode, Heartbeat: durationpb.New(e.Heartbeat), Election: durationpb.New(e.Election)}
	if e.Mode == config.EtcdEmbedded {
		return out, s.embedded(out)
	}
	out.Endpoints, out.Username = e.Endpoints, e.Username
	for _, f := range []struct {
		to   *[]byte
		path string
	}{{&out.Ca, e.CA}, {&out.Cert, e.Cert}, {&out.Key, e.Key}, {&out.Password, e.PasswordFile}} {
		data, err := readOptional(f.path)
		if err != nil {
			return nil, err
		}
		*f.to = data
	}
	return out, nil
}

// embedded names the members that serve clients, as last seen or, just after a start, as they are on disk.
func (s *JoinService) embedded(out *holdfastv1.EtcdAccess) (err error) {
	if out.Endpoints = s.o.Endpoints(); len(out.Endpoints) == 0 {
		if out.Endpoints, err = etcd.LoadEndpoints(s.o.Settings.EtcdDir()); err != nil {
			return err
		}
	}
	if len(out.Endpoints) == 0 {
		return fmt.Errorf("%s knows no member of etcd yet; try again: %w", s.o.Settings.Server, pool.ErrUnavailable)
	}
	return nil
}

// certificateFor says what the new machine's certificate names.
func certificateFor(r *holdfastv1.JoinRequest) pki.Request {
	out := pki.Request{Name: r.GetServer(), Role: pki.RoleServer}
	if r.GetWitness() {
		out.Role = pki.RoleWitness
	}
	if host, err := splitAddress(r.GetAddress()); err == nil {
		out.Hosts = append(out.Hosts, host)
	}
	for _, raw := range []string{r.GetEtcdPeerUrl(), r.GetEtcdClientUrl()} {
		if u, err := url.Parse(raw); err == nil && u.Hostname() != "" {
			out.Hosts = append(out.Hosts, u.Hostname())
		}
	}
	return out
}

func splitAddress(address string) (host string, err error) {
	host, port, err := net.SplitHostPort(address)
	n, perr := strconv.Atoi(port)
	if ip := net.ParseIP(host); err != nil || perr != nil || n < 1 || n > 65535 || host == "" || (ip != nil && ip.IsUnspecified()) {
		return "", fmt.Errorf("address %q: must be host:port where the other servers reach this one: %w", address, pool.ErrInvalid)
	}
	return host, nil
}

// requestKey is the hash of the key that a request is for: it tells a repeated join from another machine's.
func requestKey(csr []byte) ([]byte, error) {
	key, err := pki.RequestKey(csr)
	if err != nil {
		return nil, err
	}
	return hash(key), nil
}

// exists refuses a duplicate. It is pool.ErrExists.
func exists(remedy, format string, args ...any) error {
	return fmt.Errorf("%s; %s: %w", fmt.Sprintf(format, args...), remedy, pool.ErrExists)
}
