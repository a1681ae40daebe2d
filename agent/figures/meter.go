package figures

import (
	"context"
	"sync"
	"time"

	"github.com/holdfast-ha/holdfast/agent/local"
	"github.com/holdfast-ha/holdfast/pkg/clock"
	"github.com/holdfast-ha/holdfast/pkg/pool"
	pb "github.com/holdfast-ha/holdfast/proto/holdfast/v1"
)

// Pace of measuring.
const (
	// Period lies between two measurements of one server.
	Period = 2 * time.Second
	// firstGap lies between the first two, as a share of CPUs needs two.
	firstGap = 500 * time.Millisecond
	// takeLimit bounds one measurement; what has not answered by then is left out.
	takeLimit = 1500 * time.Millisecond
)

// Host is a whole server's load.
type Host struct {
	// Busy is the time that its CPUs, all together, have been busy since an instant that stays the same.
	Busy time.Duration
	CPUs int
	// MemoryUsedBytes leaves file cache out.
	MemoryUsedBytes, MemoryBytes int64
}

// Source reads the load of this server. Its methods may block and fail. Safe for concurrent use.
type Source interface {
	// Host reads the load of the whole server.
	Host(ctx context.Context) (Host, error)
	// Usage reads the load of its VMs.
	Usage(ctx context.Context) ([]local.Usage, error)
	// Job says how far the live migration of a VM away from here is.
	Job(ctx context.Context, vm pool.VMID) (local.Job, error)
}

// MeterConfig assembles a Meter. All fields are required.
type MeterConfig struct {
	Server pool.ServerID
	Clock  clock.Clock
	Source Source
	// Snapshot tells which VMs move away.
	Snapshot func() *pool.Snapshot
}

// Meter measures this server for those who listen. Create it with NewMeter; safe for concurrent use.
type Meter struct {
	cfg MeterConfig
	// left is set when the last listener leaves.
	left clock.Signal

	mu        sync.Mutex
	listeners map[int]clock.Signal
	next      int
	running   bool
	latest    *pb.ServerFigures
}

// NewMeter returns a Meter that does nothing until somebody listens.
func NewMeter(cfg MeterConfig) *Meter {
	return &Meter{cfg: cfg, left: cfg.Clock.NewSignal(), listeners: map[int]clock.Signal{}}
}

// Stream gives each measurement to take, which must not change it, until ctx ends or take fails.
func (m *Meter) Stream(ctx context.Context, take func(*pb.ServerFigures) error) error {
	sig := m.cfg.Clock.NewSignal()
	defer m.listen(sig)()
	var last *pb.ServerFigures
	for ctx.Err() == nil {
		m.mu.Lock()
		f := m.latest
		m.mu.Unlock()
		if f != nil && f != last {
			last = f
			if err := take(f); err != nil {
				return err
			}
			continue
		}
		sig.Wait(ctx, -1)
	}
	return ctx.Err()
}

// listen has the meter measure, and set sig at each measurement, until the returned function is called.
func (m *Meter) listen(sig clock.Signal) (leave func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	id := m.next
	m.next++
	m.listeners[id] = sig
	if !m.running {
		m.running = true
		m.cfg.Clock.Go("figures", m.run)
	}
	return func() {
		m.mu.Lock()
		delete(m.listeners, id)
		last := len(m.listeners) == 0
		m.mu.Unlock()
		if last {
			m.left.Set()
		}
	}
}

// wanted reports whether anybody listens; if not, the loop is over.
func (m *Meter) wanted() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.listeners) == 0 {
		m.running, m.latest = false, nil
	}
	return m.running
}

func (m *Meter) run() {
	var before sample
	var due pool.Instant
	for m.wanted() {
		if wait := due.Sub(m.cfg.Clock.Now()); wait > 0 {
			m.left.Wait(context.Background(), wait)
			continue
		}
		after := m.take()
		m.publish(compare(m.cfg.Server, before, after))
		due = after.at.Add(Period)
		if before.at == 0 {
			due = after.at.Add(firstGap)
		}
		before = after
	}
}

func (m *Meter) publish(f *pb.ServerFigures) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.latest = f
	for _, sig := range m.listeners {
		sig.Set()
	}
}

// take measures once. What fails is left out.
func (m *Meter) take() sample {
	ctx, cancel := m.cfg.Clock.WithTimeout(context.Background(), takeLimit)
	defer cancel()
	s := sample{at: m.cfg.Clock.Now(), wall: m.cfg.Clock.Wall()}
	var err error
	if s.host, err = m.cfg.Source.Host(ctx); err == nil {
		s.hostKnown = true
	}
	if s.vms, err = m.cfg.Source.Usage(ctx); err != nil {
		s.trouble = err.Error()
	}
	claims := m.cfg.Snapshot().Claims
	for _, u := range s.vms {
		if c, ok := claims.Get(u.VM); !ok || c.Phase != pool.PhaseMigrating || c.Server != m.cfg.Server {
			continue
		}
		if job, err := m.cfg.Source.Job(ctx, u.VM); err == nil && job.Running {
			s.moving = append(s.moving, moving{u.VM, job.BytesPerSecond})
		}
	}
	return s
}
