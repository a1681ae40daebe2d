package stopwatch

import (
	"testing"
	"testing/synctest"
	"time"
)

func TestOneQuickRoundOfThreeIsEnoughAndNoMoreFollows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		durations := []time.Duration{5 * time.Second, time.Second, 9 * time.Second}
		n := 0
		Within(t, 2*time.Second, "a wait", func() time.Duration {
			d := Of(func() { <-time.After(durations[n]) })
			n++
			return d
		})
		if n != 2 {
			t.Errorf("%d rounds, want 2", n)
		}
	})
}

func TestThreeSlowRoundsFail(t *testing.T) {
	inner := &testing.T{}
	Within(inner, time.Second, "a wait", func() time.Duration { return 2 * time.Second })
	if !inner.Failed() {
		t.Error("three rounds of twice the limit pass")
	}
}
