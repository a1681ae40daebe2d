package drill_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-ha/holdfast/agent/drill"
	"github.com/holdfast-ha/holdfast/pkg/clock"
	"github.com/holdfast-ha/holdfast/pkg/kv"
	"github.com/holdfast-ha/holdfast/pkg/kv/kvtest"
	"github.com/holdfast-ha/holdfast/pkg/pool"
)

func TestAClosedWayAnswersNothingAndLosesNothing(t *testing.T) {
	m := kvtest.NewMemory(clock.Real())
	cut := drill.NewCut(clock.Real(), m, m)
	w, err := cut.Watch(t.Context(), "a/", 1)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	cut.Close(time.Minute)
	if cut.Left() <= 0 || cut.Left() > time.Minute {
		t.Errorf("closed for %v", cut.Left())
	}
	short, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, _, err := cut.Get(short, "a/x"); !errors.Is(err, pool.ErrUnavailable) {
		t.Errorf("a read through a closed way: %v", err)
	}
	if _, err := cut.Grant(short, 5*time.Second); !errors.Is(err, pool.ErrUnavailable) {
		t.Errorf("a lease through a closed way: %v", err)
	}
	if _, err := m.Txn(t.Context(), kv.Txn{Then: []kv.Op{kv.Put("a/x", []byte("1"))}}); err != nil {
		t.Fatal(err)
	}
	if b, err := w.Next(short); err == nil && len(b.Events) > 0 {
		t.Errorf("a change came through a closed way: %v", b)
	}
	cut.Close(0)
	for {
		b, err := w.Next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if len(b.Events) > 0 {
			break
		}
	}
}

func TestAnIsolationEndsByItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := kvtest.NewMemory(clock.Real())
		cut := drill.NewCut(fakeClock{clock.Real(), time.Now()}, m, m)
		cut.Close(time.Hour)
		if cut.Left() != drill.MaxIsolation {
			t.Errorf("closed for %v, want no more than %v", cut.Left(), drill.MaxIsolation)
		}
		if _, _, err := cut.Get(t.Context(), "a/x"); err != nil {
			t.Errorf("the way is not open again: %v", err)
		}
	})
}

// fakeClock is synctest's.
type fakeClock struct {
	clock.Clock
	began time.Time
}

func (c fakeClock) Now() pool.Instant { return pool.Instant(time.Since(c.began)) }
