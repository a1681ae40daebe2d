package guard_test

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/holdfast-ha/holdfast/agent/guard"
	"github.com/holdfast-ha/holdfast/pkg/pool"
)

const ms = pool.Instant(time.Millisecond)

// leaseOf is a session's lease with T = 5 s, sent at the given millisecond.
func leaseOf(s pool.Session, sent pool.Instant) guard.Lease {
	return guard.Lease{Session: s, Sent: sent * ms, KillAt: (sent + 4000) * ms, Deadline: (sent + 5000) * ms,
		OnIsolation: pool.IsolationStop}
}

func pausing(l guard.Lease) guard.Lease {
	l.OnIsolation, l.Grace = pool.IsolationPause, 30*time.Second
	return l
}

func held(n int, s pool.Session) guard.Held {
	return guard.Held{VM: pool.VMID(fmt.Sprintf("vm-%d", n)), Process: guard.Process{PID: 1000 + n, StartTicks: uint64(n + 1)}, Session: s}
}

func withMonitor(h guard.Held) guard.Held {
	h.Monitor = "/run/" + string(h.VM)
	return h
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// acts returns what Tick demands at a millisecond, as words.
func acts(c *guard.Core, at pool.Instant) (words []string) {
	for _, a := range c.Tick(at * ms) {
		words = append(words, fmt.Sprintf("%v %s", a.Kind, a.Held.VM))
	}
	return words
}

func wantActs(t *testing.T, c *guard.Core, at pool.Instant, want ...string) {
	t.Helper()
	if got := acts(c, at); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("at %d ms: %v, want %v", at, got, want)
	}
}

func TestHeldVMIsKilledAtItsSessionsStopTime(t *testing.T) {
	c := guard.NewCore()
	must(t, c.Extend(leaseOf(7, 1000), 1000*ms))
	must(t, c.Hold(held(1, 7), 1001*ms))
	wantActs(t, c, 4999)
	if at, ok := c.Next(); !ok || at != 5000*ms {
		t.Errorf("Next is %v, %v", at, ok)
	}
	wantActs(t, c, 5000, "kill vm-1")
	wantActs(t, c, 5001, "kill vm-1") // until it is seen dead
	if killed, due := c.Dead(held(1, 7)); !killed || due != 5000*ms {
		t.Errorf("Dead says %v, %v", killed, due)
	}
	wantActs(t, c, 5002)
	if st := c.Status(); len(st.Killed) != 1 || len(st.Held) != 0 {
		t.Errorf("status %+v", st)
	}
}

func TestRenewalMovesTheStopTime(t *testing.T) {
	c := guard.NewCore()
	must(t, c.Extend(leaseOf(7, 1000), 1000*ms))
	must(t, c.Hold(held(1, 7), 1001*ms))
	must(t, c.Extend(leaseOf(7, 2000), 2100*ms))
	wantActs(t, c, 5999)
	wantActs(t, c, 6000, "kill vm-1")
}

func TestNewestSentCountsEvenWhereItsDeadlineIsEarlier(t *testing.T) {
	c := guard.NewCore()
	grace := leaseOf(7, 1000)
	grace.KillAt, grace.Deadline = 60_000*ms, 61_000*ms
	must(t, c.Extend(grace, 1000*ms))
	must(t, c.Hold(held(1, 7), 1001*ms))
	must(t, c.Extend(leaseOf(7, 3000), 3000*ms))
	if err := c.Extend(grace, 3001*ms); !errors.Is(err, guard.ErrOutdated) {
		t.Errorf("a delayed request was taken: %v", err)
	}
	wantActs(t, c, 7000, "kill vm-1")
}

func TestVMMovesToAnotherSessionOnlyByHold(t *testing.T) {
	c := guard.NewCore()
	must(t, c.Extend(leaseOf(7, 1000), 1000*ms))
	must(t, c.Hold(held(1, 7), 1001*ms))
	must(t, c.Hold(held(2, 7), 1001*ms))
	must(t, c.Extend(leaseOf(9, 4000), 4000*ms))
	must(t, c.Hold(held(2, 9), 4001*ms))
	wantActs(t, c, 5000, "kill vm-1")
	wantActs(t, c, 8000, "kill vm-1", "kill vm-2")
}

func TestHoldNeedsAStopTimeThatIsAhead(t *testing.T) {
	c := guard.NewCore()
	if err := c.Hold(held(1, 7), 1000*ms); !errors.Is(err, guard.ErrLate) {
		t.Errorf("unknown session: %v", err)
	}
	must(t, c.Extend(leaseOf(7, 1000), 1000*ms))
	if err := c.Hold(held(1, 7), 5000*ms); !errors.Is(err, guard.ErrLate) {
		t.Errorf("at the stop time: %v", err)
	}
	if err := c.Hold(guard.Held{VM: "x", Session: 7}, 1001*ms); !errors.Is(err, pool.ErrInvalid) {
		t.Errorf("no process: %v", err)
	}
}

func TestVMThatWasLetGoIsNotKilled(t *testing.T) {
	c := guard.NewCore()
	must(t, c.Extend(leaseOf(7, 1000), 1000*ms))
	must(t, c.Hold(held(1, 7), 1001*ms))
	c.LetGo("vm-1", 1002*ms)
	wantActs(t, c, 9000)
}

func TestKillThatHasBegunCannotBeCalledBack(t *testing.T) {
	c := guard.NewCore()
	must(t, c.Extend(leaseOf(7, 1000), 1000*ms))
	must(t, c.Hold(held(1, 7), 1001*ms))
	wantActs(t, c, 5000, "kill vm-1")
	must(t, c.Extend(leaseOf(7, 4900), 5001*ms))
	if err := c.Hold(held(1, 7), 5002*ms); !errors.Is(err, guard.ErrDoomed) {
		t.Errorf("Hold says %v", err)
	}
	c.LetGo("vm-1", 5003*ms)
	wantActs(t, c, 5004, "kill vm-1")
}

// A VM was started anew, and its old process turns out to be alive.
func TestEarlierProcessOfAVMStaysHeld(t *testing.T) {
	c := guard.NewCore()
	must(t, c.Extend(leaseOf(7, 1000), 1000*ms))
	must(t, c.Hold(held(1, 7), 1001*ms))
	again := held(1, 9)
	again.Process.PID = 4711
	must(t, c.Extend(leaseOf(9, 3000), 3000*ms))
	must(t, c.Hold(again, 3001*ms))
	wantActs(t, c, 5000, "kill vm-1")
	c.Dead(held(1, 7))
	wantActs(t, c, 5001)
}

func TestAbsurdLeasesAreRefused(t *testing.T) {
	for name, spoil := range map[string]func(l *guard.Lease){
		"no session":             func(l *guard.Lease) { l.Session = 0 },
		"never sent":             func(l *guard.Lease) { l.Sent = 0 },
		"sent in the future":     func(l *guard.Lease) { l.Sent = 1001 * ms },
		"stopped before sent":    func(l *guard.Lease) { l.KillAt = l.Sent - 1 },
		"no time to kill":        func(l *guard.Lease) { l.Deadline = l.KillAt },
		"deadline in a thousand": func(l *guard.Lease) { l.Deadline = pool.Instant(1) << 62 },
		"negative grace":         func(l *guard.Lease) { l.Grace = -1 },
	} {
		l := leaseOf(7, 1000)
		spoil(&l)
		if err := guard.NewCore().Extend(l, 1000*ms); !errors.Is(err, pool.ErrInvalid) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func TestIsolationPausesFirstAndKillsAfterTheGrace(t *testing.T) {
	c := guard.NewCore()
	must(t, c.Extend(pausing(leaseOf(7, 1000)), 1000*ms))
	must(t, c.Hold(withMonitor(held(1, 7)), 1001*ms))
	must(t, c.Hold(held(2, 7), 1001*ms)) // has no monitor
	asked := c.Tick(5000 * ms)
	if len(asked) != 2 || asked[0].Kind != guard.ActPause || asked[1].Kind != guard.ActKill {
		t.Fatalf("acts %+v", asked)
	}
	c.Dead(held(2, 7))
	wantActs(t, c, 5001) // a pause is asked for once
	c.Paused(asked[0].Held, asked[0].Ask, 5100*ms)
	if st := c.Status(); len(st.Paused) != 1 {
		t.Errorf("status %+v", st)
	}
	wantActs(t, c, 34_999)
	wantActs(t, c, 35_000, "kill vm-1")
}

func TestPauseThatIsNotConfirmedInTimeBecomesAKill(t *testing.T) {
	c := guard.NewCore()
	must(t, c.Extend(pausing(leaseOf(7, 1000)), 1000*ms))
	must(t, c.Hold(withMonitor(held(1, 7)), 1001*ms))
	asked := c.Tick(5000 * ms)[0]
	if asked.By <= asked.Due || asked.By >= 6000*ms {
		t.Errorf("the pause is to be confirmed by %v, the deadline is %v", asked.By, 6000*ms)
	}
	wantActs(t, c, 5666)
	wantActs(t, c, 5667, "kill vm-1")
	c.Paused(asked.Held, asked.Ask, 5668*ms)
	wantActs(t, c, 5700, "kill vm-1")
}

func TestPausedVMWhoseSessionIsRenewedIsHeldOnAndRemembered(t *testing.T) {
	c := guard.NewCore()
	h := withMonitor(held(1, 7))
	must(t, c.Extend(pausing(leaseOf(7, 1000)), 1000*ms))
	must(t, c.Hold(h, 1001*ms))
	asked := c.Tick(5000 * ms)[0]
	c.Paused(h, asked.Ask, 5100*ms)
	must(t, c.Extend(pausing(leaseOf(7, 10_000)), 10_001*ms))
	wantActs(t, c, 10_002)
	if st := c.Status(); len(st.Paused) != 1 {
		t.Errorf("forgot who was paused: %+v", st)
	}
	must(t, c.Hold(h, 10_003*ms))
	if st := c.Status(); len(st.Paused) != 0 {
		t.Errorf("still counted as paused after it was held anew: %+v", st)
	}
	// The next isolation asks again, and the answer to the first question is not taken for one to the second.
	if got := c.Tick(14_000 * ms); len(got) != 1 || got[0].Kind != guard.ActPause || got[0].Ask == asked.Ask {
		t.Fatalf("acts %+v", got)
	}
	c.Paused(h, asked.Ask, 14_001*ms)
	wantActs(t, c, 14_700, "kill vm-1")
}

func TestWatchdogIsPettedOnlyWhileEverythingHeldIsWithinItsTime(t *testing.T) {
	c := guard.NewCore()
	want := func(at pool.Instant, until pool.Instant, limited bool) {
		t.Helper()
		c.Tick(at * ms)
		if got, ok := c.PetUntil(); got != until*ms || ok != limited {
			t.Errorf("at %d ms: petting until %v, %v, want %v, %v", at, got, ok, until*ms, limited)
		}
	}
	want(500, 0, false)
	must(t, c.Extend(pausing(leaseOf(7, 1000)), 1000*ms))
	want(1000, 0, false) // a session without a VM sets no limit
	h := withMonitor(held(1, 7))
	must(t, c.Hold(h, 1001*ms))
	want(1002, 5000, true)
	asked := c.Tick(5000 * ms)[0]
	want(5000, 0, true) // not while it is being paused
	c.Paused(h, asked.Ask, 5100*ms)
	want(5101, 35_000, true)
	want(35_000, 0, true) // nor while it is being killed
	c.Dead(h)
	want(35_001, 0, false)
}

func TestRestoredGuardGoesByWhatWasSaved(t *testing.T) {
	c := guard.NewCore()
	must(t, c.Extend(pausing(leaseOf(7, 1000)), 1000*ms))
	must(t, c.Extend(leaseOf(8, 1000), 1000*ms))
	still := withMonitor(held(1, 7))
	must(t, c.Hold(still, 1001*ms))
	must(t, c.Hold(held(2, 8), 1001*ms))
	asked := c.Tick(5000 * ms)[0]
	c.Paused(still, asked.Ask, 5001*ms)
	saved := c.Saved()
	saved.Held = append(saved.Held, guard.SavedHold{Held: held(3, 99)}) // nobody knows its session

	d := guard.NewCore()
	d.Restore(saved, 6000*ms)
	wantActs(t, d, 6000, "kill vm-2", "kill vm-3")
	d.Dead(held(2, 8))
	d.Dead(held(3, 99))
	wantActs(t, d, 35_000, "kill vm-1")
}

func TestRestoredGuardKillsWhatAnAbsurdDeadlineWouldSpare(t *testing.T) {
	l := leaseOf(7, 1000)
	l.KillAt, l.Deadline = pool.Instant(1)<<61, pool.Instant(1)<<62
	c := guard.NewCore()
	c.Restore(guard.Saved{Leases: []guard.Lease{l}, Held: []guard.SavedHold{{Held: held(1, 7)}}}, 2000*ms)
	wantActs(t, c, 2000, "kill vm-1")
}

// oracle is a naive second opinion: it remembers everything and computes from the start.
type oracle struct {
	best map[pool.Session]guard.Lease
	// doomed, and the instant of the pause that was confirmed for the present isolation.
	doomed, confirmed map[pool.VMID]bool
}

// free reports whether h may run or stand at now without being killed.
func (o *oracle) free(h guard.Held, now pool.Instant) bool {
	l, ok := o.best[h.Session]
	switch {
	case !ok || o.doomed[h.VM]:
		return false
	case now < l.KillAt:
		o.confirmed[h.VM] = false
		return true
	case l.OnIsolation != pool.IsolationPause || h.Monitor == "":
		return false
	case o.confirmed[h.VM]:
		return now < l.KillAt.Add(l.Grace)
	}
	return now < l.KillAt+(l.Deadline-l.KillAt)*2/3
}

func TestCoreAgreesWithANaiveOracle(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := guard.NewCore()
		o := &oracle{best: map[pool.Session]guard.Lease{}, doomed: map[pool.VMID]bool{}, confirmed: map[pool.VMID]bool{}}
		holds := map[pool.VMID]guard.Held{}
		asks := map[pool.VMID]int{}
		now := 10_000 * ms
		t.Repeat(map[string]func(*rapid.T){
			"time": func(t *rapid.T) { now += pool.Instant(rapid.IntRange(0, 3000).Draw(t, "ms")) * ms },
			"extend": func(t *rapid.T) {
				s := pool.Session(rapid.IntRange(1, 3).Draw(t, "session"))
				l := leaseOf(s, now/ms-pool.Instant(rapid.IntRange(0, 3000).Draw(t, "ago")))
				if rapid.Bool().Draw(t, "pause") {
					l = pausing(l)
					l.Grace = 3 * time.Second
				}
				err := c.Extend(l, now)
				if outdated := l.Sent < o.best[s].Sent; outdated != (err != nil) {
					t.Fatalf("extend %+v after %+v: %v", l, o.best[s], err)
				}
				if err == nil {
					o.best[s] = l
				}
			},
			"hold": func(t *rapid.T) {
				h := held(rapid.IntRange(1, 4).Draw(t, "vm"), pool.Session(rapid.IntRange(1, 3).Draw(t, "session")))
				if h.Process.PID%2 == 0 {
					h = withMonitor(h)
				}
				old, has := holds[h.VM]
				doomed := has && !o.free(old, now)
				err := c.Hold(h, now)
				if ok := now < o.best[h.Session].KillAt && !doomed; ok != (err == nil) {
					t.Fatalf("hold %+v: %v", h, err)
				}
				if err == nil {
					holds[h.VM] = h
				} else if doomed {
					o.doomed[h.VM] = true
				}
			},
			"let go": func(t *rapid.T) {
				vm := held(rapid.IntRange(1, 4).Draw(t, "vm"), 0).VM
				if h, ok := holds[vm]; ok && o.free(h, now) {
					delete(holds, vm)
				} else if ok {
					o.doomed[vm] = true
				}
				c.LetGo(vm, now)
			},
			"dies": func(t *rapid.T) {
				vm := held(rapid.IntRange(1, 4).Draw(t, "vm"), 0).VM
				if h, ok := holds[vm]; ok {
					c.Dead(h)
					delete(holds, vm)
					delete(o.doomed, vm)
				}
			},
			"confirms": func(t *rapid.T) {
				vm := held(rapid.IntRange(1, 4).Draw(t, "vm"), 0).VM
				h, ok := holds[vm]
				if !ok || asks[vm] == 0 {
					return
				}
				inTime := o.free(h, now) && now >= o.best[h.Session].KillAt
				c.Paused(h, asks[vm], now)
				if inTime {
					o.confirmed[vm] = true
				}
				asks[vm] = 0
			},
			"restarts": func(t *rapid.T) {
				d := guard.NewCore()
				d.Restore(c.Saved(), now)
				c = d
				clear(asks)
			},
			"": func(t *rapid.T) {
				killing := map[pool.VMID]bool{}
				for _, a := range c.Tick(now) {
					if a.Kind == guard.ActKill {
						killing[a.Held.VM] = true
					} else {
						asks[a.Held.VM] = a.Ask
					}
				}
				for vm, h := range holds {
					free := o.free(h, now)
					if free == killing[vm] {
						t.Fatalf("%s at %v under %+v: free %v, killed %v", vm, now, o.best[h.Session], free, killing[vm])
					}
					if !free {
						o.doomed[vm] = true
					}
				}
				if until, limited := c.PetUntil(); limited != (len(holds) > 0) || limited && until > now && len(killing) > 0 {
					t.Fatalf("petting until %v, %v, holding %d, killing %d", until, limited, len(holds), len(killing))
				}
				if at, ok := c.Next(); ok != (len(holds) > 0) || ok && at <= now && len(killing) == 0 {
					t.Fatalf("next %v, %v at %v", at, ok, now)
				}
			},
		})
	})
}

func TestRestartedGuardRemembersWhatItKilled(t *testing.T) {
	c := guard.NewCore()
	c.Restore(guard.Saved{Held: []guard.SavedHold{{Held: held(1, 7), Doomed: true}}, Killed: []pool.VMID{"vm-9"}}, 1000*ms)
	c.Dead(held(1, 7))
	d := guard.NewCore()
	d.Restore(c.Saved(), 2000*ms)
	if got := d.Status().Killed; !slices.Equal(got, []pool.VMID{"vm-9", "vm-1"}) {
		t.Errorf("killed %v", got)
	}
}
