package etcd

import (
	"context"
	"fmt"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/holdfast-ha/holdfast/pkg/kv"
	"github.com/holdfast-ha/holdfast/pkg/pool"
)

// Grant implements kv.Leases. After pool.ErrOutcomeUnknown a lease may exist that nobody knows; it expires.
func (e *Etcd) Grant(ctx context.Context, ttl time.Duration) (kv.LeaseID, error) {
	if ttl < time.Second || ttl%time.Second != 0 {
		return 0, fmt.Errorf("lease of %v: etcd counts whole seconds, at least 1s: %w", ttl, pool.ErrInvalid)
	}
	m, c, err := e.connected(ctx)
	if err != nil {
		return 0, fmt.Errorf("grant a lease: %w", err)
	}
	res, err := c.Grant(clientv3.WithRequireLeader(ctx), int64(ttl/time.Second))
	if err != nil {
		e.failed(m)
		return 0, fmt.Errorf("grant a lease at etcd %s: %w", m.endpoint, writeError(err))
	}
	return kv.LeaseID(res.ID), nil
}

// Revoke implements kv.Leases.
func (e *Etcd) Revoke(ctx context.Context, id kv.LeaseID) error {
	m, c, err := e.connected(ctx)
	if err != nil {
		return fmt.Errorf("revoke lease %x: %w", int64(id), err)
	}
	if _, err := c.Revoke(clientv3.WithRequireLeader(ctx), clientv3.LeaseID(id)); err != nil {
		err = writeError(err)
		return fmt.Errorf("revoke lease %x at etcd %s: %w", int64(id), m.endpoint, err)
	}
	return nil
}

// KeepAlive implements kv.Leases with one stream for one renewal. clientv3's own renewal is tied to one member and
// its KeepAliveOnce tries again until ctx ends; a caller that counts on its deadline needs the failure at once.
func (e *Etcd) KeepAlive(ctx context.Context, id kv.LeaseID, attempt int) error {
	m := e.numbered(attempt)
	if err := renew(ctx, m, id); err != nil {
		return fmt.Errorf("keep lease %x alive at etcd %s: %w", int64(id), m.endpoint, err)
	}
	return nil
}

func renew(ctx context.Context, m *member, id kv.LeaseID) error {
	c, err := m.connect(ctx)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(clientv3.WithRequireLeader(ctx))
	defer cancel()
	stream, err := pb.NewLeaseClient(c.ActiveConnection()).LeaseKeepAlive(ctx)
	if err != nil {
		return fmt.Errorf("%w: %w", pool.ErrUnavailable, err)
	}
	if err := stream.Send(&pb.LeaseKeepAliveRequest{ID: int64(id)}); err != nil {
		return fmt.Errorf("%w: %w", pool.ErrUnavailable, err)
	}
	res, err := stream.Recv()
	switch {
	case err != nil && rpctypes.ErrorDesc(err) == rpctypes.ErrorDesc(rpctypes.ErrGRPCLeaseNotFound):
		return kv.ErrLeaseNotFound
	case err != nil:
		return fmt.Errorf("%w: %w", pool.ErrUnavailable, err)
	case res.GetTTL() <= 0:
		return kv.ErrLeaseNotFound
	}
	return nil
}
