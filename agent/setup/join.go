package setup

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"

	"github.com/holdfast-ha/holdfast/agent/etcd"
	"github.com/holdfast-ha/holdfast/pkg/config"
	"github.com/holdfast-ha/holdfast/pkg/pki"
	"github.com/holdfast-ha/holdfast/pkg/pool"
	"github.com/holdfast-ha/holdfast/pkg/rpc"
	"github.com/holdfast-ha/holdfast/pkg/statefile"
	"github.com/holdfast-ha/holdfast/pkg/version"
	holdfastv1 "github.com/holdfast-ha/holdfast/proto/holdfast/v1"
)

// JoinOptions say how a machine joins.
type JoinOptions struct {
	Machine Machine
	// Token as it was printed.
	Token string
	// Witness: carry a vote of etcd and nothing else.
	Witness bool
	// Protocol is what this machine speaks; 0 means Protocol.
	Protocol int32
}

// Join makes this machine a server, or a witness, of the pool that made the token. After a lost answer it can be
// repeated with the same token: the key is kept until the join is complete. Errors are the pool's own (duplicate
// name, used or expired token, ...), pki.ErrWrongCA, or pool.ErrUnavailable if nobody answered.
func Join(ctx context.Context, o JoinOptions) (Result, error) {
	token, err := ParseToken(o.Token)
	if err != nil {
		return Result{}, err
	}
	m, err := o.machine(token)
	if err != nil {
		return Result{}, err
	}
	if err := m.checkFresh(); err != nil {
		return Result{}, err
	}
	key, csr, err := m.request()
	if err != nil {
		return Result{}, err
	}
	req, err := o.ask(m, token, csr)
	if err != nil {
		return Result{}, err
	}
	resp, err := call(ctx, token, req, m)
	if err != nil {
		return Result{}, err
	}
	s, err := newStage(m)
	if err != nil {
		return Result{}, err
	}
	defer s.discard()
	files, err := s.receive(resp, key, token, o.Witness)
	if err != nil {
		return Result{}, err
	}
	written, err := s.commit(Origin{Pool: resp.GetPool(), Incarnation: resp.GetIncarnation()}, files)
	if err != nil {
		return Result{}, err
	}
	if err := os.Remove(m.keyFile()); err != nil {
		m.Log.Warn("the key kept for a repeated join was not removed", "err", err)
	}
	return Result{Pool: resp.GetPool(), Server: m.Settings.Server, Address: m.Settings.Address, Files: written, Pin: token.Pin, Witness: o.Witness}, nil
}

// machine completes the settings as far as they are known before the pool has answered.
func (o JoinOptions) machine(t Token) (Machine, error) {
	m := o.Machine
	m.Settings.Pool = t.Pool
	if m.Settings.Address == "" {
		address, err := LocalAddress(t.Servers[0])
		if err != nil {
			return m, err
		}
		m.Settings.Address = address
	}
	m, err := m.normal()
	if err != nil {
		return m, err
	}
	return m, m.Settings.Validate()
}

// keyFile is where the new machine's key waits for the answer.
func (m Machine) keyFile() string { return filepath.Join(m.Settings.StateDir, ".join.key") }

// request returns this machine's key, kept from an earlier attempt if there was one, and the request to sign it.
func (m Machine) request() (key, csr []byte, err error) {
	if err := os.MkdirAll(m.Settings.StateDir, 0o700); err != nil {
		return nil, nil, fmt.Errorf("make the state folder: %w", err)
	}
	key, err = os.ReadFile(m.keyFile())
	if err == nil {
		if csr, err = pki.RequestFor(key); err == nil {
			return key, csr, nil
		}
	}
	if csr, key, err = pki.NewRequest(); err != nil {
		return nil, nil, err
	}
	return key, csr, statefile.Replace(m.keyFile(), key, 0o600)
}

func (o JoinOptions) ask(m Machine, t Token, csr []byte) (*holdfastv1.JoinRequest, error) {
	r := &holdfastv1.JoinRequest{
		TokenId: t.ID, Secret: t.Secret, Server: m.Settings.Server, Csr: csr, Version: version.String(), Protocol: o.Protocol, Witness: o.Witness,
	}
	if r.Protocol == 0 {
		r.Protocol = Protocol
	}
	if !o.Witness {
		r.Address, r.HostUuid = m.Settings.Address, m.HostUUID
	}
	// Sent with external etcd too, where the pool ignores it: only the pool knows its mode.
	e, err := etcd.FromSettings(m.Settings)
	if err != nil {
		return nil, err
	}
	r.EtcdPeerUrl, r.EtcdClientUrl = e.PeerURL, e.ClientURL
	return r, nil
}

// call sends the request to the first of the token's servers that answers and belongs to the token's CA.
func call(ctx context.Context, t Token, r *holdfastv1.JoinRequest, m Machine) (*holdfastv1.JoinResponse, error) {
	var mu sync.Mutex
	var wrong error
	cfg := pki.Pinned(t.Pin)
	verify := cfg.VerifyConnection
	cfg.VerifyConnection = func(state tls.ConnectionState) error {
		err := verify(state)
		mu.Lock()
		defer mu.Unlock()
		if errors.Is(err, pki.ErrWrongCA) {
			wrong = err
		}
		return err
	}
	c, err := rpc.Dial(rpc.Target{Agents: t.Servers, TLS: cfg}, rpc.Limits{})
	if err != nil {
		return nil, err
	}
	defer c.Close() //nolint:errcheck // answered or given up
	resp, err := holdfastv1.NewJoinServiceClient(c).Join(ctx, r)
	mu.Lock()
	defer mu.Unlock()
	switch {
	case err == nil:
		return resp, nil
	case wrong != nil && errors.Is(err, pool.ErrUnavailable):
		return nil, fmt.Errorf("%w; make a new token, and see who answers at %s", wrong, t.Servers[0])
	case errors.Is(err, pool.ErrOutcomeUnknown):
		return nil, fmt.Errorf("%w; run the same join again: it takes up where this one was cut off", err)
	case m.Clock.Wall().After(t.Expires):
		return nil, fmt.Errorf("%w (the token expired at %s)", err, t.Expires.Format("2006-01-02 15:04:05 MST"))
	}
	return nil, err
}

// receive checks the pool's answer and prepares all files from it.
func (s *stage) receive(r *holdfastv1.JoinResponse, key []byte, t Token, witness bool) ([]file, error) {
	if err := s.checkAnswer(r, key, t, witness); err != nil {
		return nil, fmt.Errorf("the pool's answer: %w", err)
	}
	c := &s.m.Settings
	e := r.GetEtcd()
	c.Etcd.Mode, c.Etcd.Heartbeat, c.Etcd.Election = e.GetMode(), e.GetHeartbeat().AsDuration(), e.GetElection().AsDuration()
	if err := pki.Save(identity(s.pki()), r.GetCa(), pki.Pair{Cert: r.GetCertificate(), Key: key}); err != nil {
		return nil, err
	}
	if e.GetMode() == config.EtcdExternal {
		if err := s.external(e); err != nil {
			return nil, err
		}
	} else if err := etcd.SaveEndpoints(s.etcd(), e.GetEndpoints()); err != nil {
		return nil, err
	}
	*c = c.Complete()
	if err := c.Validate(); err != nil {
		return nil, err
	}
	if witness {
		return nil, nil
	}
	ca, err := pki.ParseAuthority(r.GetCa(), r.GetCaKey())
	if err != nil {
		return nil, fmt.Errorf("the pool's answer: %w", err)
	}
	if err := statefile.Replace(filepath.Join(s.pki(), "ca.key"), r.GetCaKey(), 0o600); err != nil {
		return nil, err
	}
	return s.clientFiles(ca, append([]string{c.Address}, r.GetServers()...))
}

// checkAnswer makes sure that the certificate is ours, of the pinned CA, and says what we asked for.
func (s *stage) checkAnswer(r *holdfastv1.JoinResponse, key []byte, t Token, witness bool) error {
	if r.GetPool() != t.Pool || r.GetIncarnation() == "" {
		return fmt.Errorf("it comes from pool %q, the token from %q: %w", r.GetPool(), t.Pool, pool.ErrInvalid)
	}
	ca, err := pki.ParseCert(r.GetCa())
	if err != nil {
		return err
	}
	if pki.PinOf(ca) != t.Pin {
		return pki.ErrWrongCA
	}
	pair, err := tls.X509KeyPair(r.GetCertificate(), key)
	if err != nil {
		return fmt.Errorf("its certificate is not for our key: %w: %w", err, pool.ErrInvalid)
	}
	if err := pair.Leaf.CheckSignatureFrom(ca); err != nil {
		return fmt.Errorf("its certificate: %w: %w", err, pool.ErrInvalid)
	}
	want := pki.RoleServer
	if witness {
		want = pki.RoleWitness
	}
	id, err := pki.Of(pair.Leaf)
	if err != nil {
		return err
	}
	if id.Name != s.m.Settings.Server || id.Role != want || id.Pool != t.Pool {
		return fmt.Errorf("its certificate is for %v of pool %s: %w", id, id.Pool, pool.ErrInvalid)
	}
	return nil
}

// external keeps what an external etcd needs beside the certificates.
func (s *stage) external(e *holdfastv1.EtcdAccess) error {
	c := &s.m.Settings.Etcd
	c.Endpoints, c.Username = e.GetEndpoints(), e.GetUsername()
	for _, f := range []struct {
		path *string
		name string
		data []byte
	}{
		{&c.CA, "etcd-ca.crt", e.GetCa()}, {&c.Cert, "etcd.crt", e.GetCert()}, {&c.Key, "etcd.key", e.GetKey()},
		{&c.PasswordFile, "etcd.password", e.GetPassword()},
	} {
		if len(f.data) == 0 {
			continue
		}
		if err := statefile.Replace(filepath.Join(s.pki(), f.name), f.data, 0o600); err != nil {
			return err
		}
		*f.path = filepath.Join(s.m.Settings.PKIDir(), f.name)
	}
	return nil
}
