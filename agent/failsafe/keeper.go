package failsafe

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/holdfast-ha/holdfast/agent/guard"
	"github.com/holdfast-ha/holdfast/pkg/clock"
	"github.com/holdfast-ha/holdfast/pkg/pool"
)

// Asker asks another server's agent not to act as leader for hold, counted from its answer. Only promised says that it
// will not; why says why it did not promise.
type Asker interface {
	AskPromise(ctx context.Context, server pool.ServerID, hold time.Duration) (promised bool, why string, err error)
}

// Config is what a Keeper needs. All fields are required but Guard (nil: this server has none),
// StopTime, Ended and Rules.
type Config struct {
	Server pool.ServerID
	Clock  clock.Clock
	Asker  Asker
	Guard  guard.Client
	Book   *Book
	// Trouble reports whether the session is not being renewed: the latest attempt failed.
	Trouble func() bool
	Timing  func() pool.Timing
	// StopTime returns the stop time that the lease gives by itself, 0 without one, and Ended is told of each outage in
	// which VMs ran on past it, once etcd answers. Both may be nil: nobody wants to know.
	StopTime func() pool.Instant
	Ended    func(Outage)
	Rules    Rules
	Log      *slog.Logger
}

// Word says how the failsafe stands. The numbers are those of the API's Failsafe.
type Word int

// Words.
const (
	// Idle: etcd answers.
	Idle Word = iota
	// Asking: no round has ended yet.
	Asking
	// Holds: all have promised; VMs run on.
	Holds
	// Fails: somebody did not promise; protected VMs stop at the stop time.
	Fails
)

// State is how the failsafe stands, with one sentence on it.
type State struct {
	Word Word
	Text string
}

// limitCap bounds one round of questions.
const limitCap = 2 * time.Second

// Keeper prolongs the VMs of this server while etcd is out of reach. Create it with NewKeeper, set Wake at each
// renewal that fails.
type Keeper struct {
	cfg   Config
	rules Rules
	wake  clock.Signal

	mu    sync.Mutex
	state State
	// until is until when promises let VMs run on.
	until pool.Instant

	// Run's own: the trouble so far, nil without any, and when the next round is due.
	trouble *stretch
	next    pool.Instant
}

// NewKeeper returns a keeper that does nothing until Run.
func NewKeeper(cfg Config) *Keeper {
	return &Keeper{cfg: cfg, rules: cfg.Rules.Real(), wake: cfg.Clock.NewSignal()}
}

// Wake returns the signal that makes it look at once.
func (k *Keeper) Wake() clock.Signal { return k.wake }

// State returns how the failsafe stands.
func (k *Keeper) State() State {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.state
}

// Prolonged reports whether promises let VMs run on at now. It permits nothing else.
func (k *Keeper) Prolonged(now pool.Instant) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return now.Before(k.until)
}

// Run asks whenever the session is in trouble, until ctx ends.
func (k *Keeper) Run(ctx context.Context) error {
	for ctx.Err() == nil {
		k.wake.Wait(ctx, k.Step(ctx))
	}
	return nil
}

// Step makes a round if one is due, and returns how long to wait for the next; negative: until woken.
func (k *Keeper) Step(ctx context.Context) time.Duration {
	if !k.cfg.Trouble() {
		k.over()
		k.say(State{})
		return -1
	}
	now := k.cfg.Clock.Now()
	if k.trouble == nil {
		k.trouble = &stretch{since: now, wall: k.cfg.Clock.Wall()}
	}
	if now.Before(k.next) {
		return k.next.Sub(now)
	}
	asking := State{Asking, "etcd cannot be reached; the other servers are being asked"}
	if k.State().Word == Idle {
		k.say(asking)
	}
	st := k.round(ctx)
	if ctx.Err() != nil || !k.cfg.Trouble() {
		return 0 // what the round found is about a trouble that is over
	}
	if st.Word == Fails {
		k.trouble.failed(strings.TrimPrefix(st.Text, failsText), k.cfg.Clock.Now())
	}
	renew := k.cfg.Timing().Renew
	if st.Word == Fails && now.Sub(k.trouble.since) < renew {
		st = asking // the others may not have noticed yet
	}
	k.say(st)
	if st.Word == Holds {
		k.next = now.Add(renew)
	} else {
		k.next = k.cfg.Clock.Now().Add(renew / 5)
	}
	return max(0, k.next.Sub(k.cfg.Clock.Now()))
}

// over ends the trouble, and tells of it if promises made a difference.
func (k *Keeper) over() {
	t := k.trouble
	k.trouble = nil
	if t == nil || k.cfg.Ended == nil {
		return
	}
	if o, ok := t.over(k.cfg.Clock.Now()); ok {
		k.cfg.Ended(o)
	}
}

// round asks everybody and, if all promised, has the guard prolong what runs.
func (k *Keeper) round(ctx context.Context) State {
	known, ok := k.cfg.Book.Known()
	if !ok {
		return fails("this server knows no roster of those that may lead")
	}
	asked, t := k.cfg.Clock.Now(), k.cfg.Timing()
	others := k.rules.Asked(known.Roster, k.cfg.Server)
	if against := k.ask(ctx, others, k.rules.Hold(t.TTL, settle(t, known.Watchdog)), min(t.Renew, limitCap)); len(against) > 0 {
		return fails(strings.Join(against, "; "))
	}
	vms, err := k.prolong(ctx, known, asked, t)
	if err != nil {
		return fails(err.Error())
	}
	var stop pool.Instant
	if k.cfg.StopTime != nil {
		stop = k.cfg.StopTime()
	}
	k.trouble.held(vms, others, stop, asked.Add(t.Stop))
	k.mu.Lock()
	k.until = asked.Add(t.Stop)
	k.mu.Unlock()
	return State{Holds, "failsafe: VMs keep running, nothing can be changed or recovered"}
}

const failsText = "failsafe does not hold, protected VMs stop at the stop time: "

func fails(why string) State {
	return State{Fails, failsText + why}
}

// ask asks servers at the same time, within limit, and returns what stands against going on.
func (k *Keeper) ask(ctx context.Context, servers []pool.ServerID, hold, limit time.Duration) (against []string) {
	ctx, cancel := k.cfg.Clock.WithTimeout(ctx, limit)
	defer cancel()
	answers := make([]string, len(servers))
	g := clock.NewGroup(k.cfg.Clock)
	var mu sync.Mutex
	for i, id := range servers {
		g.Go("ask "+string(id), func() {
			promised, why, err := k.cfg.Asker.AskPromise(ctx, id, hold)
			if promised && err == nil {
				return
			}
			if err != nil {
				k.cfg.Log.Debug("asked for a promise", "server", id, "err", err)
				why = "does not answer"
			}
			mu.Lock()
			answers[i] = fmt.Sprintf("%s: %s", id, why)
			mu.Unlock()
		})
	}
	g.Wait()
	return slices.DeleteFunc(answers, func(s string) bool { return s == "" })
}

// prolong tells the guard the new deadlines of every session that it holds VMs under, and that the roster was read
// for. It returns the VMs that it holds.
func (k *Keeper) prolong(ctx context.Context, known Known, asked pool.Instant, t pool.Timing) ([]pool.VMID, error) {
	if k.cfg.Guard == nil {
		return nil, nil
	}
	ctx, cancel := k.cfg.Clock.WithTimeout(ctx, t.RenewTimeout)
	defer cancel()
	st, err := k.cfg.Guard.Status(ctx)
	if err != nil {
		return nil, fmt.Errorf("the guard here does not answer: %w", err)
	}
	var errs []error
	for _, s := range sessions(st) {
		if pool.Revision(s) > known.ReadAt {
			errs = append(errs, fmt.Errorf("session %d is younger than the roster that this server knows", s))
			continue
		}
		l := guard.Lease{Session: s, Sent: asked, KillAt: asked.Add(t.Stop), Deadline: asked.Add(t.TTL), Promised: true}
		if err := k.cfg.Guard.Extend(ctx, l); err != nil && !errors.Is(err, guard.ErrOutdated) {
			errs = append(errs, fmt.Errorf("the guard here does not prolong: %w", err))
		}
	}
	return vmsOf(st), errors.Join(errs...)
}

// vmsOf lists the VMs that are held, in order.
func vmsOf(st guard.Status) []pool.VMID {
	var all []pool.VMID
	for _, h := range st.Held {
		all = append(all, h.VM)
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// sessions lists those that something is held under.
func sessions(st guard.Status) []pool.Session {
	var all []pool.Session
	for _, h := range st.Held {
		all = append(all, h.Session)
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// say notes how the failsafe stands, and logs when that changes.
func (k *Keeper) say(s State) {
	k.mu.Lock()
	was := k.state
	k.state = s
	if s.Word == Idle {
		k.until = 0
	}
	k.mu.Unlock()
	switch {
	case was == s:
	case s.Word == Idle && was.Word == Asking, s.Word == Asking:
		k.cfg.Log.Debug("failsafe", "reason", s.Text)
	case s.Word == Idle:
		k.cfg.Log.Info("etcd answers again")
	case s.Word == Fails:
		k.cfg.Log.Warn("failsafe", "reason", s.Text)
	default:
		k.cfg.Log.Info("failsafe", "reason", s.Text)
	}
}
