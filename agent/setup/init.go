package setup

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/holdfast-ha/holdfast/agent/etcd"
	"github.com/holdfast-ha/holdfast/pkg/config"
	"github.com/holdfast-ha/holdfast/pkg/kv"
	kvetcd "github.com/holdfast-ha/holdfast/pkg/kv/etcd"
	"github.com/holdfast-ha/holdfast/pkg/pki"
	"github.com/holdfast-ha/holdfast/pkg/pool"
	"github.com/holdfast-ha/holdfast/pkg/statefile"
	"github.com/holdfast-ha/holdfast/pkg/store"
)

// seedLimit bounds the writing of the first keys.
const seedLimit = 15 * time.Second

// Init makes a new pool with this machine as its first server: the CA, the server's certificate, root's operator
// certificate, the first etcd member with the pool's first keys in it, and the settings. Nothing runs afterwards;
// the units start from what is there. With external etcd the keys are written there instead. Errors: a
// *pool.Refusal on a machine that is set up already, or whose pool exists in the external etcd.
func Init(ctx context.Context, m Machine) (Result, error) {
	m, err := m.normal()
	if err != nil {
		return Result{}, err
	}
	if err := m.Settings.Validate(); err != nil {
		return Result{}, err
	}
	if err := m.Settings.CheckTTL(pool.DefaultTTL); err != nil {
		return Result{}, err
	}
	if err := m.checkFresh(); err != nil {
		return Result{}, err
	}
	s, err := newStage(m)
	if err != nil {
		return Result{}, err
	}
	defer s.discard()
	ca, err := pki.NewAuthority(m.Settings.Pool, m.Clock.Wall())
	if err != nil {
		return Result{}, err
	}
	if err := s.firstIdentity(ca); err != nil {
		return Result{}, err
	}
	files, err := s.clientFiles(ca, []string{m.Settings.Address})
	if err != nil {
		return Result{}, err
	}
	incarnation, err := newUUID()
	if err != nil {
		return Result{}, err
	}
	undo, err := s.seed(ctx, incarnation)
	if err != nil {
		return Result{}, err
	}
	written, err := s.commit(Origin{Pool: m.Settings.Pool, Incarnation: incarnation}, files)
	if err != nil {
		return Result{}, errors.Join(err, undo(ctx))
	}
	return Result{Pool: m.Settings.Pool, Server: m.Settings.Server, Address: m.Settings.Address, Files: written, Pin: ca.Pin()}, nil
}

// firstIdentity writes the CA and the server's own certificate.
func (s *stage) firstIdentity(ca *pki.Authority) error {
	own, err := ca.PEM()
	if err != nil {
		return err
	}
	pair, err := ca.Issue(pki.Request{Name: s.m.Settings.Server, Role: pki.RoleServer, Hosts: s.m.hosts()}, s.m.Clock.Wall(), 0)
	if err != nil {
		return err
	}
	if err := statefile.Replace(filepath.Join(s.pki(), "ca.key"), own.Key, 0o600); err != nil {
		return err
	}
	return pki.Save(identity(s.pki()), own.Cert, pair)
}

// seed writes the pool's first keys and returns how to take them back.
func (s *stage) seed(ctx context.Context, incarnation string) (undo func(context.Context) error, err error) {
	nothing := func(context.Context) error { return nil }
	ctx, cancel := s.m.Clock.WithTimeout(ctx, seedLimit)
	defer cancel()
	if s.m.Settings.Etcd.Mode == config.EtcdExternal {
		return s.seedExternal(ctx, incarnation)
	}
	cfg, err := etcd.FromSettings(s.m.Settings)
	if err != nil {
		return nothing, err
	}
	cfg.Dir, cfg.Identity, cfg.NoSync = s.etcd(), identity(s.pki()), s.m.NoSync
	err = etcd.Bootstrap(ctx, cfg, incarnation, s.m.Log, func(ctx context.Context, a etcd.Access) error {
		edge, err := kvetcd.Open(kvetcd.Options{Endpoints: a.Endpoints, TLS: a.TLS})
		if err != nil {
			return err
		}
		defer edge.Close() //nolint:errcheck // written and acknowledged by then
		seat := cfg.Seat(false)
		_, err = s.firstKeys(ctx, edge, incarnation, &seat)
		return err
	})
	if err != nil {
		return nothing, fmt.Errorf("make the pool's etcd at %s (is that this machine's address, and are its ports free?): %w", cfg.ListenClient[0], err)
	}
	return nothing, nil
}

func (s *stage) seedExternal(ctx context.Context, incarnation string) (func(context.Context) error, error) {
	access, err := ExternalAccess(s.m.Settings.Etcd)
	if err != nil {
		return nil, err
	}
	edge, err := kvetcd.Open(kvetcd.Options{Endpoints: access.Endpoints, TLS: access.TLS, Username: access.Username, Password: access.Password})
	if err != nil {
		return nil, err
	}
	defer edge.Close() //nolint:errcheck // written and acknowledged by then
	if err := edge.CheckVersions(ctx); err != nil {
		return nil, err
	}
	written, err := s.firstKeys(ctx, edge, incarnation, nil)
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context) error { return takeBack(ctx, access, written) }, nil
}

// firstKeys seeds the pool, if there is none of that name.
func (s *stage) firstKeys(ctx context.Context, edge kv.Store, incarnation string, seat *etcd.Seat) ([]kv.Op, error) {
	c := s.m.Settings
	keys := store.NewKeys(c.Pool)
	wall := s.m.Clock.Wall()
	ops := []kv.Op{
		keys.PutConfig(pool.DefaultConfig(c.Pool, incarnation)),
		keys.PutServer(pool.Server{ID: pool.ServerID(c.Server), Address: c.Address, HostUUID: s.m.HostUUID}),
		keys.PutEvent(pool.Event{ID: store.EventID(wall, pool.ServerID(c.Server), 0), At: wall, Kind: "POOL_CREATED",
			Server: pool.ServerID(c.Server), Actor: "root on " + c.Server, Text: fmt.Sprintf("pool %s was made with %s as its first server", c.Pool, c.Server)}),
	}
	if seat != nil {
		op, err := etcd.PutSeat(keys, *seat, incarnation)
		if err != nil {
			return nil, err
		}
		ops = append(ops, op)
	}
	_, err := store.New(edge, keys).Commit(ctx, kv.Txn{If: []kv.Compare{keys.ConfigIs(0)}, Then: ops})
	if errors.Is(err, pool.ErrStale) {
		return nil, pool.Refuse("POOL_EXISTS", "join it with a token made on one of its servers, or choose another name", "this etcd has a pool %s already", c.Pool)
	}
	if err != nil {
		return nil, fmt.Errorf("write the pool's first keys: %w", err)
	}
	return ops, nil
}

// takeBack removes the first keys from an external etcd after the local part failed.
func takeBack(ctx context.Context, a etcd.Access, written []kv.Op) error {
	edge, err := kvetcd.Open(kvetcd.Options{Endpoints: a.Endpoints, TLS: a.TLS, Username: a.Username, Password: a.Password})
	if err != nil {
		return err
	}
	defer edge.Close() //nolint:errcheck // best effort
	var ops []kv.Op
	for _, op := range written {
		ops = append(ops, kv.Delete(op.Key))
	}
	if _, err := edge.Txn(ctx, kv.Txn{Then: ops}); err != nil {
		return fmt.Errorf("take the pool's first keys back: %w", err)
	}
	return nil
}

// readOptional returns a file's contents, nil for no path.
func readOptional(path string) ([]byte, error) {
	if path == "" {
		return nil, nil
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read what the external etcd needs: %w", err)
	}
	return data, nil
}
