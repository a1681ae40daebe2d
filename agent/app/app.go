package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/holdfast-ha/holdfast/agent/api"
	"github.com/holdfast-ha/holdfast/agent/drill"
	"github.com/holdfast-ha/holdfast/agent/failsafe"
	"github.com/holdfast-ha/holdfast/agent/figures"
	"github.com/holdfast-ha/holdfast/agent/guard"
	"github.com/holdfast-ha/holdfast/agent/leader"
	"github.com/holdfast-ha/holdfast/agent/local"
	"github.com/holdfast-ha/holdfast/agent/reach"
	"github.com/holdfast-ha/holdfast/pkg/clock"
	"github.com/holdfast-ha/holdfast/pkg/kv"
	"github.com/holdfast-ha/holdfast/pkg/lease"
	"github.com/holdfast-ha/holdfast/pkg/plan"
	"github.com/holdfast-ha/holdfast/pkg/pool"
	"github.com/holdfast-ha/holdfast/pkg/store"
)

// Edges is everything outside the agent's own logic. All fields are required but Guard (nil: none), Fencer (nil: no
// power fencing), Voter (nil: this server carries no etcd voter) and where it says so.
type Edges struct {
	Clock      clock.Clock
	Store      kv.Store
	Leases     kv.Leases
	LeaseState lease.StateStore
	// FormerSession keeps a session that was handed over for a later boot; nil: nobody does.
	FormerSession lease.StateStore
	Hypervisor    local.Hypervisor
	Needs         local.Needs
	// Drifts compares what runs with what is registered; nil: nobody does.
	Drifts local.Drifts
	// NoPause says why VMs that start here cannot be paused by the guard; nil: they can.
	NoPause  func() string
	Capacity func(ctx context.Context) (local.Capacity, error)
	// Machine tells when this server is asked to shut down, and holds that up; nil: it is never told.
	Machine Machine
	Guard   guard.Client
	Fencer  leader.Fencer
	Servers api.Servers
	// Reach tells which hosts answer; nil: no server is ever suspect.
	Reach Reach
	// Peers talks to other agents about VMs that move between them; nil: none moves live.
	Peers local.Peers
	// Asker asks other agents for promises while etcd is out of reach; nil: VMs do not run on then.
	Asker failsafe.Asker
	// Roster keeps for a successor what this agent knows of the roster; nil: it begins with nothing.
	Roster failsafe.Memory
	// Load measures this server, and Figures hears the others' figures; nil: live figures are not shown.
	Load    figures.Source
	Figures figures.Peers
	// Drill is what tests of HA need of this server, and Canaries reaches that of others; nil: none are held here.
	Drill    drill.Place
	Canaries api.Canaries
	// Definitions reads domain XML.
	Definitions api.Definitions
	// Authority makes certificates of operators; nil: this pool has none.
	Authority api.Authority
	// Passwords puts passwords back into definitions; nil: VMs start without.
	Passwords Passwords
	// CanLoseOne says whether the pool's etcd survives the loss of one server.
	CanLoseOne func(ctx context.Context) error
	// GoesOn says whether the pool's etcd goes on if a server goes down now. If it does not, the error is nil if the
	// server's vote is about to move, and else says what would help. nil: it always does.
	GoesOn func(ctx context.Context, snap *pool.Snapshot, without pool.ServerID) (now bool, err error)
	// CheckTTL refuses a life-time of leases that this server's settings do not go with; nil: none does.
	CheckTTL func(ttl time.Duration) error
	// Voter reports whether this server carries a voting member of the embedded etcd.
	Voter func() bool
	// Ready waits until etcd answers and refuses one that must not be used; nil: it need not be looked at. Meanwhile this
	// agent already promises, and lets run on what its predecessor's guard holds.
	Ready func(ctx context.Context) error
	// LeaderWork runs while this agent leads, besides the leader's own loop; nil: none.
	LeaderWork func(ctx context.Context, l Leadership) error
	// Decided is told of each decision of the leader once it is carried out; nil: nobody is. It must not wait.
	Decided func(plan.Action)
	// Shared lets agents in one process fold the pool's changes together; nil for one alone.
	Shared *store.Shared
	// Rules take the place of the agent's own: zero, but in tests that show what each rule is for.
	Rules Rules
	Log   *slog.Logger
}

// Rules are the agent's pure decisions; nil stands for the real one.
type Rules struct {
	Decide func(local.View) local.Decision
	Plan   func(plan.Input) plan.Result
	// Failsafe: what promises demand and permit.
	Failsafe failsafe.Rules
}

// Config names the agent.
type Config struct {
	Pool    string
	Server  pool.ServerID
	Version string
	// Incarnation of the etcd data that this server was set up in; data of another is refused. Empty accepts any.
	Incarnation string
	// Left are lives of the pool's data that this server has left for good: it never acts as their leader again.
	Left []string
}

// Agent is one agent. Create it with New; Run may be called once.
type Agent struct {
	cfg      Config
	e        Edges
	data     *data
	ears     *reach.Listener // nil: it cannot listen
	api      *api.Server
	book     *failsafe.Book
	promises *failsafe.Promises
	keeper   *failsafe.Keeper // nil: nobody can be asked
	outages  *outages
	look     clock.Signal // a renewal failed
	cut      *drill.Cut   // the way to etcd; nil: no drill can close it
	began    time.Time
	meter    *figures.Meter // nil: it measures nothing

	mu      sync.Mutex
	session *lease.Session
	// inherits: the guard held VMs when this agent started. unasked: there was no roster then.
	inherits, unasked bool
	// goneSince is since when the pool's roster is seen to be gone; 0: it is there, or never was.
	goneSince pool.Instant
	facts     facts
	lead      *lease.Candidate
	rec       *local.Reconciler
	// departure is this server's shutdown; stopAll is guarded by mu, the rest belongs to its loop.
	departure departure
}

// New assembles an agent; nothing runs yet.
func New(cfg Config, e Edges) (*Agent, error) {
	if err := pool.CheckName("pool", cfg.Pool); err != nil {
		return nil, err
	}
	if err := pool.CheckName("server", string(cfg.Server)); err != nil {
		return nil, err
	}
	var cut *drill.Cut
	if e.Drill != nil {
		cut = drill.NewCut(e.Clock, e.Store, e.Leases)
		e.Store, e.Leases = cut, cut
	}
	st := store.New(e.Store, store.NewKeys(cfg.Pool))
	a := &Agent{cfg: cfg, e: e, cut: cut, began: e.Clock.Wall(), data: &data{server: cfg.Server, clock: e.Clock, store: st}}
	a.data.mirror = store.NewMirror(st, e.Clock, cfg.Incarnation, e.Log)
	if e.Shared != nil {
		a.data.mirror.Share(e.Shared)
	}
	if e.Reach != nil {
		a.ears = reach.New(e.Clock, e.Reach)
	}
	a.newFailsafe()
	a.api = api.New(api.Config{Server: cfg.Server, Version: cfg.Version, Clock: e.Clock, Pool: a.data, Servers: e.Servers,
		Definitions: e.Definitions, CanLoseOne: e.CanLoseOne, GoesOn: e.GoesOn, CheckTTL: e.CheckTTL, Authority: e.Authority, Failsafe: a.failsafeView, Figures: a.newFigures(),
		Place: e.Drill, Canaries: e.Canaries, Log: e.Log})
	return a, nil
}

// newFigures returns nil if this agent has nothing to measure with.
func (a *Agent) newFigures() api.Figures {
	if a.e.Load == nil || a.e.Figures == nil {
		return nil
	}
	a.meter = figures.NewMeter(figures.MeterConfig{Server: a.cfg.Server, Clock: a.e.Clock, Source: a.e.Load, Snapshot: a.data.Snapshot})
	return figures.NewBoard(figures.BoardConfig{Server: a.cfg.Server, Clock: a.e.Clock, Meter: a.meter, Peers: a.e.Figures, Snapshot: a.data.Snapshot})
}

// Meter measures this server for other agents; nil if there is nothing to measure with.
func (a *Agent) Meter() *figures.Meter { return a.meter }

// API returns the services that this agent answers.
func (a *Agent) API() *api.Server { return a.api }

// Store returns the pool's records in etcd.
func (a *Agent) Store() *store.Store { return a.data.store }

// Snapshot returns the pool as this agent sees it.
func (a *Agent) Snapshot() *pool.Snapshot { return a.data.Snapshot() }

// Reachable reports whether etcd answered lately.
func (a *Agent) Reachable() bool { return a.data.Reachable() }

// Subscribe sets sig at each new snapshot until the returned function is called.
func (a *Agent) Subscribe(sig clock.Signal) (cancel func()) { return a.data.Subscribe(sig) }

// Session returns this server's session; 0 while there is none.
func (a *Agent) Session() pool.Session { return a.ID() }

// ID implements local.Session.
func (a *Agent) ID() pool.Session {
	s := a.current()
	if s == nil {
		return 0
	}
	info, _ := s.Current()
	return info.Session
}

// Allows implements local.Session.
func (a *Agent) Allows(now pool.Instant) bool {
	s := a.current()
	return s != nil && a.rules().Starts(s.Allows(now), a.keeper != nil && a.keeper.Prolonged(now))
}

func (a *Agent) current() *lease.Session {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.session
}

// Run keeps the agent going until ctx ends or something makes going on wrong: etcd data of another life of the
// pool, or this server not registered. No VM is stopped by its end.
func (a *Agent) Run(ctx context.Context) error {
	ctx, cancel := a.e.Clock.WithCancel(ctx)
	defer cancel(nil)
	g := clock.NewGroup(a.e.Clock)
	var failure error
	var once sync.Mutex
	run := func(name string, f func(context.Context) error) {
		g.Go(name, func() {
			if err := f(ctx); err != nil && ctx.Err() == nil {
				once.Lock()
				failure = errors.Join(failure, fmt.Errorf("%s: %w", name, err))
				once.Unlock()
				cancel(err)
			}
		})
	}
	run("failsafe", a.keepVMs)
	run("look for etcd", a.lookForEtcd)
	snap, err := a.firstSnapshot(ctx, run)
	if err == nil {
		err = a.checkPool(snap)
	}
	if err == nil {
		err = a.start(ctx, snap, run)
	}
	if err != nil && ctx.Err() == nil {
		cancel(err)
		g.Wait()
		return errors.Join(err, failure)
	}
	g.Wait()
	return failure
}

// firstSnapshot begins to follow the pool once etcd may be used.
func (a *Agent) firstSnapshot(ctx context.Context, run func(string, func(context.Context) error)) (*pool.Snapshot, error) {
	if a.e.Ready != nil {
		if err := a.e.Ready(ctx); err != nil {
			return nil, err
		}
	}
	run("mirror", a.data.mirror.Run)
	return a.data.mirror.WaitFor(ctx, 1)
}

// checkPool refuses a pool that this server does not belong to.
func (a *Agent) checkPool(snap *pool.Snapshot) error {
	if snap.Config.Name != a.cfg.Pool {
		return fmt.Errorf("etcd holds no pool %s; run holdfast-agent init for a new pool, or check the endpoints: %w", a.cfg.Pool, pool.ErrNotFound)
	}
	if !snap.Servers.Has(a.cfg.Server) {
		return fmt.Errorf("server %s is not registered with pool %s; run holdfast-agent join with a token: %w", a.cfg.Server, a.cfg.Pool, pool.ErrNotFound)
	}
	return nil
}

// start builds and runs what needs the pool's policy.
func (a *Agent) start(ctx context.Context, snap *pool.Snapshot, run func(string, func(context.Context) error)) error {
	timing, err := pool.NewTiming(snap.Config.LeaseTTL)
	if err == nil && a.e.CheckTTL != nil {
		err = a.e.CheckTTL(snap.Config.LeaseTTL)
	}
	if err != nil {
		return err
	}
	// Without libvirt the server offers no memory, so it is given no VM; but its session must go on.
	capacity, err := a.capacity(ctx)
	if err != nil {
		a.e.Log.Warn("this server's capacity is not known yet", "err", err)
	}
	a.facts = facts{capacity: capacity, known: err == nil, since: a.e.Clock.Wall()}
	a.learnRoster(snap, 0)
	a.mu.Lock()
	a.unasked = snap.Roster.Revision == 0
	a.mu.Unlock()
	keys := a.data.store.Keys()
	session := lease.New(lease.Config{
		Server: a.cfg.Server, MemberKey: keys.Member(a.cfg.Server), Incarnation: snap.Config.Incarnation, Timing: timing,
		Value: a.memberValue, Extend: a.extendGuard, Failed: a.renewalFailed, Store: a.e.Store, Leases: a.e.Leases, Clock: a.e.Clock,
		State: a.e.LeaseState, Former: a.e.FormerSession, Log: a.e.Log,
	})
	rec := local.New(local.Config{
		Server: a.cfg.Server, Clock: a.e.Clock, Pool: a.data, Session: a, Hypervisor: a.e.Hypervisor, Guard: a.e.Guard, Peers: a.e.Peers, Drifts: a.e.Drifts,
		Complete:    a.complete,
		StorageLost: a.storageLost, Stopping: a.stopping, Decide: a.e.Rules.Decide, Log: a.e.Log,
	})
	candidate := a.newCandidate(session)
	a.mu.Lock()
	a.session, a.lead, a.rec = session, candidate, rec
	a.mu.Unlock()
	session.Subscribe(rec.Wake())
	a.data.mirror.Subscribe(rec.Snapshots())
	run("session", session.Run)
	run("reconciler", rec.Run)
	run("member record", func(ctx context.Context) error { return a.keepMember(ctx, rec, session, timing.TTL) })
	if a.e.Machine != nil {
		a.e.Machine.Subscribe(rec.Wake())
	}
	run("going down", func(ctx context.Context) error { return a.keepShutdown(ctx, rec) })
	run("election", candidate.Run)
	run("history of outages", a.tellOutages)
	run("wait after the start", func(ctx context.Context) error { return a.standWhenWaited(ctx, candidate) })
	run("leader", a.newLeader(candidate).Run)
	if a.ears != nil {
		run("listener", a.ears.Run)
	}
	if a.e.LeaderWork != nil {
		run("work under leadership", func(ctx context.Context) error { return a.underLeadership(ctx, candidate, a.e.LeaderWork) })
	}
	return nil
}

// extendGuard tells the guard how long the session's VMs may run. Without a guard nothing has to be told.
func (a *Agent) extendGuard(ctx context.Context, info lease.Info) error {
	if a.e.Guard == nil {
		return nil
	}
	cfg := a.Snapshot().Config
	return a.acknowledged(info, a.e.Guard.Extend(ctx, guard.Lease{Session: info.Session, Sent: info.Sent, KillAt: info.KillAt,
		Deadline: info.Deadline, OnIsolation: cfg.OnIsolation, Grace: cfg.IsolationGrace}))
}

// Leave resigns leadership and hands the session over to this agent's successor, for an update or a restart of the
// agent alone: VMs and session live on for the pool's restart grace. Call it instead of ending Run's context, and
// end that afterwards.
func (a *Agent) Leave(ctx context.Context) error {
	a.mu.Lock()
	session, candidate, rec := a.session, a.lead, a.rec
	a.mu.Unlock()
	if session == nil {
		return nil
	}
	tctx, cancel := a.e.Clock.WithTimeout(ctx, transfersLimit)
	rec.EndTransfers(tctx)
	cancel()
	if err := candidate.Resign(ctx); err != nil {
		a.e.Log.Warn("resigning", "err", err)
	}
	return session.Handover(ctx, a.Snapshot().Config.RestartGrace)
}

// GuardAnswers reports whether this server's guard answered last.
func (a *Agent) GuardAnswers() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.facts.guard
}

// transfersLimit bounds how long a planned stop waits for the end of migrations that it gave up.
const transfersLimit = 2 * time.Second

// leadershipPoll bounds how long a change of leadership that nobody told of stays unseen. What is done meanwhile is
// guarded by the office like every write.
const leadershipPoll = 5 * time.Second

// factsEvery is how often the server's capacity, storage and what VMs lack here are looked at without a reason.
const factsEvery = 30 * time.Second
