package lease_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/holdfast-ha/holdfast/pkg/lease"
	"github.com/holdfast-ha/holdfast/pkg/lease/leasetest"
	"github.com/holdfast-ha/holdfast/pkg/pool"
)

func TestASessionSaysWhetherItsRenewalsFail(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		var told atomic.Int64
		r.failed = func() { told.Add(1) }
		a := r.start()
		r.sleep(time.Second)
		if a.Failing() || told.Load() != 0 {
			t.Error("a healthy session fails")
		}
		r.client.SetFault(leasetest.Cut)
		r.sleep(3 * time.Second)
		if n := told.Load(); !a.Failing() || n < 2 {
			t.Errorf("failing %v, told %d times in three seconds, want after each attempt", a.Failing(), n)
		}
		r.client.SetFault(nil)
		r.sleep(2 * time.Second)
		if a.Failing() {
			t.Error("it says that it fails after a good renewal")
		}
	})
}

func TestASessionThatCannotBeBegunFailsToo(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		r.client.SetFault(leasetest.Cut)
		a := r.start()
		r.sleep(2 * time.Second)
		if !a.Failing() {
			t.Error("without etcd it does not say that it fails")
		}
	})
}

func TestAServerThatIsNotConfirmedGivesTheOfficeUp(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		var confirmed atomic.Bool
		c := r.candidate(r.start(), func(cfg *lease.CandidateConfig) {
			cfg.Confirm = func(context.Context) (bool, error) { return confirmed.Load(), nil }
		})
		r.sleep(10 * time.Second)
		if _, leads := c.Leading(); leads {
			t.Error("leads though it was not confirmed")
		}
		confirmed.Store(true)
		r.sleep(10 * time.Second)
		if _, leads := c.Leading(); !leads {
			t.Error("does not lead though it was confirmed")
		}
	})
}

func TestTheOfficeWaitsWhileItCannotBeConfirmed(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		var fails atomic.Bool
		fails.Store(true)
		c := r.candidate(r.start(), func(cfg *lease.CandidateConfig) {
			cfg.Confirm = func(context.Context) (bool, error) {
				if fails.Load() {
					return false, errors.New("etcd does not answer")
				}
				return true, nil
			}
		})
		r.sleep(3 * time.Second)
		if _, leads := c.Leading(); leads {
			t.Error("leads though that could not be confirmed")
		}
		fails.Store(false)
		r.sleep(time.Second)
		if _, leads := c.Leading(); !leads {
			t.Error("does not lead once it is confirmed")
		}
	})
}

func TestABoundServerDoesNotLead(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		var until atomic.Int64
		c := r.candidate(r.start(), func(cfg *lease.CandidateConfig) {
			cfg.Bound = func(now pool.Instant) bool { return now.Before(pool.Instant(until.Load())) }
		})
		r.sleep(3 * time.Second)
		office, leads := c.Leading()
		if !leads {
			t.Fatal("does not lead")
		}
		until.Store(int64(r.clock.Now().Add(6 * time.Second)))
		if _, leads := c.Leading(); leads {
			t.Error("leads though a promise binds it")
		}
		r.sleep(6 * time.Second)
		if again, leads := c.Leading(); !leads || again != office {
			t.Errorf("after the promise it leads %v, by %+v, want by %+v", leads, again, office)
		}
	})
}

// candidate runs a candidate beside a session; change alters what it is given.
func (r *rig) candidate(a *agent, change func(*lease.CandidateConfig)) *lease.Candidate {
	cfg := lease.CandidateConfig{Server: r.name, Prefix: prefix + "leader/", MemberKey: r.memberKey(), Session: a.Session,
		MayLead: func(context.Context) bool { return true }, Store: r.client, Clock: r.clock, Timing: r.timing, Log: r.log}
	change(&cfg)
	c := lease.NewCandidate(cfg)
	ctx, cancel := context.WithCancel(context.Background())
	r.t.Cleanup(cancel)
	go func() { _ = c.Run(ctx) }()
	return c
}
