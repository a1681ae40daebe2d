package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/holdfast-ha/holdfast/agent/app"
	"github.com/holdfast-ha/holdfast/agent/etcd"
	"github.com/holdfast-ha/holdfast/agent/guard"
	"github.com/holdfast-ha/holdfast/agent/local"
	"github.com/holdfast-ha/holdfast/agent/mesh"
	"github.com/holdfast-ha/holdfast/agent/rebuild"
	"github.com/holdfast-ha/holdfast/agent/setup"
	"github.com/holdfast-ha/holdfast/pkg/clock"
	"github.com/holdfast-ha/holdfast/pkg/config"
	"github.com/holdfast-ha/holdfast/pkg/kv"
	"github.com/holdfast-ha/holdfast/pkg/pki"
	"github.com/holdfast-ha/holdfast/pkg/pool"
	"github.com/holdfast-ha/holdfast/pkg/saved"
	"github.com/holdfast-ha/holdfast/pkg/store"
	"github.com/holdfast-ha/holdfast/pkg/version"
	pb "github.com/holdfast-ha/holdfast/proto/holdfast/v1"
)

// errNewLife ends the agent of a server that has left its life of the pool's data for another: it starts anew.
var errNewLife = errors.New("this server belongs to a new life of the pool's data")

// domains lists what runs on this server; local.Hypervisor does.
type domains interface {
	Domains(ctx context.Context) ([]local.Domain, error)
}

// follower is the pool as this server's agent sees it; app.Agent is.
type follower interface {
	// Reachable reports whether etcd answered lately, and Snapshot the pool as last seen.
	Reachable() bool
	Snapshot() *pool.Snapshot
	Subscribe(sig clock.Signal) (cancel func())
	Store() *store.Store
}

var _ follower = (*app.Agent)(nil)

// life is this server's place in the lives of the pool's data. It implements mesh.Life.
type life struct {
	cfg    config.Config
	origin setup.Origin
	hv     domains
	guard  guard.Client
	agent  func() follower
	id     *pki.Store
	clock  clock.Clock
	log    *slog.Logger
	// left is set once this server has left origin's life.
	left clock.Signal

	mu   sync.Mutex
	gone bool
}

var _ mesh.Life = (*life)(nil)

// Limits of asking others whether this server's life of the data has a successor.
const (
	successorLimit = time.Second
	successorEvery = time.Second
	lookLimit      = 5 * time.Second
)

// Standing implements mesh.Life.
func (l *life) Standing(ctx context.Context, brief bool) *pb.LifeStanding {
	s := &pb.LifeStanding{Server: l.cfg.Server, Incarnation: l.origin.Incarnation, Earlier: l.origin.Earlier, Version: version.Version,
		EtcdAnswers: l.agent().Reachable() && l.agent().Snapshot().Revision != 0}
	pending, err := etcd.AsidePending(l.cfg.EtcdDir())
	s.Aside = err == nil && !pending
	if l.cfg.Etcd.Mode != config.EtcdExternal {
		s.Endpoints, _ = etcd.LoadEndpoints(l.cfg.EtcdDir()) // none is an answer
	}
	if brief {
		return s
	}
	s.Vms, err = l.present(ctx)
	if s.Known = err == nil; err != nil {
		l.log.Warn("what runs here cannot be told", "err", err)
	}
	return s
}

// present lists the VMs that have a process here.
func (l *life) present(ctx context.Context) ([]*pb.PresentVM, error) {
	ctx, cancel := l.clock.WithTimeout(ctx, lookLimit)
	defer cancel()
	all, err := l.hv.Domains(ctx)
	if err != nil {
		return nil, err
	}
	held, err := l.guard.Status(ctx)
	if err != nil {
		return nil, err
	}
	return presentVMs(all, held.Paused), nil
}

// presentVMs says of domains what a rebuild has to know.
func presentVMs(all []local.Domain, paused []pool.VMID) (out []*pb.PresentVM) {
	for _, d := range all {
		if d.State == local.DomainGone {
			continue
		}
		v := &pb.PresentVM{Vm: string(d.VM), Uuid: d.UUID, Running: d.State == local.DomainRunning || d.State == local.DomainShuttingDown,
			PausedByGuard: slices.Contains(paused, d.VM)}
		if m := d.Marker; m != nil {
			v.Vm, v.Pool, v.Incarnation, v.Epoch, v.Started, v.Operation = string(m.VM), m.Pool, m.Incarnation, int64(m.Epoch), m.Started, string(m.Operation)
		}
		if d.State == local.DomainIncoming && v.Operation == "" {
			v.Operation = "unknown"
		}
		out = append(out, v)
	}
	return out
}

// Copy implements mesh.Life.
func (l *life) Copy() ([]byte, error) {
	data, err := os.ReadFile(setup.CopyFile(l.cfg.StateDir))
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	return data, err
}

// Adopt implements mesh.Life.
func (l *life) Adopt(_ context.Context, r *pb.AdoptLifeRequest) error {
	if l.agent().Reachable() && l.agent().Snapshot().Revision != 0 && r.GetTo() != l.origin.Incarnation {
		return pool.Refuse("ETCD_ANSWERS", "look at the pool with holdfast-agent check", "etcd answers %s: its life of pool %s goes on", l.cfg.Server, l.cfg.Pool)
	}
	return l.change(r.GetFrom(), r.GetTo(), r.GetEarlier(), r.GetEndpoints())
}

func (l *life) change(from, to string, earlier, endpoints []string) error {
	changed, err := setup.ChangeLife(l.cfg, from, to, earlier, endpoints)
	if err != nil || !changed {
		return err
	}
	l.log.Warn("this server has left its life of the pool's data", "from", from, "to", to)
	l.mu.Lock()
	l.gone = true
	l.mu.Unlock()
	l.left.Set()
	return nil
}

func (l *life) hasLeft() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.gone
}

// run ends with errNewLife once this server has left its life, and a moment later, so that whoever asked for it hears.
// It looks for a successor of this life when the agent starts, and while etcd does not answer.
func (l *life) run(ctx context.Context) error {
	looked := false
	for ctx.Err() == nil {
		if l.hasLeft() {
			_ = l.clock.Sleep(ctx, 100*time.Millisecond)
			return errNewLife
		}
		if !looked || !l.agent().Reachable() {
			looked = true
			l.follow(ctx)
		}
		if !l.hasLeft() {
			l.left.Wait(ctx, successorEvery)
		}
	}
	return ctx.Err()
}

// follow asks the other servers whether this server's life of the data has a successor, and joins it. So a server that was
// away while the pool was rebuilt comes back to it by itself, and acts on nothing that it remembers. In one and the same life
// it learns from them where etcd is now: all votes may have moved while this server was away.
func (l *life) follow(ctx context.Context) {
	for _, a := range rebuild.Collect(ctx, l.caller(successorLimit), l.others(), true).Answers {
		s := a.Standing
		if s.GetIncarnation() == l.origin.Incarnation {
			l.learn(s)
			continue
		}
		if !slices.Contains(s.GetEarlier(), l.origin.Incarnation) || slices.Contains(l.origin.Earlier, s.GetIncarnation()) {
			continue
		}
		if err := l.change(l.origin.Incarnation, s.GetIncarnation(), s.GetEarlier(), s.GetEndpoints()); err != nil {
			l.log.Warn("the new life of the pool's data is not joined", "server", a.Server, "err", err)
			continue
		}
		return
	}
}

// learn takes another server's word for where etcd is, while this one does not reach it.
func (l *life) learn(s *pb.LifeStanding) {
	if l.cfg.Etcd.Mode == config.EtcdExternal || l.agent().Reachable() {
		return
	}
	news, err := learnEndpoints(l.cfg.EtcdDir(), s)
	if news || err != nil {
		l.log.Info("another server knows where etcd is", "server", s.GetServer(), "endpoints", s.GetEndpoints(), "err", err)
	}
}

// learnEndpoints keeps below dir where another server of the same life reaches etcd, and reports whether that is news.
// Whoever waits for etcd on this server reads it from there.
func learnEndpoints(dir string, s *pb.LifeStanding) (bool, error) {
	if !s.GetEtcdAnswers() || len(s.GetEndpoints()) == 0 {
		return false, nil
	}
	if have, err := etcd.LoadEndpoints(dir); err == nil && sameSet(have, s.GetEndpoints()) {
		return false, nil
	}
	return true, etcd.SaveEndpoints(dir, s.GetEndpoints())
}

func sameSet(a, b []string) bool {
	return slices.Equal(slices.Sorted(slices.Values(a)), slices.Sorted(slices.Values(b)))
}

func (l *life) caller(limit time.Duration) rebuild.Caller {
	return rebuild.Caller{TLS: func(s pool.ServerID) *tls.Config { return l.id.Client(string(s)) }, Limit: limit}
}

// others are the other servers as far as this one knows them: from etcd, or from its copy.
func (l *life) others() pool.Table[pool.ServerID, pool.Server] {
	servers := l.agent().Snapshot().Servers
	if servers.Len() == 0 {
		if st, err := saved.Read(setup.CopyFile(l.cfg.StateDir)); err == nil {
			servers = st.Servers
		}
	}
	return servers.Without(pool.ServerID(l.cfg.Server))
}

// keepSeat offers this machine as a place for a vote where etcd does not know that, as after a rebuild.
func (l *life) keepSeat(ctx context.Context) error {
	if l.cfg.Etcd.Mode == config.EtcdExternal {
		<-ctx.Done()
		return ctx.Err()
	}
	own, err := etcd.FromSettings(l.cfg)
	if err != nil {
		return err
	}
	for ctx.Err() == nil {
		snap := l.agent().Snapshot()
		if srv, ok := snap.Servers.Get(pool.ServerID(l.cfg.Server)); ok && snap.Revision != 0 {
			if err := l.offerSeat(ctx, own, srv, snap.Config.Incarnation); err == nil || errors.Is(err, pool.ErrStale) {
				<-ctx.Done() // it is there
				break
			}
		}
		_ = l.clock.Sleep(ctx, successorEvery)
	}
	return ctx.Err()
}

func (l *life) offerSeat(ctx context.Context, own etcd.Config, srv pool.Server, incarnation string) error {
	ctx, cancel := l.clock.WithTimeout(ctx, lookLimit)
	defer cancel()
	st := l.agent().Store()
	key := etcd.SeatKey(st.Keys(), own.Name)
	if _, ok, err := st.Edge().Get(ctx, key); err != nil || ok {
		return err
	}
	op, err := etcd.PutSeat(st.Keys(), own.Seat(false), incarnation)
	if err != nil {
		return err
	}
	_, err = st.Commit(ctx, kv.Txn{If: []kv.Compare{kv.Absent(key), st.Keys().ServerIs(srv.ID, srv.Revision)}, Then: []kv.Op{op}})
	if errors.Is(err, pool.ErrStale) {
		return fmt.Errorf("offer a seat: %w", pool.ErrUnavailable) // the registration changed; once more
	}
	return err
}

// newSaver keeps this server's copy of the pool's state.
func newSaver(c config.Config, agent follower, db *database, clk clock.Clock, log *slog.Logger) *rebuild.Saver {
	return rebuild.NewSaver(rebuild.SaverConfig{Server: pool.ServerID(c.Server), Version: version.Version, Clock: clk, Snapshot: agent.Snapshot,
		Subscribe: agent.Subscribe, Voters: db.voters, Log: log, Write: func(s saved.State) error { return saved.Write(setup.CopyFile(c.StateDir), s) }})
}

// newLife makes this server's place in the lives of the pool's data.
func newLife(c config.Config, origin setup.Origin, hv domains, agent follower, id *pki.Store, clk clock.Clock, log *slog.Logger) *life {
	return &life{cfg: c, origin: origin, hv: hv, guard: guard.NewClient(c.Guard.Socket, clk), agent: func() follower { return agent },
		id: id, clock: clk, log: log, left: clk.NewSignal()}
}

// runLives runs the agent, and its successor in the same process once this server belongs to a new life of the data.
func runLives(ctx context.Context, c config.Config, path string, log *slog.Logger) error {
	err := runAgent(ctx, c, path, log)
	if errors.Is(err, errNewLife) {
		return startAnew(log)
	}
	return err
}

// startAnew puts the agent of a server that belongs to a new life of the data in the place of this process.
func startAnew(log *slog.Logger) error {
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("start the agent anew: %w", err)
	}
	log.Info("the agent starts anew")
	return fmt.Errorf("start the agent anew: %w", syscall.Exec(self, os.Args, os.Environ()))
}
