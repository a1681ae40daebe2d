package kvtest

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-ha/holdfast/pkg/clock"
	"github.com/holdfast-ha/holdfast/pkg/pool"
)

// bubbleClock takes its instants from package time, which testing/synctest replaces.
type bubbleClock struct{ clock.Clock }

func (bubbleClock) Now() pool.Instant { return pool.Instant(time.Now().UnixNano()) }

func TestMemoryDoesWhatAStoreMust(t *testing.T) {
	Run(t, func(t *testing.T) Edge {
		c := bubbleClock{clock.Real()}
		m := NewMemory(c)
		return Edge{Store: m, Leases: m, Clock: c,
			Do: func(f func()) { synctest.Test(t, func(*testing.T) { f() }) },
			Compact: func(t testing.TB, rev pool.Revision) {
				if err := m.Compact(rev); err != nil {
					t.Fatal(err)
				}
			},
		}
	})
}
