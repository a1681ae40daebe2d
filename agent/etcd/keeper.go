package etcd

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/holdfast-ha/holdfast/pkg/clock"
	"github.com/holdfast-ha/holdfast/pkg/pool"
)

// Membership is etcd's membership as Keeper changes it. Cluster implements it.
type Membership interface {
	Members(ctx context.Context) ([]Member, error)
	Add(ctx context.Context, peerURL string) error
	Promote(ctx context.Context, id uint64) error
	Remove(ctx context.Context, id uint64) error
}

// Seats lists the machines that may carry a vote. Registry implements it.
type Seats interface {
	Seats(ctx context.Context) ([]Seat, error)
	Forget(ctx context.Context, name string) error
}

// Announcer makes a change known before it is made, by a write that only the leader in office can make. An error
// stops the change.
type Announcer interface {
	Announce(ctx context.Context, a Action) error
}

// Keeper moves votes to where Plan wants them. Run it under leadership, in an agent with embedded etcd.
type Keeper struct {
	clock    clock.Clock
	members  Membership
	seats    Seats
	announce Announcer
	log      *slog.Logger
	wake     clock.Signal
	idle     string
}

// Intervals of the loop: how soon it looks again after a change, while something is awaited (a process that starts, a
// learner that catches up), after an error, and when all is well. Asking each member costs a connection, and whatever
// changes in the pool wakes the loop: so the last one only finds what befell etcd alone.
const (
	keeperBusy  = 200 * time.Millisecond
	keeperAwait = time.Second
	keeperRetry = 5 * time.Second
	keeperIdle  = 10 * time.Second
)

// allWell is Plan's reason for doing nothing when there is nothing to wait for.
const allWell = "votes are where they should be"

// NewKeeper returns a keeper. Set wake when servers come, go, enter maintenance or are fenced.
func NewKeeper(c clock.Clock, members Membership, seats Seats, announce Announcer, log *slog.Logger) *Keeper {
	return &Keeper{clock: c, members: members, seats: seats, announce: announce, log: log, wake: c.NewSignal()}
}

// Wake returns the signal that makes the keeper look at once.
func (k *Keeper) Wake() clock.Signal { return k.wake }

// Run keeps the votes until ctx ends, and returns its error then.
func (k *Keeper) Run(ctx context.Context) error {
	for ctx.Err() == nil {
		a, err := k.Step(ctx)
		pause := keeperBusy
		switch {
		case errors.Is(err, ErrNotReady):
			k.log.Debug("etcd votes", "action", a.Kind, "seat", a.Seat, "err", err)
			pause = 2 * keeperBusy
		case err != nil && ctx.Err() == nil:
			k.log.Warn("etcd votes", "action", a.Kind, "seat", a.Seat, "err", err)
			pause = keeperRetry
		case a.Kind == ActionNone:
			if a.Reason != k.idle {
				k.log.Info("etcd votes", "reason", a.Reason)
				k.idle = a.Reason
			}
			if pause = keeperAwait; a.Reason == allWell {
				pause = keeperIdle
			}
		default:
			k.log.Info("etcd votes", "action", a.Kind, "seat", a.Seat, "reason", a.Reason)
		}
		k.wake.Wait(ctx, pause)
	}
	return ctx.Err()
}

// Step makes one change, if one is due, and returns it.
func (k *Keeper) Step(ctx context.Context) (Action, error) {
	// Seats first: a machine's seat is older than its member.
	seats, err := k.seats.Seats(ctx)
	if err != nil {
		return Action{}, err
	}
	members, err := k.members.Members(ctx)
	if err != nil {
		return Action{}, err
	}
	a := Plan(members, seats)
	if a.Kind == ActionNone {
		return a, nil
	}
	if err := k.announce.Announce(ctx, a); err != nil {
		return a, fmt.Errorf("announce: %w", err)
	}
	return a, k.act(ctx, a)
}

func (k *Keeper) act(ctx context.Context, a Action) error {
	switch a.Kind {
	case ActionAdd:
		return k.members.Add(ctx, a.PeerURL)
	case ActionPromote:
		return k.members.Promote(ctx, a.Member)
	case ActionRemove:
		return k.members.Remove(ctx, a.Member)
	case ActionForget:
		return k.seats.Forget(ctx, a.Seat)
	}
	return fmt.Errorf("action %v: %w", a.Kind, pool.ErrInvalid)
}
