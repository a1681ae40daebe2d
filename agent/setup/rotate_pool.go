package setup

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/holdfast-ha/holdfast/agent/etcd"
	"github.com/holdfast-ha/holdfast/pkg/clock"
	"github.com/holdfast-ha/holdfast/pkg/config"
	"github.com/holdfast-ha/holdfast/pkg/kv"
	"github.com/holdfast-ha/holdfast/pkg/pki"
	"github.com/holdfast-ha/holdfast/pkg/pool"
	"github.com/holdfast-ha/holdfast/pkg/store"
	holdfastv1 "github.com/holdfast-ha/holdfast/proto/holdfast/v1"
)

// RotationOptions say what NewRotation needs.
type RotationOptions struct {
	// Settings of the server from which the CA is exchanged.
	Settings config.Config
	Store    *store.Store
	Clock    clock.Clock
	// By is who asked, for the history.
	By string
	// Ask and Voters are as in Rotation, but that Ask is told where the server is; so is Say.
	Ask    func(ctx context.Context, server pool.Server, r *holdfastv1.ChangeAuthorityRequest) (*holdfastv1.ChangeAuthorityResponse, error)
	Voters func(ctx context.Context) error
	Say    func(format string, args ...any)
}

// NewRotation returns an exchange of the CA over the pool that etcd knows.
func NewRotation(o RotationOptions) Rotation {
	present := func() (*pki.Authority, error) {
		return pki.LoadAuthority(o.Settings.TLS.CA, o.Settings.TLS.CAKey)
	}
	var known pool.Table[pool.ServerID, pool.Server]
	r := Rotation{Clock: o.Clock, Voters: o.Voters, Say: o.Say}
	r.Servers = func(ctx context.Context) ([]pool.ServerID, []string, error) {
		var snap *pool.Snapshot
		var seats []etcd.Seat
		if err := patiently(ctx, o.Clock, func() (err error) {
			if snap, err = o.Store.Load(ctx, ""); err != nil {
				return err
			}
			seats, err = etcd.ListSeats(ctx, o.Store)
			return err
		}); err != nil {
			return nil, nil, err
		}
		var witnesses []string
		for _, s := range seats {
			if s.Witness {
				witnesses = append(witnesses, s.Name)
			}
		}
		known = snap.Servers
		return known.Keys(), witnesses, nil
	}
	r.Ask = func(ctx context.Context, id pool.ServerID, q *holdfastv1.ChangeAuthorityRequest) (*holdfastv1.ChangeAuthorityResponse, error) {
		q.From = o.Settings.Server
		s, ok := known.Get(id)
		if !ok {
			return nil, fmt.Errorf("server %s: %w", id, pool.ErrNotFound)
		}
		return o.Ask(ctx, s, q)
	}
	r.Make = func() (*pki.Authority, error) {
		ca, err := present()
		if err != nil {
			return nil, err
		}
		next, err := pki.NewAuthority(o.Settings.Pool, o.Clock.Wall())
		if err != nil {
			return nil, err
		}
		return ca.Introduce(next, o.Clock.Wall())
	}
	r.Introducing = func() (bool, error) {
		ca, err := present()
		return err == nil && ca.Introducing(), err
	}
	r.Note = func(ctx context.Context, kind, text string) error {
		wall := o.Clock.Wall()
		event := pool.Event{ID: store.EventID(wall, pool.ServerID(o.Settings.Server), uint64(wall.Nanosecond())), At: wall, Kind: kind, //nolint:gosec // never negative
			Server: pool.ServerID(o.Settings.Server), Actor: o.By, Text: text}
		return patiently(ctx, o.Clock, func() error {
			_, err := o.Store.Commit(ctx, kv.Txn{Then: []kv.Op{o.Store.Keys().PutEvent(event)}})
			return err
		})
	}
	return r
}

// etcdLimit is for how long etcd may be out of reach: its members restart while the CA is exchanged, and with one of them
// the etcd leader may.
const etcdLimit = 15 * time.Second

// patiently does what needs etcd again while nothing could be sent to it.
func patiently(ctx context.Context, clk clock.Clock, do func() error) error {
	limit := clk.Now().Add(etcdLimit)
	for {
		err := do()
		if !errors.Is(err, pool.ErrUnavailable) || !clk.Now().Before(limit) || clk.Sleep(ctx, reloadPoll) != nil {
			return err
		}
	}
}
