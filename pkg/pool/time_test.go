package pool

import (
	"errors"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestTimingFollowsFromTheLeaseTTL(t *testing.T) {
	for _, tt := range []Timing{
		{TTL: 3 * time.Second, Renew: 600 * time.Millisecond, RenewTimeout: 500 * time.Millisecond, Stop: 2400 * time.Millisecond, Settle: 500 * time.Millisecond},
		{TTL: 5 * time.Second, Renew: time.Second, RenewTimeout: 5 * time.Second / 6, Stop: 4 * time.Second, Settle: 625 * time.Millisecond},
		{TTL: 60 * time.Second, Renew: 12 * time.Second, RenewTimeout: time.Second, Stop: 48 * time.Second, Settle: 7500 * time.Millisecond},
	} {
		if got, err := NewTiming(tt.TTL); err != nil || got != tt {
			t.Errorf("TTL %v: got %+v, %v, want %+v", tt.TTL, got, err, tt)
		}
	}
}

func TestTimingKeepsTheRelationsThatSafetyRestsOn(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		ttl := time.Duration(rapid.Int64Range(3, 60).Draw(t, "seconds")) * time.Second
		m, err := NewTiming(ttl)
		if err != nil {
			t.Fatal(err)
		}
		// Killing 20 VMs takes 0.11 s; they must be seen dead before the earliest expiry.
		if m.TTL-m.Stop < 500*time.Millisecond {
			t.Errorf("only %v between stop and expiry", m.TTL-m.Stop)
		}
		if m.Settle < 500*time.Millisecond {
			t.Errorf("settle %v", m.Settle)
		}
		// After a renewal that timed out the next one comes in time.
		if 2*(m.Renew+m.RenewTimeout) >= m.Stop {
			t.Errorf("%+v leaves no room for a failed renewal", m)
		}
		// A watchdog petted last just before the stop time fires before anybody acts.
		w := time.Duration(rapid.Int64Range(1, 300).Draw(t, "watchdog")) * time.Second
		if settle := m.WatchdogSettle(w); m.Stop+w+2*time.Second > m.TTL+settle || settle < m.Settle {
			t.Errorf("watchdog %v: settle %v is too short for %+v", w, settle, m)
		}
	})
}

func TestLeaseTTLsThatCannotWorkAreRefused(t *testing.T) {
	for _, ttl := range []time.Duration{0, -5 * time.Second, 2 * time.Second, 61 * time.Second, 3500 * time.Millisecond} {
		_, err := NewTiming(ttl)
		if !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), ttl.String()) {
			t.Errorf("TTL %v: got %v, want %v naming it", ttl, err, ErrInvalid)
		}
	}
}

func TestAnElectionMustNotBringHealthyServersToTheirStopTime(t *testing.T) {
	m, err := NewTiming(DefaultTTL)
	if err != nil {
		t.Fatal(err)
	}
	if err := m.CheckElection(500 * time.Millisecond); err != nil {
		t.Errorf("the embedded etcd's election time-out is refused: %v", err)
	}
	if err := m.CheckElection(5 * time.Second); !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), "5s") {
		t.Errorf("5s: got %v", err)
	}
	if shortest, err := NewTiming(MinTTL); err != nil || shortest.CheckElection(500*time.Millisecond) != nil {
		t.Errorf("the embedded etcd's election time-out is refused at the shortest TTL: %v", err)
	}
}

func TestInstantsAddAndCompare(t *testing.T) {
	i := Instant(5 * time.Second)
	if got := i.Add(time.Second).Sub(i); got != time.Second || !i.Before(i.Add(1)) || i.Before(i) {
		t.Errorf("got %v", got)
	}
	if got := i.Add(1500 * time.Millisecond).String(); got != "boot+6.500s" {
		t.Errorf("got %s", got)
	}
}
