package sim

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/holdfast-ha/holdfast/agent/app"
	"github.com/holdfast-ha/holdfast/agent/etcd"
	"github.com/holdfast-ha/holdfast/agent/sim/simnet"
	"github.com/holdfast-ha/holdfast/agent/sim/world"
	"github.com/holdfast-ha/holdfast/pkg/pool"
)

// How soon the keeper of votes looks again: while something is to be done, and else.
const (
	votesBusy = 200 * time.Millisecond
	votesIdle = 10 * time.Second
)

// votes is the embedded etcd's membership as the agent of one server sees and changes it: etcd.Membership and etcd.Seats.
// The scenario says who votes; the real keeper moves votes only off servers that are about to go down.
type votes struct {
	a *simAgent
	app.Leadership
}

// id numbers members by the order of servers, from 1 on.
func (p *Pool) id(server string) uint64 {
	return uint64(slices.IndexFunc(p.World.Servers(), func(s *world.Server) bool { return s.Name == server }) + 1)
}

// members lists the voting members and the learners, as far as a server reaches them.
func (p *Pool) members(from string) []etcd.Member {
	var out []etcd.Member
	for _, s := range p.World.Servers() {
		votes := slices.Contains(p.Etcd.Voters(), s.Name)
		if votes || p.learners[s.Name] {
			out = append(out, etcd.Member{ID: p.id(s.Name), Name: s.Name, PeerURL: s.Name, Learner: !votes,
				Healthy: s.Powered() && s.Booted() && p.Net.Both(from, s.Name, simnet.Etcd)})
		}
	}
	return out
}

// seats lists the servers as places for votes.
func seats(snap *pool.Snapshot) []etcd.Seat {
	var out []etcd.Seat
	for id, s := range snap.Servers.All() {
		out = append(out, etcd.Seat{Name: string(id), PeerURL: string(id), Standing: etcd.StandingOf(s, snap)})
	}
	return out
}

// reach fails unless etcd answers.
func (v votes) reach(ctx context.Context) error {
	_, _, err := v.Store.Edge().List(ctx, v.Store.Keys().Prefix()+"seats/")
	return err
}

// Seats implements etcd.Seats.
func (v votes) Seats(ctx context.Context) ([]etcd.Seat, error) {
	return seats(v.Snapshot()), v.reach(ctx)
}

// Forget implements etcd.Seats; simulated seats are the registrations.
func (v votes) Forget(context.Context, string) error { return nil }

// Members implements etcd.Membership.
func (v votes) Members(ctx context.Context) ([]etcd.Member, error) {
	return v.a.crew.p.members(v.a.server.Name), v.reach(ctx)
}

// Add implements etcd.Membership.
func (v votes) Add(ctx context.Context, peerURL string) error {
	if err := v.reach(ctx); err != nil {
		return err
	}
	v.a.crew.p.learners[peerURL] = true
	return nil
}

// Promote implements etcd.Membership.
func (v votes) Promote(ctx context.Context, id uint64) error {
	return v.change(ctx, id, func(p *Pool, name string) {
		delete(p.learners, name)
		p.Etcd.SetVoters(append(p.Etcd.Voters(), name))
		p.trace.add("etcd: %s votes from now on", name)
	})
}

// Remove implements etcd.Membership.
func (v votes) Remove(ctx context.Context, id uint64) error {
	return v.change(ctx, id, func(p *Pool, name string) {
		delete(p.learners, name)
		if voters := p.Etcd.Voters(); slices.Contains(voters, name) {
			p.Etcd.SetVoters(slices.DeleteFunc(voters, func(s string) bool { return s == name }))
			p.trace.add("etcd: %s does not vote any more", name)
		}
	})
}

func (v votes) change(ctx context.Context, id uint64, f func(*Pool, string)) error {
	if err := v.reach(ctx); err != nil {
		return err
	}
	p := v.a.crew.p
	for _, s := range p.World.Servers() {
		if p.id(s.Name) == id {
			f(p, s.Name)
			return nil
		}
	}
	return fmt.Errorf("etcd member %d: %w", id, pool.ErrNotFound)
}

// keepVotes runs the real keeper of votes while a server that votes is about to go down.
func (a *simAgent) keepVotes(ctx context.Context, l app.Leadership) error {
	p, clk := a.crew.p, a.proc
	v := votes{a, l}
	keeper := etcd.NewKeeper(clk, v, v, &etcd.EventAnnouncer{Store: l.Store, Clock: clk, Leading: l.Leading}, p.logger(clk))
	defer l.Subscribe(keeper.Wake())()
	for ctx.Err() == nil {
		pause := votesIdle
		if p.voterGoes(l.Snapshot()) {
			pause = votesBusy
			if _, err := keeper.Step(ctx); err != nil && !errors.Is(err, pool.ErrUnavailable) {
				pause = votesIdle
			}
		}
		keeper.Wake().Wait(ctx, pause)
	}
	return ctx.Err()
}

// voterGoes reports whether a server with a vote is about to go down.
func (p *Pool) voterGoes(snap *pool.Snapshot) bool {
	return slices.ContainsFunc(seats(snap), func(s etcd.Seat) bool {
		return s.Standing == etcd.StandingGoing && slices.Contains(p.Etcd.Voters(), s.Name)
	})
}

// goesOn says whether etcd goes on without a server, as the agent of another finds out.
func (a *simAgent) goesOn(ctx context.Context, snap *pool.Snapshot, without pool.ServerID) (bool, error) {
	p := a.crew.p
	if !p.File.Pool.Embedded {
		return true, nil
	}
	v := votes{a, app.Leadership{Store: a.Store(), Snapshot: func() *pool.Snapshot { return snap }}}
	members, err := v.Members(ctx)
	if err != nil {
		return false, err
	}
	return etcd.GoesOn(members, seats(snap), etcd.GoesFirst(snap, without), string(without))
}
