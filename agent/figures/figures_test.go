package figures

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-ha/holdfast/agent/local"
	"github.com/holdfast-ha/holdfast/pkg/clock"
	"github.com/holdfast-ha/holdfast/pkg/pool"
	pb "github.com/holdfast-ha/holdfast/proto/holdfast/v1"
)

// bubbleClock reads the bubble's time.
type bubbleClock struct{ clock.Clock }

func (bubbleClock) Now() pool.Instant { return pool.Instant(time.Now().UnixNano()) }

// pass lets the bubble's time go by.
func pass(t *testing.T, d time.Duration) {
	t.Helper()
	if err := clock.Real().Sleep(t.Context(), d); err != nil {
		t.Fatal(err)
	}
}

// machine is a server with two VMs: web keeps half a CPU busy, db two; db moves away.
type machine struct {
	mu    sync.Mutex
	asked int
	fails error
	began time.Time
}

func (m *machine) took() time.Duration { return time.Since(m.began) }

func (m *machine) Host(context.Context) (Host, error) {
	return Host{Busy: 3 * m.took(), CPUs: 8, MemoryUsedBytes: 5 << 30, MemoryBytes: 64 << 30}, nil
}

func (m *machine) Usage(context.Context) ([]local.Usage, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.asked++
	return []local.Usage{{VM: "web", CPUTime: m.took() / 2, MemoryBytes: 1 << 30}, {VM: "db", CPUTime: 2 * m.took(), MemoryBytes: 4 << 30}}, m.fails
}

func (m *machine) Job(_ context.Context, vm pool.VMID) (local.Job, error) {
	return local.Job{Running: true, BytesPerSecond: 300 << 20}, nil
}

func (m *machine) times() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.asked
}

func snapshot(members ...pool.ServerID) func() *pool.Snapshot {
	s := &pool.Snapshot{}
	for _, id := range members {
		s.Members = s.Members.With(id, pool.Member{Server: id})
	}
	s.Claims = s.Claims.With("db", pool.Claim{VM: "db", Server: "s1", Phase: pool.PhaseMigrating}).
		With("web", pool.Claim{VM: "web", Server: "s1", Phase: pool.PhaseHeld})
	return func() *pool.Snapshot { return s }
}

func newMeter(m *machine) *Meter {
	m.began = time.Now()
	return NewMeter(MeterConfig{Server: "s1", Clock: bubbleClock{clock.Real()}, Source: m, Snapshot: snapshot("s1")})
}

func TestAMeterMeasuresOnceForAllWhoListenAndNotAtAllForNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := &machine{}
		m := newMeter(src)
		pass(t, time.Minute)
		if n := src.times(); n != 0 {
			t.Fatalf("measured %d times for nobody", n)
		}
		ctx, cancel := context.WithCancel(t.Context())
		var heard [2][]*pb.ServerFigures
		var all sync.WaitGroup
		for i := range heard {
			all.Go(func() {
				_ = m.Stream(ctx, func(f *pb.ServerFigures) error { heard[i] = append(heard[i], f); return nil })
			})
		}
		pass(t, firstGap+5*Period+Period/2)
		cancel()
		all.Wait()
		synctest.Wait()
		const want = 7 // at once, after firstGap, and five more
		if n := src.times(); n != want || len(heard[0]) != want || len(heard[1]) != want {
			t.Errorf("measured %d times, heard %d and %d times, want %d each", n, len(heard[0]), len(heard[1]), want)
		}
		pass(t, time.Minute)
		synctest.Wait()
		if n := src.times(); n != want {
			t.Errorf("measured %d times after the last listener left", n-want)
		}
	})
}

func TestFiguresAreSharesOfCPUsMemoryAndWhatMovesAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := &machine{}
		m := newMeter(src)
		done := errors.New("enough")
		n := 0
		err := m.Stream(t.Context(), func(f *pb.ServerFigures) error {
			n++
			if n == 1 {
				if f.GetOver() != nil || f.GetCpusBusy() != 0 || f.GetMemoryUsedBytes() != 5<<30 {
					t.Errorf("the first measurement is %v, want memory without CPU", f)
				}
				return nil
			}
			db, web := f.GetVms()[0], f.GetVms()[1]
			if f.GetCpusBusy() != 3 || f.GetCpus() != 8 || f.GetMigrationBytesPerSecond() != 300<<20 || f.GetOver().AsDuration() != firstGap {
				t.Errorf("the server's figures are %v", f)
			}
			if db.GetVm() != "db" || db.GetCpusBusy() != 2 || db.GetMigrationBytesPerSecond() != 300<<20 || db.GetMemoryBytes() != 4<<30 {
				t.Errorf("db's figures are %v", db)
			}
			if web.GetVm() != "web" || web.GetCpusBusy() != 0.5 || web.GetMigrationBytesPerSecond() != 0 {
				t.Errorf("web's figures are %v", web)
			}
			return done
		})
		if !errors.Is(err, done) {
			t.Errorf("the stream ended with %v", err)
		}
	})
}

func TestAServerWhoseVMsCannotBeReadSaysSoAndMeasuresItself(t *testing.T) {
	f := compare("s1", sample{at: 1, hostKnown: true}, sample{at: 1 + pool.Instant(time.Second), hostKnown: true, host: Host{Busy: time.Second, CPUs: 4}, trouble: "libvirt is away"})
	if f.GetCpusBusy() != 1 || f.GetWithoutVms() != "libvirt is away" || len(f.GetVms()) != 0 {
		t.Errorf("figures are %v", f)
	}
}

// others is the mesh: what each server says, and how often it was called.
type others struct {
	mu    sync.Mutex
	calls map[pool.ServerID][]time.Time
	away  map[pool.ServerID]bool
	open  int
}

func (o *others) Figures(ctx context.Context, s pool.ServerID, take func(*pb.ServerFigures)) error {
	o.mu.Lock()
	o.calls[s] = append(o.calls[s], time.Now())
	away := o.away[s]
	o.mu.Unlock()
	if away {
		return errors.New("connection refused")
	}
	o.mu.Lock()
	o.open++
	o.mu.Unlock()
	defer func() { o.mu.Lock(); o.open--; o.mu.Unlock() }()
	for ctx.Err() == nil {
		take(&pb.ServerFigures{Server: string(s)})
		_ = clock.Real().Sleep(ctx, Period)
	}
	return ctx.Err()
}

// called is how often a server was called, and how many streams are open.
func (o *others) called(s pool.ServerID) (calls, open int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.calls[s]), o.open
}

func TestABoardSharesOneStreamOfEachMemberBetweenItsWatchersAndEndsWithTheLast(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := &machine{}
		o := &others{calls: map[pool.ServerID][]time.Time{}, away: map[pool.ServerID]bool{"s3": true}}
		b := NewBoard(BoardConfig{Server: "s1", Clock: bubbleClock{clock.Real()}, Meter: newMeter(src), Peers: o, Snapshot: snapshot("s1", "s2", "s3")})
		pass(t, time.Hour)
		if n, _ := o.called("s2"); n != 0 || src.times() != 0 {
			t.Fatalf("without a watcher s2 was called %d times", n)
		}
		leave, leave2 := b.Watch(), b.Watch()
		pass(t, 5*time.Minute)
		synctest.Wait()
		heard := b.Read()
		if len(heard) != 3 || heard[0].Figures == nil || heard[1].Figures == nil || heard[2].Figures != nil || heard[2].Err == nil {
			t.Fatalf("heard %v", heard)
		}
		if n, _ := o.called("s2"); n != 1 {
			t.Errorf("s2 was called %d times for two watchers, want once", n)
		}
		if n, _ := o.called("s3"); n < 10 || n > 16 {
			t.Errorf("s3, which is away, was called %d times in five minutes, want pauses that grow to %s", n, lastPause)
		}
		leave()
		pass(t, time.Minute)
		synctest.Wait()
		if _, open := o.called("s2"); open != 1 {
			t.Error("the stream ended although somebody watches")
		}
		leave2()
		pass(t, lastPause+time.Minute)
		synctest.Wait()
		calls, _ := o.called("s3")
		measured := src.times()
		pass(t, time.Hour)
		synctest.Wait()
		if n, open := o.called("s3"); open != 0 || n != calls || src.times() != measured {
			t.Error("it goes on without a watcher")
		}
		if heard := b.Read(); heard[1].Figures != nil {
			t.Error("old figures are kept for the next watcher")
		}
	})
}
