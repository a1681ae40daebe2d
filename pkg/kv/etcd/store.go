package etcd

import (
	"context"
	"errors"
	"fmt"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/holdfast-ha/holdfast/pkg/kv"
	"github.com/holdfast-ha/holdfast/pkg/pool"
)

// pageSize is how many keys one request of a List asks for.
const pageSize = 1000

// listTries is how often a List begins anew because its revision was compacted between two pages.
const listTries = 3

// Get implements kv.Store.
func (e *Etcd) Get(ctx context.Context, key string) (entry kv.KeyValue, ok bool, err error) {
	if key == "" {
		return entry, false, fmt.Errorf("get a key without a name: %w", pool.ErrInvalid)
	}
	err = e.read(ctx, readLimit, func(ctx context.Context, c *clientv3.Client) error {
		res, err := c.Get(ctx, key)
		if err == nil && len(res.Kvs) > 0 {
			entry, ok = keyValue(res.Kvs[0]), true
		}
		return err
	})
	if err != nil {
		return kv.KeyValue{}, false, fmt.Errorf("get %s: %w", key, err)
	}
	return entry, ok, nil
}

// List implements kv.Store.
func (e *Etcd) List(ctx context.Context, prefix string) ([]kv.KeyValue, pool.Revision, error) {
	for try := 1; ; try++ {
		all, rev, err := e.list(ctx, prefix)
		if err == nil {
			return all, rev, nil
		}
		if try == listTries || !errors.Is(err, rpctypes.ErrCompacted) {
			if !errors.Is(err, pool.ErrUnavailable) {
				err = fmt.Errorf("%w: %w", pool.ErrUnavailable, err)
			}
			return nil, 0, fmt.Errorf("list %s: %w", prefix, err)
		}
	}
}

// list reads page after page, all at the revision of the first.
func (e *Etcd) list(ctx context.Context, prefix string) (all []kv.KeyValue, rev pool.Revision, err error) {
	from, end := prefix, clientv3.GetPrefixRangeEnd(prefix)
	if prefix == "" {
		from, end = "\x00", "\x00"
	}
	for {
		res, err := e.page(ctx, from, end, rev)
		if err != nil {
			return nil, 0, err
		}
		if rev == 0 {
			rev = pool.Revision(res.Header.GetRevision())
			all = make([]kv.KeyValue, 0, res.Count)
		}
		for _, entry := range res.Kvs {
			all = append(all, keyValue(entry))
		}
		if !res.More || len(res.Kvs) == 0 {
			return all, rev, nil
		}
		from = string(res.Kvs[len(res.Kvs)-1].Key) + "\x00"
	}
}

func (e *Etcd) page(ctx context.Context, from, end string, rev pool.Revision) (res *clientv3.GetResponse, err error) {
	err = e.read(ctx, pageLimit, func(ctx context.Context, c *clientv3.Client) (err error) {
		res, err = c.Get(ctx, from, clientv3.WithRange(end), clientv3.WithLimit(pageSize), clientv3.WithRev(int64(rev)))
		return err
	})
	return res, err
}

// Txn implements kv.Store. A write is sent to one member, once.
func (e *Etcd) Txn(ctx context.Context, txn kv.Txn) (kv.Result, error) {
	if err := txn.Check(); err != nil {
		return kv.Result{}, err
	}
	if len(txn.Then) == 0 {
		return e.look(ctx, txn)
	}
	m, c, err := e.connected(ctx)
	if err != nil {
		return kv.Result{}, fmt.Errorf("txn: %w", err)
	}
	res, err := commit(clientv3.WithRequireLeader(ctx), c, txn)
	if err != nil {
		err = writeError(err)
		if errors.Is(err, pool.ErrOutcomeUnknown) || errors.Is(err, pool.ErrUnavailable) {
			e.failed(m)
		}
		return kv.Result{}, fmt.Errorf("txn at etcd %s: %w", m.endpoint, err)
	}
	return res, nil
}

// look runs a transaction that writes nothing: a read like others.
func (e *Etcd) look(ctx context.Context, txn kv.Txn) (res kv.Result, err error) {
	err = e.read(ctx, readLimit, func(ctx context.Context, c *clientv3.Client) (err error) {
		res, err = lookup(ctx, c, txn)
		return err
	})
	if err != nil {
		return kv.Result{}, fmt.Errorf("txn: %w", err)
	}
	return res, nil
}

func commit(ctx context.Context, c *clientv3.Client, txn kv.Txn) (kv.Result, error) {
	res, err := c.Txn(ctx).If(compares(txn.If)...).Then(writes(txn.Then)...).Else(gets(txn.Read)...).Commit()
	if err != nil {
		return kv.Result{}, err
	}
	return result(res), nil
}

// lookup runs a transaction that writes nothing. It needs a read in it: etcd answers one without any from the
// member's memory, which is not linearizable.
func lookup(ctx context.Context, c *clientv3.Client, txn kv.Txn) (kv.Result, error) {
	probe := clientv3.OpGet(probeKey(txn), clientv3.WithCountOnly())
	read := gets(txn.Read)
	if len(read) == 0 {
		read = []clientv3.Op{probe}
	}
	res, err := c.Txn(ctx).If(compares(txn.If)...).Then(probe).Else(read...).Commit()
	if err != nil {
		return kv.Result{}, err
	}
	return result(res), nil
}

// probeKey is a key that the caller may read, as far as one can tell. It need not exist.
func probeKey(txn kv.Txn) string {
	switch {
	case len(txn.Read) > 0:
		return txn.Read[0]
	case len(txn.If) > 0:
		return txn.If[0].Key
	default:
		return "/holdfast/revision"
	}
}

func result(res *clientv3.TxnResponse) kv.Result {
	out := kv.Result{Applied: res.Succeeded, Revision: pool.Revision(res.Header.GetRevision())}
	if out.Applied {
		return out
	}
	for _, r := range res.Responses {
		for _, entry := range r.GetResponseRange().GetKvs() {
			out.Found = append(out.Found, keyValue(entry))
		}
	}
	return out
}

func compares(list []kv.Compare) []clientv3.Cmp {
	out := make([]clientv3.Cmp, len(list))
	for i, c := range list {
		left := clientv3.ModRevision(c.Key)
		if c.Target == kv.TargetCreate {
			left = clientv3.CreateRevision(c.Key)
		}
		out[i] = clientv3.Compare(left, "=", int64(c.Equals))
	}
	return out
}

func writes(list []kv.Op) []clientv3.Op {
	out := make([]clientv3.Op, len(list))
	for i, op := range list {
		if op.Delete {
			out[i] = clientv3.OpDelete(op.Key)
		} else {
			out[i] = clientv3.OpPut(op.Key, string(op.Value), clientv3.WithLease(clientv3.LeaseID(op.Lease)))
		}
	}
	return out
}

func gets(keys []string) []clientv3.Op {
	out := make([]clientv3.Op, len(keys))
	for i, key := range keys {
		out[i] = clientv3.OpGet(key)
	}
	return out
}

func keyValue(entry *mvccpb.KeyValue) kv.KeyValue {
	return kv.KeyValue{
		Key: string(entry.Key), Value: entry.Value, Lease: kv.LeaseID(entry.Lease),
		CreateRevision: pool.Revision(entry.CreateRevision), ModRevision: pool.Revision(entry.ModRevision),
	}
}
