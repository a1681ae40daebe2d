package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/holdfast-ha/holdfast/agent/etcd"
	"github.com/holdfast-ha/holdfast/agent/rebuild"
	"github.com/holdfast-ha/holdfast/agent/setup"
	"github.com/holdfast-ha/holdfast/pkg/config"
	"github.com/holdfast-ha/holdfast/pkg/kv"
	kvetcd "github.com/holdfast-ha/holdfast/pkg/kv/etcd"
	"github.com/holdfast-ha/holdfast/pkg/pool"
	"github.com/holdfast-ha/holdfast/pkg/store"
)

// endpoints returns where the new life's embedded etcd will be: on this server. None with an external one.
func (r *rebuilder) endpoints() ([]string, error) {
	own, err := etcd.FromSettings(r.cfg)
	if err != nil || own.ClientURL == "" {
		return nil, err
	}
	return []string{own.ClientURL}, nil
}

// seed makes the new etcd, or fills the external one.
func (r *rebuilder) seed(ctx context.Context, in rebuild.Input, p rebuild.Plan) error {
	r.say("Making the new etcd")
	ctx, cancel := r.clock.WithTimeout(ctx, seededLimit)
	defer cancel()
	if r.cfg.Etcd.Mode == config.EtcdExternal {
		return r.seedExternal(ctx, in, p)
	}
	own, err := etcd.FromSettings(r.cfg)
	if err != nil {
		return err
	}
	place, discard, err := etcd.Rebuild(ctx, own, in.Incarnation, p.After, r.log, func(ctx context.Context, a etcd.Access) error {
		edge, err := kvetcd.Open(kvetcd.Options{Endpoints: a.Endpoints, TLS: a.TLS})
		if err != nil {
			return err
		}
		defer edge.Close() //nolint:errcheck // written and acknowledged by then
		seat, err := etcd.PutSeat(store.NewKeys(r.cfg.Pool), own.Seat(false), in.Incarnation)
		if err != nil {
			return err
		}
		return r.write(ctx, edge, in, p, seat)
	})
	if err != nil {
		return err
	}
	defer discard()
	unlock, err := r.lockLife(in.Incarnation)
	if err != nil {
		return err
	}
	defer unlock()
	return place()
}

// lockLife makes sure that this server belongs to the new life, and goes on to until unlock is called.
func (r *rebuilder) lockLife(incarnation string) (unlock func(), err error) {
	unlock, err = setup.LockLife(r.cfg.StateDir)
	if err != nil {
		return nil, err
	}
	now, err := setup.LoadOrigin(r.cfg.StateDir)
	if err == nil && now.Incarnation != incarnation {
		err = pool.Refuse("LIFE_CHANGED", "let that one finish", "another rebuild has begun on another server meanwhile")
	}
	if err != nil {
		unlock()
		return nil, err
	}
	return unlock, nil
}

// external connects to an external etcd.
func (r *rebuilder) external() (*kvetcd.Etcd, error) {
	access, err := setup.ExternalAccess(r.cfg.Etcd)
	if err != nil {
		return nil, err
	}
	return kvetcd.Open(kvetcd.Options{Endpoints: access.Endpoints, TLS: access.TLS, Username: access.Username, Password: access.Password})
}

// externalIsReady refuses an external etcd that cannot be filled, before anything is changed.
func (r *rebuilder) externalIsReady(ctx context.Context, p rebuild.Plan) error {
	ctx, cancel := r.clock.WithTimeout(ctx, etcdLooks)
	defer cancel()
	edge, err := r.external()
	if err != nil {
		return err
	}
	defer edge.Close() //nolint:errcheck // it was only asked
	return r.checkExternal(ctx, edge, p)
}

// seedExternal fills an external etcd, which must be empty, and not behind what the pool has seen.
func (r *rebuilder) seedExternal(ctx context.Context, in rebuild.Input, p rebuild.Plan) error {
	edge, err := r.external()
	if err != nil {
		return err
	}
	defer edge.Close() //nolint:errcheck // written and acknowledged by then
	unlock, err := r.lockLife(in.Incarnation)
	if err != nil {
		return err
	}
	defer unlock()
	if err := r.checkExternal(ctx, edge, p); err != nil {
		return err
	}
	return r.write(ctx, edge, in, p)
}

// checkExternal refuses an external etcd that is too old a version, not empty, or behind.
func (r *rebuilder) checkExternal(ctx context.Context, edge *kvetcd.Etcd, p rebuild.Plan) error {
	if err := edge.CheckVersions(ctx); err != nil {
		return err
	}
	prefix := store.NewKeys(r.cfg.Pool).Prefix()
	left, revision, err := edge.List(ctx, prefix)
	switch {
	case err != nil:
		return fmt.Errorf("look at the external etcd: %w", err)
	case len(left) > 0:
		return pool.Refuse("POOL_EXISTS", fmt.Sprintf("if they are what a rebuild left that broke off, delete them: etcdctl del --prefix %s", prefix),
			"the external etcd has %d keys of pool %s, without its policy", len(left), r.cfg.Pool)
	case revision <= p.Seen():
		return pool.Refuse("REBUILD_REFUSED", fmt.Sprintf("give back the one that there was, or save a snapshot of this one, empty as it is (etcdctl snapshot save FILE), and make its members anew "+
			"from that with etcdutl snapshot restore FILE --bump-revision %d --mark-compacted", p.After),
			"the external etcd is at revision %d, and the pool has seen %d: revisions must not repeat", revision, p.Seen())
	}
	return nil
}

// write writes what is restored. The policy comes last, and only if there is none: without it nobody reads the rest.
func (r *rebuilder) write(ctx context.Context, edge kv.Store, in rebuild.Input, p rebuild.Plan, more ...kv.Op) error {
	k := store.NewKeys(r.cfg.Pool)
	st := store.New(edge, k)
	ops := more
	for _, s := range p.Servers {
		ops = append(ops, k.PutServer(s))
	}
	for _, v := range p.VMs {
		reg, _ := in.State.VMs.Get(v.ID)
		ops = append(ops, k.PutVM(v.Registration(reg)), k.PutClaim(v.Claim))
	}
	for _, h := range in.State.Homes.All() {
		ops = append(ops, k.PutHome(h))
	}
	for _, v := range in.State.Revocations.All() {
		ops = append(ops, k.PutRevocation(v))
	}
	for _, v := range in.State.Incidents.All() {
		ops = append(ops, k.PutIncident(v))
	}
	for _, f := range p.Fences {
		ops = append(ops, k.PutFence(f))
	}
	self := pool.ServerID(r.cfg.Server)
	ops = append(ops, k.PutEvent(pool.Event{ID: store.EventID(in.At, self, 0), At: in.At, Kind: "POOL_REBUILT", Server: self, Actor: in.By,
		Text: fmt.Sprintf("pool %s was rebuilt by %s from the state of %s; %s", in.State.Pool, self, in.State.At.Format(time.RFC3339), counted(p))}))
	for len(ops) > 0 {
		n := min(len(ops), kv.MaxOps/2)
		if _, err := st.Commit(ctx, kv.Txn{Then: ops[:n]}); err != nil {
			return fmt.Errorf("write the restored state: %w", err)
		}
		ops = ops[n:]
	}
	if _, err := st.Commit(ctx, kv.Txn{If: []kv.Compare{k.ConfigIs(0)}, Then: []kv.Op{k.PutConfig(p.Config)}}); err != nil {
		return fmt.Errorf("write the pool's policy: %w", err)
	}
	return nil
}

// counted says how many VMs met which fate.
func counted(p rebuild.Plan) string {
	n := map[rebuild.Fate]int{}
	for _, v := range p.VMs {
		n[v.Fate]++
	}
	parts := []string{fmt.Sprintf("%d VMs run on", n[rebuild.Adopted])}
	if n[rebuild.Waits] > 0 {
		parts = append(parts, fmt.Sprintf("%d wait for servers that do not answer", n[rebuild.Waits]))
	}
	if free := n[rebuild.Free] + n[rebuild.Ended]; free > 0 {
		parts = append(parts, fmt.Sprintf("%d ran nowhere", free))
	}
	return strings.Join(parts, ", ")
}

// wait returns once the new etcd answers.
func (r *rebuilder) wait(ctx context.Context, in rebuild.Input) error {
	ctx, cancel := r.clock.WithTimeout(ctx, seededLimit)
	defer cancel()
	db, err := openEtcd(ctx, r.cfg, r.id, r.log)
	if err != nil {
		return err
	}
	defer db.close()
	for {
		c, ok, err := store.New(db.kv, store.NewKeys(r.cfg.Pool)).ReadConfig(ctx)
		if err == nil && ok && c.Incarnation == in.Incarnation {
			r.say("Pool %s is rebuilt. Look at it with: holdfast status", r.cfg.Pool)
			return nil
		}
		if r.clock.Sleep(ctx, 300*time.Millisecond) != nil {
			return fmt.Errorf("the new etcd is made, but does not answer; start this server's holdfast-etcd: %w", pool.ErrUnavailable)
		}
	}
}
