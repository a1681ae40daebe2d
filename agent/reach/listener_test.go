package reach

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/holdfast-ha/holdfast/agent/sim/vtime"
	"github.com/holdfast-ha/holdfast/pkg/pool"
)

// air is what can be heard: a host answers after its delay; a negative one never does.
type air struct {
	t      *testing.T
	sched  *vtime.Scheduler
	proc   *vtime.Proc
	ears   *Listener
	delay  time.Duration
	probes int
}

func newAir(t *testing.T) *air {
	t.Helper()
	a := &air{t: t, sched: vtime.New(1)}
	t.Cleanup(a.sched.Close)
	a.proc = a.sched.NewProc("s1", vtime.Timepiece{Boot: time.Hour})
	a.ears = New(a.proc, a)
	a.proc.Go("listener", func() { _ = a.ears.Run(context.Background()) })
	return a
}

func (a *air) Alive(ctx context.Context, _ pool.ServerID) error {
	a.probes++
	if a.delay < 0 {
		return errors.Join(errors.New("nothing was heard"), a.proc.Sleep(ctx, time.Hour))
	}
	return a.proc.Sleep(ctx, a.delay)
}

// keepListening asks for s2 to be listened to, as a leader does.
func (a *air) keepListening(from, to time.Duration) {
	for at := from; at <= to; at += 250 * time.Millisecond {
		a.sched.At(at, func() { a.proc.Go("listen", func() { a.ears.Listen("s2", 500*time.Millisecond) }) })
	}
}

func (a *air) at(d time.Duration, f func()) { a.sched.At(d, f) }

func (a *air) until(d time.Duration) {
	a.t.Helper()
	if err := a.sched.Run(d); err != nil {
		a.t.Fatal(err)
	}
}

func (a *air) silence() time.Duration { return a.ears.Silence("s2") }

func TestAServerThatAnswersIsNotSilent(t *testing.T) {
	a := newAir(t)
	a.keepListening(0, 10*time.Second)
	a.until(9900 * time.Millisecond)
	if s := a.silence(); s != 0 {
		t.Errorf("silent for %v", s)
	}
	if a.probes != 20 {
		t.Errorf("%d probes in 10 s, want one every half second", a.probes)
	}
}

func TestSilenceCountsFromTheLatestSignOfLife(t *testing.T) {
	a := newAir(t)
	a.keepListening(0, 10*time.Second)
	a.at(5100*time.Millisecond, func() { a.delay = -1 }) // answered at 5 s
	a.until(5499 * time.Millisecond)
	if s := a.silence(); s != 0 {
		t.Errorf("nothing was missed yet, and it is silent for %v", s)
	}
	a.until(7 * time.Second)
	if s := a.silence(); s != 2*time.Second {
		t.Errorf("silent for %v, want 2s", s)
	}
	a.at(7600*time.Millisecond, func() { a.delay = 0 })
	a.until(8100 * time.Millisecond)
	if s := a.silence(); s != 0 {
		t.Errorf("heard again, and silent for %v", s)
	}
}

func TestLateAnswersCount(t *testing.T) {
	a := newAir(t)
	a.delay = 1500 * time.Millisecond
	a.keepListening(0, 20*time.Second)
	for at := 3 * time.Second; at < 20*time.Second; at += 100 * time.Millisecond {
		a.until(at)
		if s := a.silence(); s > 600*time.Millisecond {
			t.Fatalf("at %v silent for %v, though an answer comes every half second", at, s)
		}
	}
}

func TestNobodyAsksNothingIsSent(t *testing.T) {
	a := newAir(t)
	a.keepListening(0, time.Second)
	a.until(5 * time.Second)
	sent := a.probes
	a.until(time.Hour)
	if a.probes != sent || sent > 9 {
		t.Errorf("%d probes, then %d more", sent, a.probes-sent)
	}
}

func TestASilenceFromBeforeAPauseIsForgotten(t *testing.T) {
	a := newAir(t)
	a.delay = -1
	a.keepListening(0, 3*time.Second)
	a.until(3 * time.Second)
	if s := a.silence(); s < 2*time.Second {
		t.Errorf("silent for %v", s)
	}
	a.until(6500 * time.Millisecond) // nobody asked meanwhile, and probes still wait
	if s := a.silence(); s != 0 {
		t.Errorf("nobody listens, and it is silent for %v", s)
	}
	a.at(20*time.Second, func() { a.delay = 0 })
	a.keepListening(21*time.Second, 25*time.Second)
	for at := 21 * time.Second; at < 25*time.Second; at += 50 * time.Millisecond {
		a.until(at)
		if s := a.silence(); s != 0 {
			t.Fatalf("at %v silent for %v", at, s)
		}
	}
}

func TestAnAgentThatWasHeldUpListensAnew(t *testing.T) {
	a := newAir(t)
	a.keepListening(0, 20*time.Second)
	a.at(5*time.Second, func() { a.proc.Hang() })
	a.at(8*time.Second, func() { a.proc.Resume() })
	for at := 8 * time.Second; at < 12*time.Second; at += 50 * time.Millisecond {
		a.until(at)
		if s := a.silence(); s > 600*time.Millisecond {
			t.Fatalf("at %v silent for %v after a pause of its own", at, s)
		}
	}
}
