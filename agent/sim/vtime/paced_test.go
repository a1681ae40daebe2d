package vtime

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/holdfast-ha/holdfast/pkg/clock"
	"github.com/holdfast-ha/holdfast/pkg/pool"
)

func paced(t *testing.T) (*Paced, *Scheduler) {
	t.Helper()
	s := New(1)
	p := Pace(s)
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { _ = p.Run(ctx) })
	t.Cleanup(func() { cancel(); wg.Wait() })
	return p, s
}

func TestAPacedCallTakesRealTimeAndReadsTheMachinesClock(t *testing.T) {
	p, s := paced(t)
	var proc *Proc
	p.Do(func() { proc = s.NewProc("p", p.Timepiece()) })
	began := clock.Real().Now()
	var read pool.Instant
	err := p.Call(context.Background(), proc, func(ctx context.Context) {
		read = proc.Now()
		_ = proc.Sleep(ctx, 30*time.Millisecond)
	})
	if took := clock.Real().Now().Sub(began); err != nil || took < 30*time.Millisecond {
		t.Errorf("the call took %v: %v", took, err)
	}
	if d := read.Sub(began); d < 0 || d > time.Second {
		t.Errorf("the process's clock is %v off", d)
	}
}

func TestAPacedCallEndsWithItsContextOrProcess(t *testing.T) {
	p, s := paced(t)
	var proc *Proc
	p.Do(func() { proc = s.NewProc("p", p.Timepiece()) })
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
	defer cancel()
	var inner error
	if err := p.Call(ctx, proc, func(ctx context.Context) { inner = proc.Sleep(ctx, time.Hour) }); err != nil || !errors.Is(inner, context.Canceled) {
		t.Errorf("err %v, inner %v", err, inner)
	}
	p.Do(func() { s.After(20*time.Millisecond, proc.Kill) })
	if err := p.Call(context.Background(), proc, func(ctx context.Context) { _ = proc.Sleep(ctx, time.Hour) }); !errors.Is(err, pool.ErrUnavailable) {
		t.Errorf("the process was killed: %v", err)
	}
}

func TestManyPacedCallersDoNotRace(t *testing.T) {
	p, s := paced(t)
	var proc *Proc
	p.Do(func() { proc = s.NewProc("p", p.Timepiece()) })
	n := 0
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			for range 20 {
				_ = p.Call(context.Background(), proc, func(ctx context.Context) { n++ })
			}
		})
	}
	wg.Wait()
	p.Do(func() {
		if n != 400 {
			t.Errorf("%d calls, want 400", n)
		}
	})
}
