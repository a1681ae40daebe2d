package leader

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/holdfast-ha/holdfast/pkg/clock"
	"github.com/holdfast-ha/holdfast/pkg/plan"
	"github.com/holdfast-ha/holdfast/pkg/pool"
)

// Intervals of the loop. None carries safety.
const (
	// idle bounds how long a change that nobody told of stays unseen.
	idle = 2 * time.Second
	// retry is the pause after etcd did not answer.
	retry = 200 * time.Millisecond
	// commitLimit bounds one round of writes, catchUpLimit one read-back.
	commitLimit  = 3 * time.Second
	catchUpLimit = 3 * time.Second
)

// Office tells whether this agent leads. pkg/lease's Candidate implements it.
type Office interface {
	Leading() (pool.Leader, bool)
	// Resign gives the leadership up for good, until the agent is started again.
	Resign(ctx context.Context) error
}

// Pool is the pool's data as the leader uses it. Safe for concurrent use.
type Pool interface {
	// Snapshot returns the newest snapshot; its revision is 0 before the first.
	Snapshot() *pool.Snapshot
	// Commit applies changes in order, each only if its records are unchanged and office is still held, and returns
	// one error per change: pool.ErrStale and pool.ErrLostLeadership mean that it was not applied and never will be.
	Commit(ctx context.Context, office pool.Leader, changes []pool.Change) []error
	// CatchUp waits until Snapshot shows every write that was acknowledged to anybody before the call.
	CatchUp(ctx context.Context) error
}

// Fencer uses the servers' power switches.
type Fencer interface {
	// PowerOff returns once every fence device of the server has switched it off and says that it is off, with one
	// sentence of evidence. An error means that nothing was proven.
	PowerOff(ctx context.Context, server pool.Server) (evidence string, err error)
	// PowerOn returns once every fence device of the server has switched it on and says that it is on.
	PowerOn(ctx context.Context, server pool.Server) error
	// CheckOn changes nothing. It returns an error unless every fence device of a server that runs says that it is on.
	CheckOn(ctx context.Context, server pool.Server) error
}

// Config assembles a Leader. All fields are required but Fencer (nil: servers with fence devices wait for another
// proof, and the alert says why), Hearing (nil: nobody is ever suspect) and Plan.
type Config struct {
	Clock   clock.Clock
	Office  Office
	Pool    Pool
	Fencer  Fencer
	Hearing Hearing
	// Plan takes the place of plan.Plan; nil, but in tests that show what each of its rules is for.
	Plan func(plan.Input) plan.Result
	// Decided is told of each action once it is carried out; nil: nobody is. It must not wait.
	Decided func(plan.Action)
	// BoundUntil is until when a promise keeps this agent from acting as leader; 0, or nil: none does. The Office says so
	// too; this only tells when to look again.
	BoundUntil func() pool.Instant
	Log        *slog.Logger
}

// Leader is the loop. Create it with New, set Wake when the pool or the office changed.
type Leader struct {
	cfg  Config
	wake clock.Signal

	// What follows belongs to the loop and begins anew with each leadership.
	office pool.Leader
	seen   map[pool.ServerID]plan.Sight
	starts map[pool.VMID]plan.StartSight
	// storage holds what members say of the shared storage, and since when.
	storage map[pool.ServerID]plan.StorageSight
	// room is what was seen of the pool's room for the loss of servers.
	room *plan.RoomSight
	// witness outlives leaderships: what this agent saw since it started.
	witness witness
	// behind: a write of ours may not be in the snapshot yet.
	behind bool
	// coldUntil is until when servers are given time to boot after the whole pool was down.
	coldUntil pool.Instant
	// begun: the first look under this leadership was taken.
	begun bool
	// announced: the history tells of this leadership, whose revision is last.
	announced bool
	last      pool.Revision

	// confirmed is when etcd last confirmed that the snapshot was not an old one.
	confirmed pool.Instant

	// chronicled is when the records of incidents were last looked at.
	chronicled pool.Instant

	lookout  *lookout
	switches *switches

	mu sync.Mutex
	// power and powerOn are the latest commands to each server.
	power   map[pool.ServerID]*attempt
	powerOn map[pool.ServerID]*attempt
	// notes are lines of history that wait to be written.
	notes []pool.Event
}

// New returns a Leader that does nothing until Run.
func New(cfg Config) *Leader {
	if cfg.Plan == nil {
		cfg.Plan = plan.Plan
	}
	wake := cfg.Clock.NewSignal()
	return &Leader{cfg: cfg, wake: wake, lookout: newLookout(cfg, wake), switches: newSwitches(cfg, wake)}
}

// Wake returns the signal that makes the loop look at once.
func (l *Leader) Wake() clock.Signal { return l.wake }

// Run leads whenever this agent holds the office, until ctx ends. Power-off commands under way are waited for.
func (l *Leader) Run(ctx context.Context) error {
	fencing := clock.NewGroup(l.cfg.Clock)
	fencing.Go("lookout", func() { l.lookout.run(ctx) })
	fencing.Go("power switches", func() { l.switches.run(ctx) })
	for ctx.Err() == nil {
		l.wake.Wait(ctx, l.Step(ctx, fencing))
	}
	fencing.Wait()
	return nil
}

// Step plans once and carries the plan out. It returns how long nothing is to be done unless woken.
func (l *Leader) Step(ctx context.Context, fencing *clock.Group) time.Duration {
	l.witness.look(l.cfg.Pool.Snapshot(), l.cfg.Clock.Now())
	office, leads := l.cfg.Office.Leading()
	if !leads {
		l.retire()
		return l.untilFree()
	}
	if office.Revision != l.office.Revision {
		l.take(office)
	}
	if l.behind && !l.catchUp(ctx) {
		return retry
	}
	snap, now := l.cfg.Pool.Snapshot(), l.cfg.Clock.Now()
	if snap.Leader.Revision != office.Revision {
		return idle // the snapshot, or the office, is about to change
	}
	l.seen, l.starts = plan.Look(l.seen, snap, now), plan.LookAtStarts(l.starts, snap, now)
	l.storage, l.room = plan.LookAtStorage(l.storage, snap, now), plan.LookAtRoom(l.room, snap, now)
	suspects := l.lookout.found()
	l.forgetPower(snap, suspects)
	l.firstLook(snap, now)
	l.witness.lookForeign(snap, now)
	in := plan.Input{Snapshot: snap, Leader: office, Now: now, Wall: l.cfg.Clock.Wall(), Lost: l.seen, Starts: l.starts, Storage: l.storage,
		Foreign: l.witness.strange(snap, now), Known: l.witness.known, ColdUntil: l.coldUntil, Power: l.powerResults(),
		PowerOn: l.powerOnResults(), Suspects: suspects, Switches: l.switches.found(), Room: l.room}
	res := l.cfg.Plan(in)
	if err := verify(snap, res.Actions); err != nil {
		return l.resign(ctx, err)
	}
	if l.urgent(res) {
		l.behind = true // no power is cut on the word of an old snapshot
		return 0
	}
	l.switchOff(ctx, fencing, snap, res.PowerOff)
	l.switchOn(ctx, fencing, snap, res.PowerOn)
	actions := l.tell(l.announce(res.Actions))
	records, wakeAt := l.chronicle(in, len(actions) == 0)
	if actions = append(actions, records...); len(actions) > 0 {
		return l.apply(ctx, actions)
	}
	wait := idle
	for _, at := range []pool.Instant{res.WakeAt, wakeAt} {
		if at != 0 {
			wait = max(0, min(wait, at.Sub(now)))
		}
	}
	return wait
}

// untilFree returns how long to wait before looking again for the office.
func (l *Leader) untilFree() time.Duration {
	if l.cfg.BoundUntil == nil {
		return idle
	}
	until, now := l.cfg.BoundUntil(), l.cfg.Clock.Now()
	if until.Before(now) {
		return idle
	}
	return min(idle, until.Sub(now)+1)
}

// take begins a leadership, or goes on with one after a promise.
func (l *Leader) take(office pool.Leader) {
	l.retire()
	again := office.Revision == l.last
	l.office, l.last, l.behind, l.announced, l.begun, l.coldUntil = office, office.Revision, true, again && l.announced, false, 0
	l.chronicled = l.cfg.Clock.Now()
	l.lookout.begun.Set()
	l.switches.begun.Set()
	l.cfg.Log.Info("leading", "leader_revision", office.Revision)
}

// firstLook finds out whether the whole pool has just started.
func (l *Leader) firstLook(snap *pool.Snapshot, now pool.Instant) {
	l.witness.look(snap, now)
	if l.begun {
		return
	}
	l.begun = true
	if plan.ColdStart(snap, l.witness.known) {
		l.coldUntil = now.Add(plan.ColdStartGrace)
		l.cfg.Log.Info("the whole pool has just started; servers are given time to boot", "reason", plan.ColdStartGrace, "leader_revision", l.office.Revision)
	}
}

// retire forgets what belonged to a leadership.
func (l *Leader) retire() {
	if l.office.Revision != 0 {
		l.cfg.Log.Info("not leading any more", "leader_revision", l.office.Revision)
	}
	l.office, l.seen, l.starts, l.storage, l.room, l.behind = pool.Leader{}, nil, nil, nil, nil, false
	l.mu.Lock()
	l.power, l.powerOn, l.notes = nil, nil, nil
	l.mu.Unlock()
}

// announce adds the line of history that tells of a new leadership, after everything that is more urgent.
func (l *Leader) announce(actions []plan.Action) []plan.Action {
	if l.announced {
		return actions
	}
	why := string(l.office.Server) + " leads the pool"
	return append(actions, plan.Action{Kind: announce, Key: string(announce), Server: l.office.Server, Why: why,
		Change: pool.Change{Events: []pool.Event{{At: l.cfg.Clock.Wall(), Kind: "LEADER_CHANGED", Server: l.office.Server,
			Actor: "leader " + string(l.office.Server), Text: why, LeaderRevision: l.office.Revision}}}})
}

// announce is the kind of that action.
const announce plan.Kind = "announce"

// resign gives up after a plan that breaks a rule: better nobody leads than one who cannot be trusted.
func (l *Leader) resign(ctx context.Context, broken error) time.Duration {
	l.cfg.Log.Error("a plan breaks a rule; nothing of it is done, and the leadership is given up", "leader_revision", l.office.Revision, "err", broken)
	ctx, cancel := l.cfg.Clock.WithTimeout(ctx, commitLimit)
	defer cancel()
	if err := l.cfg.Office.Resign(ctx); err != nil {
		l.cfg.Log.Warn("resigning", "err", err)
	}
	return idle
}

func (l *Leader) catchUp(ctx context.Context) bool {
	ctx, cancel := l.cfg.Clock.WithTimeout(ctx, catchUpLimit)
	defer cancel()
	if err := l.cfg.Pool.CatchUp(ctx); err != nil {
		l.cfg.Log.Debug("reading the pool back", "err", err)
		return false
	}
	l.behind, l.confirmed = false, l.cfg.Clock.Now()
	return true
}

// apply carries actions out in rounds: those of one round need nothing that is not applied yet. It returns how long
// to wait before looking again.
func (l *Leader) apply(ctx context.Context, actions []plan.Action) time.Duration {
	l.behind = true
	applied := map[string]bool{}
	var pause time.Duration
	for len(actions) > 0 {
		ready, later := split(actions, applied)
		if len(ready) == 0 {
			break // what they need failed; plan anew
		}
		wait, ok := l.round(ctx, ready, applied)
		if !ok {
			return wait
		}
		pause, actions = max(pause, wait), later
	}
	return pause
}

// split separates the actions whose needs are applied from the others, in order.
func split(actions []plan.Action, applied map[string]bool) (ready, later []plan.Action) {
	for _, a := range actions {
		ok := true
		for _, key := range a.Needs {
			ok = ok && applied[key]
		}
		if ok {
			ready = append(ready, a)
		} else {
			later = append(later, a)
		}
	}
	return ready, later
}

// round commits actions that need nothing more. ok is false if going on makes no sense.
func (l *Leader) round(ctx context.Context, ready []plan.Action, applied map[string]bool) (wait time.Duration, ok bool) {
	ctx, cancel := l.cfg.Clock.WithTimeout(ctx, commitLimit)
	defer cancel()
	errs := l.commit(ctx, ready)
	ok = true
	for i, err := range errs {
		a := ready[i]
		switch {
		case err == nil:
			applied[a.Key] = true
			l.announced = l.announced || a.Kind == announce
			if l.cfg.Decided != nil {
				l.cfg.Decided(a)
			}
			l.cfg.Log.Info("decided", "action", a.Kind, "vm", a.VM, "server", a.Server, "reason", a.Why, "leader_revision", l.office.Revision)
		case errors.Is(err, pool.ErrLostLeadership):
			return idle, false
		case errors.Is(err, pool.ErrStale):
			l.cfg.Log.Debug("overtaken", "action", a.Kind, "vm", a.VM, "server", a.Server, "err", err)
		case errors.Is(err, pool.ErrInvalid):
			l.cfg.Log.Error("cannot be written", "action", a.Kind, "vm", a.VM, "server", a.Server, "err", err)
			wait = idle
		default:
			l.cfg.Log.Warn("not carried out", "action", a.Kind, "vm", a.VM, "server", a.Server, "err", err)
			wait, ok = retry, false
		}
	}
	return wait, ok
}

// commit writes the changes together. Those of a transaction that can never work are tried again one by one, so that
// one VM's impossible record holds up no other.
func (l *Leader) commit(ctx context.Context, ready []plan.Action) []error {
	changes := make([]pool.Change, len(ready))
	for i, a := range ready {
		changes[i] = a.Change
	}
	errs := l.cfg.Pool.Commit(ctx, l.office, changes)
	if len(changes) == 1 || !slices.ContainsFunc(errs, func(err error) bool { return errors.Is(err, pool.ErrInvalid) }) {
		return errs
	}
	for i, err := range errs {
		if errors.Is(err, pool.ErrInvalid) {
			errs[i] = l.cfg.Pool.Commit(ctx, l.office, changes[i:i+1])[0]
		}
	}
	return errs
}
