package etcd

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"sync/atomic"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"

	"github.com/holdfast-ha/holdfast/pkg/clock"
	"github.com/holdfast-ha/holdfast/pkg/pki"
	"github.com/holdfast-ha/holdfast/pkg/pool"
)

// ErrStopped says that etcd can no longer serve. The process should end too and be started again.
var ErrStopped = errors.New("etcd cannot serve")

// process is the running etcd of one machine, or the wait for it.
type process struct {
	cfg   Config
	clock clock.Clock
	log   *slog.Logger
	id    *pki.Store
	etcd  *embed.Etcd
	quiet *atomic.Bool
	said  string
	// listed: the running member was in its own member list when it was last looked at.
	listed bool
	// asks is the client for the member list, made at the first use.
	asks *clientv3.Client
}

// Run is `holdfast-agent etcd`, for servers and witnesses alike. It returns when ctx ends (etcd was stopped in good
// order then), or with an error after which the process has to be started again.
func Run(ctx context.Context, cfg Config, c clock.Clock, log *slog.Logger) error {
	if cfg.PeerURL == "" {
		log.Info("the pool uses an external etcd: no member runs here", "server", cfg.Name)
		return nil
	}
	if cfg.Poll == 0 {
		cfg.Poll = 2 * time.Second
	}
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return fmt.Errorf("make etcd's folder: %w", err)
	}
	unlock, free, err := lockDir(cfg.Dir)
	if err != nil {
		return err
	}
	if !free {
		return fmt.Errorf("another process runs in %s: %w", cfg.Dir, pool.ErrRefused)
	}
	defer unlock()
	id, err := pki.Open(cfg.Identity)
	if err != nil {
		return err
	}
	p := &process{cfg: cfg, clock: c, log: log, id: id}
	defer p.close()
	p.stop() // forgets whom a member trusted that died with its process
	for ctx.Err() == nil {
		if err := p.step(ctx); err != nil {
			return err
		}
		if err := p.wait(ctx); err != nil {
			return err
		}
	}
	return nil
}

// removalPoll is how often a running member looks whether it was taken out. A second after that etcd ends by itself;
// it closes its store while it still serves clients, and some of their requests would then crash the process (3.7.3,
// Status), so the process stops serving first.
const removalPoll = 100 * time.Millisecond

// wait returns after the poll interval, at the end of ctx, when etcd ends by itself, or with an error when it cannot
// serve.
func (p *process) wait(ctx context.Context) error {
	if p.etcd == nil {
		_ = p.clock.Sleep(ctx, p.cfg.Poll)
		return nil
	}
	timer := time.NewTimer(p.cfg.Poll)
	defer timer.Stop()
	look := time.NewTicker(removalPoll)
	defer look.Stop()
	for {
		select {
		case <-timer.C:
			return nil
		case <-ctx.Done():
			return nil
		case <-look.C:
			if pending, err := AsidePending(p.cfg.Dir); err != nil || pending {
				return err // the next step stops
			}
			if p.cfg.reloadAsked() {
				return nil // the next step stops
			}
			if p.removed() {
				p.log.Info("etcd member", "server", p.cfg.Name, "action", StepClear, "reason", "this machine was taken out of etcd")
				p.stop()
				return p.cfg.putAside()
			}
		case err := <-p.etcd.Err():
			return fmt.Errorf("%w: %w", ErrStopped, err)
		case <-p.etcd.Server.StoppingNotify():
			// Most likely a peer refused it as no longer a member; the next step asks.
			p.log.Warn("etcd stopped by itself", "server", p.cfg.Name)
			p.stop()
			_ = p.clock.Sleep(ctx, p.cfg.Poll)
			return nil
		}
	}
}

// removed reports what the member's own log says of it: once it was in the list, now it is not.
func (p *process) removed() bool {
	listed := p.etcd.Server.Cluster().Member(p.etcd.Server.MemberID()) != nil
	gone := p.listed && !listed
	p.listed = listed
	return gone
}

func (p *process) step(ctx context.Context) error {
	pending, err := AsidePending(p.cfg.Dir)
	if err != nil {
		return err
	}
	if pending {
		p.log.Info("etcd member", "server", p.cfg.Name, "action", StepClear, "reason", "this machine has left the life of the pool that its data belongs to")
		p.stop()
		if err := clearAside(p.cfg.Dir); err != nil {
			return err
		}
	}
	if p.etcd != nil && p.cfg.reloadAsked() {
		p.log.Info("etcd member", "server", p.cfg.Name, "action", "reload", "reason", "the CAs that this server trusts have changed")
		p.stop()
	}
	l, err := p.local()
	if err != nil {
		return err
	}
	v := p.view(ctx)
	step, why := Next(p.cfg.PeerURL, l, v)
	if said := step.String() + why; said != p.said {
		p.log.Info("etcd member", "server", p.cfg.Name, "action", step, "reason", why)
		p.said = said
	}
	switch step {
	case StepStart:
		return p.start("")
	case StepJoin:
		// The member list may change under a join; the next step looks at it again.
		if err := p.start(p.cfg.initialCluster(v.Members)); err != nil {
			p.log.Warn("etcd member", "server", p.cfg.Name, "action", step, "err", err)
		}
	case StepClear:
		p.stop()
		return p.cfg.putAside()
	case StepLeave:
		p.leave(ctx, v)
	case StepKeep, StepWait, StepRefuse:
	}
	return nil
}

func (p *process) local() (Local, error) {
	l, err := p.cfg.local()
	if err != nil || p.etcd == nil {
		return l, err
	}
	l.Running = true
	l.ClusterID, l.MemberID = uint64(p.etcd.Server.Cluster().ID()), uint64(p.etcd.Server.MemberID())
	return l, nil
}

// view asks the members that are known. Not to get an answer is normal.
func (p *process) view(ctx context.Context) View {
	c, err := p.cluster(ctx)
	if err != nil {
		return View{}
	}
	v, err := c.View(ctx)
	if err != nil {
		p.log.Debug("etcd member list", "err", err)
		return View{}
	}
	p.publish(v)
	return v
}

// cluster is etcd as the members on disk serve it.
func (p *process) cluster(ctx context.Context) (Cluster, error) {
	endpoints, err := LoadEndpoints(p.cfg.Dir)
	if err != nil {
		return Cluster{}, err
	}
	if p.etcd == nil {
		endpoints = slices.DeleteFunc(endpoints, func(e string) bool { return e == p.cfg.ClientURL })
	}
	if len(endpoints) == 0 {
		return Cluster{}, fmt.Errorf("no other etcd member is known: %w", pool.ErrUnavailable)
	}
	access := Access{Endpoints: endpoints, TLS: p.id.Client(pki.ServerHost)}
	if p.asks == nil {
		if p.asks, err = Dial(context.WithoutCancel(ctx), access); err != nil {
			return Cluster{}, err
		}
	} else if !slices.Equal(p.asks.Endpoints(), endpoints) {
		p.asks.SetEndpoints(endpoints...)
	}
	return Cluster{Client: p.asks, Access: access, Timeout: 3 * time.Second}, nil
}

// publish keeps the endpoints on disk.
func (p *process) publish(v View) {
	local, err := p.cfg.local()
	if err != nil {
		return
	}
	urls := nearest(ClientURLs(v.Members), v.Members, local.MemberID)
	have, err := LoadEndpoints(p.cfg.Dir)
	if len(urls) == 0 || (err == nil && slices.Equal(urls, have)) {
		return
	}
	if err := SaveEndpoints(p.cfg.Dir, urls); err != nil {
		p.log.Warn("etcd endpoints", "err", err)
	}
}

// start runs etcd from the data on disk, or as a new member of cluster.
func (p *process) start(cluster string) error {
	p.quiet = new(atomic.Bool)
	cfg, err := p.cfg.embedded(zapTo(p.log, p.cfg.LogLevel, p.quiet), cluster, "")
	if err != nil {
		return err
	}
	trusted, err := p.cfg.readTrust()
	if err != nil {
		return err
	}
	e, err := embed.StartEtcd(cfg)
	if err != nil {
		return fmt.Errorf("start etcd: %w", err)
	}
	p.etcd, p.listed = e, false
	if err := p.cfg.saveTrust(trusted); err != nil {
		return err
	}
	return p.cfg.saveSelf(e)
}

func (p *process) close() {
	p.stop()
	if p.asks != nil {
		_ = p.asks.Close() // it only asks
	}
}

// stop ends etcd in good order: it hands leadership over if it has it.
func (p *process) stop() {
	if p.etcd != nil {
		p.quiet.Store(true)
		p.etcd.Close()
		p.etcd = nil
	}
	if err := p.cfg.forgetTrust(); err != nil {
		p.log.Warn("etcd member", "server", p.cfg.Name, "err", err)
	}
}

// leave takes this machine's dead entry out of the member list.
func (p *process) leave(ctx context.Context, v View) {
	m, ok := at(v.Members, Seat{PeerURL: p.cfg.PeerURL})
	if !ok {
		return
	}
	c, err := p.cluster(ctx)
	if err != nil {
		return
	}
	if err := c.Remove(ctx, m.ID); err != nil {
		p.log.Warn("etcd member without data", "server", p.cfg.Name, "err", err)
	}
}
