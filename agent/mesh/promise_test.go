package mesh

import (
	"context"
	"crypto/tls"
	"testing"
	"time"

	"github.com/holdfast-ha/holdfast/pkg/pki"
	"github.com/holdfast-ha/holdfast/pkg/pool"
)

// promiser promises what the test says, and remembers what it was asked for.
type promiser struct {
	why  string
	hold time.Duration
	life string
	hang <-chan struct{} // no answer before it is closed
}

func (p *promiser) Promise(_ context.Context, incarnation string, hold time.Duration) (bool, string) {
	if p.hang != nil {
		<-p.hang
	}
	p.life, p.hold = incarnation, hold
	return p.why == "", p.why
}

// promising serves a server that makes promises.
func (s *site) promising(id pool.ServerID, p Promiser) {
	s.t.Helper()
	s.answering(id, func(answers *Server) {
		if p != nil {
			answers.UsePromises(p)
		}
	})
}

func TestPromisesAreAskedForAndGivenOverTheMesh(t *testing.T) {
	s := newSite(t)
	good, bad := &promiser{}, &promiser{why: "it reaches etcd"}
	s.promising("srv-2", good)
	s.promising("srv-3", bad)
	s.promising("srv-4", nil)
	p := s.peers("srv-1", &machine{})
	ctx := within(t, 10*time.Second)
	if ok, why, err := p.AskPromise(ctx, "srv-2", 5625*time.Millisecond); !ok || why != "" || err != nil {
		t.Errorf("srv-2: %v %q %v", ok, why, err)
	}
	if good.hold != 5625*time.Millisecond || good.life != life {
		t.Errorf("srv-2 was asked for %v in life %s", good.hold, good.life)
	}
	if ok, why, err := p.AskPromise(ctx, "srv-3", time.Second); ok || why != "it reaches etcd" || err != nil {
		t.Errorf("srv-3: %v %q %v", ok, why, err)
	}
	if ok, _, err := p.AskPromise(ctx, "srv-4", time.Second); ok || err != nil {
		t.Errorf("srv-4, which makes no promises: %v %v", ok, err)
	}
}

func TestASilentOrUnknownServerPromisesNothing(t *testing.T) {
	s := newSite(t)
	over := make(chan struct{})
	t.Cleanup(func() { close(over) })
	s.promising("srv-2", &promiser{hang: over})
	p := s.peers("srv-1", &machine{})
	for _, id := range []pool.ServerID{"srv-2", "srv-9"} {
		if ok, _, err := p.AskPromise(within(t, 300*time.Millisecond), id, time.Second); ok || err == nil {
			t.Errorf("%s: promised %v, error %v", id, ok, err)
		}
	}
}

func TestOnlyServersAreAnsweredWhoAskForPromises(t *testing.T) {
	s := newSite(t)
	asked := &promiser{}
	s.promising("srv-2", asked)
	admin := s.certificate("root", pki.RoleAdmin)
	p := NewPeers("srv-1", &machine{}, s.shown, func(to pool.ServerID) *tls.Config { return admin.Client(string(to)) })
	t.Cleanup(p.Close)
	if ok, _, err := p.AskPromise(within(t, 5*time.Second), "srv-2", time.Second); ok || err == nil || asked.hold != 0 {
		t.Errorf("an administrator was promised something: %v, %v", ok, err)
	}
}
