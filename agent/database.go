package main

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/holdfast-ha/holdfast/agent/app"
	"github.com/holdfast-ha/holdfast/agent/etcd"
	"github.com/holdfast-ha/holdfast/agent/setup"
	"github.com/holdfast-ha/holdfast/pkg/clock"
	"github.com/holdfast-ha/holdfast/pkg/config"
	kvetcd "github.com/holdfast-ha/holdfast/pkg/kv/etcd"
	"github.com/holdfast-ha/holdfast/pkg/pki"
	"github.com/holdfast-ha/holdfast/pkg/pool"
	"github.com/holdfast-ha/holdfast/pkg/store"
)

// memberTimeout bounds one request about etcd's membership.
const memberTimeout = 2 * time.Second

// database is the pool's etcd as this agent reaches it: data through kv, membership through a client of its own.
type database struct {
	cfg     config.Config
	kv      *kvetcd.Etcd
	cluster etcd.Cluster
	log     *slog.Logger

	mu    sync.Mutex
	votes bool
	urls  []string
	names []string
}

// openEtcd connects to nothing yet; it fails for settings that cannot work.
func openEtcd(ctx context.Context, c config.Config, id *pki.Store, log *slog.Logger) (*database, error) {
	access, err := setup.Access(c, id)
	if err != nil {
		return nil, err
	}
	data, err := kvetcd.Open(kvetcd.Options{Endpoints: access.Endpoints, TLS: access.TLS, Username: access.Username, Password: access.Password})
	if err != nil {
		return nil, err
	}
	client, err := etcd.Dial(context.WithoutCancel(ctx), access)
	if err != nil {
		return nil, errors.Join(err, data.Close())
	}
	return &database{cfg: c, kv: data, log: log,
		cluster: etcd.Cluster{Client: client, Access: access, Timeout: memberTimeout}}, nil
}

// run keeps the endpoints and the knowledge of this server's vote up to date until ctx ends.
func (d *database) run(ctx context.Context) error {
	if d.cfg.Etcd.Mode == config.EtcdExternal {
		<-ctx.Done()
		return ctx.Err()
	}
	e := &etcd.Endpoints{Dir: d.cfg.EtcdDir(), View: d.view, Clock: clock.Real(), Log: d.log, Apply: func(urls ...string) {
		d.cluster.Client.SetEndpoints(urls...)
		if err := d.kv.SetEndpoints(urls); err != nil {
			d.log.Warn("etcd endpoints", "err", err)
		}
	}}
	return e.Run(ctx)
}

// view reads the member list and notes whether this server votes.
func (d *database) view(ctx context.Context) (etcd.View, error) {
	v, err := d.cluster.View(ctx)
	if err == nil {
		d.mu.Lock()
		d.votes = etcd.HasVote(v.Members, d.cfg.Server)
		d.urls = etcd.ClientURLs(v.Members)
		d.names = etcd.Voters(v.Members)
		d.mu.Unlock()
	}
	return v, err
}

// voter reports whether this server carries a vote, as last seen.
func (d *database) voter() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.votes
}

// voters returns the machines that have a vote, as last seen.
func (d *database) voters() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.names
}

// endpoints returns the members that serve clients, as last seen.
func (d *database) endpoints() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.urls
}

// check waits until etcd answers with the data of this server's life of the pool, and refuses versions that may end a
// lease too early. Over other data it waits too: this server can still be asked for its copy of the pool's state, and be
// told of the life that follows its own.
func (d *database) check(ctx context.Context, origin setup.Origin) error {
	said := ""
	for {
		err := d.kv.CheckVersions(ctx)
		if err == nil {
			err = setup.CheckPool(ctx, d.kv, origin)
		}
		if err == nil || !errors.Is(err, pool.ErrUnavailable) && !setup.IsOtherEtcd(err) {
			return err
		}
		if text := err.Error(); text != said {
			said = text
			d.log.Warn("waiting for etcd", "err", err)
		}
		if err := clock.Real().Sleep(ctx, time.Second); err != nil {
			return err
		}
	}
}

// canLoseOne says whether etcd survives the loss of one server.
func (d *database) canLoseOne(ctx context.Context) error {
	v, err := d.cluster.View(ctx)
	if err != nil {
		return err
	}
	return etcd.CheckSurvivesLoss(v.Members)
}

// goesOn says whether etcd goes on without a server; see app.Edges.
func (d *database) goesOn(ctx context.Context, snap *pool.Snapshot, without pool.ServerID) (bool, error) {
	if d.cfg.Etcd.Mode == config.EtcdExternal {
		return true, nil
	}
	members, err := d.cluster.Members(ctx)
	if err != nil {
		return false, err
	}
	seats, err := etcd.Registry{Store: store.New(d.kv, store.NewKeys(d.cfg.Pool)), Snapshot: func() *pool.Snapshot { return snap }}.Seats(ctx)
	if err != nil {
		return false, err
	}
	return etcd.GoesOn(members, seats, etcd.GoesFirst(snap, without), string(without))
}

// keepVotes moves votes to where they belong, under this agent's leadership.
func (d *database) keepVotes(ctx context.Context, l app.Leadership) error {
	if d.cfg.Etcd.Mode == config.EtcdExternal {
		return nil
	}
	seats := etcd.Registry{Store: l.Store, Snapshot: l.Snapshot, Leading: l.Leading}
	announce := &etcd.EventAnnouncer{Store: l.Store, Clock: clock.Real(), Leading: l.Leading}
	keeper := etcd.NewKeeper(clock.Real(), d.cluster, seats, announce, d.log)
	defer l.Subscribe(keeper.Wake())()
	return keeper.Run(ctx)
}

func (d *database) close() {
	if err := errors.Join(d.kv.Close(), d.cluster.Client.Close()); err != nil {
		d.log.Debug("closing etcd", "err", err)
	}
}
