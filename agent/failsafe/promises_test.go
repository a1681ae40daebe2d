package failsafe_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/holdfast-ha/holdfast/agent/failsafe"
	"github.com/holdfast-ha/holdfast/pkg/clock"
	"github.com/holdfast-ha/holdfast/pkg/pool"
)

// etcd is how a promising agent reaches etcd.
type etcd struct {
	mu      sync.Mutex
	down    bool
	slow    time.Duration
	looks   int
	contact pool.Instant
}

func (e *etcd) reach(ctx context.Context) error {
	e.mu.Lock()
	down, slow := e.down, e.slow
	e.looks++
	e.mu.Unlock()
	if !down {
		return nil
	}
	if err := (bubbleClock{clock.Real()}).Sleep(ctx, slow); err != nil {
		return err
	}
	return errors.New("no leader")
}

func (e *etcd) set(down bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.down = down
	if !down {
		e.contact = bubbleClock{clock.Real()}.Now()
	}
}

func newPromises(e *etcd, r failsafe.Rules) *failsafe.Promises {
	return failsafe.NewPromises(failsafe.PromisesConfig{Clock: bubbleClock{clock.Real()}, Reach: e.reach, Timing: timing, Rules: r,
		Contact: func() pool.Instant { e.mu.Lock(); defer e.mu.Unlock(); return e.contact }})
}

func now() pool.Instant { return bubbleClock{clock.Real()}.Now() }

func isBound(p *failsafe.Promises) bool {
	_, bound := p.Bound(now())
	return bound
}

func TestAPromiseBindsForAsLongAsItWasAskedFor(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		p := newPromises(&etcd{down: true}, failsafe.Rules{})
		if ok, why := p.Ask(t.Context(), 6*time.Second); !ok {
			t.Fatalf("not promised: %s", why)
		}
		pass(6*time.Second - 1)
		if !isBound(p) {
			t.Error("not bound just before it is over")
		}
		pass(1)
		if isBound(p) {
			t.Error("bound when it is over")
		}
	})
}

func TestAnAgentThatReachesEtcdPromisesNothing(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		p := newPromises(&etcd{}, failsafe.Rules{})
		if ok, why := p.Ask(t.Context(), 6*time.Second); ok || why != "it reaches etcd" || isBound(p) {
			t.Errorf("promised %v, %q", ok, why)
		}
	})
}

func TestAPromiseIsKeptAfterEtcdIsBack(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		e := &etcd{down: true}
		p := newPromises(e, failsafe.Rules{})
		p.Ask(t.Context(), 6*time.Second)
		pass(time.Second)
		e.set(false)
		pass(4 * time.Second)
		if !isBound(p) {
			t.Error("dropped when etcd was back")
		}
	})
}

func TestAShorterPromiseDoesNotShortenALongerOne(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		p := newPromises(&etcd{down: true}, failsafe.Rules{})
		p.Ask(t.Context(), 20*time.Second)
		p.Ask(t.Context(), 6*time.Second)
		pass(15 * time.Second)
		if !isBound(p) {
			t.Error("the longer promise was forgotten")
		}
	})
}

func TestABoundAgentAnswersAgainAtOnceWhileNothingIsHeardOfEtcd(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		e := &etcd{down: true, slow: time.Hour}
		p := newPromises(e, failsafe.Rules{})
		p.Ask(t.Context(), 6*time.Second)
		for range 3 {
			began := time.Now()
			if ok, _ := p.Ask(t.Context(), 6*time.Second); !ok || time.Since(began) > 0 {
				t.Errorf("promised %v after %v", ok, time.Since(began))
			}
		}
		if e.looks != 1 {
			t.Errorf("looked for etcd %d times", e.looks)
		}
	})
}

func TestASignOfLifeOfEtcdHasItLookAnew(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		e := &etcd{down: true}
		p := newPromises(e, failsafe.Rules{})
		p.Ask(t.Context(), 6*time.Second)
		pass(time.Millisecond)
		e.set(false)
		if ok, _ := p.Ask(t.Context(), 6*time.Second); ok {
			t.Error("promised though etcd was heard of")
		}
	})
}

func TestAQuestionThatIsGivenUpIsNotAnsweredWithAPromise(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		p := newPromises(&etcd{down: true, slow: time.Hour}, failsafe.Rules{})
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		if ok, why := p.Ask(ctx, 6*time.Second); ok || !strings.Contains(why, "too short") || isBound(p) {
			t.Errorf("promised %v, %q", ok, why)
		}
	})
}

func TestAbsurdPromisesAreRefused(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		p := newPromises(&etcd{down: true}, failsafe.Rules{})
		for _, hold := range []time.Duration{0, -time.Second, 24 * time.Hour} {
			if ok, _ := p.Ask(t.Context(), hold); ok || isBound(p) {
				t.Errorf("promised for %v", hold)
			}
		}
	})
}

func TestAnAgentThatHasJustStartedWaitsAsLongAsItMayHavePromised(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		p := newPromises(&etcd{}, failsafe.Rules{})
		until, waits := p.Waits(timing(), 0)
		if want := now().Add(timing().TTL + timing().Settle); !waits || until != want {
			t.Errorf("waits %v until %v, want %v", waits, until, want)
		}
		pass(timing().TTL + timing().Settle)
		if _, waits := p.Waits(timing(), 0); waits {
			t.Error("still waits after T + L")
		}
		if _, waits := p.Waits(timing(), 10*time.Second); !waits {
			t.Error("with a watchdog in the pool L is longer, and so is the wait")
		}
	})
}
