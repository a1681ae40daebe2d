package vtime

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-ha/holdfast/pkg/clock"
)

func newTest(t *testing.T) (*Scheduler, *Proc) {
	t.Helper()
	s := New(1)
	t.Cleanup(s.Close)
	return s, s.NewProc("p", Timepiece{Boot: 1000 * time.Second})
}

func run(t *testing.T, s *Scheduler, until time.Duration) {
	t.Helper()
	if err := s.Run(until); err != nil {
		t.Fatal(err)
	}
}

func TestSleepersWakeInOrderOfTime(t *testing.T) {
	s, p := newTest(t)
	var got []string
	for _, d := range []time.Duration{30, 10, 20, 10} {
		p.Go("sleeper", func() {
			_ = p.Sleep(context.Background(), d*time.Second)
			got = append(got, fmt.Sprintf("%d@%v", d, s.Now()))
		})
	}
	run(t, s, time.Minute)
	if want := "10@10s 10@10s 20@20s 30@30s"; strings.Join(got, " ") != want {
		t.Errorf("woke %v, want %s", got, want)
	}
	if s.Now() != time.Minute {
		t.Errorf("the clock shows %v, want 1m", s.Now())
	}
}

func TestASignalCountsSeveralSetsAsOne(t *testing.T) {
	s, p := newTest(t)
	sig := p.NewSignal()
	var waits []bool
	p.Go("waiter", func() {
		waits = append(waits, sig.Wait(context.Background(), -1))
		waits = append(waits, sig.Wait(context.Background(), time.Second))
	})
	s.After(time.Second, func() { sig.Set(); sig.Set() })
	run(t, s, 10*time.Second)
	if !slices.Equal(waits, []bool{true, false}) {
		t.Errorf("waits = %v, want one that succeeds and one that times out", waits)
	}
}

func TestASignalSetBeforeTheWaitIsNotLost(t *testing.T) {
	s, p := newTest(t)
	sig := p.NewSignal()
	sig.Set()
	ok := false
	p.Go("waiter", func() { ok = sig.Wait(context.Background(), 0) })
	run(t, s, 0)
	if !ok {
		t.Error("the wait did not see the flag")
	}
}

func TestATimeoutEndsWaitsAndChildContexts(t *testing.T) {
	s, p := newTest(t)
	var sleepErr, childErr error
	var cause error
	var at time.Duration
	p.Go("waiter", func() {
		parent, cancel := p.WithTimeout(context.Background(), 3*time.Second)
		defer cancel()
		child, stop := p.WithCancel(parent)
		defer stop(nil)
		sleepErr = p.Sleep(child, time.Hour)
		at = s.Now()
		childErr, cause = child.Err(), context.Cause(child)
		select {
		case <-child.Done():
		default:
			t.Error("Done is not closed")
		}
	})
	run(t, s, time.Minute)
	if !errors.Is(sleepErr, context.DeadlineExceeded) || !errors.Is(childErr, context.DeadlineExceeded) || at != 3*time.Second {
		t.Errorf("sleep: %v, child: %v at %v", sleepErr, childErr, at)
	}
	if !errors.Is(cause, context.DeadlineExceeded) {
		t.Errorf("cause: %v", cause)
	}
}

func TestCancelCarriesItsCauseAndWakesTheWaiter(t *testing.T) {
	s, p := newTest(t)
	why := errors.New("leadership lost")
	ctx, cancel := p.WithCancel(context.Background())
	sig := p.NewSignal()
	var ok = true
	var again bool
	p.Go("waiter", func() {
		ok = sig.Wait(ctx, -1)
		again = sig.Wait(ctx, -1)
	})
	s.After(time.Second, func() { cancel(why) })
	run(t, s, 2*time.Second)
	if ok || again || !errors.Is(context.Cause(ctx), why) || !errors.Is(ctx.Err(), context.Canceled) {
		t.Errorf("waits %v %v, cause %v, err %v", ok, again, context.Cause(ctx), ctx.Err())
	}
}

func TestAKilledProcessRunsNothingButItsDeferredCode(t *testing.T) {
	s, p := newTest(t)
	var log []string
	p.Go("victim", func() {
		defer func() { log = append(log, "outer") }()
		defer func() {
			log = append(log, "inner")
			_ = p.Sleep(context.Background(), time.Second)
			log = append(log, "slept while dying")
		}()
		_ = p.Sleep(context.Background(), time.Hour)
		log = append(log, "woke")
	})
	s.After(time.Second, p.Kill)
	run(t, s, 2*time.Hour)
	if got := strings.Join(log, " "); got != "inner outer" {
		t.Errorf("ran %q, want the deferred functions only", got)
	}
	p.Go("late", func() { t.Error("a coroutine started in a killed process") })
	run(t, s, 3*time.Hour)
}

func TestAProcessThatKillsItselfStopsAtItsNextWait(t *testing.T) {
	s, p := newTest(t)
	var log []string
	p.Go("suicide", func() {
		p.Kill()
		log = append(log, "still here")
		_ = p.Sleep(context.Background(), time.Second)
		log = append(log, "after")
	})
	run(t, s, time.Minute)
	if got := strings.Join(log, ","); got != "still here" {
		t.Errorf("ran %q", got)
	}
}

func TestAHungProcessGetsItsWakeUpsWhenItResumes(t *testing.T) {
	s, p := newTest(t)
	var at time.Duration
	p.Go("sleeper", func() {
		_ = p.Sleep(context.Background(), 5*time.Second)
		at = s.Now()
	})
	s.After(time.Second, p.Hang)
	s.After(time.Minute, p.Resume)
	run(t, s, 2*time.Minute)
	if at != time.Minute {
		t.Errorf("woke at %v, want 1m0s", at)
	}
}

func TestACallTakesEffectAlsoWhenItsCallerGaveUp(t *testing.T) {
	s, p := newTest(t)
	var err error
	applied := false
	p.Go("caller", func() {
		ctx, cancel := p.WithTimeout(context.Background(), time.Second)
		defer cancel()
		k := p.NewCall()
		s.After(2*time.Second, func() {
			applied = true
			if !k.Abandoned() {
				t.Error("the call is not abandoned")
			}
			k.Finish()
		})
		err = k.Wait(ctx)
	})
	run(t, s, time.Minute)
	if !errors.Is(err, context.DeadlineExceeded) || !applied {
		t.Errorf("err = %v, applied = %v", err, applied)
	}
}

func TestClocksOfServersDifferAndDrift(t *testing.T) {
	s := New(1)
	t.Cleanup(s.Close)
	a := s.NewProc("a", Timepiece{Boot: 1000 * time.Second})
	b := s.NewProc("b", Timepiece{Boot: 5 * time.Second, PPM: 100})
	a0, b0 := a.Now(), b.Now()
	var slept time.Duration
	b.Go("sleeper", func() {
		_ = b.Sleep(context.Background(), 1000*time.Second)
		slept = s.Now()
	})
	run(t, s, 2000*time.Second)
	if d := a.Now().Sub(a0); d != 2000*time.Second {
		t.Errorf("a's clock went %v", d)
	}
	if d := b.Now().Sub(b0); d != 2000*time.Second+200*time.Millisecond {
		t.Errorf("b's clock went %v, want 0.2 s more", d)
	}
	if slept != 1000*time.Second-100*time.Millisecond {
		t.Errorf("b slept until %v", slept)
	}
}

func TestAPanicFailsTheRunWithItsPlace(t *testing.T) {
	s, p := newTest(t)
	p.Go("loop", func() {
		_ = p.Sleep(context.Background(), time.Second)
		none := make([]int, 0)
		_ = none[len(none)]
	})
	err := s.Run(time.Minute)
	if err == nil || !strings.Contains(err.Error(), "loop panicked at 1s") || !strings.Contains(err.Error(), "vtime_test.go") {
		t.Errorf("err = %v", err)
	}
}

func TestAnIdleSimulationHasNoNextEvent(t *testing.T) {
	s, p := newTest(t)
	sig := p.NewSignal()
	p.Go("waiter", func() { sig.Wait(context.Background(), -1) })
	run(t, s, time.Hour)
	if at, ok := s.Next(); ok {
		t.Errorf("next event at %v, want none", at)
	}
}

func TestAGroupWaitsForItsFunctions(t *testing.T) {
	s, p := newTest(t)
	var done time.Duration
	p.Go("main", func() {
		g := clock.NewGroup(p)
		for i := range 5 {
			g.Go("part", func() { _ = p.Sleep(context.Background(), time.Duration(i)*time.Second) })
		}
		g.Wait()
		done = s.Now()
	})
	run(t, s, time.Minute)
	if done != 4*time.Second {
		t.Errorf("the group ended at %v, want 4s", done)
	}
}

// story runs a handful of processes that sleep, signal, hang and die at random, and returns what they did.
func story(seed uint64) string {
	s := New(seed)
	defer s.Close()
	var log strings.Builder
	var procs []*Proc
	for i := range 5 {
		p := s.NewProc(fmt.Sprint("p", i), Timepiece{Boot: time.Duration(i) * time.Hour, PPM: int64(i) * 50})
		procs = append(procs, p)
		sig := p.NewSignal()
		p.Go("ticker", func() {
			for {
				_ = p.Sleep(context.Background(), s.Between(0, time.Second))
				sig.Set()
			}
		})
		p.Go("waiter", func() {
			for {
				ctx, cancel := p.WithTimeout(context.Background(), s.Between(0, time.Second))
				ok := sig.Wait(ctx, s.Between(0, time.Second))
				cancel()
				fmt.Fprintf(&log, "%v %s %v %v\n", s.Now(), p.Name(), ok, p.Now())
			}
		})
	}
	s.After(10*time.Second, procs[0].Kill)
	s.After(20*time.Second, procs[1].Hang)
	s.After(30*time.Second, procs[1].Resume)
	_ = s.Run(time.Minute)
	return log.String()
}

func TestTheSameSeedGivesTheSameRun(t *testing.T) {
	a, b, c := story(7), story(7), story(8)
	if a != b {
		t.Error("two runs with one seed differ")
	}
	if a == c {
		t.Error("two seeds give the same run")
	}
	if strings.Count(a, "\n") < 500 {
		t.Errorf("the story has only %d lines", strings.Count(a, "\n"))
	}
}

func BenchmarkParkAndWake(b *testing.B) {
	s := New(1)
	defer s.Close()
	p := s.NewProc("p", Timepiece{})
	ctx, cancel := p.WithCancel(context.Background())
	defer cancel(nil)
	for range 100 {
		p.Go("sleeper", func() {
			for {
				_ = p.Sleep(ctx, time.Millisecond)
			}
		})
	}
	b.ReportAllocs()
	b.ResetTimer()
	for range b.N {
		_, _ = s.Step()
	}
}
