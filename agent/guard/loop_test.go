package guard_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-ha/holdfast/agent/guard"
	"github.com/holdfast-ha/holdfast/pkg/clock"
	"github.com/holdfast-ha/holdfast/pkg/pool"
)

// bubbleClock is the real clock in a synctest bubble's time.
type bubbleClock struct{ clock.Clock }

func (bubbleClock) Now() pool.Instant { return pool.Instant(time.Now().UnixNano()) }

// machine is what outlives a guard: processes, device, memory.
type machine struct {
	t     *testing.T
	clock bubbleClock
	procs *procsFake
	dog   *dogFake
	mem   *memFake
	pause func(ctx context.Context, h guard.Held) error
}

func inBubble(t *testing.T, f func(t *testing.T, m *machine)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		c := bubbleClock{clock.Real()}
		f(t, &machine{t: t, clock: c, procs: &procsFake{clock: c, dead: map[guard.Process]bool{}, killed: map[guard.Process]pool.Instant{}},
			dog: &dogFake{clock: c, watch: guard.Watch{Timeout: 10 * time.Second, Hardware: true}}, mem: &memFake{}})
	})
}

// start runs one life of the guard; the returned function kills it.
func (m *machine) start() (*guard.Loop, func()) {
	l := guard.NewLoop(guard.LoopConfig{Core: guard.NewCore(), Processes: m.procs, Watchdog: m.dog, Memory: m.mem,
		Pauser: pauserFake(m.pause), Clock: m.clock, Log: slog.New(slog.NewTextHandler(io.Discard, nil))})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = l.Run(ctx)
	}()
	stop := func() {
		cancel()
		<-done
	}
	m.t.Cleanup(stop)
	synctest.Wait()
	return l, stop
}

func (m *machine) sleep(d time.Duration) {
	m.t.Helper()
	if err := m.clock.Sleep(context.Background(), d); err != nil {
		m.t.Fatal(err)
	}
	synctest.Wait()
}

// lease is one of T = 5 s, sent now.
func (m *machine) lease(s pool.Session) guard.Lease {
	now := m.clock.Now()
	return guard.Lease{Session: s, Sent: now, KillAt: now.Add(4 * time.Second), Deadline: now.Add(5 * time.Second)}
}

type procsFake struct {
	clock bubbleClock
	mu    sync.Mutex
	dead  map[guard.Process]bool
	// immortal processes ignore the signal.
	immortal bool
	killed   map[guard.Process]pool.Instant
	openErr  error
}

func (p *procsFake) Open(q guard.Process) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.dead[q] {
		return guard.ErrNoProcess
	}
	return p.openErr
}

func (p *procsFake) Kill(q guard.Process) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, ok := p.killed[q]; !ok {
		p.killed[q] = p.clock.Now()
	}
	p.dead[q] = p.dead[q] || !p.immortal
	return nil
}

func (p *procsFake) Dead(q guard.Process) (bool, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.dead[q], nil
}

func (p *procsFake) Close(guard.Process) {}

func (p *procsFake) die(q guard.Process) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.dead[q] = true
}

func (p *procsFake) killedAt(h guard.Held) (pool.Instant, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	at, ok := p.killed[h.Process]
	return at, ok
}

// dogFake is a watchdog that remembers when it would have fired.
type dogFake struct {
	clock bubbleClock
	watch guard.Watch

	mu       sync.Mutex
	armed    bool
	petted   pool.Instant
	fired    bool
	armErr   error
	noWayOut bool
	slow     time.Duration
	pets     int
}

func (d *dogFake) touch() {
	if d.armed && d.clock.Now() > d.petted.Add(d.watch.Timeout) {
		d.fired = true
	}
}

func (d *dogFake) Arm() (guard.Watch, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.touch()
	if d.armErr != nil {
		return guard.Watch{}, d.armErr
	}
	d.armed, d.petted = true, d.clock.Now()
	return d.watch, nil
}

func (d *dogFake) Pet() error {
	d.mu.Lock()
	slow := d.slow
	d.mu.Unlock()
	if slow > 0 {
		_ = d.clock.Sleep(context.Background(), slow)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.touch()
	d.petted = d.clock.Now()
	d.pets++
	return nil
}

func (d *dogFake) Disarm() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.touch()
	if d.noWayOut {
		return guard.ErrNoWayOut
	}
	d.armed = false
	return nil
}

// state returns whether it is armed, whether it has fired by now, and when it was petted last.
func (d *dogFake) state() (armed, fired bool, petted pool.Instant) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.touch()
	return d.armed, d.fired, d.petted
}

type memFake struct {
	mu    sync.Mutex
	saved guard.Saved
	ok    bool
	fail  error
}

func (f *memFake) Load() (guard.Saved, bool, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.saved, f.ok, f.fail
}

func (f *memFake) Save(s guard.Saved) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.fail == nil {
		f.saved, f.ok = s, true
	}
	return f.fail
}

func (f *memFake) setFail(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fail = err
}

type pauserFake func(ctx context.Context, h guard.Held) error

func (p pauserFake) Pause(ctx context.Context, h guard.Held) error {
	if p == nil {
		return errors.New("cannot pause")
	}
	return p(ctx, h)
}

func TestLoopKillsAtTheStopTimeWithoutAnyAgent(t *testing.T) {
	inBubble(t, func(t *testing.T, m *machine) {
		l, _ := m.start()
		lease := m.lease(7)
		must(t, l.Extend(t.Context(), lease))
		must(t, l.Hold(t.Context(), held(1, 7)))
		m.sleep(3999 * time.Millisecond)
		if _, killed := m.procs.killedAt(held(1, 7)); killed {
			t.Fatal("killed before the stop time")
		}
		m.sleep(time.Second)
		if at, killed := m.procs.killedAt(held(1, 7)); !killed || at != lease.KillAt {
			t.Errorf("killed: %v at %v, want %v", killed, at, lease.KillAt)
		}
		st, err := l.Status(t.Context())
		if err != nil || len(st.Held) != 0 || len(st.Killed) != 1 || !st.Armed {
			t.Errorf("status %+v, %v", st, err)
		}
	})
}

func TestAcknowledgedHoldIsKnownToTheGuardsNextLife(t *testing.T) {
	inBubble(t, func(t *testing.T, m *machine) {
		l, kill := m.start()
		lease := m.lease(7)
		must(t, l.Extend(t.Context(), lease))
		must(t, l.Hold(t.Context(), held(1, 7)))
		kill()
		m.sleep(2 * time.Second)
		m.start()
		m.sleep(5 * time.Second)
		if at, killed := m.procs.killedAt(held(1, 7)); !killed || at != lease.KillAt {
			t.Errorf("killed: %v at %v, want %v", killed, at, lease.KillAt)
		}
	})
}

func TestNothingIsAcknowledgedThatIsNotKept(t *testing.T) {
	inBubble(t, func(t *testing.T, m *machine) {
		l, _ := m.start()
		lease := m.lease(7)
		must(t, l.Extend(t.Context(), lease))
		m.mem.setFail(errors.New("no space left on device"))
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := l.Hold(ctx, held(1, 7)); !errors.Is(err, pool.ErrOutcomeUnknown) {
			t.Errorf("Hold says %v", err)
		}
		m.sleep(5 * time.Second)
		if _, killed := m.procs.killedAt(held(1, 7)); !killed {
			t.Error("what was held without an answer was not killed")
		}
		m.mem.setFail(nil)
		m.sleep(time.Second)
		must(t, l.Extend(t.Context(), m.lease(7)))
	})
}

func TestDamagedMemoryKillsWhatItStillNames(t *testing.T) {
	inBubble(t, func(t *testing.T, m *machine) {
		m.mem.saved.Held = []guard.SavedHold{{Held: held(1, 0)}}
		m.mem.fail = errors.New("damaged")
		m.start()
		if _, killed := m.procs.killedAt(held(1, 0)); !killed {
			t.Error("a process whose deadline is lost lives on")
		}
	})
}

func TestRequestThatItsCallerGaveUpIsNotCarriedOut(t *testing.T) {
	inBubble(t, func(t *testing.T, m *machine) {
		l := guard.NewLoop(guard.LoopConfig{Core: guard.NewCore(), Processes: m.procs, Clock: m.clock, Log: slog.New(slog.DiscardHandler)})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := l.Extend(ctx, m.lease(7)); !errors.Is(err, pool.ErrOutcomeUnknown) {
			t.Errorf("a guard that does not run answers %v", err)
		}
		l.Step(t.Context())
		go func() {
			m.sleep(time.Millisecond)
			l.Step(t.Context())
		}()
		if err := l.Hold(t.Context(), held(1, 7)); !errors.Is(err, guard.ErrLate) {
			t.Errorf("the session is known although its caller had gone: %v", err)
		}
	})
}

func TestWatchdogIsArmedOnlyWhileAVMIsHeld(t *testing.T) {
	inBubble(t, func(t *testing.T, m *machine) {
		l, _ := m.start()
		if armed, _, _ := m.dog.state(); armed {
			t.Error("armed on a server without protected VMs")
		}
		if st, _ := l.Status(t.Context()); st.Watchdog != 10*time.Second {
			t.Errorf("status says %v", st.Watchdog)
		}
		must(t, l.Extend(t.Context(), m.lease(7)))
		must(t, l.Hold(t.Context(), held(1, 7)))
		if armed, _, _ := m.dog.state(); !armed {
			t.Error("Hold was acknowledged before the watchdog was armed")
		}
		for range 20 {
			m.sleep(time.Second)
			must(t, l.Extend(t.Context(), m.lease(7)))
		}
		if _, fired, _ := m.dog.state(); fired {
			t.Error("it fired on a healthy server")
		}
		must(t, l.LetGo(t.Context(), "vm-1"))
		m.sleep(time.Second)
		if armed, fired, _ := m.dog.state(); armed || fired {
			t.Errorf("armed %v, fired %v after the last VM was let go", armed, fired)
		}
	})
}

func TestWatchdogIsNotPettedWhileAKilledProcessLives(t *testing.T) {
	inBubble(t, func(t *testing.T, m *machine) {
		m.procs.immortal = true
		l, _ := m.start()
		lease := m.lease(7)
		must(t, l.Extend(t.Context(), lease))
		must(t, l.Hold(t.Context(), held(1, 7)))
		m.sleep(30 * time.Second)
		_, fired, petted := m.dog.state()
		if !fired || petted >= lease.KillAt {
			t.Errorf("fired %v, last petted %v before the stop time", fired, lease.KillAt.Sub(petted))
		}
	})
}

func TestWatchdogIsPettedAgainOnceTheKilledAreDead(t *testing.T) {
	inBubble(t, func(t *testing.T, m *machine) {
		m.dog.noWayOut = true
		m.procs.immortal = true
		l, _ := m.start()
		must(t, l.Extend(t.Context(), m.lease(7)))
		must(t, l.Hold(t.Context(), held(1, 7)))
		m.sleep(8 * time.Second)
		m.procs.die(held(1, 7).Process)
		m.sleep(time.Minute)
		if armed, fired, _ := m.dog.state(); !armed || fired {
			t.Errorf("armed %v, fired %v; it cannot be stopped, so it must be petted for ever", armed, fired)
		}
	})
}

func TestWatchdogFiresWhenTheGuardDiesWithVMs(t *testing.T) {
	inBubble(t, func(t *testing.T, m *machine) {
		l, kill := m.start()
		must(t, l.Extend(t.Context(), m.lease(7)))
		must(t, l.Hold(t.Context(), held(1, 7)))
		kill()
		m.sleep(11 * time.Second)
		if _, fired, _ := m.dog.state(); !fired {
			t.Error("nothing stops a server whose guard is gone")
		}
	})
}

func TestWatchdogThatBlocksDelaysNoKill(t *testing.T) {
	inBubble(t, func(t *testing.T, m *machine) {
		l, _ := m.start()
		lease := m.lease(7)
		must(t, l.Extend(t.Context(), lease))
		must(t, l.Hold(t.Context(), held(1, 7)))
		m.dog.mu.Lock()
		m.dog.slow = time.Minute
		m.dog.mu.Unlock()
		m.sleep(5 * time.Second)
		if at, killed := m.procs.killedAt(held(1, 7)); !killed || at != lease.KillAt {
			t.Errorf("killed: %v at %v, want %v", killed, at, lease.KillAt)
		}
		m.sleep(2 * time.Minute)
	})
}

func TestHoldFailsUntilStatusHasSaidThatTheWatchdogIsGone(t *testing.T) {
	inBubble(t, func(t *testing.T, m *machine) {
		l, _ := m.start()
		must(t, l.Extend(t.Context(), m.lease(7)))
		m.dog.mu.Lock()
		m.dog.armErr = errors.New("device is gone")
		m.dog.mu.Unlock()
		for n := range 2 {
			if err := l.Hold(t.Context(), held(n+1, 7)); err == nil {
				t.Error("a Hold was acknowledged that counts on a watchdog which cannot be armed")
			}
		}
		if st, _ := l.Status(t.Context()); st.Watchdog != 0 {
			t.Errorf("status says %v", st.Watchdog)
		}
		must(t, l.Hold(t.Context(), held(1, 7)))
	})
}

func TestSoftwareWatchdogIsNoProof(t *testing.T) {
	inBubble(t, func(t *testing.T, m *machine) {
		m.dog.watch.Hardware = false
		l, _ := m.start()
		if st, _ := l.Status(t.Context()); st.Watchdog != 0 {
			t.Errorf("status says %v", st.Watchdog)
		}
	})
}

func TestIsolatedVMIsPausedAndLivesUntilTheGrace(t *testing.T) {
	inBubble(t, func(t *testing.T, m *machine) {
		m.pause = func(ctx context.Context, _ guard.Held) error { return m.clock.Sleep(ctx, 100*time.Millisecond) }
		l, _ := m.start()
		lease := m.lease(7)
		lease.OnIsolation, lease.Grace = pool.IsolationPause, 30*time.Second
		must(t, l.Extend(t.Context(), lease))
		must(t, l.Hold(t.Context(), withMonitor(held(1, 7))))
		m.sleep(33 * time.Second)
		if st, _ := l.Status(t.Context()); len(st.Paused) != 1 || len(st.Held) != 1 {
			t.Errorf("status %+v", st)
		}
		m.sleep(2 * time.Second)
		if at, killed := m.procs.killedAt(held(1, 7)); !killed || at != lease.KillAt.Add(lease.Grace) {
			t.Errorf("killed: %v at %v", killed, at)
		}
		if _, fired, _ := m.dog.state(); fired {
			t.Error("the watchdog fired although the VM stood still")
		}
	})
}

func TestVMThatCannotBePausedIsDeadByTheDeadline(t *testing.T) {
	for name, pause := range map[string]func(ctx context.Context, _ guard.Held) error{
		"fails": nil,
		"hangs": func(ctx context.Context, _ guard.Held) error { <-ctx.Done(); return ctx.Err() },
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, m *machine) {
				m.pause = pause
				l, _ := m.start()
				lease := m.lease(7)
				lease.OnIsolation, lease.Grace = pool.IsolationPause, 30*time.Second
				must(t, l.Extend(t.Context(), lease))
				must(t, l.Hold(t.Context(), withMonitor(held(1, 7))))
				m.sleep(5 * time.Second)
				if at, killed := m.procs.killedAt(held(1, 7)); !killed || at >= lease.Deadline {
					t.Errorf("killed: %v at %v, deadline %v", killed, at, lease.Deadline)
				}
			})
		})
	}
}

func TestProcessThatEndsByItselfIsForgotten(t *testing.T) {
	inBubble(t, func(t *testing.T, m *machine) {
		l, _ := m.start()
		must(t, l.Extend(t.Context(), m.lease(7)))
		must(t, l.Hold(t.Context(), held(1, 7)))
		m.procs.die(held(1, 7).Process)
		m.sleep(time.Second)
		st, _ := l.Status(t.Context())
		if armed, _, _ := m.dog.state(); len(st.Held) != 0 || len(st.Killed) != 0 || armed {
			t.Errorf("status %+v, watchdog armed %v", st, armed)
		}
		if err := l.Hold(t.Context(), held(1, 7)); !errors.Is(err, guard.ErrNoProcess) {
			t.Errorf("Hold of a dead process says %v", err)
		}
	})
}
